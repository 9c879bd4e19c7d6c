//! All that is known of the worker of one slot.

use super::figures::{delay, memory, percent, rate, span, sparkline};
use super::lists::{events_of, other};
use super::pen::Pen;
use super::rows::{Row, others, says};
use super::scene::Scene;
use super::theme::Theme;

/// Writes it.
pub(super) fn detail(pen: &mut Pen<'_>, scene: &Scene<'_>, row: &Row<'_>) {
    let slot = row.slot.slot;
    pen.band(&format!("SLOT {slot}"), Theme::reversed());
    for (name, value) in facts(row) {
        let style = if name == "state" { scene.theme.state(row.state()) } else { Theme::plain() };
        pen.line(&[(&format!("{name:<14}"), Theme::dim()), (&value, style)]);
    }
    if let Some(status) = &scene.facts.status {
        others(status)
            .iter()
            .filter(|worker| worker.slot == slot)
            .for_each(|worker| other(pen, scene, worker));
    }
    pen.skip();
    events_of(pen, scene, slot);
}

fn facts(row: &Row<'_>) -> Vec<(&'static str, String)> {
    let Row { slot, worker, pace } = row;
    let mut facts = vec![("state", row.state().to_owned())];
    let per_second =
        |speed: Option<f64>| speed.map(|speed| format!(", {}/s", rate(speed))).unwrap_or_default();
    if let Some(worker) = worker {
        let pid = worker.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        facts.push(("worker", format!("{}{pid}, generation {}", worker.id, worker.generation)));
        facts.push(("up", span(worker.uptime_seconds)));
        let pace_of =
            |share: Option<f64>| share.map(|share| format!("{}, ", percent(share))).unwrap_or_default();
        if let Some(seconds) = worker.cpu_seconds {
            facts.push(("CPU", format!("{}{seconds:.1}s in all", pace_of(pace.and_then(|pace| pace.cpu)))));
        }
        facts.extend(worker.memory_bytes.map(|bytes| ("memory", memory(bytes))));
        if let Some(node) = &worker.node {
            let busy =
                pace.map(|pace| sparkline(pace.busy.iter().copied(), pace.busy.len())).unwrap_or_default();
            facts.push(("heap", memory(node.heap_used_bytes)));
            facts.push(("event loop", format!("{} busy {busy}", percent(node.loop_utilization))));
            facts.push(("answers in", delay(node.loop_lag_seconds)));
        }
        let speed = per_second(pace.and_then(|pace| pace.connections));
        facts.extend(worker.connections.map(|count| ("connections", format!("{count}{speed}"))));
        if let Some(http) = &worker.http {
            let speed = per_second(pace.and_then(|pace| pace.requests));
            facts.push(("requests", format!("{}{speed}", http.requests)));
            facts.push(("of them 5xx", http.errors.to_string()));
            facts.extend(http.p99_seconds.map(|seconds| ("99 % within", delay(seconds))));
        }
        facts.push(("says", says(worker)));
        if worker.notifications_ignored > 0 {
            facts.push(("ignored", format!("{} notifications", worker.notifications_ignored)));
        }
        facts.extend(worker.seconds_left.map(|left| ("time left", span(left))));
    }
    let got = slot.connections.map(|count| format!(", {count} connections")).unwrap_or_default();
    facts.push(("slot", format!("{} restarts{got}", slot.restarts)));
    facts.retain(|(_, value)| !value.is_empty());
    facts
}
