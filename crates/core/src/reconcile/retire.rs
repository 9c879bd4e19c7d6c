//! Rule 3: workers that are not wanted leave.

use std::time::Duration;

use crate::{Action, Cluster, Phase, Signal, State, Time, WorkerId};

impl Cluster {
    /// The promise: a serving worker leaves only when what replaces it serves, unless by stop, scale-down or its
    /// own request.
    ///
    /// It holds because only workers that no slot wants are retired here, and a slot gives up its holder only for a
    /// candidate that serves: its own under a bounded surge, those of all slots under [`Surge::All`]. A candidate has
    /// not replaced a worker yet: when its generation fails or is superseded it goes, serving or not.
    ///
    /// [`Surge::All`]: crate::Surge::All
    pub(super) fn retire(&mut self) {
        match self.phase {
            Phase::Starting | Phase::Running => self.drain_unwanted(self.settings.timeout),
            Phase::Stopping => self.drain_unwanted(self.settings.stop_timeout),
            Phase::Terminating => self.kill_all(),
            Phase::Released | Phase::Over => {}
        }
    }

    fn drain_unwanted(&mut self, timeout: Duration) {
        for worker in self.workers.which(|id, worker| worker.stays() && !self.wants(id, worker)) {
            self.drain(worker, self.now + timeout);
        }
    }

    /// It is asked to finish and exit, unless its channel is closed. A worker that is not ready gets no more time than
    /// its deadline for readiness leaves, if it still has one.
    fn drain(&mut self, id: WorkerId, patience: Time) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let until = match worker.state {
            State::Starting { until: Some(until) } if !worker.late => patience.min(until),
            State::Starting { .. } | State::Ready { .. } => patience,
            State::Draining { .. } | State::Terminating { .. } | State::Killed { .. } | State::Unkillable => {
                return;
            }
        };
        worker.state = State::Draining { until };
        if worker.closed.is_none() {
            self.act(Action::Drain { worker: id, until });
        }
    }

    fn kill_all(&mut self) {
        for worker in self.workers.which(|_, _| true) {
            self.kill(worker);
        }
    }

    /// KILL, unless it was sent already.
    pub(super) fn kill(&mut self, id: WorkerId) {
        let until = self.now + self.settings.end_timeout;
        if let Some(worker) = self.workers.get_mut(id)
            && !worker.is_killed()
        {
            worker.state = State::Killed { until };
            self.act(Action::Signal { worker: id, signal: Signal::Kill });
        }
    }
}
