//! Which worker has grown too big or too old: it is renewed, new first. One at a time is, the most urgent first.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use recluster_core::WorkerId;

use crate::config::limits::{Bounds, Limits};
use crate::report::event::RecycleReason;
use crate::supervisor::timers::{Timer, Timers};

/// How often workers are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// A serving worker, as far as limits are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) worker: WorkerId,
    pub(crate) pid: i32,
    pub(crate) age: Duration,
    /// Resident memory, of its process group where it leads one.
    pub(crate) bytes: u64,
}

/// Goes on looking at workers, or begins to, where there are limits now.
pub(crate) fn schedule(limits: Limits, timers: &mut Timers, now: Instant) {
    if !limits.are_set() {
        timers.clear(Timer::Recycle);
    } else if !timers.is_set(Timer::Recycle) {
        timers.set(Timer::Recycle, now + LOOK);
    }
}

/// The worker that is to be renewed now, and why.
pub(crate) fn most_urgent(
    bounds: Bounds,
    candidates: impl Iterator<Item = Candidate>,
) -> Option<(WorkerId, RecycleReason)> {
    let beyond = candidates.filter_map(|Candidate { worker, pid, age, bytes }| {
        Some((worker, bounds.excess(age, bytes, jitter_of(worker, pid))?))
    });
    beyond.max_by_key(|(_, excess)| urgency(*excess))
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

    const BOUNDS: Bounds = Bounds { memory: Some(100), lifetime: Some(Duration::from_secs(1000)) };
    const LIMITS: Limits = Limits { memory: None, lifetime: Some(Duration::from_secs(1000)) };

    fn candidate(number: u64, seconds: u64, bytes: u64) -> Candidate {
        Candidate { worker: WorkerId::from_number(number), pid: 42, age: Duration::from_secs(seconds), bytes }
    }

    fn picked(candidates: &[Candidate]) -> Option<u64> {
        most_urgent(BOUNDS, candidates.iter().copied()).map(|(worker, _)| worker.get())
    }

    #[test]
    fn only_the_most_urgent_worker_is_renewed() {
        let fine = candidate(1, 800, 100);
        let (old, older) = (candidate(2, 2000, 0), candidate(3, 3000, 0));
        let (big, bigger) = (candidate(4, 0, 101), candidate(5, 0, 102));
        assert_eq!(picked(&[fine]), None);
        assert_eq!(picked(&[older, old, fine]), Some(3));
        assert_eq!(picked(&[big, older, fine]), Some(4), "memory comes before age");
        assert_eq!(picked(&[bigger, big, older]), Some(5));
        let reason = most_urgent(BOUNDS, [bigger].into_iter()).unwrap().1;
        assert_eq!(reason, RecycleReason::Memory { bytes: 102, limit: 100 });
    }

    #[test]
    fn workers_that_were_born_together_are_not_all_due_together() {
        let due = |pid| {
            let worker = Candidate { pid, ..candidate(1, 950, 0) };
            most_urgent(BOUNDS, [worker].into_iter()).is_some()
        };
        let due: Vec<bool> = (1..100).map(due).collect();
        assert!(due.contains(&true) && due.contains(&false));
        assert!((1..100).all(|pid| (0.0..=1.0).contains(&jitter_of(WorkerId::from_number(1), pid))));
    }

    #[test]
    fn workers_are_looked_at_while_there_are_limits() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        schedule(Limits::default(), &mut timers, now);
        assert_eq!(timers.next(), None);
        schedule(LIMITS, &mut timers, now);
        schedule(LIMITS, &mut timers, now + Duration::from_secs(1));
        assert_eq!(timers.next(), Some(now + LOOK), "a reload does not put the look off");
        schedule(Limits::default(), &mut timers, now);
        assert_eq!(timers.next(), None);
    }
}
