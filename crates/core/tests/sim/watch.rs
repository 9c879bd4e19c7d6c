//! What each action changes in the account, and the rules that it must keep at that very moment.

use std::mem;

use recluster_core::{Action, Cause, Due, Generation, Phase, Signal, SlotId, Time, WorkerId};

use crate::body::Body;
use crate::model::{Model, index};
use crate::rule::{DUE, Held, NO_SPAWN, ONCE, PACE, PROVEN, SEATS, SIZE, TRIAL, TRUTH, hold};

impl Model {
    /// Takes note of an action. Each is checked against what was known before it.
    pub(crate) fn saw(&mut self, action: &Action) -> Held {
        match action {
            Action::Spawn { worker, slot, generation } => self.spawn(*worker, *slot, *generation),
            Action::Drain { worker, until } => self.drain(*worker, *until),
            Action::Signal { worker, signal } => self.signal(*worker, *signal),
            Action::Notify(notice) => self.told(notice),
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
        self.spawn_in_time(id, slot)?;
        self.retried_alone(slot)?;
        self.bodies.insert(id, Body::new(id, slot, generation, self.now));
        Ok(())
    }

    /// Only the first worker of a slot or a generation need not pass the limiter.
    fn spawn_in_time(&mut self, id: WorkerId, slot: SlotId) -> Held {
        let now = self.now;
        let seat = &mut self.seats[index(slot)];
        seat.spawns += 1;
        let promised = seat.promised.take().map(|promise| promise.at);
        hold(promised.is_none_or(|at| at <= now), TRUTH, || {
            format!("slot {slot} was to be respawned at {promised:?}, and was at {now}")
        })?;
        if mem::take(&mut seat.fresh) {
            return Ok(());
        }
        let earliest = self.limiter.earliest();
        self.limiter.respawned(now);
        hold(now >= earliest, PACE, || format!("worker {id} is respawned at {now}, before {earliest}"))
    }

    /// Among the slots that failed on trial one is retried at a time.
    fn retried_alone(&self, slot: SlotId) -> Held {
        let Some(generation) = self.on_trial() else { return Ok(()) };
        let retried = |slot: SlotId| self.seats[index(slot)].failures > 0;
        let other = self.bodies.values().find(|body| {
            let on_trial = self.wants(body) && body.generation == generation && body.slot != slot;
            on_trial && retried(body.slot) && !self.serves(body)
        });
        hold(other.is_none() || !retried(slot), TRIAL, || {
            format!("slot {slot} is retried beside {:?}", other.map(|body| body.slot))
        })
    }

    fn drain(&mut self, id: WorkerId, until: Time) -> Held {
        let served = self.bodies.get(&id).is_some_and(|body| self.serves(body));
        let timeout = match self.phase {
            Phase::Stopping => self.settings.stop_timeout,
            Phase::Starting | Phase::Running | Phase::Terminating | Phase::Released | Phase::Over => {
                self.settings.timeout
            }
        };
        let (now, settings) = (self.now, &self.settings);
        let body = self.bodies.get_mut(&id).filter(|body| !body.drained && body.closed.is_none());
        let body = body.filter(|body| body.termed.is_none() && !body.killed);
        let Some(body) = body else { return hold(false, ONCE, || format!("worker {id} is asked to go")) };
        self.step.drained.push((body.clone(), served));
        let patience = body.patience(now, timeout, settings);
        body.until = Some(until);
        body.drained = true;
        hold(until == patience, DUE, || format!("worker {id} is drained until {until} instead of {patience}"))
    }

    fn signal(&mut self, id: WorkerId, signal: Signal) -> Held {
        let Some(body) = self.bodies.get(&id).cloned() else {
            return hold(false, ONCE, || format!("worker {id} is gone and sent {signal:?}"));
        };
        let again = body.killed || (signal == Signal::Term && body.termed.is_some());
        hold(!again, ONCE, || format!("worker {id} is sent {signal:?} once more"))?;
        let terminated = self.phase == Phase::Terminating && signal == Signal::Kill;
        if !terminated {
            let cold = signal == Signal::Kill && body.termed.is_none();
            hold(!cold, ONCE, || format!("worker {id} is sent KILL, and was never sent TERM"))?;
            self.signal_is_due(&body, signal)?;
        }
        if body.ready.is_none() && !body.leaving() {
            self.departed(id, Cause::ReadyTimeout);
        }
        let now = self.now;
        if let Some(body) = self.bodies.get_mut(&id) {
            match signal {
                Signal::Term => body.termed = Some(now),
                Signal::Kill => body.killed = true,
            }
        }
        self.forget_renewals();
        Ok(())
    }

    /// The worker's time is up, and that was said just before.
    fn signal_is_due(&mut self, body: &Body, signal: Signal) -> Held {
        let said = self.step.overdue.take();
        let capped = self.drains_too_long(body) && said == Some((body.id, Due::Surplus(body.id), signal));
        let sentence = self.sentence(body).filter(|(at, ..)| *at <= self.now);
        let expected = sentence.map(|(_, due, signal)| (body.id, due, signal));
        hold(capped || (expected.is_some() && said == expected), DUE, || {
            let due = self.sentence(body);
            format!("worker {} is sent {signal:?}, said was {said:?}, due is {due:?}", body.id)
        })
    }

    /// It drains with the oldest of more old generations than are to be kept.
    fn drains_too_long(&self, body: &Body) -> bool {
        let Some(most) = self.settings.max_draining.filter(|_| self.supervises()) else { return false };
        let old = self.old_generations();
        let beyond = old.len().saturating_sub(most.get() as usize);
        body.draining() && old.iter().take(beyond).any(|generation| *generation == body.generation)
    }
}
