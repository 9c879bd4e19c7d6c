//! Who wrote something, and where.

use std::fmt;

use recluster_core::WorkerId;
use serde::{Deserialize, Serialize};

use crate::report::stream::Stream;
use crate::report::worker::Worker;

/// One output of one worker.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) id: WorkerId,
    /// The worker, as people know it.
    pub(crate) worker: Worker,
    pub(crate) stream: Stream,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of worker {}", self.stream.name(), self.worker.id)
    }
}
