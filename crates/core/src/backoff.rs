//! The spacing of respawns: a plain value that knows times and nothing else.

use std::time::Duration;

use crate::Time;

/// What doubling makes of no spacing at all.
const FIRST_STEP: Duration = Duration::from_millis(100);

/// One limiter for the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Backoff {
    /// The spacing never falls below this.
    least: Duration,
    /// The spacing never exceeds this, and halves after each such time without a respawn. Unset, it is constant.
    most: Option<Duration>,
    /// The spacing as of the last respawn.
    spacing: Duration,
    /// The last respawn, or the beginning.
    last: Time,
    /// No respawn before this.
    next: Time,
}

impl Backoff {
    /// A limiter at the moment when the first generation is begun.
    pub(crate) fn new(least: Duration, most: Option<Duration>, now: Time) -> Self {
        Self { least, most, spacing: least, last: now, next: now + least }
    }

    /// Other bounds from now on. What was promised already stays.
    pub(crate) fn configure(&mut self, least: Duration, most: Option<Duration>) {
        (self.least, self.most) = (least, most);
        self.spacing = most.map_or(least, |most| self.spacing.clamp(least, most));
    }

    /// The earliest time of the next respawn.
    pub(crate) const fn next(&self) -> Time {
        self.next
    }

    /// A generation is begun: its first workers are no respawns, but the next respawn keeps its distance from them.
    pub(crate) fn batch(&mut self, now: Time) {
        self.next = self.next.max(now + self.spacing_at(now));
    }

    /// A worker is respawned.
    pub(crate) fn respawned(&mut self, now: Time) {
        if let Some(most) = self.most {
            self.spacing = doubled(self.spacing_at(now), self.least).min(most);
        }
        self.last = now;
        self.next = now + self.spacing;
    }

    /// The spacing after the calm since the last respawn. Computed when asked, so that no timer has to shrink it.
    fn spacing_at(&self, now: Time) -> Duration {
        let Some(most) = self.most.filter(|most| !most.is_zero()) else {
            return self.spacing;
        };
        let calms = now.since(self.last).as_nanos() / most.as_nanos();
        let halvings = u32::try_from(calms).unwrap_or(u32::MAX);
        let halved = 1_u32.checked_shl(halvings).map_or(Duration::ZERO, |divisor| self.spacing / divisor);
        halved.max(self.least)
    }
}

/// Twice as long; where the least is nothing, a first step at least.
pub(crate) fn doubled(span: Duration, least: Duration) -> Duration {
    let step = if least.is_zero() { FIRST_STEP } else { least };
    span.saturating_mul(2).max(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Time {
        Time::after(Duration::from_secs(secs))
    }

    fn limiter(least: u64, most: Option<u64>) -> Backoff {
        Backoff::new(Duration::from_secs(least), most.map(Duration::from_secs), at(0))
    }

    /// Respawns as soon as each is allowed, and says when that was.
    fn respawns<const N: usize>(limiter: &mut Backoff) -> [Time; N] {
        std::array::from_fn(|_| {
            let next = limiter.next();
            limiter.respawned(next);
            next
        })
    }

    #[test]
    fn without_a_most_the_spacing_is_constant() {
        assert_eq!(respawns(&mut limiter(2, None)), [at(2), at(4), at(6), at(8)]);
    }

    #[test]
    fn with_a_most_it_doubles_up_to_that() {
        assert_eq!(respawns(&mut limiter(1, Some(5))), [at(1), at(3), at(7), at(12), at(17), at(22)]);
    }

    #[test]
    fn it_halves_after_each_calm_down_to_the_least() {
        for (calm, spacing) in [(0, 8), (9, 8), (10, 4), (19, 4), (20, 2), (30, 2), (40, 2), (10_000, 2)] {
            let mut limiter = limiter(2, Some(10));
            respawns::<2>(&mut limiter);
            assert_eq!(limiter.spacing_at(limiter.last + Duration::from_secs(calm)).as_secs(), spacing);
        }
    }

    #[test]
    fn a_generation_keeps_respawns_at_a_distance_and_is_none() {
        let mut limiter = limiter(1, Some(60));
        limiter.batch(at(10));
        assert_eq!(respawns(&mut limiter), [at(11), at(13), at(17)]);
        limiter.batch(at(18));
        assert_eq!(limiter.next(), at(26), "the spacing is 8 s by now");
    }

    #[test]
    fn a_generation_never_brings_a_respawn_forward() {
        let mut limiter = limiter(5, None);
        limiter.respawned(at(5));
        limiter.batch(at(5));
        assert_eq!(limiter.next(), at(10));
    }

    #[test]
    fn from_nothing_it_grows_by_a_first_step() {
        let mut limiter = limiter(0, Some(1));
        let spacings: Vec<u128> = (0..6)
            .map(|_| {
                limiter.respawned(limiter.next());
                limiter.spacing.as_millis()
            })
            .collect();
        assert_eq!(spacings, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn where_the_least_is_nothing_calm_does_not_make_the_next_step_smaller_than_the_first() {
        for calm in [0, 1, 3, 9, 100] {
            let mut limiter = limiter(0, Some(1));
            limiter.respawned(at(0));
            limiter.respawned(at(calm));
            assert!(limiter.spacing >= FIRST_STEP);
        }
    }

    #[test]
    fn without_any_spacing_nothing_is_spaced() {
        assert_eq!(respawns(&mut limiter(0, None)), [at(0); 3]);
        assert_eq!(respawns(&mut limiter(0, Some(0))), [at(0); 3]);
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let mut limiter = Backoff::new(Duration::MAX, Some(Duration::MAX), at(1));
        limiter.respawned(Time::after(Duration::MAX));
        limiter.batch(Time::after(Duration::MAX));
        assert_eq!(limiter.next(), Time::after(Duration::MAX));
    }
}
