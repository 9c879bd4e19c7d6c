//! One worker: its states and their legal order.

use std::collections::BTreeMap;

use crate::{Due, Generation, Settings, SlotId, Time, WorkerId};

/// Where a worker is in its life. It only ever goes down this list, and may skip lines; but one that does not serve yet may turn
/// out not to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every front end words each of them")]
pub enum State {
    /// Its process was begun and is not ready yet.
    Starting {
        /// It must be ready by then.
        until: Time,
    },
    /// It may serve.
    Ready {
        /// Since then.
        since: Time,
    },
    /// It serves what it has, takes nothing new, and will exit.
    Draining {
        /// It is sent TERM then.
        until: Time,
    },
    /// It was sent TERM.
    Terminating {
        /// It is sent KILL then.
        until: Time,
    },
    /// It was sent KILL.
    Killed {
        /// It is given up then.
        until: Time,
    },
    /// It was sent KILL, and lives on all the same: the kernel does not let it end. Nothing waits for it any more.
    Unkillable,
}

/// One worker, as the policy knows it: it has no pid here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) slot: SlotId,
    pub(crate) generation: Generation,
    pub(crate) state: State,
    /// When it had to be ready at first.
    pub(crate) ready_by: Time,
    /// It was ready and has lived for the bake time. Never cleared.
    pub(crate) proven: bool,
    /// When its channel was closed.
    pub(crate) closed: Option<Time>,
    /// It was not ready in time and has no deadline for readiness any more.
    pub(crate) late: bool,
}

impl Worker {
    /// A worker whose process is being started, and that must be ready by then.
    pub(crate) fn new(slot: SlotId, generation: Generation, until: Time) -> Self {
        let state = State::Starting { until };
        Self { slot, generation, state, ready_by: until, proven: false, closed: None, late: false }
    }

    /// It starts or works: it was not asked to go, and has not said that it goes.
    pub(crate) fn stays(&self) -> bool {
        matches!(self.state, State::Starting { .. } | State::Ready { .. })
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }

    /// It was sent KILL.
    pub(crate) fn is_killed(&self) -> bool {
        matches!(self.state, State::Killed { .. } | State::Unkillable)
    }

    /// It is ready, has lived for the bake time, and is not on its way out.
    pub(crate) fn serves(&self) -> bool {
        self.is_ready() && self.proven
    }

    /// Its deadlines.
    pub(crate) fn deadline(&self, id: WorkerId, settings: &Settings) -> Option<(Time, Due)> {
        match self.state {
            State::Starting { until } => (!self.late).then_some((until, Due::Ready(id))),
            State::Ready { since } => (!self.proven).then(|| (since + settings.bake, Due::Bake(id))),
            State::Draining { until } => {
                let exit = self.closed.map(|closed| (closed + settings.exit_grace, Due::Exit(id)));
                Some(exit.filter(|(exit, _)| *exit < until).unwrap_or((until, Due::Drain(id))))
            }
            State::Terminating { until } => Some((until, Due::Kill(id))),
            State::Killed { until } => Some((until, Due::End(id))),
            State::Unkillable => None,
        }
    }
}

/// All workers that live, in the order in which they were begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Workers {
    living: BTreeMap<WorkerId, Worker>,
    last: u64,
}

impl Workers {
    /// Names a new worker.
    pub(crate) fn begin(&mut self, worker: Worker) -> WorkerId {
        self.last += 1;
        let id = WorkerId(self.last);
        self.living.insert(id, worker);
        id
    }

    pub(crate) fn end(&mut self, id: WorkerId) {
        self.living.remove(&id);
    }

    /// Whether none is left whose end can be waited for.
    pub(crate) fn have_ended(&self) -> bool {
        self.living.values().all(|worker| worker.state == State::Unkillable)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.living.iter().map(|(id, worker)| (*id, worker))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.living.values_mut()
    }

    /// The ids of the workers for which this holds.
    pub(crate) fn which(&self, mut is: impl FnMut(WorkerId, &Worker) -> bool) -> Vec<WorkerId> {
        self.iter().filter(|(id, worker)| is(*id, worker)).map(|(id, _)| id).collect()
    }

    pub(crate) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.living.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.living.get_mut(&id)
    }

    /// Whether there is such a worker and it serves.
    pub(crate) fn serves(&self, id: Option<WorkerId>) -> bool {
        id.and_then(|id| self.get(id)).is_some_and(Worker::serves)
    }
}
