//! What is known of the cluster: its last status, what two of them tell, and what has happened.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use recluster::Status;
use serde_json::{Map, Value};

use super::happened::{Happened, happened};
use super::rates::Rates;
use super::written::{Told, Written};

/// How many events are kept.
const EVENTS: usize = 200;
/// From when on a master that does not answer is worth a word.
const SILENT: Duration = Duration::from_secs(3);

/// What is known.
#[derive(Debug)]
pub(super) struct Facts {
    /// The cluster's name; until it has told it, that of its socket's file.
    pub(super) name: String,
    pub(super) master: Master,
    /// The last status of a master that lives.
    pub(super) status: Option<Status>,
    pub(super) rates: Rates,
    /// What has happened, oldest first.
    pub(super) events: VecDeque<Happened>,
    /// What the workers of one slot have written, if somebody looks at it.
    pub(super) written: Option<Written>,
    /// When the last status came.
    heard: Instant,
    /// The master has said that it is to end.
    ends: bool,
}

/// How it stands with the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Master {
    /// It was not heard of yet.
    Unknown,
    Lives,
    /// It does not live any more. It may come back.
    Gone {
        stopped: bool,
        since: Instant,
        reason: String,
    },
}

impl Facts {
    pub(super) fn new(name: String, now: Instant) -> Self {
        Self {
            name,
            master: Master::Unknown,
            status: None,
            rates: Rates::default(),
            events: VecDeque::new(),
            written: None,
            heard: now,
            ends: false,
        }
    }

    /// The status came.
    pub(super) fn look(&mut self, status: Status, now: Instant) {
        // In a container the next master has the same pid.
        let is_same =
            |before: &Status| before.pid == status.pid && before.uptime_seconds <= status.uptime_seconds;
        let before = self.status.take().filter(is_same);
        if before.is_none() {
            self.rates = Rates::default();
        }
        self.rates.look(before.as_ref(), &status);
        if let Some(name) = &status.name {
            self.name.clone_from(name);
        }
        self.ends |= ends(&status.phase);
        self.heard = now;
        self.master = Master::Lives;
        self.status = Some(status);
    }

    /// There is no master, or none that can be asked.
    pub(super) fn lose(&mut self, reason: String, now: Instant) {
        self.status = None;
        let since = if let Master::Gone { since, .. } = self.master { since } else { now };
        self.master = Master::Gone { stopped: self.ends, since, reason };
    }

    /// What follows are the last events of a master, from the beginning.
    pub(super) fn begin_events(&mut self) {
        self.events.clear();
        self.ends = false;
    }

    /// Something happened.
    pub(super) fn hear(&mut self, event: &Map<String, Value>) {
        self.ends |= matches!(event.get("event").and_then(Value::as_str), Some("stopping" | "over"));
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(happened(event));
    }

    /// Something was told of the lines of this slot.
    pub(super) fn read(&mut self, slot: u32, told: Told) {
        // What was under way when somebody turned to another slot is of no interest.
        if let Some(written) = self.written.as_mut().filter(|written| written.slot == slot) {
            written.hear(told);
        }
    }

    /// For how long a master that lives has not answered, if that is long.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        let silent = now.saturating_duration_since(self.heard);
        (silent >= SILENT && !matches!(self.master, Master::Gone { .. })).then_some(silent)
    }
}

fn ends(phase: &str) -> bool {
    matches!(phase, "stopping" | "terminating" | "over")
}
