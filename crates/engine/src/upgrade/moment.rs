//! A moment that the program before and the one after mean the same by: both go by the kernel's monotonic clock.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Moment(u64);

/// What the clock shows, and the same as an instant.
fn now() -> (Duration, Instant) {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
    let seconds = Duration::from_secs(u64::try_from(tv_sec).unwrap_or_default());
    (seconds + Duration::from_nanos(u64::try_from(tv_nsec).unwrap_or_default()), Instant::now())
}

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Self {
        let (clock, now) = now();
        let shown = match instant.checked_duration_since(now) {
            Some(ahead) => clock.saturating_add(ahead),
            None => clock.saturating_sub(now.saturating_duration_since(instant)),
        };
        Self(u64::try_from(shown.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Moment> for Instant {
    /// One that is too far away to be an instant is now.
    fn from(Moment(nanoseconds): Moment) -> Self {
        let (clock, now) = now();
        let shown = Duration::from_nanos(nanoseconds);
        let instant = match shown.checked_sub(clock) {
            Some(ahead) => now.checked_add(ahead),
            None => now.checked_sub(clock.saturating_sub(shown)),
        };
        instant.unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between two looks at the clock there is some time.
    const CLOSE: Duration = Duration::from_secs(5);

    #[test]
    fn a_moment_is_the_same_in_both_directions() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        for instant in [now, now + hour, now - Duration::from_secs(5)] {
            let text = serde_json::to_string(&Moment::from(instant)).unwrap();
            let back = Instant::from(serde_json::from_str::<Moment>(&text).unwrap());
            assert!(back.max(instant) - back.min(instant) < CLOSE, "{text}");
        }
        assert!(Moment::from(now) < Moment::from(now + hour));
    }

    #[test]
    fn what_is_no_instant_is_one_all_the_same() {
        for nanoseconds in [0, u64::MAX] {
            let _ = Instant::from(Moment(nanoseconds));
        }
    }
}
