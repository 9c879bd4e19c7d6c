//! Below the table: who is on the way in or out, and what has happened; and in its place what workers write.

use recluster::{Stream, WorkerStatus};

use super::figures::{UNKNOWN, span};
use super::happened::{Happened, Importance};
use super::pen::{Pen, fitted};
use super::rows::says;
use super::scene::Scene;
use super::theme::Theme;
use super::written::{Line, Source};
use crate::paint::printable;

/// How wide a process's id is.
const PID: usize = 7;

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
        (worker.state_now(), scene.theme.state(worker.state_now())),
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

/// What stands for a stream that does not pass through the master.
fn without(streams: &[Stream]) -> impl Iterator<Item = &'static str> {
    let words = [
        (Stream::Stdout, "stdout is not among them: --log-prefix or --worker-log at the start adds it"),
        (Stream::Stderr, "stderr is not among them: it does not pass through the master"),
    ];
    words.into_iter().filter(|(stream, _)| !streams.contains(stream)).map(|(_, words)| words)
}

/// Writes the last lines of a slot, as far as there is room.
pub(super) fn lines_of(pen: &mut Pen<'_>, scene: &Scene<'_>, slot: u32) {
    pen.band(&format!("SLOT {slot}, LAST LINES"), Theme::reversed());
    let Some(written) = scene.facts.written.as_ref().filter(|written| written.slot == slot) else { return };
    match &written.source {
        Source::Asked => pen.line(&[("asked for", Theme::dim())]),
        Source::Lost(reason) => pen.line(&[(&printable(reason), scene.theme.warning())]),
        Source::Tells(streams) => {
            for words in without(streams) {
                pen.line(&[(words, Theme::dim())]);
            }
            if written.lines.is_empty() {
                pen.line(&[("nothing was written so far", Theme::dim())]);
            }
        }
    }
    let left_out = written.lines.len().saturating_sub(pen.left());
    for Line { time, pid, text, is_note, .. } in written.lines.iter().skip(left_out) {
        if *is_note {
            pen.line(&[(text, scene.theme.warning())]);
            continue;
        }
        let pid = pid.map(|pid| pid.to_string()).unwrap_or_default();
        pen.line(&[(&format!("{time} {} ", fitted(&pid, PID, true)), Theme::dim()), (text, Theme::plain())]);
    }
}
