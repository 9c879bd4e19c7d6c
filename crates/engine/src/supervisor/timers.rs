//! What the supervisor itself wants to be woken for, beside the policy's deadlines: a plain set of moments.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use serde::{Deserialize, Serialize};

use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// What stands for a moment that no clock can say: a year.
pub(crate) const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Timer {
    /// A stop that was asked for begins.
    Stop,
    /// Workers are looked at: are they too big, or too old?
    Recycle,
    /// What programs have left behind is looked at.
    Leftovers,
    /// The counts of what the kernel has killed for want of memory are looked at.
    OomKills,
    /// It is looked whether connections wait that nobody takes.
    Ignored,
    /// A worker's program should run by now.
    Start(WorkerId),
    /// A worker should have said by now that it is alive.
    Watchdog(WorkerId),
    /// The service manager is told something.
    Manager,
    /// It is tried again to have another program take this one's place.
    Upgrade,
}

/// All timers that are set; each at most once.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Timer)>);

/// One that is set, as another program goes on with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    #[serde(with = "plain")]
    at: Instant,
    timer: Timer,
}

const PART: &str = "timers";

impl Timers {
    /// Leaves them to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        let left = self.0.iter().map(|&(at, timer)| Left { at, timer });
        saving.put(PART, &left.collect::<Vec<_>>())
    }

    /// Goes on with what was left.
    pub(crate) fn adopt(inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let left: Vec<Left> = inheritance.needed(PART)?;
        Ok(Self(left.into_iter().map(|Left { at, timer }| (at, timer)).collect()))
    }

    /// Sets a timer, in the place of the same one that was set for another moment.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.clear(timer);
        self.0.insert((at, timer));
    }

    /// Sets a timer, unless it is set for an earlier moment.
    pub(crate) fn set_by(&mut self, timer: Timer, at: Instant) {
        if !self.0.iter().any(|(earlier, set)| *set == timer && *earlier <= at) {
            self.set(timer, at);
        }
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.0.retain(|(_, set)| *set != timer);
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.0.iter().any(|(_, set)| *set == timer)
    }

    /// The next moment to be woken at.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// One timer that is due, which is set no more, and for how long it has been.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(Timer, Duration)> {
        let &(at, timer) = self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.remove(&(at, timer));
        Some((timer, now.saturating_duration_since(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_once_and_at_its_last_moment() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.set(Timer::Stop, at(1));
        timers.set(Timer::Recycle, at(2));
        timers.set(Timer::Stop, at(3));
        timers.set_by(Timer::Stop, at(4));
        assert_eq!(timers.next(), Some(at(2)));
        assert_eq!(timers.take_due(at(1)), None);
        assert_eq!(timers.take_due(at(9)), Some((Timer::Recycle, Duration::from_secs(7))));
        assert!(timers.is_set(Timer::Stop));
        assert_eq!(timers.take_due(at(3)), Some((Timer::Stop, Duration::ZERO)));
        assert_eq!(timers.take_due(at(9)), None);
        timers.set_by(Timer::Stop, at(9));
        timers.set_by(Timer::Stop, at(8));
        assert_eq!(timers.next(), Some(at(8)));
        timers.set_by(Timer::Recycle, at(9));
        assert!(
            timers.is_set(Timer::Recycle),
            "that another one is set for an earlier moment does not matter"
        );
    }
}
