//! What is seen and heard of a worker's process.

use std::os::fd::OwnedFd;

use recluster_core::WorkerId;
use recluster_wire::notify::Word;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// One thing that happened to a worker's process.
#[derive(Debug)]
pub(crate) enum Event {
    /// It has ended and can be reaped.
    Ended(WorkerId),
    /// Lines of its stderr were not passed on.
    LinesLost(WorkerId, u64),
    /// It said something by `sd_notify`.
    Notified(WorkerId, Words),
    /// Another process sent something to its socket, or what was sent makes no sense.
    NotifyIgnored(WorkerId, OwnedSemaphorePermit),
    /// Its check has not passed yet, and why.
    CheckFailed(WorkerId, String),
    /// Its check passed, for the first time.
    CheckPassed(WorkerId),
    /// Its check failed several times in a row.
    Unhealthy(WorkerId, String),
    /// Its check has a connection that must reach this very worker.
    HandOver(WorkerId, HandOver),
}

/// A connection for a worker.
#[derive(Debug)]
pub(crate) struct HandOver {
    pub(crate) connection: OwnedFd,
    pub(crate) reply: oneshot::Sender<bool>,
}

/// Words, and what a sender waits for: [`Word::Barrier`] is over when its descriptor is closed.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) said: Vec<Word>,
    /// Closed when the words have been dealt with.
    pub(super) _descriptors: Vec<OwnedFd>,
    /// The next datagram may come when this is dropped.
    #[expect(dead_code, reason = "it is there to be dropped")]
    pub(super) turn: Option<OwnedSemaphorePermit>,
}
