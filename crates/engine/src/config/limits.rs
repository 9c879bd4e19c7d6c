//! The limits beyond which a serving worker is replaced.

use std::time::Duration;

use crate::report::event::RecycleReason;

/// The largest part by which a worker's lifetime is shortened at random: workers that started together must not all be
/// replaced together.
const JITTER: f64 = 0.1;

/// When a serving worker is replaced.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Resident memory of its process group, in bytes.
    pub(crate) memory: Option<u64>,
    /// Time since its start.
    pub(crate) lifetime: Option<Duration>,
}

impl Limits {
    pub(crate) fn are_set(self) -> bool {
        self.memory.is_some() || self.lifetime.is_some()
    }

    /// Which limit a worker exceeds, if any. `jitter` is a random number from 0 to 1.
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
