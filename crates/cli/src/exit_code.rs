//! The statuses that the command exits with. Scripts rely on them.

use std::process::ExitCode;

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

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(match status {
            ExitStatus::Success => 0,
            ExitStatus::Failure | ExitStatus::NotServing => 1,
            ExitStatus::Usage | ExitStatus::NoAnswer => 2,
            ExitStatus::NeverServed | ExitStatus::Stopping => 3,
            ExitStatus::CannotRun => 126,
            ExitStatus::NotFound => 127,
        })
    }
}
