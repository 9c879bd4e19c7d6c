//! The limits beyond which a serving worker is replaced.

use std::num::NonZeroU8;
use std::time::Duration;

use crate::report::event::RecycleReason;

/// The largest part by which a worker's lifetime is shortened at random: workers that started together must not all be
/// replaced together.
const JITTER: f64 = 0.1;

/// How much memory a worker may use before it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryLimit {
    /// So many bytes.
    Bytes(u64),
    /// Its part of so many percent of what the whole cluster may use: the least limit of the control groups that the master is in, or
    /// the memory of the machine. The slots and the extra workers of a reload ([`Surge`](crate::Surge)) have equal parts.
    Percent(NonZeroU8),
}

impl From<u64> for MemoryLimit {
    fn from(bytes: u64) -> Self {
        Self::Bytes(bytes)
    }
}

impl MemoryLimit {
    /// How many bytes one of so many workers may use, where all of them and the master may use `whole`. None where that is not known.
    fn of_one(self, workers: usize, whole: impl FnOnce() -> Option<u64>) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Percent(percent) => {
                let all = u128::from(whole()?) * u128::from(percent.get()) / 100;
                u64::try_from(all / (workers.max(1) as u128)).ok()
            }
        }
    }
}

/// When a serving worker is replaced.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Resident memory of its process group.
    pub(crate) memory: Option<MemoryLimit>,
    /// Time since its start.
    pub(crate) lifetime: Option<Duration>,
}

/// What one worker may use and how long it may live.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// In bytes.
    pub(crate) memory: Option<u64>,
    pub(crate) lifetime: Option<Duration>,
}

impl Limits {
    pub(crate) fn are_set(self) -> bool {
        self.memory.is_some() || self.lifetime.is_some()
    }

    /// Those of one of so many workers. `whole` is what all of them and the master may use, in bytes.
    pub(crate) fn of_one(self, workers: usize, whole: impl FnOnce() -> Option<u64>) -> Bounds {
        Bounds { memory: self.memory.and_then(|limit| limit.of_one(workers, whole)), lifetime: self.lifetime }
    }
}

impl Bounds {
    /// Which of them a worker exceeds, if any. `jitter` is a random number from 0 to 1.
    pub(crate) fn excess(self, age: Duration, bytes: u64, jitter: f64) -> Option<RecycleReason> {
        if let Some(limit) = self.memory.filter(|limit| bytes > *limit) {
            return Some(RecycleReason::Memory { bytes, limit });
        }
        let lifetime = self.lifetime?.mul_f64(1.0 - JITTER * jitter);
        (age >= lifetime).then_some(RecycleReason::Age { seconds: age.as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_too_big_or_too_old() {
        let hour = Duration::from_secs(3600);
        let bounds = Bounds { memory: Some(100), lifetime: Some(hour) };
        assert_eq!(bounds.excess(Duration::ZERO, 100, 0.0), None);
        assert_eq!(
            bounds.excess(Duration::ZERO, 101, 0.0),
            Some(RecycleReason::Memory { bytes: 101, limit: 100 })
        );
        assert_eq!(bounds.excess(hour, 0, 0.0), Some(RecycleReason::Age { seconds: 3600 }));
        assert_eq!(bounds.excess(hour.mul_f64(0.95), 0, 0.0), None);
        assert!(bounds.excess(hour.mul_f64(0.95), 0, 1.0).is_some(), "some are due earlier");
        assert_eq!(Bounds::default().excess(hour, 1 << 40, 1.0), None);
    }

    #[test]
    fn a_share_is_divided_among_all_that_may_run_at_once() {
        let limit = |percent| MemoryLimit::Percent(NonZeroU8::new(percent).unwrap());
        assert_eq!(limit(80).of_one(4, || Some(1000)), Some(200));
        assert_eq!(limit(100).of_one(1, || Some(u64::MAX)), Some(u64::MAX));
        assert_eq!(limit(80).of_one(0, || Some(1000)), Some(800));
        assert_eq!(limit(80).of_one(4, || None), None);
        assert_eq!(MemoryLimit::from(7).of_one(4, || unreachable!()), Some(7));
    }
}
