//! What becomes of what workers write: the part of the builder, and of the handle, that says so.

use crate::api::builder::ClusterBuilder;
use crate::api::cluster::Cluster;
use crate::config::output::{LineStyle, WorkerLog};
use crate::config::unread::Unread;
use crate::report::error::Gone;
use crate::supervisor::input::Request;

impl ClusterBuilder {
    /// What becomes of workers' stderr, and of their stdout where it passes through the master as well, that is not read in time.
    /// Default [`Unread::Lose`].
    #[must_use]
    pub fn stderr(mut self, unread: Unread) -> Self {
        self.output.unread = unread;
        self
    }

    /// Has what workers write pass through the master line by line, so that lines look like this. Their stdout is a pipe then,
    /// as their stderr is anyway; else it is the master's own. Default: none.
    #[must_use]
    pub fn line_style(mut self, style: LineStyle) -> Self {
        self.output.style = Some(style);
        self
    }

    /// Has what workers write go to files, a file for each slot, and not to the master's stdout and stderr. Default: none.
    #[must_use]
    pub fn worker_log(mut self, log: WorkerLog) -> Self {
        self.output.log = Some(log);
        self
    }
}

impl Cluster {
    /// Opens the files of the [`WorkerLog`] anew, as after a rotation.
    pub fn reopen_worker_log(&self) -> Result<(), Gone> {
        self.tell(Request::ReopenLog)
    }
}
