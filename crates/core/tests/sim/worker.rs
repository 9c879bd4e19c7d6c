//! One worker, as far as its events and the actions about it say.

use std::time::Duration;

use recluster_core::{Due, Generation, Settings, Signal, SlotId, Time, WorkerId};

/// A live worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) slot: SlotId,
    pub(crate) generation: Generation,
    /// It has queued since then, and nobody was begun.
    pub(crate) queued: Time,
    /// Its process was being started then.
    pub(crate) begun: Option<Time>,
    pub(crate) ready: Option<Time>,
    /// It was announced as serving.
    pub(crate) served: bool,
    /// It is on its way out, and its patience ends then.
    pub(crate) until: Option<Time>,
    pub(crate) drained: bool,
    pub(crate) closed: Option<Time>,
    pub(crate) termed: Option<Time>,
    pub(crate) killed: Option<Time>,
    /// How often it had its time once more since then.
    pub(crate) spared: u8,
    /// It lives on all the same, and nothing waits for it.
    pub(crate) given_up: bool,
}

impl Worker {
    pub(crate) const fn new(id: WorkerId, slot: SlotId, generation: Generation, now: Time) -> Self {
        Self {
            id,
            slot,
            generation,
            queued: now,
            begun: None,
            ready: None,
            served: false,
            until: None,
            drained: false,
            closed: None,
            termed: None,
            killed: None,
            spared: 0,
            given_up: false,
        }
    }

    pub(crate) const fn leaving(&self) -> bool {
        self.until.is_some() || self.termed.is_some() || self.killed.is_some()
    }

    /// Still within its patience on the way out.
    pub(crate) const fn draining(&self) -> bool {
        self.until.is_some() && self.termed.is_none() && self.killed.is_none()
    }

    pub(crate) fn serves(&self, now: Time, settings: &Settings) -> bool {
        !self.leaving() && self.ready.is_some_and(|since| since + settings.bake <= now)
    }

    /// When it must be ready, if it is not.
    pub(crate) fn ready_by(&self, settings: &Settings) -> Option<Time> {
        self.begun.filter(|_| self.ready.is_none()).map(|begun| begun + settings.ready_timeout)
    }

    /// The next signal that it earns by doing nothing: when, what it is late for then, and which.
    pub(crate) fn sentence(&self, settings: &Settings) -> Option<(Time, Due, Signal)> {
        if self.killed.is_some() {
            return None;
        }
        if let Some(termed) = self.termed {
            return Some((termed + settings.kill_timeout, Due::Kill(self.id), Signal::Kill));
        }
        if let Some(until) = self.until {
            let exit = self.closed.map(|closed| closed + settings.exit_grace).filter(|exit| *exit < until);
            let drain = (until, Due::Drain(self.id), Signal::Term);
            return Some(exit.map_or(drain, |exit| (exit, Due::Exit(self.id), Signal::Term)));
        }
        let starts = self.begun.unwrap_or(self.queued) + settings.ready_timeout;
        self.ready.is_none().then_some((starts, Due::Ready(self.id), Signal::Term))
    }

    /// When it is given up, if it lives on after KILL.
    pub(crate) fn given_up_at(&self, settings: &Settings) -> Option<Time> {
        self.killed.filter(|_| !self.given_up).map(|killed| killed + settings.end_timeout)
    }

    /// When its patience ends if it is let go now: one that is not ready yet has none beyond its ready timeout.
    pub(crate) fn patience(&self, now: Time, timeout: Duration, settings: &Settings) -> Time {
        let until = now + timeout;
        self.ready_by(settings).map_or(until, |by| by.min(until))
    }
}
