//! The rules of every step's end: which workers were let go, which hold a slot, which are overdue.

use std::collections::BTreeSet;
use std::mem;

use recluster_core::{Phase, Surge, Verdict, WorkerId};

use crate::model::{Model, index};
use crate::rule::{DUE, Held, PACE, RETIRE, SEATS, hold};
use crate::worker::Worker;

impl Model {
    /// Ends a step: every rule is asked.
    pub(crate) fn end_step(&mut self) -> Held {
        self.forget_renewals();
        self.note_takeovers();
        self.note_elders();
        self.retired_rightly()?;
        self.seats_hold()?;
        self.size_holds()?;
        self.signals_came()?;
        self.surge_holds()?;
        self.conclusions_came()?;
        self.files_are_seen()?;
        self.trial_ended_rightly()?;
        self.only_the_failed_generation_fell()?;
        self.notices_are_complete()?;
        self.an_end_leaves_nothing_open()
    }

    /// Under a bounded surge a worker of the reload has its slot as soon as it serves, unless the reload failed at the
    /// same moment.
    fn note_takeovers(&mut self) {
        for id in mem::take(&mut self.step.served) {
            let Some(worker) = self.workers.get(&id).filter(|worker| self.wants(worker)) else { continue };
            let (slot, generation) = (worker.slot, worker.generation);
            let ended = self.step.ended.as_mut().map(|(reload, _)| reload);
            let mut reloads = self.reload.as_mut().into_iter().chain(ended).chain(&mut self.step.superseded);
            let reload = reloads.find(|reload| reload.generation == generation);
            if let Some(reload) = reload.filter(|_| self.settings.surge != Surge::All) {
                reload.replaced.insert(slot);
                self.seats[index(slot)].generation = Some(generation);
            }
        }
    }

    /// Who was wanted when a reload began, its own workers apart.
    fn note_elders(&mut self) {
        let unnoted = self.reload.as_ref().filter(|reload| reload.elders.is_none());
        let Some(generation) = unnoted.map(|reload| reload.generation) else { return };
        let elders = self.wanted().filter(|worker| worker.generation != generation);
        let elders: BTreeSet<WorkerId> = elders.map(|worker| worker.id).collect();
        if let Some(reload) = &mut self.reload {
            reload.elders = Some(elders);
        }
    }

    /// 1: a worker that did not ask for it is let go for a reason only.
    fn retired_rightly(&self) -> Held {
        for (worker, served) in &self.step.drained {
            let makes_room = self.settings.gone_first
                && self.reloading().is_some_and(|generation| generation != worker.generation);
            let asked = worker.leaving() || makes_room;
            if asked || self.phase == Phase::Stopping || self.lost_its_slot(worker) {
                continue;
            }
            let right = self.is_replaced(worker) || (!served && self.may_give_way(worker));
            hold(right, RETIRE, || format!("worker {} is let go, and it {}", worker.id, serves(*served)))?;
        }
        Ok(())
    }

    /// The slot went, perhaps to come back at once.
    pub(crate) fn lost_its_slot(&self, worker: &Worker) -> bool {
        index(worker.slot) >= self.step.fewest.unwrap_or(self.seats.len())
    }

    /// What is to replace it serves: the whole generation, or the worker of its slot; or it was on trial and failed.
    fn is_replaced(&self, worker: &Worker) -> bool {
        let mut serving = self.wanted_in(worker.slot).filter(|other| self.serves(other));
        match (&self.step.ended, &self.step.superseded) {
            (Some((reload, Verdict::Done)), _) => {
                reload.generation != worker.generation && serving.next().is_some()
            }
            (Some((reload, _)), _) => reload.generation == worker.generation,
            (None, Some(older)) if older.generation == worker.generation => serving.next().is_some(),
            // One worker may be renewed at any time; slots of a reload are taken one by one under a bounded surge only.
            (None, _) => serving
                .any(|other| self.settings.surge != Surge::All || self.reloading() != Some(other.generation)),
        }
    }

    /// One that does not serve may give way to the elder that it was to replace, or to any that serves.
    fn may_give_way(&self, worker: &Worker) -> bool {
        let mut others = self.wanted_in(worker.slot);
        others.any(|other| other.id < worker.id || self.serves(other))
    }

    /// 2: one wanted worker a slot; beside it one of the running reload, or one that renews it.
    fn seats_hold(&self) -> Held {
        let new = self.reloading();
        for (at, seat) in self.seats.iter().enumerate() {
            let here: Vec<&Worker> = self.wanted().filter(|worker| index(worker.slot) == at).collect();
            let fine = match here.as_slice() {
                [] | [_] => true,
                [elder, younger] => match new {
                    Some(new) => younger.generation == new && elder.generation != new,
                    None => seat.renew.is_some_and(|renewal| renewal.of == elder.id),
                },
                _ => false,
            };
            hold(fine, SEATS, || format!("slot {at} has {here:?}"))?;
        }
        Ok(())
    }

    /// 14: every worker whose time is up was sent its signal, and given up if that did not end it.
    fn signals_came(&self) -> Held {
        for worker in self.workers.values() {
            let at = worker.given_up_at(&self.settings).filter(|at| *at <= self.now);
            hold(at.is_none(), DUE, || format!("worker {} was to be given up at {at:?}", worker.id))?;
        }
        for worker in self.workers.values() {
            let Some((at, due, signal)) = self.sentence(worker) else { continue };
            hold(at > self.now, DUE, || format!("{signal:?} was due at {at}: {due:?}"))?;
        }
        let most = self.settings.max_draining.filter(|_| self.supervises());
        let old = self.old_generations();
        hold(most.is_none_or(|most| old.len() <= most.get() as usize), DUE, || {
            format!("generations {old:?} drain, at most {most:?} may")
        })
    }

    /// 10: no more workers than slots and surge.
    fn surge_holds(&self) -> Held {
        let live = self.workers.values().filter(|worker| !worker.leaving()).count();
        let most = self.seats.len() + self.allowance();
        hold(!self.supervises() || live <= most, PACE, || format!("{live} live, at most {most} may"))
    }
}

fn serves(served: bool) -> &'static str {
    if served { "serves" } else { "does not serve" }
}
