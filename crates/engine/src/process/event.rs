//! What is reported about a worker's process.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use recluster_core::WorkerId;
use recluster_wire::notify::Word;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::guard::Panicked;
use crate::report::stream::Stream;
use crate::socket::holder::Holder;

/// One thing that happened to a worker's process.
#[derive(Debug)]
pub(crate) enum Event {
    /// It has ended and can be reaped.
    Ended(WorkerId),
    /// What reads or writes for all workers has panicked.
    Panicked(Panicked),
    /// What listens to this worker, reads what it writes, or checks it, has panicked.
    Unheard(WorkerId, Panicked),
    /// Lines of one of its outputs were not passed on.
    LinesLost(WorkerId, Stream, u64),
    /// The file of a slot's workers cannot be written, opened anew or moved away.
    LogFailed { slot: u32, path: PathBuf, failed: &'static str, error: String },
    /// So many lines of workers could not be written to files.
    LogLost(u64),
    /// It can be written again; so many lines were lost meanwhile.
    LogResumed { slot: u32, lines: u64 },
    /// It sent a notification by `sd_notify`.
    Notified(WorkerId, Words),
    /// A datagram to its socket was ignored: it came from a process that does not speak for it, which is named, or makes no
    /// sense.
    NotifyIgnored(WorkerId, Option<Holder>, OwnedSemaphorePermit),
    /// Its check has not passed yet, and why.
    CheckFailed(WorkerId, String),
    /// Its check passed, for the first time.
    CheckPassed(WorkerId),
    /// Its check cannot be made, through no fault of its own. Once, until one is made again.
    NotChecked(WorkerId, String),
    /// Its check failed several times in a row.
    Unhealthy(WorkerId, String),
    /// Its check has a connection that must reach this worker and no other.
    HandOver(WorkerId, HandOver),
}

/// A connection for a worker.
#[derive(Debug)]
pub(crate) struct HandOver {
    pub(crate) connection: OwnedFd,
    pub(crate) reply: oneshot::Sender<bool>,
}

/// A notification. Dropping it closes the descriptors that came with it, which ends the sender's [`Word::Barrier`].
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) said: Vec<Word>,
    /// Closed when the notification has been handled.
    pub(super) _descriptors: Vec<OwnedFd>,
    /// The next datagram may come when this is dropped.
    #[expect(dead_code, reason = "it is there to be dropped")]
    pub(super) turn: Option<OwnedSemaphorePermit>,
}
