//! Requests to listen that wait for an address: workers of a master that was killed may have it for a moment longer, where they accept by
//! themselves and are busy.

use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::node::QueryServer;
use serde::{Deserialize, Serialize};

use super::reactor::{Reactor, Timer};
use crate::upgrade::moment;

/// How long one waits, as the master waits itself for an address that it is to bind.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long after the start of the master there is a reason to wait.
const REASON: Duration = Duration::from_secs(60);
/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// How many requests of one worker wait. It is told at once of one more that cannot be met.
const MOST_EACH: usize = 4;

/// A request that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) worker: WorkerId,
    pub(super) query: QueryServer,
    /// Until then.
    #[serde(with = "moment")]
    pub(super) until: Instant,
}

/// All that wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Later {
    /// Until then there is a reason to wait; none where no worker was left by a master before.
    #[serde(with = "moment::option")]
    reason_until: Option<Instant>,
    waiting: Vec<Waiting>,
    /// When they are tried again: all at once, however many they are.
    #[serde(with = "moment::option")]
    next: Option<Instant>,
    /// The end of the patience for the request that is tried again just now.
    #[serde(skip)]
    pub(super) again: Option<Instant>,
}

impl Later {
    pub(super) fn new(has_reason: bool, now: Instant) -> Self {
        Self { reason_until: has_reason.then(|| now + REASON), ..Self::default() }
    }

    /// Goes on in another program.
    pub(super) fn inherit(self, reactor: &mut Reactor) -> Self {
        if let Some(next) = self.next {
            reactor.set_timer(next, Timer::Later);
        }
        self
    }

    /// Takes a request whose address is in use, if it is to wait.
    pub(super) fn takes(&mut self, worker: WorkerId, query: &QueryServer, reactor: &mut Reactor) -> bool {
        let first = || self.reason_until.filter(|until| reactor.now < *until).map(|_| reactor.now + PATIENCE);
        let Some(until) = self.again.or_else(first).filter(|until| reactor.now < *until) else {
            return false;
        };
        if self.waiting.iter().filter(|waiting| waiting.worker == worker).count() >= MOST_EACH {
            return false;
        }
        self.waiting.push(Waiting { worker, query: query.clone(), until });
        if self.next.is_none() {
            self.next = Some(reactor.now + PAUSE);
            reactor.set_timer_in(PAUSE, Timer::Later);
        }
        true
    }

    /// What is to be tried again.
    pub(super) fn take_all(&mut self) -> Vec<Waiting> {
        self.next = None;
        std::mem::take(&mut self.waiting)
    }
}
