//! One arm for each action of the policy. No failure ends the loop: it becomes an event.

use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::{Action, Signal, SpawnFailure, Time, WorkerId};
use recluster_wire::env::NodeMetrics;

use crate::config::ready::ReadyWhen;
use crate::config::variable::Variables;
use crate::dataplane::{Admission, Command};
use crate::process::inspector;
use crate::process::launcher::Outcome;
use crate::report::event::Event;
use crate::supervisor::Supervisor;
use crate::supervisor::child::{ChannelUse, Child, Place};
use crate::supervisor::generations::SpawnError;
use crate::supervisor::launches::Begun;
use crate::supervisor::spawner::Started;
use crate::supervisor::timers::Timer;

/// Of a start that takes so long is told for what it waits.
const START_HANGS: Duration = Duration::from_secs(5);

impl Supervisor {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { worker, slot, generation } => {
                let number = self.workers.next_number(worker);
                self.spawn(Place { worker, number, slot, generation });
            }
            Action::Drain { worker, until } => self.drain(worker, until),
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::Reload(change) => {
                let told = self.changes.become_reload(change);
                self.emit(told);
                self.reload(None, Variables::default(), None);
            }
            Action::Notify(notice) => self.announce(notice),
        }
    }

    fn spawn(&mut self, place: Place) {
        if let Err(error) = self.try_spawn(place) {
            self.cannot_start(place, error);
        }
    }

    fn cannot_start(&mut self, place: Place, SpawnError { failure, reason }: SpawnError) {
        self.workers.still_born(place.worker, place.about(None), reason);
        self.tell(core::Event::SpawnFailed(place.worker, failure));
    }

    fn try_spawn(&mut self, place: Place) -> Result<(), SpawnError> {
        let generation = place.generation;
        let slots = self.policy.slots_for(generation);
        if let Some((gone, server)) = self.generations.follow(generation)? {
            let [gone, server] = [gone, server].map(|path| path.display().to_string());
            self.emit(Event::Moved { generation: generation.get(), gone, server });
        }
        let program = self.generations.program_for_spawn(generation)?;
        let mut preload = match self.spawner.place_preload(generation, &program, self.generations.spec()) {
            Ok(preload) => preload,
            Err(error) => {
                self.emit(Event::PreloadMissing { reason: error.to_string() });
                None
            }
        };
        if let (Some((_, Some(drain))), Some(_)) = (&mut preload, &program.compile_cache) {
            let (workers, launches) = (&self.workers, &self.launches);
            let lives = |worker| workers.get(worker).is_some() || launches.place(worker).is_some();
            drain.writes = self.caches.is_to_write(place.worker, generation.get(), lives);
        }
        let (channel_use, patience) = (ChannelUse::of(&program), self.spec().watchdog);
        self.launches.begin(Begun::new(place, channel_use, program.is_node(), patience));
        self.spawner.launch(place, slots, program, self.generations.spec(), preload);
        Ok(())
    }

    /// The turn of a worker has come.
    pub(super) fn begins_to_start(&mut self, worker: WorkerId) {
        self.launches.is_under_way(worker);
        self.timers.set(Timer::Start(worker), Instant::now() + START_HANGS);
        self.tell(core::Event::Begun(worker));
    }

    /// The kernel has not run the worker's program yet, as where a file system does not answer.
    pub(super) fn start_hangs(&self, worker: WorkerId) {
        let Some(place) = self.launches.place(worker) else { return };
        let Some(program) = self.generations.program(place.generation) else { return };
        let [program, directory] =
            [program.binary(), &program.directory].map(|path| path.display().to_string());
        let worker = place.about(None);
        self.emit(Event::StartHangs { worker, program, directory, waited: START_HANGS });
    }

    /// A worker's process was started, or cannot be. What the policy wanted of it meanwhile is done now.
    pub(super) fn launched(&mut self, (worker, outcome): Outcome) {
        self.timers.clear(Timer::Start(worker));
        let Some(begun) = self.launches.end(worker) else { return };
        match self.spawner.take(begun, outcome) {
            Ok(started) => self.admit(begun, started),
            Err(error) => self.cannot_start(begun.place, error),
        }
        self.answer_those_who_wait_for_launches();
    }

    fn admit(&mut self, begun: Begun, Started { child, channel, serialization, pipes, inspector }: Started) {
        let Begun { place, is_node, .. } = begun;
        let Place { worker, slot, generation, .. } = place;
        let about = child.about();
        self.oom_kills.note(worker, child.process.pid());
        self.look_at_kills_again();
        let pid = about.pid;
        let answers = child.preload.is_some_and(|preload| preload.metrics != NodeMetrics::Off);
        self.workers.insert(worker, child);
        self.audience.spawned(about, pipes, serialization);
        if let Some(inspector::Place { port, instead_of: Some(taken) }) = inspector {
            self.emit(Event::InspectorMoved { worker: about, port, taken });
        }
        let (slot, generation) = (slot.get(), generation.get());
        let admission = Admission { worker, slot, generation, pid, channel, is_node, serialization, answers };
        self.dataplane.tell(Command::Admit(admission));
        if let Some(until) = begun.leaves {
            self.drain(worker, until);
        } else if begun.signal.is_none()
            && !is_node
            && self.generations.ready_when(place.generation) == ReadyWhen::Started
        {
            // Of a program without a channel nothing can be known but that it lives.
            self.online(worker);
        }
        if let Some(signal) = begun.signal {
            self.signal(worker, signal);
        }
    }

    /// A worker that is still to be started is not, where it is to go already; one that is just being started goes when it
    /// runs. None where its process runs.
    fn too_early(&mut self, worker: WorkerId, then: impl FnOnce(&mut Begun)) -> Option<()> {
        let begun = self.launches.get_mut(worker)?;
        then(begun);
        if self.spawner.cancel(worker) {
            self.launches.end(worker);
            self.tell(core::Event::SpawnFailed(worker, SpawnFailure::Temporary));
            self.answer_those_who_wait_for_launches();
        }
        Some(())
    }

    pub(super) fn answer_those_who_wait_for_launches(&mut self) {
        for reply in self.launches.served() {
            // Whoever has asked may be gone.
            let _ = reply.send(self.workers.living());
        }
    }

    fn drain(&mut self, worker: WorkerId, until: Time) {
        if self.too_early(worker, |begun| begun.leaves = Some(until)).is_some() {
            return;
        }
        let clock = self.policy.clock();
        let timeout = until.since(clock.time(Instant::now()));
        self.emit_about(worker, |worker| Event::Draining { worker, timeout });
        let Some(child) = self.workers.get_mut(worker) else { return };
        child.readiness.leaves();
        child.watchdog.leaves(&mut self.timers);
        if child.channel_use.may_hear_a_drain() {
            let preload = self.generations.spec().preload.filter(|_| child.preload.is_some());
            let grace = preload.map(|preload| preload.grace(timeout, self.routing.stops()));
            self.dataplane.tell(Command::Drain { worker, until: clock.instant(until), grace });
        }
        if child.channel_use.needs_a_signal() {
            child.process.let_go();
        }
    }

    /// At a stop, workers that drain already spare idle connections for no longer than the others.
    pub(super) fn shorten_graces(&self) {
        let Some(preload) = self.generations.spec().preload else { return };
        let (clock, now) = (self.policy.clock(), Instant::now());
        for status in self.policy.status().workers {
            let drains = |child: &Child| child.preload.is_some() && child.readiness.is_leaving();
            let Some(until) = status.deadline else { continue };
            if self.workers.get(status.worker).is_some_and(drains) {
                let grace = Some(preload.grace(until.since(clock.time(now)), true));
                let until = clock.instant(until);
                self.dataplane.tell(Command::Drain { worker: status.worker, until, grace });
            }
        }
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        let place = self.launches.place(worker);
        let held_up = self.launches.held_up(worker);
        if self.too_early(worker, |begun| begun.signal = begun.signal.max(Some(signal))).is_some() {
            if signal == Signal::Term
                && self.launches.place(worker).is_none()
                && let (Some(place), Some(why)) = (place, held_up)
            {
                // It was late before its turn came.
                self.workers.still_born(worker, place.about(None), why);
            }
            return;
        }
        // TERM at the start of its drain is not said once more at the end.
        if self.workers.was_sent(worker, signal) {
            return;
        }
        if let Some(child) = self.workers.get_mut(worker) {
            child.was_stopped = child.is_stopped();
            child.process.signal(signal);
        }
    }
}
