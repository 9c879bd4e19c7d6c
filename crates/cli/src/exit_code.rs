//! The statuses that the command exits with. Scripts rely on them.

use std::process::{self, ExitCode};

/// How the command ended, as its caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// `run`: stopped as asked. Otherwise: what was asked for is done.
    Success,
    /// `run`: something failed that has no status of its own.
    Failure,
    /// `reload`: rolled back or stopped part-way. `status`: a slot has no active worker. `config --diff`: something differs.
    NotServing,
    /// The command line or the configuration is wrong, or contradicts what runs already.
    Usage,
    /// Of every command but `run`: there is no answer from a cluster.
    NoAnswer,
    /// `status`: the cluster stops, or is about to.
    Stopping,
    /// `run`: the first generation never served.
    NeverServed,
    /// `run`: the server file cannot be run.
    CannotRun,
    /// `run`: the server file, or node, is not there.
    NotFound,
}

impl ExitStatus {
    /// Ends this process with it.
    pub(crate) fn exit(self) -> ! {
        process::exit(self.number().into())
    }

    fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure | Self::NotServing => 1,
            Self::Usage | Self::NoAnswer => 2,
            Self::NeverServed | Self::Stopping => 3,
            Self::CannotRun => 126,
            Self::NotFound => 127,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.number())
    }
}
