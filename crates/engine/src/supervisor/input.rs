//! What wakes the supervisor, beside the clock: reports of those below, and requests of those who hold a handle.

use recluster_core::WorkerId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::api::builder::ClusterBuilder;
use crate::api::cluster::Scale;
use crate::dataplane::{Fact, Handle};
use crate::process::health_check::HandOver;
use crate::process::sd_notify::Words;
use crate::report::error::SendError;
use crate::report::event::{Verdict, Worker};
use crate::report::status::Status;

/// Everything that wakes the supervisor, beside the clock.
#[derive(Debug)]
pub(crate) enum Input {
    /// The dataplane reports.
    Fact(Fact),
    /// A worker's process has ended and can be reaped.
    Ended(WorkerId),
    /// Lines of a worker's stderr were not passed on.
    LinesLost(WorkerId, u64),
    /// It said something by `sd_notify`.
    Notified(WorkerId, Words),
    /// Somebody else sent something to its socket, or it makes no sense.
    NotifyIgnored(WorkerId, OwnedSemaphorePermit),
    /// Its check has not passed yet, and why.
    CheckFailed(WorkerId, String),
    /// Its check passed, for the first time.
    CheckPassed(WorkerId),
    /// Its check failed several times in a row.
    Unhealthy(WorkerId, String),
    /// A connection for this very worker.
    HandOver(WorkerId, HandOver),
    /// A worker's channel closed a while ago. If the process ended as well, that is known by now.
    LivesOn(WorkerId),
    /// Somebody asks.
    Request(Request),
}

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Reload(Option<Box<ClusterBuilder>>, oneshot::Sender<Verdict>),
    ReloadUnwatched,
    Replace(u64),
    Scale(Scale, oneshot::Sender<u32>),
    Stop,
    Terminate,
    Release,
    Workers(oneshot::Sender<Vec<Worker>>),
    ActiveWorkers(oneshot::Sender<Vec<Option<Worker>>>),
    Status(oneshot::Sender<Status>),
    Disconnect(u64),
    Signal { worker: u64, signal: i32, reply: oneshot::Sender<bool> },
    Resume,
    Send { worker: u64, json: String, handle: Option<Handle>, reply: oneshot::Sender<Result<(), SendError>> },
}
