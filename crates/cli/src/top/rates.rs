//! What only two looks tell: how fast things happen. All times are the master's own, so that a late answer changes nothing.

use std::collections::{BTreeMap, VecDeque};

use recluster::{Status, WorkerStatus};

/// How many looks a sparkline goes back.
const LOOKS: usize = 60;
/// For how long a restart of a slot counts as recent, in seconds.
const LATELY: f64 = 60.0;

/// How fast things happen.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// Connections that workers got in a second.
    pub(super) connections: Option<f64>,
    workers: BTreeMap<u64, Pace>,
    /// For each slot how often it had been restarted at the time of each of the last looks.
    restarts: BTreeMap<u32, VecDeque<(f64, u64)>>,
}

/// How fast things happen in one worker.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Processors that are kept busy.
    pub(super) cpu: Option<f64>,
    /// Connections that it got in a second.
    pub(super) connections: Option<f64>,
    /// Requests that it answered in a second.
    pub(super) requests: Option<f64>,
    /// The share of these that failed, with a status of 5xx.
    pub(super) failed: Option<f64>,
    /// How busy its event loop was at each of the last looks, as a share of one.
    pub(super) busy: VecDeque<f64>,
}

impl Rates {
    /// A new look; `before` is the one before it, of the same master.
    pub(super) fn look(&mut self, before: Option<&Status>, now: &Status) {
        self.connections = before.and_then(|before| connections(before, now));
        let old = |id: u64| before?.workers.iter().find(|worker| worker.id == id);
        let mut paces = std::mem::take(&mut self.workers);
        for worker in &now.workers {
            let mut pace = paces.remove(&worker.id).unwrap_or_default();
            pace.look(old(worker.id), worker);
            self.workers.insert(worker.id, pace);
        }
        self.restarts.retain(|slot, _| now.slots.iter().any(|it| it.slot == *slot));
        for slot in &now.slots {
            let looks = self.restarts.entry(slot.slot).or_default();
            let is_old = |(at, _): &(f64, u64)| now.uptime_seconds - at > LATELY;
            // The youngest of the old ones says where it began.
            while looks.get(1).is_some_and(is_old) {
                looks.pop_front();
            }
            if looks.back().is_none_or(|(_, restarts)| *restarts != slot.restarts) {
                looks.push_back((now.uptime_seconds, slot.restarts));
                if looks.len() > LOOKS {
                    looks.pop_front();
                }
            }
        }
    }

    pub(super) fn of(&self, worker: u64) -> Option<&Pace> {
        self.workers.get(&worker)
    }

    /// How often a slot was restarted in the last minute, as far as it was watched.
    pub(super) fn restarted(&self, slot: u32) -> u64 {
        let Some(looks) = self.restarts.get(&slot) else { return 0 };
        let count = |look: Option<&(f64, u64)>| look.map_or(0, |(_, restarts)| *restarts);
        count(looks.back()).saturating_sub(count(looks.front()))
    }
}

impl Pace {
    fn look(&mut self, before: Option<&WorkerStatus>, now: &WorkerStatus) {
        let seconds = before.map(|before| now.uptime_seconds - before.uptime_seconds);
        let seconds = seconds.filter(|seconds| *seconds > 0.0);
        let each = |amount: f64| seconds.map(|seconds| (amount / seconds).max(0.0));
        let cpu = before.and_then(|before| Some(now.cpu_seconds? - before.cpu_seconds?));
        self.cpu = cpu.and_then(each);
        self.connections = before.and_then(|before| each(more(before.connections?, now.connections?)));
        let answers = before.and_then(|before| Some((before.http.as_ref()?, now.http.as_ref()?)));
        let requests = answers.map(|(before, now)| more(before.requests, now.requests));
        self.requests = requests.and_then(each);
        let errors = answers.map(|(before, now)| more(before.errors, now.errors));
        self.failed = errors.zip(requests).map(|(errors, all)| if all > 0.0 { errors / all } else { 0.0 });
        if let Some(node) = &now.node {
            self.busy.push_back(node.loop_utilization);
            if self.busy.len() > LOOKS {
                self.busy.pop_front();
            }
        }
    }
}

/// Connections in a second, where they are known.
fn connections(before: &Status, now: &Status) -> Option<f64> {
    let seconds = now.uptime_seconds - before.uptime_seconds;
    let old = |slot: u32| before.slots.iter().find(|it| it.slot == slot);
    let got = now.slots.iter().map(|slot| {
        let had = old(slot.slot).map_or(Some(0), |it| it.connections);
        had.zip(slot.connections).map(|(had, has)| more(had, has))
    });
    let got = got.sum::<Option<f64>>()?;
    (seconds > 0.0).then(|| got / seconds)
}

/// By how much a count has grown. One that has shrunk was begun anew.
fn more(before: u64, now: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
    let more = now.saturating_sub(before) as f64;
    more
}
