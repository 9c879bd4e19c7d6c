//! What each event changes in the model.

use recluster_core::{Caller, Cause, Config, Event, Failure, Phase, SlotId, SpawnFailure, Time, WorkerId};

use crate::model::{Model, Renewal, Seat, Step, index};

impl Model {
    /// Takes note of an event, as the policy is about to.
    pub(crate) fn apply_event(&mut self, event: Event, now: Time) {
        self.now = self.now.max(now);
        if self.wake.is_some_and(|wake| wake < self.now) {
            // The shell is late: so may be all that queues for the limiter.
            self.forget_promises();
        }
        self.step = Step { event: Some(event), ..Step::default() };
        match event {
            // A released cluster comes to its end here; scenarios resume one.
            Event::Online(_) | Event::Tick | Event::Resume => {}
            Event::Begun(id) => self.begins(id),
            Event::Ready(id) => self.ready(id),
            Event::Unready(id) => self.unready(id),
            Event::Retiring(id) => self.leaves(id),
            Event::Disconnected(id) => self.closed(id),
            Event::Exited(id, exit) => {
                self.departed(id, Cause::Exited(exit));
                self.step.gone = self.workers.remove(&id).map(|worker| (worker, exit));
            }
            Event::Ending(id) => self.ending(id),
            Event::SpawnFailed(id, failure) => self.not_spawned(id, failure),
            Event::Changed(change) => self.file_changed(change),
            Event::Reload { caller, config } => self.asked_to_reload(caller, config),
            Event::Replace(id) => self.asked_to_replace(id),
            Event::Scale(slots) => self.scale(slots),
            Event::Stop => self.stop(),
            Event::Terminate => self.phase = Phase::Terminating,
            Event::Release => self.release(),
        }
        self.forget_renewals();
    }

