//! One slot: which worker holds it, which is to take it over, and what it waits for.

use crate::worker::Workers;
use crate::{Config, Failure, Generation, SlotId, Time, WorkerId};

/// A worker's place. It outlives its workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Slot {
    pub(crate) id: SlotId,
    /// The worker that holds the seat.
    pub(crate) holder: Option<WorkerId>,
    /// The worker that is to take the seat over: a reload's, or one that renews the holder.
    pub(crate) candidate: Option<WorkerId>,
    /// What a respawn of the holder belongs to. The holder itself may be left over from a superseded generation.
    pub(crate) generation: Generation,
    /// The last failure, with their number so far.
    pub(crate) failure: Option<Failure>,
    /// Set where the next worker must pass the limiter; a first start need not.
    pub(crate) waiting: Option<Waiting>,
    /// The holder is to be renewed, new first.
    pub(crate) renew: bool,
    /// How often code that has served was started here again.
    pub(crate) restarts: u64,
}

/// A slot's place in the queue for the limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Waiting {
    pub(crate) since: Time,
    /// The worker that ended, until a notice has said when its successor starts.
    pub(crate) unannounced: Option<WorkerId>,
}

impl Slot {
    /// A vacant slot, whose first worker is started at once.
    pub(crate) fn new(id: SlotId, generation: Generation) -> Self {
        Self {
            id,
            holder: None,
            candidate: None,
            generation,
            failure: None,
            waiting: None,
            renew: false,
            restarts: 0,
        }
    }

    /// Whether this worker is wanted here.
    pub(crate) fn wants(&self, worker: WorkerId) -> bool {
        self.holder == Some(worker) || self.candidate == Some(worker)
    }

    /// How often its workers have failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failure.map_or(0, |failure| failure.failures)
    }

    /// Whether the reload of this generation has yet to take the seat: then it alone may start workers here.
    pub(crate) fn awaits(&self, reload: Option<Generation>) -> bool {
        reload.is_some_and(|generation| generation != self.generation)
    }

    /// Whether the next worker is to take the seat over when it serves, instead of having it at once.
    fn next_is_candidate(&self, reload: Option<Generation>) -> bool {
        self.awaits(reload) || self.renew
    }

    /// Whether a worker is to be started here.
    pub(crate) fn lacks_worker(&self, reload: Option<Generation>) -> bool {
        let seat = if self.next_is_candidate(reload) { self.candidate } else { self.holder };
        seat.is_none()
    }

    /// It uses one place of the surge: beside its holder a candidate lives, or has failed and is to be tried again.
    pub(crate) fn is_being_replaced(&self) -> bool {
        let retries = self.waiting.is_some() && self.failure.is_some();
        self.holder.is_some() && (self.candidate.is_some() || retries)
    }

    /// A worker is started here.
    pub(crate) fn seat(&mut self, worker: WorkerId, reload: Option<Generation>) {
        let seat = if self.next_is_candidate(reload) { &mut self.candidate } else { &mut self.holder };
        *seat = Some(worker);
        self.waiting = None;
    }

    /// A wanted worker ends or leaves.
    pub(crate) fn vacate(&mut self, worker: WorkerId, reload: Option<Generation>, now: Time) {
        if self.candidate == Some(worker) {
            self.candidate = None;
            self.wait(Some(worker), now);
            return;
        }
        self.holder = None;
        if !self.awaits(reload) {
            // There is nothing left to renew: either the new worker has the seat now, or the next one will be new.
            self.renew = false;
            self.take_over();
            if self.holder.is_none() {
                self.wait(Some(worker), now);
            }
        }
    }

    /// Queues for the limiter, to replace the worker that ended. A slot that queues already keeps its place.
    fn wait(&mut self, ended: Option<WorkerId>, now: Time) {
        let since = self.waiting.map_or(now, |waiting| waiting.since);
        self.waiting = Some(Waiting { since, unannounced: ended });
    }

    /// The candidate, if there is one, becomes the holder.
    pub(crate) fn take_over(&mut self) {
        if let Some(candidate) = self.candidate.take() {
            self.holder = Some(candidate);
            self.renew = false;
        }
    }

    /// The reload has failed: its candidate is not wanted, and a vacant seat queues for a respawn.
    pub(crate) fn roll_back(&mut self, now: Time) {
        let candidate = self.candidate.take();
        if self.holder.is_some() {
            self.waiting = None;
        } else if self.waiting.is_none() {
            self.wait(candidate, now);
        }
    }

    /// A newer generation comes. The candidate goes if an older worker has the seat, unless only the candidate
    /// serves; else it has the seat until the newer generation takes it.
    pub(crate) fn supersede(&mut self, workers: &Workers) {
        let only_candidate_serves = workers.serves(self.candidate) && !workers.serves(self.holder);
        if self.holder.is_none() || only_candidate_serves {
            self.take_over();
        }
        self.candidate = None;
        self.reset();
    }

    /// The holder is to be renewed.
    pub(crate) fn ask_to_renew(&mut self, now: Time) {
        self.reset();
        self.renew = true;
        self.wait(None, now);
    }

    /// Forgets what failed, what waits and what was asked.
    pub(crate) fn reset(&mut self) {
        (self.failure, self.waiting, self.renew) = (None, None, false);
    }
}

/// The number of some slots, which are never more than [`Config::MOST_WORKERS`].
pub(crate) fn count<'a>(slots: impl Iterator<Item = &'a Slot>) -> u32 {
    u32::try_from(slots.count()).unwrap_or(Config::MOST_WORKERS)
}
