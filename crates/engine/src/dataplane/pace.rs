//! Under balance `kernel`: whether connections come slowly enough for the master to hand each one out, to the worker that is idle and
//! has the fewest, or so fast that the kernel has to spread them.
//!
//! ```text
//!   handed out ──────────────────────────────────────► spread
//!     ▲   more than ONES_A_SECOND for a while,           │  (reviewed every REVIEW_AFTER: how many came?)
//!     │   or nobody was idle for PATIENCE                │
//!     └──────────────────────────────────────────────────┘
//!                fewer than half as many
//! ```

use std::time::{Duration, Instant};

use super::allowance::Allowance;

/// How many connections a second are handed out: each costs the master some 40 µs, all together 2 % of a core.
const ONES_A_SECOND: u32 = 500;
/// How many more at once: as many as clients may open at the same moment and keep.
const AT_ONCE: u32 = 2000;
/// For how long a connection waits for a worker that is idle before the kernel spreads what comes.
const PATIENCE: Duration = Duration::from_millis(20);
/// When it is looked at again how many connections came. Workers tell it every second.
const REVIEW_AFTER: Duration = Duration::from_secs(2);

/// How connections come to one listener.
#[derive(Debug)]
pub(super) struct Pace {
    allowance: Allowance,
    /// Since when a connection has waited for a worker that is idle.
    waits_since: Option<Instant>,
    spread: Option<Spread>,
}

/// Since when the kernel has spread connections.
#[derive(Debug)]
struct Spread {
    since: Instant,
    /// How many the workers had got by then.
    taken: u64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { allowance: Allowance::new(ONES_A_SECOND, AT_ONCE), waits_since: None, spread: None }
    }

    /// Whether the master hands connections out.
    pub(super) fn is_slow(&self) -> bool {
        self.spread.is_none()
    }

    /// A connection is handed out. The workers had got so many.
    pub(super) fn handed_out(&mut self, taken: u64, now: Instant) {
        self.waits_since = None;
        if !self.allowance.take(now) {
            self.begin_to_spread(taken, now);
        }
    }

    /// A connection waits, and no worker is idle; returns for how long that has been so.
    pub(super) fn nobody_is_idle(&mut self, taken: u64, now: Instant) -> Duration {
        let waited = now.saturating_duration_since(*self.waits_since.get_or_insert(now));
        if waited >= PATIENCE {
            self.begin_to_spread(taken, now);
        }
        waited
    }

    /// For how long a connection has waited for a worker that is idle.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        self.waits_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Nothing waits.
    pub(super) fn nothing_waits(&mut self) {
        self.waits_since = None;
    }

    fn begin_to_spread(&mut self, taken: u64, now: Instant) {
        self.spread.get_or_insert(Spread { since: now, taken });
    }

    /// When it is to be reviewed, if at all.
    pub(super) fn review_at(&self) -> Option<Instant> {
        self.spread.as_ref().map(|spread| spread.since + REVIEW_AFTER)
    }

    /// Looks at how many connections came since the kernel began to spread them, or since the last review.
    pub(super) fn review(&mut self, taken: u64, now: Instant) {
        let Some(spread) = self.spread.as_mut().filter(|spread| spread.since + REVIEW_AFTER <= now) else {
            return;
        };
        let millis = u64::try_from((now - spread.since).as_millis()).unwrap_or(u64::MAX);
        let came = taken.saturating_sub(spread.taken);
        if came.saturating_mul(2000) < u64::from(ONES_A_SECOND).saturating_mul(millis) {
            self.spread = None;
        } else {
            (spread.since, spread.taken) = (now, taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pace at which the kernel spreads connections, since then.
    fn spread() -> (Pace, Instant) {
        let now = Instant::now();
        let mut pace = Pace::new();
        let handed_out = std::iter::repeat_with(|| pace.handed_out(100, now)).take(2001).count();
        assert_eq!(handed_out, 2001);
        (pace, now)
    }

    #[test]
    fn a_crowd_is_handed_out_and_what_comes_behind_it_is_spread() {
        let now = Instant::now();
        let mut pace = Pace::new();
        for _ in 0..2000 {
            pace.handed_out(0, now);
            assert!(pace.is_slow());
        }
        pace.handed_out(0, now);
        assert!(!pace.is_slow());
    }

    #[test]
    fn what_comes_slowly_is_handed_out_for_ever() {
        let mut now = Instant::now();
        let mut pace = Pace::new();
        for _ in 0..10_000 {
            now += Duration::from_millis(2);
            pace.handed_out(0, now);
        }
        assert!(pace.is_slow());
    }

    #[test]
    fn where_nobody_is_idle_for_a_while_the_kernel_spreads() {
        let mut pace = Pace::new();
        let now = Instant::now();
        pace.nobody_is_idle(0, now);
        pace.nobody_is_idle(0, now + Duration::from_millis(19));
        pace.handed_out(0, now + Duration::from_millis(19));
        pace.nobody_is_idle(0, now + Duration::from_millis(21));
        pace.nothing_waits();
        pace.nobody_is_idle(0, now + Duration::from_millis(42));
        assert!(pace.is_slow());
        pace.nobody_is_idle(0, now + Duration::from_millis(62));
        assert!(!pace.is_slow());
    }

    #[test]
    fn the_master_hands_out_again_when_few_came() {
        let (mut pace, begin) = spread();
        assert_eq!(pace.review_at(), Some(begin + REVIEW_AFTER));
        pace.review(100, begin + Duration::from_millis(1999));
        assert!(!pace.is_slow(), "too early");
        pace.review(600, begin + Duration::from_secs(2));
        assert!(!pace.is_slow(), "250 a second are too many");
        pace.review(600 + 499, begin + Duration::from_secs(4));
        assert!(pace.is_slow());
        assert_eq!(pace.review_at(), None);
    }
}