    fn begins(&mut self, id: WorkerId) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.begun.get_or_insert(now);
        for worker in self.workers.values_mut() {
            worker.queued = now;
        }
    }

    fn ready(&mut self, id: WorkerId) {
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.leaving()) {
            worker.ready.get_or_insert(now);
        }
    }

    /// It was not ready, and has the time that it had.
    fn unready(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.leaving() && !worker.served) {
            worker.ready = None;
        }
    }

    /// It asks to be replaced, or closed its channel; it is let go.
    fn leaves(&mut self, id: WorkerId) {
        if self.is_wanted(id) {
            self.departed(id, Cause::Retired);
            let (now, settings) = (self.now, &self.settings);
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.until = Some(worker.patience(now, settings.timeout, settings));
            }
        }
    }

    fn closed(&mut self, id: WorkerId) {
        let now = self.now;
        if let Some(worker) =
            self.workers.get_mut(&id).filter(|worker| worker.termed.is_none() && worker.killed.is_none())
        {
            worker.closed.get_or_insert(now);
            self.leaves(id);
        }
    }

    /// As if it were sent KILL now, five times at most.
    fn ending(&mut self, id: WorkerId) {
        let now = self.now;
        let worker = self.workers.get_mut(&id).filter(|worker| !worker.given_up && worker.spared < 5);
        if let Some(worker) = worker.filter(|worker| worker.killed.is_some()) {
            worker.killed = Some(now);
            worker.spared += 1;
        }
    }

    fn not_spawned(&mut self, id: WorkerId, failure: SpawnFailure) {
        self.departed(id, Cause::SpawnFailed(failure));
        self.workers.remove(&id);
    }

    /// A wanted worker ends or leaves without being asked to.
    pub(crate) fn departed(&mut self, id: WorkerId, cause: Cause) {
        let Some(worker) = self.workers.get(&id).filter(|_| self.is_wanted(id)).cloned() else { return };
        self.step.departed.push((id, cause));
        let tried = self.on_trial() == Some(worker.generation);
        let index = index(worker.slot);
        let seat = &mut self.seats[index];
        let failures = if tried {
            seat.failures += 1;
            seat.failures
        } else if let Some(renewal) = seat.renew.as_mut().filter(|renewal| renewal.of != id) {
            renewal.failures += 1;
            renewal.failures
        } else {
            return;
        };
        let failure = Failure { worker: id, slot: worker.slot, cause, failures };
        self.step.failures.push((worker.generation, failure));
    }

    fn asked_to_reload(&mut self, caller: Option<Caller>, config: Option<Config>) {
        let pending = self.pending.get_or_insert_default();
        pending.callers.extend(caller);
        if let Some(config) = config {
            pending.settings = Some(*config.settings());
            pending.scaled = false;
        }
    }

    fn asked_to_replace(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id).filter(|_| self.replaceable(id)) else { return };
        let slot = worker.slot;
        if self.wanted_in(slot).next().map(|holder| holder.id) == Some(id) {
            let seat = &mut self.seats[index(slot)];
            if seat.renew.is_none() {
                seat.renew = Some(Renewal { of: id, failures: 0 });
                self.forget_promises_behind(slot);
            }
        }
    }

    /// A worker that is wanted while the cluster runs and no reload does.
    fn replaceable(&self, id: WorkerId) -> bool {
        self.is_wanted(id) && self.phase == Phase::Running && self.reload.is_none()
    }

    fn scale(&mut self, slots: u32) {
        if self.supervises() {
            let slots = slots.clamp(1, Config::MOST_WORKERS) as usize;
            let before = self.seats.len();
            self.step.scaled = (before != slots).then_some((before, slots));
            self.resize(slots);
            if let Some(reload) = &mut self.reload {
                reload.slots = None;
            }
            if let Some(pending) = &mut self.pending {
                pending.scaled = true;
            }
        }
    }

    pub(crate) fn resize(&mut self, slots: usize) {
        let generation = self.proven;
        self.step.fewest = Some(self.step.fewest.map_or(slots, |fewest| fewest.min(slots)));
        self.seats.resize_with(slots, || Seat::new(generation));
        if let Some(reload) = &mut self.reload {
            reload.replaced.retain(|slot| index(*slot) < slots);
        }
        self.forget_promises();
    }

    fn stop(&mut self) {
        if self.supervises() || self.phase == Phase::Released {
            self.stopping();
        }
    }

    fn release(&mut self) {
        if self.supervises() {
            self.phase = Phase::Released;
        }
    }

    /// Everything is drained from now on: what drained already has no more patience than the rest.
    pub(crate) fn stopping(&mut self) {
        self.phase = Phase::Stopping;
        let until = self.now + self.settings.stop_timeout;
        for worker in self.workers.values_mut() {
            if let Some(before) = worker.until {
                worker.until = Some(before.min(until));
            } else if worker.closed.is_some() && !worker.leaving() {
                // It cannot hear that it is asked to go.
                worker.until = Some(worker.patience(self.now, self.settings.stop_timeout, &self.settings));
            }
        }
    }

    /// A renewal has no object once its worker is no longer wanted.
    pub(crate) fn forget_renewals(&mut self) {
        for index in 0..self.seats.len() {
            let renew = self.seats[index].renew;
            if renew.is_some_and(|renewal| !self.is_wanted(renewal.of)) {
                self.seats[index].renew = None;
                self.forget_promises();
            }
        }
    }

    /// A slot queues for the limiter: it comes before those that queue since the same moment and stand behind it.
    pub(crate) fn forget_promises_behind(&mut self, slot: SlotId) {
        let now = self.now;
        for seat in self.seats.iter_mut().skip(index(slot)) {
            seat.promised.take_if(|promise| promise.said == now);
        }
    }

    /// The queue for the limiter has changed: a slot that waits may have its turn sooner than was announced.
    pub(crate) fn forget_promises(&mut self) {
        for seat in &mut self.seats {
            seat.promised = None;
        }
    }
}
