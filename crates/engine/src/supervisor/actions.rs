//! One arm for each action of the policy. No failure ends the loop: it becomes an event.

use std::time::Instant;

use recluster_core as core;
use recluster_core::{Action, Generation, Signal, Time, WorkerId};

use crate::config::ready::ReadyWhen;
use crate::dataplane::{Admission, Command};
use crate::report::event::Event;
use crate::supervisor::Supervisor;
use crate::supervisor::child::{Child, Place};
use crate::supervisor::generations::SpawnError;

impl Supervisor {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { worker, slot, generation } => {
                let number = self.workers.next_number(worker);
                self.spawn(Place { worker, number, slot, generation });
            }
            Action::Drain { worker, until } => self.drain(worker, until),
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::Notify(notice) => self.announce(notice),
        }
    }

    fn spawn(&mut self, place: Place) {
        if let Err(SpawnError { failure, reason }) = self.try_spawn(place) {
            self.workers.still_born(place.worker, place.about(None), reason);
            self.tell(core::Event::SpawnFailed(place.worker, failure));
        }
    }

    fn try_spawn(&mut self, place: Place) -> Result<(), SpawnError> {
        let Place { worker, slot, generation, .. } = place;
        let slots = self.slots_for(generation);
        let program = self.generations.program_for_spawn(generation)?.clone();
        let preload = match self.spawner.place_preload(generation, &program, self.generations.spec()) {
            Ok(preload) => preload,
            Err(error) => {
                self.emit(Event::PreloadMissing { reason: error.to_string() });
                None
            }
        };
        let started = self.spawner.spawn(place, slots, &program, self.generations.spec(), preload)?;
        let about = started.child.about();
        let pid = about.pid;
        self.workers.insert(worker, started.child);
        self.audience.spawned(about, started.pipes);
        let is_node = program.is_node();
        let (slot, channel) = (slot.get(), started.channel);
        self.dataplane.tell(Command::Admit(Admission { worker, slot, pid, channel, is_node }));
        if !is_node && self.spec().ready_when == ReadyWhen::Started {
            // Of a program without a channel nothing can be known but that it lives.
            self.online(worker);
        }
        Ok(())
    }

    /// How many slots there are for the workers of a generation, as far as that is known.
    fn slots_for(&self, generation: Generation) -> u32 {
        let reload = self.policy.status().reload.filter(|reload| reload.generation == generation);
        reload.map_or_else(|| self.policy.slots(), |reload| reload.of)
    }

    fn drain(&mut self, worker: WorkerId, until: Time) {
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
        // TERM at the start of its drain is not said once more at the end.
        if self.workers.was_sent(worker, signal) {
            return;
        }
        if let Some(child) = self.workers.get_mut(worker) {
            child.process.signal(signal);
        }
    }
}
