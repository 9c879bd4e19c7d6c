//! What the policy notices becomes what people are told: events, verdicts, and failures in words.

use recluster_core as core;
use recluster_core::{Caller, Cause, Due, Exit, Notice, WorkerId};

use crate::config::ready::ReadyWhen;
use crate::report::event::Event;
use crate::report::signal::{name_of, signal_name};
use crate::report::verdict::Failure;
use crate::report::verdict::Verdict;
use crate::report::worker::Held;
use crate::report::worker::Worker;
use crate::supervisor::child::{Child, Seen};
use crate::supervisor::{DeadWorker, Supervisor};

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
                self.emit(Event::GenerationBegan { generation: generation.get() });
            }
            Notice::Serving { worker, serving, of, .. } => {
                self.emit_about(worker, |worker| Event::Serving { worker, serving, of });
            }
            Notice::Respawning { worker, delay, .. } => {
                self.emit_about(worker, |worker| Event::Respawning { worker, delay });
            }
            Notice::Failed(failure) => {
                let failure = self.in_words(failure);
                self.emit(Event::Failed { failure });
            }
            Notice::Late { worker, .. } => self.emit_about(worker, |worker| Event::Late { worker }),
            Notice::Overdue { worker, due, signal } if self.was_sent(worker, signal) => {
                self.out_of_time(worker, due);
            }
            Notice::Overdue { worker, due, signal } => {
                let (due, signal) = (late_for(due), name_of(signal));
                let held = self.held_by(worker);
                self.emit_about(worker, |worker| Event::Overdue { worker, due, signal, held });
            }
            Notice::Gone { worker, exit, expected, .. } => {
                self.emit_about(worker, |worker| Event::Exit { worker, exit, expected });
            }
            Notice::Started { generation } => {
                let workers = u32::try_from(self.policy.status().slots.len()).unwrap_or(u32::MAX);
                self.emit(Event::Started { generation: generation.get(), workers });
                self.progress.send_modify(|progress| progress.started = true);
            }
            Notice::StartFailed(failure) => {
                let failure = self.in_words(failure);
                self.emit(Event::StartFailed { failure: failure.clone() });
                self.progress.send_modify(|progress| progress.failed = Some(failure));
            }
            Notice::Superseded { generation } => {
                self.emit(Event::Superseded { generation: generation.get() });
            }
            Notice::Verdict { generation, callers, verdict } => {
                // What failed is told in the words of its own settings.
                let words = self.verdict_in_words(verdict);
                self.end_generation(generation, verdict);
                let generation = generation.map(core::Generation::get);
                self.emit(Event::Reloaded { generation, verdict: words.clone() });
                self.answer_callers(callers, &words);
            }
            Notice::Scaled { from, to } => self.emit(Event::Scaled { from, to }),
            Notice::ReplaceFailed(failure) => {
                let failure = self.in_words(failure);
                self.emit(Event::ReplaceFailed { failure });
            }
            // The policy may learn to notice more than this shell knows how to say.
            _ => {}
        }
    }

    /// A program that was let go by TERM is not sent it a second time: what follows is KILL. One that was sent KILL
    /// already is told of no more.
    fn out_of_time(&self, worker: WorkerId, due: Due) {
        if !self.was_sent(worker, core::Signal::Kill) {
            let (due, kill_timeout) = (late_for(due), self.shell.spec.settings().kill_timeout);
            self.emit_about(worker, |worker| Event::OutOfTime { worker, due, kill_timeout });
        }
    }

    /// What a worker last told that it still has.
    pub(crate) fn held_by(&self, worker: WorkerId) -> Option<Held> {
        self.children.get(&worker).and_then(Child::held)
    }

    fn answer_callers(&mut self, callers: Vec<Caller>, verdict: &Verdict) {
        for caller in callers {
            if let Some(reply) = self.callers.remove(&caller) {
                // A caller that no longer waits does not need the answer.
                let _ = reply.send(verdict.clone());
            }
        }
    }

    fn verdict_in_words(&self, verdict: core::Verdict) -> Verdict {
        match verdict {
            core::Verdict::Done => Verdict::Done,
            core::Verdict::RolledBack(failure) => Verdict::RolledBack { failure: self.in_words(failure) },
            core::Verdict::StoppedPartWay { replaced, of, failure } => {
                Verdict::StoppedPartWay { replaced, of, failure: self.in_words(failure) }
            }
            core::Verdict::Abandoned => Verdict::Abandoned,
        }
    }

    fn in_words(&self, failure: core::Failure) -> Failure {
        let grave = self.grave_of(failure.worker, failure.slot);
        Failure {
            worker: grave.worker,
            reason: self.reason(failure.cause, &grave),
            failures: failure.failures,
            hint: self.hint(failure.cause, &grave),
            stderr: grave.stderr,
        }
    }

    /// What is known of a worker that failed; it may live still.
    fn grave_of(&self, worker: WorkerId, slot: core::SlotId) -> DeadWorker {
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

    fn reason(&self, cause: Cause, grave: &DeadWorker) -> String {
        match cause {
            Cause::Exited(Exit::Code(code)) => format!("exited with status {code} before it served"),
            Cause::Exited(Exit::Signal(signal)) => {
                format!("was ended by {} before it served", signal_name(signal))
            }
            Cause::ReadyTimeout => {
                let failure = grave.check_failure.as_ref();
                let check = failure.map(|why| format!("; its check failed: {why}")).unwrap_or_default();
                format!("was not ready within {:?}{check}", self.shell.spec.settings().ready_timeout)
            }
            Cause::SpawnFailed(_) => {
                let error = grave.spawn_error.as_deref().unwrap_or("unknown error");
                format!("could not be started: {error}")
            }
            Cause::Retired => "asked to be replaced before it served".to_owned(),
        }
    }

    /// What is probably wrong, where it is something that people often meet.
    fn hint(&self, cause: Cause, grave: &DeadWorker) -> Option<String> {
        let says = |word: &str| grave.stderr.iter().any(|line| line.contains(word));
        let is_typescript = self.programs.iter().any(|(generation, program)| {
            generation.get() == grave.worker.generation && program.is_typescript()
        });
        if is_typescript && (says("ERR_UNKNOWN_FILE_EXTENSION") || says("SyntaxError")) {
            return Some(
                "Node runs TypeScript files by itself from version 22.18 on; with an older one use \
                 --node-arg=--import=tsx, or compile the file"
                    .to_owned(),
            );
        }
        if cause == Cause::ReadyTimeout
            && self.shell.spec.ready_when == ReadyWhen::Notify
            && grave.check_failure.is_none()
        {
            return Some(
                "it never said READY=1 on the socket that NOTIFY_SOCKET names: does it speak sd_notify, and has that \
                 to be turned on?"
                    .to_owned(),
            );
        }
        let awaited = self.shell.spec.ready_when == ReadyWhen::Listening;
        if cause == Cause::ReadyTimeout && awaited && grave.seen.online && !grave.seen.listening {
            return Some(
                "it runs, but no server of it listens through the cluster: does it listen with `exclusive` or \
                 `reusePort`, or start the server in another process? --ready-when started or ready does not wait \
                 for a listen"
                    .to_owned(),
            );
        }
        None
    }
}

fn late_for(due: Due) -> &'static str {
    match due {
        Due::Ready(_) => "ready",
        Due::Bake(_) => "bake",
        Due::Drain(_) => "drain",
        Due::Surplus(_) => "surplus",
        Due::Exit(_) => "exit",
        Due::Kill(_) => "kill",
        Due::Respawn => "respawn",
        Due::Reload => "reload",
    }
}
