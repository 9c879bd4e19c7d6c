//! What the driver itself wants to be woken for, beside the policy's deadlines: a plain set of moments.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// A stop that was asked for begins.
    Stop,
    /// Workers are looked at: are they too big, or too old?
    Recycle,
    /// What programs have left behind is looked at.
    Remains,
    /// A worker should have said by now that it is alive.
    Watchdog(WorkerId),
}

/// All alarms that are set; each at most once.
#[derive(Debug, Default)]
pub(crate) struct Alarms(BTreeSet<(Instant, Alarm)>);

impl Alarms {
    /// Sets an alarm, in the place of the same one that was set for another moment.
    pub(crate) fn set(&mut self, alarm: Alarm, at: Instant) {
        self.clear(alarm);
        self.0.insert((at, alarm));
    }

    /// Sets an alarm, unless it is set for an earlier moment.
    pub(crate) fn set_by(&mut self, alarm: Alarm, at: Instant) {
        if !self.0.iter().any(|(earlier, set)| *set == alarm && *earlier <= at) {
            self.set(alarm, at);
        }
    }

    pub(crate) fn clear(&mut self, alarm: Alarm) {
        self.0.retain(|(_, set)| *set != alarm);
    }

    pub(crate) fn is_set(&self, alarm: Alarm) -> bool {
        self.0.iter().any(|(_, set)| *set == alarm)
    }

    /// The next moment to be woken at.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// One alarm that is due, which is set no more, and for how long it has been.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(Alarm, Duration)> {
        let &(at, alarm) = self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.remove(&(at, alarm));
        Some((alarm, now.saturating_duration_since(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_due_once_and_at_its_last_moment() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut alarms = Alarms::default();
        alarms.set(Alarm::Stop, at(1));
        alarms.set(Alarm::Recycle, at(2));
        alarms.set(Alarm::Stop, at(3));
        alarms.set_by(Alarm::Stop, at(4));
        assert_eq!(alarms.next(), Some(at(2)));
        assert_eq!(alarms.take_due(at(1)), None);
        assert_eq!(alarms.take_due(at(9)), Some((Alarm::Recycle, Duration::from_secs(7))));
        assert!(alarms.is_set(Alarm::Stop));
        assert_eq!(alarms.take_due(at(3)), Some((Alarm::Stop, Duration::ZERO)));
        assert_eq!(alarms.take_due(at(9)), None);
        alarms.set_by(Alarm::Stop, at(9));
        alarms.set_by(Alarm::Stop, at(8));
        assert_eq!(alarms.next(), Some(at(8)));
    }
}
