//! Rule 4: missing workers are started: at once where none was started before, through the limiter where one has
//! ended.

use std::cmp::Reverse;

use crate::slot::Slot;
use crate::worker::Worker;
use crate::{Action, Cluster, Generation, Notice, Phase, SlotId, State, WorkerId};

impl Cluster {
    pub(super) fn fill(&mut self) {
        for slot in self.first_starts() {
            self.spawn(slot);
        }
        self.announce_respawns();
        self.announce_those_held();
        while let Some(slot) = self.next_respawn().filter(|_| self.backoff.next() <= self.now) {
            self.backoff.respawned(self.now);
            self.spawn(slot);
        }
    }

    /// Slots whose missing worker is the first of its kind.
    fn first_starts(&self) -> Vec<SlotId> {
        let reload = self.reloading();
        let first = self.slots.iter().filter(|slot| slot.waiting.is_none() && slot.lacks_worker(reload));
        let mut may_start = self.within_surge(first);
        may_start.truncate(self.boot_room());
        may_start
    }

    /// How many more workers may boot now. One that is ready, or for which nothing waits any more, makes room.
    fn boot_room(&self) -> usize {
        let Some(most) = self.settings.boot_limit else { return usize::MAX };
        let booting = self.workers.iter().filter(|(id, worker)| worker.boots() && self.wants(*id, worker));
        usize::try_from(most.get()).unwrap_or(usize::MAX).saturating_sub(booting.count())
    }

    /// Those that may get a worker now: vacant slots, those that have a place of the surge, and as many more as there
    /// are places left. A slot that goes when the reload is done gets none.
    fn within_surge<'a>(&self, slots: impl Iterator<Item = &'a Slot>) -> Vec<SlotId> {
        let used = self.slots.iter().filter(|slot| slot.is_being_replaced()).count();
        let mut room = self.settings.surge.limit(self.slots.len()).saturating_sub(used);
        let stay = self.reload.as_ref().map_or(self.size(), |reload| reload.covers(self.size()));
        let mut may_start = Vec::new();
        for slot in slots.filter(|slot| slot.id.get() < stay && !self.is_occupied(slot)) {
            let needs_room = slot.holder.is_some() && !slot.is_being_replaced();
            if needs_room && room == 0 {
                continue;
            }
            room -= usize::from(needs_room);
            may_start.push(slot.id);
        }
        may_start
    }

    /// The slot whose worker is started as soon as the limiter allows one.
    ///
    /// On trial one failing slot is retried at a time: a broken generation is not started over and over in all
    /// slots to learn that one of them fails.
    pub(crate) fn next_respawn(&self) -> Option<SlotId> {
        let retries = self.on_trial().is_some_and(|generation| self.retries(generation));
        if retries || !self.supervises() || self.boot_room() == 0 {
            None
        } else {
            self.queue().first().copied()
        }
    }

    /// Whether a slot that failed has a worker again, that does not serve yet.
    fn retries(&self, generation: Generation) -> bool {
        let failed = self.slots.iter().filter(|slot| slot.failure.is_some());
        failed.flat_map(|slot| self.of_generation(slot, generation)).any(|worker| !worker.serves())
    }

    /// Slots that wait for the limiter, the next one first.
    ///
    /// In the order of their waiting; but on trial the one that failed most comes first, for an early verdict.
    fn queue(&self) -> Vec<SlotId> {
        let trial = self.on_trial().is_some();
        let queues = |slot: &&Slot| slot.waiting.is_some() && !self.holds(slot);
        let mut queue: Vec<&Slot> = self.slots.iter().filter(queues).collect();
        queue.sort_by_key(|slot| {
            let failures = if trial { slot.failures() } else { 0 };
            (Reverse(failures), slot.waiting.map(|waiting| waiting.since), slot.id)
        });
        self.within_surge(queue.into_iter())
    }

    /// Whether what was to be started here waits for the next reload.
    fn holds(&self, slot: &Slot) -> bool {
        self.settings.hold && self.reload.is_none() && slot.holder.is_none()
    }

    fn announce_those_held(&mut self) {
        let held: Vec<SlotId> =
            self.slots.iter().filter(|slot| self.holds(slot)).map(|slot| slot.id).collect();
        for slot in held {
            let waiting = self.slots.get_mut(slot.index()).and_then(|slot| slot.waiting.as_mut());
            if let Some(worker) = waiting.and_then(|waiting| waiting.unannounced.take()) {
                self.notify(Notice::Held { worker, slot });
            }
        }
    }

    /// Whether an old worker of this slot is to be gone before a new one is started. One that cannot be killed is not waited for.
    fn is_occupied(&self, slot: &Slot) -> bool {
        let leaves = |(id, worker): (WorkerId, &Worker)| {
            worker.slot == slot.id && !slot.wants(id) && worker.state != State::Unkillable
        };
        self.settings.gone_first && self.workers.iter().any(leaves)
    }

    /// Reports for every ended worker when its successor starts.
    fn announce_respawns(&mut self) {
        let mut limiter = self.backoff;
        for slot in self.queue() {
            let at = limiter.next().max(self.now);
            limiter.respawned(at);
            let waiting = self.slots.get_mut(slot.index()).and_then(|slot| slot.waiting.as_mut());
            if let Some(worker) = waiting.and_then(|waiting| waiting.unannounced.take()) {
                self.notify(Notice::Respawning { worker, slot, delay: at.since(self.now) });
            }
        }
    }

    fn spawn(&mut self, id: SlotId) {
        let (reload, on_trial) = (self.reloading(), self.on_trial());
        let has_served = self.phase == Phase::Running;
        let Some(slot) = self.slots.get_mut(id.index()) else { return };
        let generation = reload.unwrap_or(slot.generation);
        let is_restart = slot.waiting.is_some() && has_served && on_trial != Some(generation);
        slot.restarts += u64::from(is_restart);
        let worker = Worker::new(id, generation, self.settings.ready_timeout, self.now);
        let worker = self.workers.begin(worker);
        slot.seat(worker, reload);
        self.act(Action::Spawn { worker, slot: id, generation });
    }
}
