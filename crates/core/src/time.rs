//! The core's only notion of time: how long the cluster has existed. The shell reads a clock, the core never does.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment, as the duration since the cluster began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Time(Duration);

impl Time {
    /// The moment the cluster began.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment that lies `elapsed` after the cluster began.
    pub const fn after(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after the cluster began this moment lies.
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// How long ago `earlier` was; zero if it was not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
