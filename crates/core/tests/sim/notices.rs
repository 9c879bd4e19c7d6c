//! What each notice changes in the model: reloads and their callers, slots that were taken over, announcements.

use std::collections::BTreeSet;
use std::time::Duration;

use recluster_core::{Caller, Failure, Generation, Notice, Phase, SlotId, Time, Verdict, WorkerId};

use crate::model::{Model, Promise, Reloading, Waiting, index};
use crate::rule::{DONE, DUE, Held, PACE, TRIAL, TRUTH, VERDICT, hold};
use crate::worker::Worker;

impl Model {
    pub(crate) fn apply_notice(&mut self, notice: &Notice) -> Held {
        match notice {
            Notice::GenerationBegan { generation } => self.generation_began(*generation),
            Notice::Superseded { generation } => self.superseded(*generation),
            Notice::Verdict { generation, callers, verdict } => self.verdict(*generation, callers, *verdict),
            Notice::Serving { worker, slot, generation, serving, of } => {
                self.came_to_serve(*worker)?;
                let reported = (slot.get(), *generation, *serving as usize, *of as usize);
                self.serving_as_reported(*worker, reported)
            }
            Notice::Started { generation } => self.generation_started(*generation),
            Notice::StartFailed(failure) => self.start_failed(*failure),
            Notice::Failed(failure) => {
                self.step.reported.push(*failure);
                Ok(())
            }
            Notice::ReplaceFailed(failure) => self.replace_failed(*failure),
            Notice::Overdue { worker, due, signal } => {
                self.step.overdue = Some((*worker, *due, *signal));
                Ok(())
            }
            Notice::Unkillable { worker, slot, generation } => self.unkillable(*worker, *slot, *generation),
            Notice::Respawning { slot, delay, .. } => {
                self.respawning(*slot, self.now + *delay);
                Ok(())
            }
            Notice::Held { slot, .. } => {
                let holds =
                    self.settings.hold && self.reload.is_none() && self.wanted_in(*slot).next().is_none();
                hold(holds, TRUTH, || format!("slot {slot} is said to wait for a reload"))
            }
            Notice::Gone { worker, slot, generation, exit, expected } => {
                let so =
                    self.step.gone.take().map(|(worker, how)| {
                        (worker.id, worker.slot, worker.generation, how, worker.leaving())
                    });
                let reported = Some((*worker, *slot, *generation, *exit, *expected));
                hold(reported == so, TRUTH, || format!("{reported:?} is said to be gone, so it is {so:?}"))
            }
            Notice::Scaled { from, to } => self.scaled(*from as usize, *to as usize),
            Notice::Late { .. } => {
                hold(false, TRUTH, || "no plan forgives lateness, and a worker is forgiven".into())
            }
            other => hold(false, TRUTH, || format!("the simulator does not know {other:?}")),
        }
    }

    /// It was sent KILL, its time is up, and it was not said before.
    fn unkillable(&mut self, id: WorkerId, slot: SlotId, generation: Generation) -> Held {
        let (now, settings) = (self.now, self.settings);
        let worker = self.workers.get_mut(&id);
        let so = worker.as_ref().is_some_and(|worker| {
            let is_due = worker.given_up_at(&settings).is_some_and(|at| at <= now);
            is_due && (worker.slot, worker.generation) == (slot, generation)
        });
        hold(so, DUE, || format!("{worker:?} in slot {slot} is given up as unkillable"))?;
        if let Some(worker) = worker {
            worker.given_up = true;
        }
        Ok(())
    }

    /// A slot is to be respawned at this time, unless something else than its turn decides: a trial, a renewal that has
    /// to wait for room, or a lower slot that queues since the same moment.
    fn respawning(&mut self, slot: SlotId, at: Time) {
        self.forget_promises_behind(slot);
        let now = self.now;
        let free = self.reload.is_none() && self.on_trial().is_none() && !self.renews();
        let free = free && self.settings.boot_limit.is_none() && !self.settings.gone_first;
        if let Some(seat) = self.seats.get_mut(index(slot)) {
            seat.promised = free.then_some(Promise { at, said: now });
        }
    }

    fn generation_began(&mut self, generation: Generation) -> Held {
        let name = || format!("generation {generation} begins");
        hold(generation.get() == self.begun + 1, TRUTH, name)?;
        hold(self.reload.is_none(), VERDICT, || {
            format!("{}, and the running one neither ended nor gave way", name())
        })?;
        if self.begun == 0 {
            self.proven = Some(generation);
        } else {
            let Some(waiting) = self.pending.take() else {
                return hold(false, VERDICT, || format!("{}, and no request for it", name()));
            };
            let due = self.reload_due();
            hold(self.now >= due, PACE, || format!("{} at {}, before {due}", name(), self.now))?;
            self.begin_reload(generation, waiting);
        }
        self.begun += 1;
        self.began = self.now;
        self.limiter.generation_began(self.now);
        let first = self.proven.filter(|proven| *proven == generation);
        for seat in &mut self.seats {
            (seat.fresh, seat.failures, seat.renew, seat.promised) = (true, 0, None, None);
            seat.generation = first.or(seat.generation);
        }
        Ok(())
    }

