//! What Node workers report of themselves, where they do.

use recluster::WorkerStatus;

/// The event loop and the heap of a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// How busy its event loop was lately, as a share of one.
    pub(super) loop_utilization: f64,
    /// How long it takes, or has taken so far, to answer the master.
    pub(super) loop_lag_seconds: f64,
    pub(super) heap_used_bytes: u64,
}

/// The requests that a worker answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Http {
    pub(super) requests: u64,
    /// Those with a status of 5xx.
    pub(super) errors: u64,
    pub(super) p99_seconds: Option<f64>,
}

pub(super) fn node(_worker: &WorkerStatus) -> Option<Node> {
    None
}

pub(super) fn http(_worker: &WorkerStatus) -> Option<Http> {
    None
}
