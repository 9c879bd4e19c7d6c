//! Workers that have grown too big or too old are renewed, new first, one at a time.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::WorkerId;

use crate::process::groups;
use crate::report::event::Event;
use crate::report::event::RecycleReason;
use crate::supervisor::Supervisor;
use crate::supervisor::timers::Timer;

/// How often workers are looked at.
const LOOK: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Goes on looking after workers, or begins to, where there are limits now.
    pub(crate) fn watch_limits(&mut self) {
        if !self.shell.spec.limits.are_set() {
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
        let sizes = self.shell.spec.limits.memory.map(|_| groups::resident()).unwrap_or_default();
        let serving = status.workers.iter().filter(|worker| worker.serves);
        let found =
            serving.filter_map(|worker| Some((worker.worker, self.excess_of(worker.worker, &sizes)?)));
        let Some((worker, excess)) = found.max_by_key(|(_, excess)| urgency(*excess)) else { return };
        self.emit_about(worker, |worker| Event::Recycling { worker, excess });
        self.tell(core::Event::Replace(worker));
    }

    fn excess_of(&self, worker: WorkerId, sizes: &BTreeMap<i32, u64>) -> Option<RecycleReason> {
        let child = self.children.get(&worker)?;
        let bytes = sizes.get(&child.pid()).copied().unwrap_or(0);
        self.shell.spec.limits.excess(child.process.begun.elapsed(), bytes, jitter_of(worker, child.pid()))
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