    fn begin_reload(&mut self, generation: Generation, waiting: Waiting) {
        let older = self.step.superseded.as_ref();
        let slots = Some(self.slots_of(&waiting, older));
        let before = older.map_or(self.settings, |older| older.before);
        let Waiting { mut callers, settings, .. } = waiting;
        if let Some(older) = older {
            callers.extend(&older.callers);
            self.superseded += 1;
        }
        let (elders, replaced) = (None, BTreeSet::new());
        self.reload = Some(Reloading { generation, callers, elders, replaced, before, slots });
        self.settings = settings.unwrap_or(self.settings);
        self.let_go_anew(self.settings.timeout);
    }

    fn superseded(&mut self, generation: Generation) -> Held {
        self.step.superseded = self.reload.take_if(|reload| reload.generation == generation);
        hold(self.step.superseded.is_some(), VERDICT, || {
            format!("generation {generation} gives way, and was no reload")
        })
    }

    fn verdict(&mut self, generation: Option<Generation>, callers: &[Caller], verdict: Verdict) -> Held {
        let Some(generation) = generation else {
            let waiting = self.pending.take();
            hold(verdict == Verdict::Abandoned, VERDICT, || format!("no reload, but {verdict:?}"))?;
            return goes_to_all(waiting.map(|waiting| waiting.callers), callers);
        };
        if verdict == Verdict::Done {
            self.reload_done(generation)?;
        }
        let reload = self.reload.take_if(|reload| reload.generation == generation);
        let Some(reload) = reload else {
            return hold(false, VERDICT, || {
                format!("{verdict:?} of generation {generation}, which is no reload")
            });
        };
        self.settle_settings(&reload, verdict)?;
        for seat in &mut self.seats {
            (seat.fresh, seat.failures) = (false, 0);
        }
        self.superseded = 0;
        let waiting = reload.callers.clone();
        self.step.ended = Some((reload, verdict));
        goes_to_all(Some(waiting), callers)
    }

    fn reload_done(&mut self, generation: Generation) -> Held {
        let (serving, of) = (self.serving_slots(Some(generation)), self.slots_for(generation));
        self.proven = Some(generation);
        for seat in &mut self.seats {
            seat.generation = Some(generation);
        }
        hold(serving == of, DONE, || format!("generation {generation} is done with {serving} of {of} slots"))
    }

    fn came_to_serve(&mut self, id: WorkerId) -> Held {
        let so = |worker: &Worker| {
            let stays = self.wants(worker) || self.phase == Phase::Released;
            stays && self.serves(worker) && !worker.served
        };
        let worker = self.workers.get(&id);
        hold(worker.is_some_and(so), TRUTH, || format!("worker {id} is said to serve: {worker:?}"))?;
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.served = true;
        }
        if self.phase == Phase::Starting {
            self.phase = Phase::Running;
        }
        self.step.served.push(id);
        Ok(())
    }

    fn serving_as_reported(&self, id: WorkerId, reported: (u32, Generation, usize, usize)) -> Held {
        let Some(worker) = self.workers.get(&id).filter(|_| self.supervises()) else { return Ok(()) };
        let announced = |slot: &usize| {
            let mut here = self.wanted().filter(|other| index(other.slot) == *slot);
            here.any(|other| other.served && other.generation == worker.generation)
        };
        let serving = (0..self.seats.len()).filter(announced).count();
        let so = (worker.slot.get(), worker.generation, serving, self.slots_for(worker.generation));
        hold(reported == so, TRUTH, || {
            format!("worker {id} is said to serve as {reported:?}, but it is {so:?}")
        })
    }

    fn generation_started(&mut self, generation: Generation) -> Held {
        let (serving, of) = (self.serving_slots(None), self.seats.len());
        hold(!self.started && serving == of, TRUTH, || {
            format!("generation {generation} is said to be started with {serving} of {of} slots")
        })?;
        self.started = true;
        Ok(())
    }

    fn start_failed(&mut self, failure: Failure) -> Held {
        let first = self.phase == Phase::Starting && self.reload.is_none() && self.on_trial().is_some();
        hold(first && self.may_end(&failure), TRIAL, || format!("the first start fails by {failure:?}"))?;
        self.stopping();
        self.let_go_anew(self.settings.stop_timeout);
        Ok(())
    }

    /// Another patience holds from now on, also for a worker that left just now and has not been let go.
    pub(crate) fn let_go_anew(&mut self, timeout: Duration) {
        let (now, settings) = (self.now, &self.settings);
        for (id, _) in &self.step.departed {
            let worker = self.workers.get_mut(id).filter(|worker| worker.draining() && !worker.drained);
            if let Some(worker) = worker {
                worker.until = Some(worker.patience(now, timeout, settings));
            }
        }
    }

    fn replace_failed(&mut self, failure: Failure) -> Held {
        let seat = self.seats.get_mut(index(failure.slot));
        let renewal = seat.and_then(|seat| seat.renew.take());
        self.forget_promises();
        let given_up = renewal.is_some() && self.may_end(&failure);
        hold(given_up, TRIAL, || format!("renewing {renewal:?} is given up by {failure:?}"))
    }
}

/// A verdict goes to exactly the callers that waited for it.
fn goes_to_all(waiting: Option<Vec<Caller>>, callers: &[Caller]) -> Held {
    let sorted = |mut callers: Vec<Caller>| {
        callers.sort_unstable();
        callers
    };
    let (waiting, callers) = (waiting.map(sorted), sorted(callers.to_vec()));
    hold(waiting.as_ref() == Some(&callers), VERDICT, || {
        format!("the verdict goes to {callers:?}, {waiting:?} waited")
    })
}
