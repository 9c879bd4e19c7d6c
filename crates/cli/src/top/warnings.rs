//! What is wrong, in words.

use recluster::{Status, WorkerStatus};

use super::figures::{delay, percent, span};
use super::rates::Rates;

/// From when on a worker that does not answer is called blocked, in seconds.
const BLOCKED: f64 = 1.0;
/// From when on an event loop is called busy, and how many looks in a row have to say so.
const BUSY: f64 = 0.95;
const BUSY_LOOKS: usize = 5;
/// From when on the failures of requests are called many, as a share of one.
const FAILING: f64 = 0.05;
/// How many restarts in a minute are called many.
const RESTARTS: u64 = 3;
/// How close to its end a drain has to be, in seconds.
const SOON: f64 = 5.0;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Warning {
    /// Clients may notice.
    pub(super) is_grave: bool,
    pub(super) words: String,
}

/// What is wrong with a cluster, the gravest first.
pub(super) fn warnings(status: &Status, rates: &Rates) -> Vec<Warning> {
    let mut found: Vec<Warning> = vacancies(status).into_iter().collect();
    for slot in &status.slots {
        let times = rates.restarted(slot.slot);
        if times >= RESTARTS {
            found.push(grave(format!("slot {} was started again {times} times in a minute", slot.slot)));
        }
    }
    for worker in &status.workers {
        found.extend(of_worker(worker, rates));
    }
    found.extend(generations(status));
    found.sort_by_key(|warning| !warning.is_grave);
    found
}

fn of_worker(worker: &WorkerStatus, rates: &Rates) -> Vec<Warning> {
    let slot = worker.slot;
    let mut found = Vec::new();
    let pid = worker.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    if worker.state == "unkillable" {
        found.push(grave(format!("worker {} (slot {slot}{pid}) was killed, and does not end", worker.id)));
    }
    if worker.stopped {
        found.push(grave(format!(
            "worker {} (slot {slot}{pid}) is stopped: kill -CONT lets it go on",
            worker.id
        )));
    }
    if let (Some(held), Some(left)) = (&worker.held, worker.seconds_left)
        && held.requests > 0
        && left < SOON
    {
        found.push(grave(format!(
            "worker {} (slot {slot}{pid}) is killed in {}: {held}",
            worker.id,
            span(left)
        )));
    }
    if !matches!(worker.state.as_str(), "ready" | "serving") {
        return found;
    }
    if let Some(lag) = worker.node.as_ref().map(|node| node.loop_lag_seconds).filter(|lag| *lag >= BLOCKED) {
        found.push(grave(format!("slot {slot} blocked for {}", delay(lag))));
    }
    let Some(pace) = rates.of(worker.id) else { return found };
    if let Some(failed) = pace.failed.filter(|failed| *failed >= FAILING) {
        found.push(grave(format!("slot {slot} answers {} of its requests with 5xx", percent(failed))));
    }
    let last = pace.busy.iter().rev().take(BUSY_LOOKS);
    if pace.busy.len() >= BUSY_LOOKS && last.clone().all(|busy| *busy >= BUSY) {
        found.push(mild(format!("slot {slot} is as busy as one event loop can be")));
    }
    found
}

/// Slots that nobody serves.
fn vacancies(status: &Status) -> Option<Warning> {
    let vacant: Vec<u32> =
        status.slots.iter().filter(|slot| slot.active.is_none()).map(|slot| slot.slot).collect();
    let is_grave = status.phase == "running";
    let (vacant, all) = (listed("slot", &vacant)?, vacant.len() == status.slots.len());
    let words =
        if all { "no worker serves".to_owned() } else { format!("{vacant} has no worker that serves") };
    (status.phase == "running" || status.phase == "starting").then_some(Warning { is_grave, words })
}

/// Code of several generations that is to stay so.
fn generations(status: &Status) -> Option<Warning> {
    let active = |id: u64| status.workers.iter().find(|worker| worker.id == id);
    let workers: Vec<&WorkerStatus> = status.slots.iter().filter_map(|slot| active(slot.active?)).collect();
    let old: Vec<u32> = workers
        .iter()
        .filter(|worker| worker.generation < status.generation)
        .map(|worker| worker.slot)
        .collect();
    let is_mixed = status.reload.is_none() && old.len() < workers.len();
    let slots = listed("slot", &old).filter(|_| is_mixed)?;
    Some(mild(format!("{slots} runs older code than generation {}", status.generation)))
}

/// The numbers with what they are of.
fn listed(what: &str, numbers: &[u32]) -> Option<String> {
    const MOST: usize = 8;
    let shown: Vec<String> = numbers.iter().take(MOST).map(ToString::to_string).collect();
    match numbers.len() {
        0 => None,
        1..=MOST => Some(format!("{what} {}", shown.join(", "))),
        more => Some(format!("{what} {} and {} more", shown.join(", "), more - MOST)),
    }
}

fn grave(words: String) -> Warning {
    Warning { is_grave: true, words }
}

fn mild(words: String) -> Warning {
    Warning { is_grave: false, words }
}
