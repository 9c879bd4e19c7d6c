//! A moment that the program before and the one after mean the same by: both go by the kernel's monotonic clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment by the kernel's monotonic clock, in nanoseconds: it becomes an instant, and the same moment again, in any program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(u64);

/// What the clock showed at some moment of this process, and the same as an instant: always the same one, so that a moment that becomes an
/// instant becomes the same moment again.
fn anchor() -> (Duration, Instant) {
    static ANCHOR: OnceLock<(Duration, Instant)> = OnceLock::new();
    *ANCHOR.get_or_init(|| {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
        let seconds = Duration::from_secs(u64::try_from(tv_sec).unwrap_or_default());
        (seconds + Duration::from_nanos(u64::try_from(tv_nsec).unwrap_or_default()), Instant::now())
    })
}

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Self {
        let (clock, then) = anchor();
        let shown = match instant.checked_duration_since(then) {
            Some(ahead) => clock.saturating_add(ahead),
            None => clock.saturating_sub(then.saturating_duration_since(instant)),
        };
        Self(u64::try_from(shown.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Moment> for Instant {
    /// One that is too far away to be an instant is now.
    fn from(Moment(nanoseconds): Moment) -> Self {
        let (clock, then) = anchor();
        let shown = Duration::from_nanos(nanoseconds);
        let instant = match shown.checked_sub(clock) {
            Some(ahead) => then.checked_add(ahead),
            None => then.checked_sub(clock.saturating_sub(shown)),
        };
        instant.unwrap_or_else(Instant::now)
    }
}

/// Writes a field that is an instant: `#[serde(with = "moment")]`.
pub(crate) fn serialize<S: Serializer>(instant: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    Moment::from(*instant).serialize(serializer)
}

/// Reads it.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
    Moment::deserialize(deserializer).map(Instant::from)
}

/// The same for a field that may be none: `#[serde(with = "moment::option")]`.
pub(crate) mod option {
    use std::time::Instant;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::upgrade::moment::Moment;

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(
        instant: &Option<Instant>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        instant.map(Moment::from).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Instant>, D::Error> {
        Ok(Option::<Moment>::deserialize(deserializer)?.map(Instant::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_in_both_directions() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        for instant in [now, now + hour, now.checked_sub(Duration::from_secs(5)).unwrap()] {
            let text = serde_json::to_string(&Moment::from(instant)).unwrap();
            let back = Instant::from(serde_json::from_str::<Moment>(&text).unwrap());
            assert_eq!(back, instant, "{text}");
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
