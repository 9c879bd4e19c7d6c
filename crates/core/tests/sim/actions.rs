//! What each action changes in the model, and the rules that it must keep at that very moment.

use std::mem;

use recluster_core::{Action, Cause, Due, Generation, Phase, Signal, SlotId, Time, WorkerId};

use crate::model::{Model, index};
use crate::rule::{DUE, HOLD, Held, NO_SPAWN, ONCE, PACE, PROVEN, SEATS, SIZE, TRIAL, TRUTH, hold};
use crate::worker::Worker;

impl Model {
    /// Takes note of an action. Each is checked against what was known before it.
    pub(crate) fn apply_action(&mut self, action: &Action) -> Held {
        match action {
            Action::Spawn { worker, slot, generation } => self.spawn(*worker, *slot, *generation),
            Action::Drain { worker, until } => self.drain(*worker, *until),
            Action::Signal { worker, signal } => self.signal(*worker, *signal),
            Action::Reload(change) => self.asks_for_reload(*change),
            Action::Notify(notice) => self.apply_notice(notice),
        }
    }

    fn spawn(&mut self, id: WorkerId, slot: SlotId, generation: Generation) -> Held {
        hold(self.supervises(), NO_SPAWN, || format!("worker {id} while {:?}", self.phase))?;
        hold(id.get() == self.born + 1, ONCE, || {
            format!("worker {id} is the {}. to be begun", self.born + 1)
        })?;
        self.born += 1;
        hold(index(slot) < self.seats.len(), SEATS, || format!("there is no slot {slot}"))?;
        let seat = &self.seats[index(slot)];
        let stays = self.reloading().is_none_or(|reload| index(slot) < self.slots_for(reload));
        hold(stays, SIZE, || format!("slot {slot} is to go, and gets worker {id}"))?;
        let of = self.reloading().or(seat.generation);
        hold(of == Some(generation), PROVEN, || {
            format!("worker {id} is of {generation}, its slot of {of:?}")
        })?;
        let goes_on = self.phase == Phase::Running && self.on_trial() != Some(generation);
        self.held_rightly(id, slot)?;
        self.spawn_in_time(id, slot, goes_on)?;
        self.retried_alone(slot)?;
        self.workers.insert(id, Worker::new(id, slot, generation, self.now));
        let booting = self.wanted().filter(|worker| worker.ready.is_none()).count();
        let most = self.settings.boot_limit.map_or(usize::MAX, |most| most.get() as usize);
        hold(booting <= most, PACE, || format!("worker {id} is begun while {booting} boot, of {most}"))
    }

    /// 18: outside of a reload and a renewal only the first worker of a slot is started; and no old one is left here.
    fn held_rightly(&self, id: WorkerId, slot: SlotId) -> Held {
        let seat = &self.seats[index(slot)];
        let is_due = seat.fresh || seat.renew.is_some() || self.reload.is_some();
        hold(is_due || !self.settings.hold, HOLD, || format!("worker {id} is started in slot {slot}"))?;
        let old = self
            .workers
            .values()
            .find(|worker| worker.slot == slot && !self.wants(worker) && !worker.given_up);
        hold(old.is_none() || !self.settings.gone_first, HOLD, || {
            format!("worker {id} is started in slot {slot} before {old:?} is gone")
        })
    }

    /// Only the first worker of a slot or a generation need not pass the limiter. The others are restarts where they go on
    /// with code that has served.
    fn spawn_in_time(&mut self, id: WorkerId, slot: SlotId, goes_on: bool) -> Held {
        let now = self.now;
        let seat = &mut self.seats[index(slot)];
        let promised = seat.promised.take().map(|promise| promise.at);
        hold(promised.is_none_or(|at| at <= now), TRUTH, || {
            format!("slot {slot} was to be respawned at {promised:?}, and was at {now}")
        })?;
        if mem::take(&mut seat.fresh) {
            return Ok(());
        }
        seat.restarts += u64::from(goes_on);
        let earliest = self.limiter.earliest();
        self.limiter.respawned(now);
        hold(now >= earliest, PACE, || format!("worker {id} is respawned at {now}, before {earliest}"))
    }

