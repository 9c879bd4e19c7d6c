//! What is seen and heard of a worker's process.

use recluster_core::WorkerId;
use tokio::sync::OwnedSemaphorePermit;

use crate::process::health_check::HandOver;
use crate::process::sd_notify::Words;

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
