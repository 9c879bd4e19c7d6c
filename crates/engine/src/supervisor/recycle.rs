//! Workers that have grown too big or too old are renewed, new first, one at a time.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::WorkerId;
use serde::Serialize;

use crate::process::groups;
use crate::report::event::Event;
use crate::supervisor::Supervisor;
use crate::supervisor::timers::Timer;

/// How often workers are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// By how much a worker's lifetime may be shorter than the most, in parts of it: workers that were born together must not
/// all be due together.
const JITTER: f64 = 0.1;

/// When a worker is to be renewed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Resident memory of its process group, in bytes.
    pub(crate) memory: Option<u64>,
    /// Time since its start.
    pub(crate) lifetime: Option<Duration>,
}

/// Why a worker is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecycleReason {
    /// It and what it started use too much memory.
    Memory {
        /// What they use, in bytes.
        bytes: u64,
        /// What they may use, in bytes.
        limit: u64,
    },
    /// It has lived long enough.
    Age {
        /// Whole seconds since its start.
        seconds: u64,
    },
}

impl Limits {
    fn are_set(self) -> bool {
        self.memory.is_some() || self.lifetime.is_some()
    }

    /// In which way a worker is beyond its limits, if it is.
    fn excess(self, age: Duration, bytes: u64, jitter: f64) -> Option<RecycleReason> {
        if let Some(limit) = self.memory.filter(|limit| bytes > *limit) {
            return Some(RecycleReason::Memory { bytes, limit });
        }
        let lifetime = self.lifetime?.mul_f64(1.0 - JITTER * jitter);
        (age >= lifetime).then_some(RecycleReason::Age { seconds: age.as_secs() })
    }
}

impl Supervisor {
    /// Goes on looking after workers, or begins to, where there are limits now.
    pub(crate) fn watch_limits(&mut self) {
        if !self.shell.conduct.limits.are_set() {
            self.timers.clear(Timer::Recycle);
        } else if !self.timers.is_set(Timer::Recycle) {
            self.timers.set(Timer::Recycle, Instant::now() + LOOK);
        }
    }

    /// Renews one worker that is beyond its limits, unless something else is going on: the next look comes soon.
    pub(crate) fn recycle(&mut self) {
        self.watch_limits();
        let status = self.policy.status();
        if !status.settled {
            return;
        }
        let sizes = self.shell.conduct.limits.memory.map(|_| groups::resident()).unwrap_or_default();
        let serving = status.workers.iter().filter(|worker| worker.serves);
        let found =
            serving.filter_map(|worker| Some((worker.worker, self.excess_of(worker.worker, &sizes)?)));
        let Some((worker, excess)) = found.max_by_key(|(_, excess)| urgency(*excess)) else { return };
        self.emit_about(worker, |worker| Event::Recycling { worker, excess });
        self.tell(core::Event::Replace(worker));
    }

    fn excess_of(&self, worker: WorkerId, sizes: &BTreeMap<i32, u64>) -> Option<RecycleReason> {
        let process = self.processes.get(&worker)?;
        let bytes = sizes.get(&process.pid.as_raw_nonzero().get()).copied().unwrap_or(0);
        self.shell.conduct.limits.excess(
            process.begun.elapsed(),
            bytes,
            jitter_of(worker, process.pid.as_raw_nonzero().get()),
        )
    }
}

/// Memory before age, and the biggest or oldest first.
fn urgency(excess: RecycleReason) -> (bool, u64) {
    match excess {
        RecycleReason::Memory { bytes, .. } => (true, bytes),
        RecycleReason::Age { seconds } => (false, seconds),
    }
}

/// A number from 0 to 1 that stays the same for a worker and differs between workers.
fn jitter_of(worker: WorkerId, pid: i32) -> f64 {
    let mut hasher = DefaultHasher::new();
    (worker.get(), pid).hash(&mut hasher);
    let [byte, ..] = hasher.finish().to_ne_bytes();
    f64::from(byte) / f64::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_too_big_or_too_old() {
        let hour = Duration::from_secs(3600);
        let limits = Limits { memory: Some(100), lifetime: Some(hour) };
        assert_eq!(limits.excess(Duration::ZERO, 100, 0.0), None);
        assert_eq!(
            limits.excess(Duration::ZERO, 101, 0.0),
            Some(RecycleReason::Memory { bytes: 101, limit: 100 })
        );
        assert_eq!(limits.excess(hour, 0, 0.0), Some(RecycleReason::Age { seconds: 3600 }));
        assert_eq!(limits.excess(hour.mul_f64(0.95), 0, 0.0), None);
        assert!(limits.excess(hour.mul_f64(0.95), 0, 1.0).is_some(), "some are due earlier");
        assert_eq!(Limits::default().excess(hour, 1 << 40, 1.0), None);
    }
}
