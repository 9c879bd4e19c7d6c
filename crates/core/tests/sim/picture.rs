//! The cluster's own picture of itself, held against the account: status and next deadline.

use recluster_core::{Due, Phase, SlotStatus, State, Status, Time, WorkerStatus};

use crate::body::Body;
use crate::model::{Model, index};
use crate::rule::{DEADLINE, Held, TRUTH, hold};

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
        let workers = self.bodies.values().filter_map(|body| self.body_deadline(body));
        let promises = self
            .seats
            .iter()
            .filter_map(|seat| seat.promised.map(|promise| promise.at))
            .filter(|_| self.supervises());
        let reload = self.pending.as_ref().map(|_| self.reload_due());
        workers.chain(promises).chain(reload)
    }

    fn body_deadline(&self, body: &Body) -> Option<Time> {
        let sentence = self.sentence(body).map(|(at, ..)| at);
        let bake = body.ready.map(|since| since + self.settings.bake);
        sentence.or(bake.filter(|_| self.wants(body) && !body.served))
    }

    /// 13: status says what is so.
    pub(crate) fn status_holds(&self, status: &Status) -> Held {
        let phase = self.phase();
        hold(status.phase == phase, TRUTH, || format!("phase is {:?} instead of {phase:?}", status.phase))?;
        hold(Some(status.generation) == self.proven, TRUTH, || {
            format!("generation is {} instead of {:?}", status.generation, self.proven)
        })?;
        self.reload_as_told(status)?;
        self.workers_as_told(&status.workers)?;
        hold(status.slots.len() == self.seats.len(), TRUTH, || format!("{:?} are the slots", status.slots))?;
        for (at, slot) in status.slots.iter().enumerate() {
            let in_place = index(slot.slot) == at && self.slot_as_told(slot);
            hold(in_place, TRUTH, || format!("slot {at} is said to be {slot:?}"))?;
        }
        let settled = self.settled();
        hold(!self.supervises() || status.settled == settled, TRUTH, || {
            format!("settled is {} instead of {settled}", status.settled)
        })
    }

    fn reload_as_told(&self, status: &Status) -> Held {
        let told = status
            .reload
            .as_ref()
            .map(|reload| (reload.generation, reload.serving as usize, reload.of as usize));
        let so = self
            .reloading()
            .map(|generation| (generation, self.serving_slots(Some(generation)), self.slots_for(generation)));
        hold(told == so, TRUTH, || format!("the reload is {told:?} instead of {so:?}"))
    }

    fn workers_as_told(&self, told: &[WorkerStatus]) -> Held {
        let same = told.len() == self.bodies.len()
            && told.iter().zip(self.bodies.values()).all(|(told, body)| self.worker_as_told(told, body));
        hold(same, TRUTH, || format!("workers are {told:?} instead of {:?}", self.bodies))
    }

    fn worker_as_told(&self, told: &WorkerStatus, body: &Body) -> bool {
        let place = (told.worker, told.slot, told.generation) == (body.id, body.slot, body.generation);
        let state = told.state == self.state(body);
        // What is wanted of a released worker is nobody's business any more.
        let roles = !self.supervises()
            || (told.wanted, told.serves) == (self.wants(body), self.wants(body) && self.serves(body));
        place && state && roles
    }

    fn state(&self, body: &Body) -> State {
        if body.killed {
            return State::Killed;
        }
        match (body.termed, body.until, body.ready) {
            (Some(termed), ..) => State::Terminating { until: termed + self.settings.kill_timeout },
            (None, Some(until), _) => State::Draining { until },
            (None, None, Some(since)) => State::Ready { since },
            (None, None, None) => State::Starting { until: body.born + self.settings.ready_timeout },
        }
    }

    /// The active worker of a slot is its elder, once that is ready; until then the other one, if that is ready.
    fn slot_as_told(&self, told: &SlotStatus) -> bool {
        let mut ready = self.wanted_in(told.slot).filter(|body| body.ready.is_some());
        let active = ready.next().map(|body| body.id);
        let restarts = self.seats[index(told.slot)].spawns.saturating_sub(1);
        !self.supervises() || (told.active, told.restarts) == (active, restarts)
    }

    /// Everybody is there and serves, and nothing else is asked for.
    pub(crate) fn settled(&self) -> bool {
        let busy = self.reload.is_some() || self.pending.is_some() || self.renews();
        !busy && self.serving_slots(None) == self.seats.len()
    }

    /// What the cluster as a whole is doing.
    pub(crate) fn phase(&self) -> Phase {
        if !self.supervises() && self.bodies.is_empty() { Phase::Over } else { self.phase }
    }
}