    /// Among the slots that failed on trial one is retried at a time.
    fn retried_alone(&self, slot: SlotId) -> Held {
        let Some(generation) = self.on_trial() else { return Ok(()) };
        let retried = |slot: SlotId| self.seats[index(slot)].failures > 0;
        let other = self.workers.values().find(|worker| {
            let on_trial = self.wants(worker) && worker.generation == generation && worker.slot != slot;
            on_trial && retried(worker.slot) && !self.serves(worker)
        });
        hold(other.is_none() || !retried(slot), TRIAL, || {
            format!("slot {slot} is retried beside {:?}", other.map(|worker| worker.slot))
        })
    }

    fn drain(&mut self, id: WorkerId, until: Time) -> Held {
        let served = self.workers.get(&id).is_some_and(|worker| self.serves(worker));
        let timeout = match self.phase {
            Phase::Stopping => self.settings.stop_timeout,
            Phase::Starting | Phase::Running | Phase::Terminating | Phase::Released | Phase::Over => {
                self.settings.timeout
            }
        };
        let (now, settings) = (self.now, &self.settings);
        let worker = self.workers.get_mut(&id).filter(|worker| !worker.drained && worker.closed.is_none());
        let worker = worker.filter(|worker| worker.termed.is_none() && worker.killed.is_none());
        let Some(worker) = worker else { return hold(false, ONCE, || format!("worker {id} is asked to go")) };
        self.step.drained.push((worker.clone(), served));
        let patience = worker.patience(now, timeout, settings);
        worker.until = Some(until);
        worker.drained = true;
        hold(until == patience, DUE, || format!("worker {id} is drained until {until} instead of {patience}"))
    }

    fn signal(&mut self, id: WorkerId, signal: Signal) -> Held {
        let Some(worker) = self.workers.get(&id).cloned() else {
            return hold(false, ONCE, || format!("worker {id} is gone and sent {signal:?}"));
        };
        let again = worker.killed.is_some() || (signal == Signal::Term && worker.termed.is_some());
        hold(!again, ONCE, || format!("worker {id} is sent {signal:?} once more"))?;
        let terminated = self.phase == Phase::Terminating && signal == Signal::Kill;
        if !terminated {
            let cold = signal == Signal::Kill && worker.termed.is_none();
            hold(!cold, ONCE, || format!("worker {id} is sent KILL, and was never sent TERM"))?;
            self.signal_is_due(&worker, signal)?;
        }
        if worker.ready.is_none() && !worker.leaving() {
            self.departed(id, Cause::ReadyTimeout);
        }
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(&id) {
            match signal {
                Signal::Term => worker.termed = Some(now),
                Signal::Kill => worker.killed = Some(now),
            }
        }
        self.forget_renewals();
        Ok(())
    }

    /// The worker's time is up, and that was said just before.
    fn signal_is_due(&mut self, worker: &Worker, signal: Signal) -> Held {
        let said = self.step.overdue.take();
        let capped =
            self.drains_too_long(worker) && said == Some((worker.id, Due::Surplus(worker.id), signal));
        let sentence = self.sentence(worker).filter(|(at, ..)| *at <= self.now);
        let expected = sentence.map(|(_, due, signal)| (worker.id, due, signal));
        hold(capped || (expected.is_some() && said == expected), DUE, || {
            let due = self.sentence(worker);
            format!("worker {} is sent {signal:?}, said was {said:?}, due is {due:?}", worker.id)
        })
    }

    /// It drains with the oldest of more old generations than are to be kept.
    fn drains_too_long(&self, worker: &Worker) -> bool {
        let Some(most) = self.settings.max_draining.filter(|_| self.supervises()) else { return false };
        let old = self.old_generations();
        let beyond = old.len().saturating_sub(most.get() as usize);
        worker.draining() && old.iter().take(beyond).any(|generation| *generation == worker.generation)
    }
}
