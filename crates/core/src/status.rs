//! The status of the cluster, for the user and for the data plane.

use crate::slot::Slot;
use crate::worker::Worker;
use crate::{Cluster, Generation, Phase, SlotId, State, Time, WorkerId};

/// The status of the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Status {
    /// What the cluster as a whole is doing.
    pub phase: Phase,
    /// The generation that respawns of most slots belong to: the last one that was proven, or the first.
    pub generation: Generation,
    /// The reload in progress.
    pub reload: Option<ReloadStatus>,
    /// One entry a slot.
    pub slots: Vec<SlotStatus>,
    /// Every worker that lives, in the order in which they were begun.
    pub workers: Vec<WorkerStatus>,
    /// Nothing is pending: no reload, no vacant slot, every slot's worker serves.
    pub settled: bool,
}

/// A reload in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ReloadStatus {
    /// The generation being started.
    pub generation: Generation,
    /// How many slots have a serving worker of it.
    pub serving: u32,
    /// Of how many.
    pub of: u32,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SlotStatus {
    /// Which.
    pub slot: SlotId,
    /// The active worker: ready, and not on its way out.
    pub active: Option<WorkerId>,
    /// How often a worker of code that has served was started here again, since the one before ended or was renewed. The
    /// workers of a reload, and attempts of code on trial, are none of these.
    pub restarts: u64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Which.
    pub worker: WorkerId,
    /// Its slot.
    pub slot: SlotId,
    /// Its generation.
    pub generation: Generation,
    /// Its state.
    pub state: State,
    /// When it is sent the next signal unless it is ready, or has exited, before. Sooner than its state says where its
    /// channel is closed. None while it queues for its start: what goes on before it gives it more time.
    pub deadline: Option<Time>,
    /// It is wanted: it holds its slot or is to take it over.
    pub wanted: bool,
    /// It serves: ready, has lived for the bake time, and is not on its way out.
    pub serves: bool,
}

impl Cluster {
    /// The status of the whole cluster as of the last event.
    pub fn status(&self) -> Status {
        let slots: Vec<SlotStatus> = self.slots.iter().map(|slot| self.slot_status(slot)).collect();
        let workers = self.workers.iter().map(|(id, worker)| self.worker_status(id, worker)).collect();
        Status {
            phase: self.phase(),
            generation: self.generation,
            reload: self.reload.as_ref().map(|reload| ReloadStatus {
                generation: reload.generation,
                serving: self.serving_slots(reload.generation),
                of: self.size_for(reload.generation),
            }),
            slots,
            workers,
            settled: self.is_settled(),
        }
    }

    fn slot_status(&self, slot: &Slot) -> SlotStatus {
        let ready = |id: &WorkerId| self.workers.get(*id).is_some_and(Worker::is_ready);
        SlotStatus {
            slot: slot.id,
            active: slot.holder.filter(ready).or(slot.candidate.filter(ready)),
            restarts: slot.restarts,
        }
    }

    fn worker_status(&self, id: WorkerId, worker: &Worker) -> WorkerStatus {
        WorkerStatus {
            worker: id,
            slot: worker.slot,
            generation: worker.generation,
            state: worker.state,
            deadline: self.signal_due(id, worker),
            wanted: self.wants(id, worker),
            serves: worker.serves(),
        }
    }

    fn signal_due(&self, id: WorkerId, worker: &Worker) -> Option<Time> {
        let queues = matches!(worker.state, State::Starting { until: None });
        let has_next = !worker.is_ready() && !worker.is_killed() && !queues;
        let due = has_next.then(|| worker.deadline(id, &self.settings))?;
        due.map(|(at, _)| at)
    }

    fn is_settled(&self) -> bool {
        let reloads = self.reload.is_some() || self.pending.is_some();
        let settled = |slot: &Slot| !slot.renew && self.workers.serves(slot.holder);
        !reloads && self.slots.iter().all(settled)
    }
}
