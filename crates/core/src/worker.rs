//! One worker: its states and their legal order.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Due, Generation, Settings, SlotId, Time, WorkerId};

/// Where a worker is in its life. It only ever goes down this list, and may skip lines; but one that does not serve yet may turn
/// out not to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "every front end words each of them")]
pub enum State {
    /// It is not ready yet.
    Starting {
        /// It must be ready by then; none while its process is still to be started, and others are before it.
        until: Option<Time>,
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Worker {
    pub(crate) slot: SlotId,
    pub(crate) generation: Generation,
    pub(crate) state: State,
    /// How long it may take to be ready, from when its process is started.
    ready_timeout: Duration,
    /// Since then it has queued for its start, and no other worker's start has begun.
    queues_since: Time,
    /// When it has to be ready, if its process was begun.
    ready_by: Option<Time>,
    /// It was ready and has lived for the bake time. Never cleared.
    pub(crate) proven: bool,
    /// When its channel was closed.
    pub(crate) closed: Option<Time>,
    /// It was not ready in time and has no deadline for readiness any more.
    pub(crate) late: bool,
    /// How often it had its time once more after KILL.
    pub(crate) spared: u8,
}

impl Worker {
    /// A worker whose process is to be started from now on, and that must be ready so soon after that.
    pub(crate) fn new(slot: SlotId, generation: Generation, ready_timeout: Duration, now: Time) -> Self {
        Self {
            slot,
            generation,
            state: State::Starting { until: None },
            ready_timeout,
            queues_since: now,
            ready_by: None,
            proven: false,
            closed: None,
            late: false,
            spared: 0,
        }
    }

    /// The start of a worker has begun: whoever queues behind it has the whole of its time again.
    pub(crate) fn queue_moves(&mut self, now: Time) {
        self.queues_since = now;
    }

    /// Its process is being started.
    pub(crate) fn begin(&mut self, now: Time) {
        let until = Some(*self.ready_by.get_or_insert(now + self.ready_timeout));
        if let State::Starting { .. } = self.state {
            self.state = State::Starting { until };
        }
    }

    /// It is not ready after all, and has the time that it had in the first place.
    pub(crate) fn begin_again(&mut self) {
        self.state = State::Starting { until: self.ready_by };
    }

    /// It starts, and somebody waits for it to be ready.
    pub(crate) fn boots(&self) -> bool {
        matches!(self.state, State::Starting { .. }) && !self.late
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
            State::Starting { until } => {
                // A queue in which nothing moves may stand still for ever.
                let until = until.unwrap_or(self.queues_since + self.ready_timeout);
                (!self.late).then_some((until, Due::Ready(id)))
            }
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

    /// Whether each of them has a name that the next one will not have.
    #[cfg(feature = "serde")]
    pub(crate) fn are_named(&self) -> bool {
        self.living.keys().all(|id| (1..=self.last).contains(&id.0))
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
