//! The cluster's status and its next deadline, compared with the model.

use recluster_core::{Due, Phase, SlotStatus, State, Status, Time, WorkerStatus};

use crate::model::{Model, index};
use crate::rule::{DEADLINE, Held, TRUTH, hold};
use crate::worker::Worker;

impl Model {
    /// 7: the next deadline lies in the future, and is no later than what is known to come.
    pub(crate) fn deadline_holds(&mut self, next: Option<(Time, Due)>) -> Held {
        self.wake = next.map(|(at, _)| at);
        hold(next.is_none_or(|(at, _)| at > self.now), DEADLINE, || {
            format!("it is {next:?} at {}", self.now)
        })?;
        let known = self.known_deadlines().min();
        let missed = known.is_some_and(|known| next.is_none_or(|(at, _)| at > known));
        hold(!missed, DEADLINE, || format!("it is {next:?}, and something is due at {known:?}"))?;
        let (over, left) = (self.phase() == Phase::Over, next);
        hold(!over || left.is_none(), DEADLINE, || format!("the cluster is over, and waits for {left:?}"))
    }

    fn known_deadlines(&self) -> impl Iterator<Item = Time> {
        let workers = self.workers.values().filter_map(|worker| self.worker_deadline(worker));
        let promises = self
            .seats
            .iter()
            .filter_map(|seat| seat.promised.map(|promise| promise.at))
            .filter(|_| self.supervises());
        let reload = self.pending.as_ref().map(|_| self.reload_due());
        workers.chain(promises).chain(reload).chain(self.files_due())
    }

    fn worker_deadline(&self, worker: &Worker) -> Option<Time> {
        let sentence = self.sentence(worker).map(|(at, ..)| at).or(worker.given_up_at(&self.settings));
        let bake = worker.ready.map(|since| since + self.settings.bake);
        sentence.or(bake.filter(|_| self.wants(worker) && !worker.served))
    }

    /// 13: status says what is so.
    pub(crate) fn status_holds(&self, status: &Status) -> Held {
        let phase = self.phase();
        hold(status.phase == phase, TRUTH, || format!("phase is {:?} instead of {phase:?}", status.phase))?;
        hold(Some(status.generation) == self.proven, TRUTH, || {
            format!("generation is {} instead of {:?}", status.generation, self.proven)
        })?;
        self.reload_as_reported(status)?;
        self.workers_as_reported(&status.workers)?;
        hold(status.slots.len() == self.seats.len(), TRUTH, || format!("{:?} are the slots", status.slots))?;
        for (at, slot) in status.slots.iter().enumerate() {
            let in_place = index(slot.slot) == at && self.slot_as_reported(slot);
            hold(in_place, TRUTH, || format!("slot {at} is said to be {slot:?}"))?;
        }
        let settled = self.settled();
        hold(!self.supervises() || status.settled == settled, TRUTH, || {
            format!("settled is {} instead of {settled}", status.settled)
        })
    }

    fn reload_as_reported(&self, status: &Status) -> Held {
        let reported = status
            .reload
            .as_ref()
            .map(|reload| (reload.generation, reload.serving as usize, reload.of as usize));
        let so = self
            .reloading()
            .map(|generation| (generation, self.serving_slots(Some(generation)), self.slots_for(generation)));
        hold(reported == so, TRUTH, || format!("the reload is {reported:?} instead of {so:?}"))
    }

    fn workers_as_reported(&self, reported: &[WorkerStatus]) -> Held {
        let same = reported.len() == self.workers.len()
            && reported
                .iter()
                .zip(self.workers.values())
                .all(|(reported, worker)| self.worker_as_reported(reported, worker));
        hold(same, TRUTH, || format!("workers are {reported:?} instead of {:?}", self.workers))
    }

    fn worker_as_reported(&self, reported: &WorkerStatus, worker: &Worker) -> bool {
        let place = (reported.worker, reported.slot, reported.generation)
            == (worker.id, worker.slot, worker.generation);
        let state = reported.state == self.state(worker);
        // A released worker is neither wanted nor unwanted.
        let roles = !self.supervises()
            || (reported.wanted, reported.serves)
                == (self.wants(worker), self.wants(worker) && self.serves(worker));
        place && state && roles
    }

    fn state(&self, worker: &Worker) -> State {
        if let Some(killed) = worker.killed {
            let until = killed + self.settings.end_timeout;
            return if worker.given_up { State::Unkillable } else { State::Killed { until } };
        }
        match (worker.termed, worker.until, worker.ready) {
            (Some(termed), ..) => State::Terminating { until: termed + self.settings.kill_timeout },
            (None, Some(until), _) => State::Draining { until },
            (None, None, Some(since)) => State::Ready { since },
            (None, None, None) => State::Starting { until: worker.ready_by(&self.settings) },
        }
    }

    /// The active worker of a slot is its elder, once that is ready; until then the other one, if that is ready.
    fn slot_as_reported(&self, reported: &SlotStatus) -> bool {
        let mut ready = self.wanted_in(reported.slot).filter(|worker| worker.ready.is_some());
        let active = ready.next().map(|worker| worker.id);
        let restarts = self.seats[index(reported.slot)].restarts;
        !self.supervises() || (reported.active, reported.restarts) == (active, restarts)
    }

    /// Every slot serves, and nothing else is asked for.
    pub(crate) fn settled(&self) -> bool {
        let busy = self.reload.is_some() || self.pending.is_some() || self.renews();
        !busy && self.serving_slots(None) == self.seats.len()
    }

    /// Nothing is asked for, and every slot serves, or is vacant until the next reload.
    pub(crate) fn waits_for_reload(&self) -> bool {
        let busy = self.reload.is_some() || self.pending.is_some() || self.renews();
        self.settings.hold && !busy && self.wanted().all(|worker| self.serves(worker))
    }

    /// What the cluster as a whole is doing.
    pub(crate) fn phase(&self) -> Phase {
        if !self.supervises() && self.workers.values().all(|worker| worker.given_up) {
            Phase::Over
        } else {
            self.phase
        }
    }
}
