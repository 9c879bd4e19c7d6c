//! Below the table: who is on the way in or out, and what has happened.

use recluster::WorkerStatus;

use super::figures::{UNKNOWN, span};
use super::happened::{Happened, Importance};
use super::pen::Pen;
use super::rows::says;
use super::scene::Scene;
use super::theme::Theme;

/// Writes a line for each worker that has no row, as far as there is room.
pub(super) fn others(pen: &mut Pen<'_>, scene: &Scene<'_>, workers: &[&WorkerStatus], room: usize) {
    if workers.is_empty() || room == 0 {
        return;
    }
    if let ([only], 1) = (workers, room) {
        return other(pen, scene, only);
    }
    if room == 1 {
        return pen.line(&[(&format!("{} workers come or go", workers.len()), Theme::strong())]);
    }
    pen.line(&[("COMING AND GOING", Theme::strong())]);
    let fits = workers.len() < room;
    let shown = if fits { workers.len() } else { room - 2 };
    for worker in workers.iter().take(shown) {
        other(pen, scene, worker);
    }
    if !fits {
        pen.line(&[(&format!("(and {} more)", workers.len() - shown), Theme::dim())]);
    }
}

/// One worker that has no row.
pub(super) fn other(pen: &mut Pen<'_>, scene: &Scene<'_>, worker: &WorkerStatus) {
    let pid = worker.pid.map_or_else(|| UNKNOWN.to_owned(), |pid| pid.to_string());
    let who = format!("slot {} pid {pid} generation {} ", worker.slot, worker.generation);
    let left = worker.seconds_left.map(|left| format!(", {} left", span(left))).unwrap_or_default();
    let says = says(worker);
    let holds = if says.is_empty() { String::new() } else { format!(": {says}") };
    pen.line(&[
        (&who, Theme::plain()),
        (&worker.state, scene.theme.state(&worker.state)),
        (&left, Theme::plain()),
        (&holds, Theme::plain()),
    ]);
}

/// Writes the last events that are no routine, as far as there is room.
pub(super) fn events(pen: &mut Pen<'_>, scene: &Scene<'_>) {
    let is_news = |event: &&Happened| event.level > Importance::Routine;
    list(pen, scene, &scene.facts.events.iter().filter(is_news).collect::<Vec<_>>());
}

/// Writes the last events of a slot, routine and all.
pub(super) fn events_of(pen: &mut Pen<'_>, scene: &Scene<'_>, slot: u32) {
    let is_its = |event: &&Happened| event.slot == Some(slot.into());
    list(pen, scene, &scene.facts.events.iter().filter(is_its).collect::<Vec<_>>());
}

fn list(pen: &mut Pen<'_>, scene: &Scene<'_>, events: &[&Happened]) {
    if pen.left() < 2 {
        return;
    }
    pen.line(&[("EVENTS", Theme::strong())]);
    let left_out = events.len().saturating_sub(pen.left());
    for event in events.iter().skip(left_out) {
        pen.line(&[
            (&event.time, Theme::dim()),
            (" ", Theme::plain()),
            (&event.words, scene.theme.event(event.level)),
        ]);
    }
}
