//! The cluster as a whole: its name and phase, the last reload, totals, a reload that goes on, and what is wrong.

use recluster::{ReloadStatus, Status, Verdict};

use super::facts::Master;
use super::figures::{amount, memory, percent, rate, span};
use super::pen::Pen;
use super::scene::Scene;
use super::theme::Theme;
use super::warnings::{Warning, warnings};
use crate::client::table::last_reload;
use crate::paint::printable;

/// How many warnings are shown at most.
const WARNINGS: usize = 4;
/// How long the bar of a reload is.
const BAR: usize = 20;

/// Writes it.
pub(super) fn header(pen: &mut Pen<'_>, scene: &Scene<'_>) {
    first_line(pen, scene);
    let Some(status) = &scene.facts.status else { return };
    if let Some(last) = &status.last_reload {
        let style = if matches!(last.verdict, Verdict::Done) { Theme::plain() } else { scene.theme.bad() };
        pen.line(&[(&printable(&last_reload(last)), style)]);
    } else {
        pen.line(&[("no reload so far", Theme::dim())]);
    }
    pen.line(&[(&totals(status, scene), Theme::plain())]);
    if let Some(reload) = &status.reload {
        pen.line(&[(&progress(reload), scene.theme.warning())]);
    }
    wrong(pen, scene, status);
}

fn first_line(pen: &mut Pen<'_>, scene: &Scene<'_>) {
    let name = printable(&scene.facts.name);
    let (word, rest) = match (&scene.facts.master, &scene.facts.status) {
        (Master::Gone { stopped, since, reason }, _) => {
            let word = if *stopped { "stopped" } else { "gone" };
            let ago = span(scene.now.saturating_duration_since(*since).as_secs_f64());
            (word, format!(" {ago} ago, shown again when it is back ({})", printable(reason)))
        }
        (_, Some(status)) => (status.phase.as_str(), about(status)),
        (_, None) => ("", "not heard of yet".to_owned()),
    };
    pen.line(&[
        (&name, Theme::strong()),
        ("  ", Theme::plain()),
        (word, scene.theme.state(word)),
        (&rest, Theme::plain()),
    ]);
}

fn about(status: &Status) -> String {
    let balance = status
        .sticky_by
        .as_ref()
        .map_or_else(|| status.balance.clone(), |by| format!("{} by {}", status.balance, printable(by)));
    let up = span(status.uptime_seconds);
    format!(" · pid {} · generation {} · up {up} · {balance}", status.pid, status.generation)
}

fn totals(status: &Status, scene: &Scene<'_>) -> String {
    let rates = &scene.facts.rates;
    let active = status.slots.iter().filter(|slot| slot.active.is_some()).count();
    let mut slots = status.slots.iter();
    let connections = slots.try_fold(0_u64, |sum, slot| Some(sum.saturating_add(slot.connections?)));
    let mut parts = vec![format!("{active} of {} slots serve", status.slots.len())];
    let speed = rates.connections.map(|speed| format!(", {}/s", rate(speed))).unwrap_or_default();
    parts.extend(connections.map(|count| format!("{} connections{speed}", amount(count))));
    let paces = || status.workers.iter().filter_map(|worker| rates.of(worker.id));
    if let Some(requests) = sum(paces().filter_map(|pace| pace.requests)) {
        parts.push(format!("{} requests/s", rate(requests)));
    }
    if let Some(cpu) = sum(paces().filter_map(|pace| pace.cpu)) {
        parts.push(format!("CPU {}", percent(cpu)));
    }
    let bytes = status.workers.iter().filter_map(|worker| worker.memory_bytes);
    parts.push(format!("memory {}", memory(bytes.fold(0, u64::saturating_add))));
    parts.join(" · ")
}

/// The sum, where there is anything.
fn sum(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    numbers.reduce(|one, other| one + other)
}

fn progress(reload: &ReloadStatus) -> String {
    let ReloadStatus { generation, serving, of, .. } = reload;
    let full = usize::try_from(*serving).unwrap_or(0) * BAR / usize::try_from((*of).max(1)).unwrap_or(1);
    let full = full.min(BAR);
    let bar = "█".repeat(full) + &"░".repeat(BAR - full);
    format!("reloads {bar} {serving} of {of} serve generation {generation}")
}

/// Warnings, the gravest first, as far as there is room.
fn wrong(pen: &mut Pen<'_>, scene: &Scene<'_>, status: &Status) {
    let silence = scene.facts.silence(scene.now).map(|silent| Warning {
        is_grave: true,
        words: format!("the master has not answered for {}", span(silent.as_secs_f64())),
    });
    let all: Vec<Warning> = silence.into_iter().chain(warnings(status, &scene.facts.rates)).collect();
    let shown = if all.len() <= WARNINGS { all.len() } else { WARNINGS - 1 };
    for Warning { is_grave, words } in all.iter().take(shown) {
        let style = if *is_grave { scene.theme.bad() } else { scene.theme.warning() };
        pen.line(&[(&format!("! {words}"), style)]);
    }
    if shown < all.len() {
        pen.line(&[(&format!("! and {} more", all.len() - shown), scene.theme.warning())]);
    }
}
