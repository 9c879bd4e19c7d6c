//! Rule 1: a worker's deadline has passed. A ready worker that has lived for the bake time serves from now on; one that
//! is late is sent TERM, then KILL.

use std::collections::BTreeSet;

use crate::worker::Worker;
use crate::{Action, Cause, Cluster, Due, Generation, Lateness, Notice, Phase, Signal, State, WorkerId};

impl Cluster {
    pub(super) fn escalate(&mut self) {
        let now = self.now;
        let passed: Vec<Due> =
            self.worker_deadlines().filter(|(at, _)| *at <= now).map(|(_, due)| due).collect();
        for due in passed {
            match due {
                Due::Bake(worker) => self.prove(worker),
                Due::Ready(worker) if self.forgives(worker) => self.forgive(worker),
                Due::Ready(worker) => {
                    self.term(worker, due);
                    // Its slot is vacant at once: the next worker does not wait until this one has exited.
                    self.lose(worker, Cause::ReadyTimeout);
                }
                Due::Drain(worker) | Due::Exit(worker) => self.term(worker, due),
                Due::Kill(worker) => {
                    self.notify(Notice::Overdue { worker, due, signal: Signal::Kill });
                    self.kill(worker);
                }
                Due::End(worker) => self.give_up(worker),
                // Not deadlines of a worker.
                Due::Surplus(_) | Due::Respawn | Due::Reload | Due::Changes => {}
            }
        }
        self.cap_draining();
    }

    /// A ready worker that has lived for the bake time serves.
    fn prove(&mut self, id: WorkerId) {
        let on_trial = self.on_trial().is_some();
        let Some(worker) = self.workers.get_mut(id) else { return };
        worker.proven = true;
        let (slot, generation) = (worker.slot, worker.generation);
        if self.phase == Phase::Starting {
            self.phase = Phase::Running;
        }
        // A worker that serves ends a row of failures; but on trial and in a renewal every failure counts.
        if let Some(slot) = self.slots.get_mut(slot.index()).filter(|slot| !on_trial && !slot.renew) {
            slot.failure = None;
        }
        let (serving, of) = (self.serving_slots(generation), self.size_for(generation));
        self.notify(Notice::Serving { worker: id, slot, generation, serving, of });
    }

    /// Whether this worker may be late.
    fn forgives(&self, id: WorkerId) -> bool {
        let generation = self.workers.get(id).map(|worker| worker.generation);
        let reloads = generation.is_some() && self.reloading() == generation;
        // What holds its slot takes over from nobody: no other worker waits for it.
        let holds = self.slots.iter().any(|slot| slot.holder == Some(id));
        match self.settings.lateness {
            Lateness::Fails => false,
            Lateness::FailsReloads => !reloads && holds,
            Lateness::IsReported => reloads || holds,
        }
    }

    fn forgive(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.late = true;
            let slot = worker.slot;
            self.notify(Notice::Late { worker: id, slot });
        }
    }

    fn term(&mut self, id: WorkerId, due: Due) {
        let until = self.now + self.settings.kill_timeout;
        if let Some(worker) = self.workers.get_mut(id) {
            worker.state = State::Terminating { until };
            self.notify(Notice::Overdue { worker: id, due, signal: Signal::Term });
            self.act(Action::Signal { worker: id, signal: Signal::Term });
        }
    }

    /// It was sent KILL, and the kernel does not let it end.
    fn give_up(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.state = State::Unkillable;
            let (slot, generation) = (worker.slot, worker.generation);
            self.notify(Notice::Unkillable { worker: id, slot, generation });
        }
    }

    /// At most so many old generations drain at once: the workers of the oldest beyond that have drained enough.
    ///
    /// A generation that still has a wanted worker is not old. At a stop none is, and all have the same time.
    fn cap_draining(&mut self) {
        let Some(most) = self.settings.max_draining.filter(|_| self.supervises()) else { return };
        let most = usize::try_from(most.get()).unwrap_or(usize::MAX);
        let wanted = self.generations(|id, worker| self.wants(id, worker));
        let draining = self.generations(|_, worker| worker.is_draining());
        let old: Vec<Generation> = draining.difference(&wanted).copied().collect();
        let beyond = old.len().saturating_sub(most);
        for generation in old.into_iter().take(beyond) {
            let late = |_, worker: &Worker| worker.is_draining() && worker.generation == generation;
            for worker in self.workers.which(late) {
                self.term(worker, Due::Surplus(worker));
            }
        }
    }

    fn generations(&self, which: impl Fn(WorkerId, &Worker) -> bool) -> BTreeSet<Generation> {
        let workers = self.workers.iter().filter(|(id, worker)| which(*id, worker));
        workers.map(|(_, worker)| worker.generation).collect()
    }
}
