//! What the policy notices becomes what people are told: events, verdicts, and failures in words.

use recluster_core as core;
use recluster_core::{Due, Notice, WorkerId};

use crate::report::event::Event;
use crate::report::signal::name_of;
use crate::report::verdict::Failure;
use crate::report::worker::Held;
use crate::report::worker::Worker;
use crate::supervisor::Supervisor;
use crate::supervisor::child::{Child, DeadWorker, Seen};
use crate::supervisor::explain::{self, Expected};

impl Supervisor {
    pub(crate) fn announce(&mut self, notice: Notice) {
        let is_promise = matches!(
            notice,
            Notice::Serving { .. } | Notice::Started { .. } | Notice::Scaled { .. } | Notice::Verdict { .. }
        );
        if is_promise {
            // Whoever hears it meets the workers that it speaks of, and no others.
            self.settle_routes();
        }
        match notice {
            Notice::GenerationBegan { generation } => {
                self.begin_generation();
                self.audience.emit(Event::GenerationBegan { generation: generation.get() });
            }
            Notice::Serving { worker, serving, of, .. } => {
                self.emit_about(worker, |worker| Event::Serving { worker, serving, of });
            }
            Notice::Respawning { worker, delay, .. } => {
                self.emit_about(worker, |worker| Event::Respawning { worker, delay });
            }
            Notice::Failed(failure) => {
                let failure = self.in_words(failure);
                self.audience.emit(Event::Failed { failure });
            }
            Notice::Late { worker, .. } => self.emit_about(worker, |worker| Event::Late { worker }),
            Notice::Overdue { worker, due, signal } if self.was_sent(worker, signal) => {
                self.out_of_time(worker, due);
            }
            Notice::Overdue { worker, due, signal } => {
                let (due, signal) = (explain::late_for(due), name_of(signal));
                let held = self.held_by(worker);
                self.emit_about(worker, |worker| Event::Overdue { worker, due, signal, held });
            }
            Notice::Gone { worker, exit, expected, .. } => {
                self.emit_about(worker, |worker| Event::Exit { worker, exit, expected });
            }
            Notice::Started { generation } => {
                let workers = u32::try_from(self.policy.status().slots.len()).unwrap_or(u32::MAX);
                self.audience.emit(Event::Started { generation: generation.get(), workers });
                self.progress.send_modify(|progress| progress.started = true);
            }
            Notice::StartFailed(failure) => {
                let failure = self.in_words(failure);
                self.audience.emit(Event::StartFailed { failure: failure.clone() });
                self.progress.send_modify(|progress| progress.failed = Some(failure));
            }
            Notice::Superseded { generation } => {
                self.audience.emit(Event::Superseded { generation: generation.get() });
            }
            Notice::Verdict { generation, callers, verdict } => {
                // What failed is told in the words of its own settings.
                let words = explain::verdict(verdict, |failure| self.in_words(failure));
                self.end_generation(generation, verdict);
                let generation = generation.map(core::Generation::get);
                self.audience.emit(Event::Reloaded { generation, verdict: words.clone() });
                self.callers.answer(&callers, &words);
            }
            Notice::Scaled { from, to } => self.audience.emit(Event::Scaled { from, to }),
            Notice::ReplaceFailed(failure) => {
                let failure = self.in_words(failure);
                self.audience.emit(Event::ReplaceFailed { failure });
            }
            // The policy may learn to notice more than this shell knows how to say.
            _ => {}
        }
    }

    /// A program that was let go by TERM is not sent it a second time: what follows is KILL. One that was sent KILL
    /// already is told of no more.
    fn out_of_time(&self, worker: WorkerId, due: Due) {
        if !self.was_sent(worker, core::Signal::Kill) {
            let (due, kill_timeout) = (explain::late_for(due), self.shell.spec.settings().kill_timeout);
            self.emit_about(worker, |worker| Event::OutOfTime { worker, due, kill_timeout });
        }
    }

    /// What a worker last told that it still has.
    pub(crate) fn held_by(&self, worker: WorkerId) -> Option<Held> {
        self.children.get(&worker).and_then(Child::held)
    }

    fn in_words(&self, failure: core::Failure) -> Failure {
        let worker = self.dead_or_alive(failure.worker, failure.slot);
        let is_typescript = self.programs.iter().any(|(generation, program)| {
            generation.get() == worker.worker.generation && program.is_typescript()
        });
        let spec = &self.shell.spec;
        let (ready_when, ready_timeout) = (spec.ready_when, spec.settings().ready_timeout);
        explain::failure(failure, worker, Expected { ready_when, ready_timeout, is_typescript })
    }

    /// What is known of a worker that failed; it may live still.
    fn dead_or_alive(&self, worker: WorkerId, slot: core::SlotId) -> DeadWorker {
        if let Some(grave) = self.grave(worker) {
            return grave.clone();
        }
        let unknown = Worker { id: worker.get(), slot: slot.get(), generation: 0, pid: None };
        let child = self.children.get(&worker);
        DeadWorker {
            worker: self.about(worker).unwrap_or(unknown),
            stderr: child.map_or_else(Vec::new, |child| child.process.tail.lines()),
            seen: child.map_or_else(Seen::default, |child| child.seen),
            spawn_error: None,
            check_failure: child.and_then(|child| child.check_failure.clone()),
        }
    }
}
