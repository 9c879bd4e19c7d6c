//! One arm for each action of the policy. Nothing here waits, and no failure ends the loop: it becomes an event.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use recluster_core as core;
use recluster_core::{Action, Generation, Signal, SlotId, SpawnFailure, Time, WorkerId};

use crate::config::ready::ReadyWhen;
use crate::dataplane::{Admission, Command};
use crate::process::program::NodeKind;
use crate::process::spawn::{self, SpawnOptions};
use crate::process::{preload, sd_notify};
use crate::report::error::ProgramError;
use crate::report::event::Event;
use crate::report::worker::Worker;
use crate::socket::bind;
use crate::supervisor::Supervisor;
use crate::supervisor::child::{ChannelUse, Child, DeadWorker, Seen};

impl Supervisor {
    pub(crate) fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { worker, slot, generation } => self.spawn(worker, slot, generation),
            Action::Drain { worker, until } => self.drain(worker, until),
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::Notify(notice) => self.announce(notice),
        }
    }

    fn spawn(&mut self, worker: WorkerId, slot: SlotId, generation: Generation) {
        let number = self.shell.numbering.next(worker);
        if let Err((failure, error)) = self.try_spawn(worker, number, slot, generation) {
            let about = Worker { id: number, slot: slot.get(), generation: generation.get(), pid: None };
            let spawn_error = Some(error);
            let seen = Seen::default();
            let grave =
                DeadWorker { worker: about, stderr: Vec::new(), seen, spawn_error, check_failure: None };
            self.remember(worker, grave);
            self.follow_ups.push_back(core::Event::SpawnFailed(worker, failure));
        }
    }

    fn try_spawn(
        &mut self,
        worker: WorkerId,
        number: u64,
        slot: SlotId,
        generation: Generation,
    ) -> Result<(), (SpawnFailure, String)> {
        self.fix_generation(generation)?;
        let forgotten = || (SpawnFailure::Hopeless, format!("generation {generation} is forgotten"));
        let Some(program) = self.programs.get(&generation) else { return Err(forgotten()) };
        let slots = self.slots_for(generation);
        let takes_preload = program.node_kind() == Some(NodeKind::Node);
        let preload = self.shell.spec.preload.filter(|_| takes_preload);
        let preload = preload.and_then(|preload| Some((self.place_preload(generation)?, preload.settings())));
        let Some(program) = self.programs.get(&generation) else { return Err(forgotten()) };
        let is_node = program.is_node();
        let describe = |error: io::Error| (spawn::failure_of(&error), spawn::spawn_error(&error));
        let notify = self.open_notify(is_node).map_err(describe)?;
        let own = self.shell.spec.check_listen.as_ref().filter(|_| !is_node);
        let own = own.map(bind::bind).transpose().map_err(describe)?;
        let seat = SpawnOptions {
            worker,
            number,
            slot: slot.get(),
            generation: generation.get(),
            slots,
            raw_stdio: self.shell.raw_stdio,
            end_with_master: self.shell.end_with_master,
            preload,
            sockets: self.shell.bound.iter().chain(&own).collect(),
            notify: notify.as_ref().map(|socket| socket.path().to_owned()),
            watchdog: self.shell.spec.watchdog,
            drain_signal: self.shell.spec.drain_signal,
        };
        let begun = spawn::spawn(program, &seat).map_err(describe)?;
        let told = seat.preload.as_ref().map(|(_, told)| *told);
        let mut child = Child::new(number, slot, generation, begun.process, ChannelUse::of(program));
        child.preload = told;
        child.watchdog = self.shell.spec.watchdog;
        child.own_listener = own.as_ref().and_then(|own| own.address.ip());
        if let Some(socket) = notify {
            // Without it the worker is merely not heard there.
            child.notify = socket.start(worker, child.process.pid, self.process_events()).ok();
        }
        if let Err(error) = begun.watch.start(self.forwarder.clone(), self.process_events()) {
            // Without a watch its end would not be seen, so it must end here.
            child.process.kill_and_reap();
            return Err(describe(error));
        }
        self.children.insert(worker, child);
        if let Some(worker) = self.about(worker) {
            self.audience.spawned(worker, begun.pipes);
        }
        let slot = slot.get();
        self.dataplane.tell(Command::Admit(Admission { worker, slot, channel: begun.channel, is_node }));
        if !is_node && self.shell.spec.ready_when == ReadyWhen::Started {
            // Of a program without a channel nothing can be known but that it lives.
            self.online(worker);
        }
        Ok(())
    }

    /// A socket for what the worker tells by `sd_notify`. A Node worker has its channel for that, unless it is to say here
    /// that it is ready, or that it lives.
    fn open_notify(&self, is_node: bool) -> io::Result<Option<sd_notify::Socket>> {
        let spec = &self.shell.spec;
        let is_needed = spec.ready_when == ReadyWhen::Notify || spec.watchdog.is_some();
        if is_node && !is_needed {
            return Ok(None);
        }
        match sd_notify::Socket::open() {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if is_needed => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The preload's file. To serve with a drain that may lose a request is better than not to serve.
    fn place_preload(&mut self, generation: Generation) -> Option<PathBuf> {
        match preload::place() {
            Ok(path) => Some(path),
            Err(error) => {
                if self.warned_of_preload.replace(generation) != Some(generation) {
                    self.audience.emit(Event::PreloadMissing { reason: error.to_string() });
                }
                None
            }
        }
    }

    /// The first spawn of a generation fixes what it runs. Generations that nothing refers to any more are forgotten.
    fn fix_generation(&mut self, generation: Generation) -> Result<(), (SpawnFailure, String)> {
        if self.programs.contains_key(&generation) {
            return Ok(());
        }
        let program = self.shell.spec.program.resolve();
        let program = program.map_err(|error| (resolve_failure(&error), error.to_string()))?;
        self.programs.insert(generation, program);
        let status = self.policy.status();
        let oldest = status.workers.iter().map(|worker| worker.generation).chain([status.generation]).min();
        if let Some(oldest) = oldest {
            self.programs =
                std::mem::take(&mut self.programs).into_iter().filter(|(g, _)| *g >= oldest).collect();
        }
        Ok(())
    }

    fn drain(&mut self, worker: WorkerId, until: Time) {
        let timeout: Duration = until.since(self.now());
        self.emit_about(worker, |worker| Event::Draining { worker, timeout });
        self.leaves(worker);
        let until_then = self.instant(until);
        let Some(child) = self.children.get_mut(&worker) else { return };
        if child.channel_use != ChannelUse::Unproven {
            let preload = self.shell.spec.preload.filter(|_| child.preload.is_some());
            let grace = preload.map(|preload| preload.grace(timeout));
            self.dataplane.tell(Command::Drain { worker, until: until_then, grace });
        }
        if child.channel_use != ChannelUse::Full {
            child.process.let_go();
        }
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        // TERM at the start of its drain is not said once more at the end.
        if self.was_sent(worker, signal) {
            return;
        }
        if let Some(child) = self.children.get_mut(&worker) {
            child.process.signal(signal);
        }
    }

    /// Whether a worker was sent this signal already, or a stronger one.
    pub(crate) fn was_sent(&self, worker: WorkerId, signal: Signal) -> bool {
        self.children.get(&worker).is_some_and(|child| child.process.sent >= Some(signal))
    }

    /// Every live worker, in the order in which they were begun.
    pub(crate) fn live_workers(&self) -> Vec<Worker> {
        self.children.keys().filter_map(|&worker| self.about(worker)).collect()
    }

    /// The active worker of each slot.
    pub(crate) fn active_workers(&self) -> Vec<Option<Worker>> {
        let slots: BTreeMap<SlotId, Option<WorkerId>> =
            self.policy.status().slots.into_iter().map(|slot| (slot.slot, slot.active)).collect();
        slots.into_values().map(|active| active.and_then(|worker| self.about(worker))).collect()
    }
}

/// Whether looking again may help: it does where the machine was short of descriptors.
fn resolve_failure(error: &ProgramError) -> SpawnFailure {
    match error {
        ProgramError::NotRunnable { source, .. } | ProgramError::Directory { source, .. } => {
            spawn::failure_of(source)
        }
        ProgramError::NotFound { .. } | ProgramError::NodeNotFound { .. } => SpawnFailure::Hopeless,
    }
}
