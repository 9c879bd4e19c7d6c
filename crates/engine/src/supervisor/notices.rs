//! One arm for each notice of the policy: what people are told of it.

use std::time::Instant;

use recluster_core as core;
use recluster_core::{Due, Generation, Notice, WorkerId};

use crate::config::ready::ReadyWhen;
use crate::process::program::ResolvedProgram;
use crate::process::unkillable;
use crate::report::event::Event;
use crate::report::signal::name_of;
use crate::report::verdict::Failure;
use crate::supervisor::Supervisor;
use crate::supervisor::explain::{self, Expected};

impl Supervisor {
    pub(super) fn announce(&mut self, notice: Notice) {
        let is_promise = matches!(
            notice,
            Notice::Serving { .. } | Notice::Started { .. } | Notice::Scaled { .. } | Notice::Verdict { .. }
        );
        if is_promise {
            // Somebody who hears it meets the workers that it speaks of, and no others.
            self.settle_routes();
        }
        match notice {
            Notice::GenerationBegan { generation } => self.begin_generation(generation),
            Notice::Serving { worker, serving, of, .. } => {
                self.looks_for_ignored(worker);
                self.emit_about(worker, |worker| Event::Serving { worker, serving, of });
            }
            Notice::Respawning { worker, delay, .. } => {
                self.emit_about(worker, |worker| Event::Respawning { worker, delay });
                self.tell_who_has_its_address(worker);
                self.tell_what_it_has_left(worker);
            }
            Notice::Held { worker, .. } => self.emit_about(worker, |worker| Event::Held { worker }),
            Notice::Failed(failure) => {
                self.tell_who_has_its_address(failure.worker);
                self.tell_what_it_has_left(failure.worker);
                self.emit(Event::Failed { failure: self.in_words(failure) });
            }
            Notice::Late { worker, .. } => self.emit_about(worker, |worker| Event::Late { worker }),
            Notice::Overdue { worker, due, signal } => self.overdue(worker, due, signal),
            Notice::Gone { worker, exit, expected, .. } => {
                let oom_killed = self.workers.grave(worker).is_some_and(|grave| grave.oom_killed);
                self.emit_about(worker, |worker| Event::Exit { worker, exit, expected, oom_killed });
            }
            Notice::Unkillable { worker, .. } => self.give_up(worker),
            Notice::Started { generation } => {
                self.name_unused();
                self.caches.sweep(self.generations.program(generation));
                let workers = self.policy.slots();
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
                let words = explain::verdict(verdict, |failure| self.in_words(failure));
                self.generations.end(generation, verdict);
                self.put_in_force();
                self.caches.sweep(generation.and_then(|generation| self.generations.program(generation)));
                let generation = generation.map(Generation::get);
                self.emit(Event::Reloaded { generation, verdict: words.clone() });
                self.callers.answer(&callers, &words);
                self.callers.conclude(generation, words, Instant::now());
            }
            Notice::Scaled { from, to } => self.emit(Event::Scaled { from, to }),
            Notice::ReplaceFailed(failed) => {
                let failure = self.in_words(failed);
                self.renewals.fail(failed.slot, &failure);
                self.emit(Event::ReplaceFailed { failure });
            }
            // The policy may learn to notice more than this shell knows how to say.
            _ => {}
        }
    }

    /// Names what was bound for workers in vain, where that can be known.
    fn name_unused(&self) {
        if !self.spawner.bound().is_empty() {
            let addresses = self.dataplane.unused();
            if !addresses.is_empty() {
                self.emit(Event::ListenUnused { addresses });
            }
        }
    }

    /// What follows the spec in force by itself is told of it.
    fn put_in_force(&mut self) {
        self.watch_limits();
        if let Some(hooks) = &mut self.hooks {
            hooks.fit(&self.generations.spec().hooks);
        }
    }

    /// From here on what came with the generation is in force, as it is for the policy.
    fn begin_generation(&mut self, generation: Generation) {
        let status = self.policy.status();
        let used = status.workers.iter().map(|worker| worker.generation);
        let oldest = used.chain([status.generation]).min().unwrap_or(generation);
        self.generations.begin(generation, oldest);
        self.put_in_force();
        self.emit(Event::GenerationBegan { generation: generation.get() });
        for caveat in self.generations.new_caveats(generation, !self.spawner.bound().is_empty()) {
            self.emit(Event::Caveat { caveat });
        }
    }

    /// A worker that was let go by TERM, or runs its handlers of it, is not sent it a second time: what follows is KILL. Of one that was sent KILL
    /// already, people are not told again.
    fn overdue(&self, worker: WorkerId, due: Due, signal: core::Signal) {
        let settings = self.spec().settings();
        // Where somebody writes the server, old code has no time: that is no news.
        if settings.hold && settings.timeout.is_zero() && matches!(due, Due::Drain(_)) {
            return;
        }
        let due = explain::late_for(due);
        let held = self.workers.get(worker).and_then(|child| child.held.clone());
        if !self.workers.was_sent(worker, signal) {
            let signal = name_of(signal);
            self.emit_about(worker, |worker| Event::Overdue { worker, due, signal, held });
        } else if !self.workers.was_sent(worker, core::Signal::Kill) {
            let kill_timeout = self.spec().settings().kill_timeout;
            self.emit_about(worker, |worker| Event::OutOfTime { worker, due, kill_timeout, held });
        }
    }

    /// A worker that the kernel does not let end. That of which the start has not come to an end has no process here.
    fn give_up(&self, worker: WorkerId) {
        let place = self.launches.place(worker).map(|place| place.about(None));
        let Some(about) = self.workers.about(worker).or(place) else { return };
        let remnant = self.workers.get(worker).and_then(|child| unkillable::of(child.pid()));
        self.emit(unkillable::told(about, remnant));
    }

    fn in_words(&self, failure: core::Failure) -> Failure {
        let place = self.launches.place(failure.worker).map(|place| place.about(None));
        let mut dead = self.workers.about_failed(failure, place);
        dead.spawn_error = dead.spawn_error.or_else(|| self.launches.held_up(failure.worker));
        let program = self.generations.program_numbered(dead.worker.generation);
        let is_typescript = program.is_some_and(ResolvedProgram::is_typescript);
        let spec = self.spec();
        let ready_when = program.map_or(ReadyWhen::Started, |program| spec.ready_when(program));
        let ready_timeout = spec.settings().ready_timeout;
        explain::failure(failure, dead, Expected { ready_when, ready_timeout, is_typescript })
    }
    /// Once for each generation: what is wrong with one worker is wrong with the next one.
    fn tell_who_has_its_address(&mut self, worker: WorkerId) {
        let Some(grave) = self.workers.grave(worker) else { return };
        let (about, generation) = (grave.worker, Some(grave.worker.generation));
        let Some(reason) = grave.taken.clone().filter(|_| self.told.address != generation) else { return };
        self.told.address = generation;
        self.emit(Event::AddressTaken { worker: about, reason });
    }

    /// Once for each generation.
    fn tell_what_it_has_left(&mut self, worker: WorkerId) {
        let Some(grave) = self.workers.grave(worker) else { return };
        let (about, generation) = (grave.worker, Some(grave.worker.generation));
        let Some(reason) = grave.left.clone().filter(|_| self.told.background != generation) else {
            return;
        };
        self.told.background = generation;
        self.emit(Event::Backgrounded { worker: about, reason });
    }
}
