//! What goes wrong for a client, and how often it did. Std only.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

/// Why a client has no whole and good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// There was no connection.
    Connect,
    /// The connection was reset, or failed otherwise.
    Broken,
    /// It was closed before the answer was whole, or while it was to be held.
    Closed,
    /// The answer is none that a worker gives.
    Answer,
    /// The status is not 200.
    Status,
    /// No answer in time.
    Timeout,
}

/// How often there was which fault.
pub(crate) type Faults = BTreeMap<String, u64>;

/// Counts a fault.
pub(crate) fn count(faults: &mut Faults, fault: Fault) {
    *faults.entry(fault.to_string()).or_default() += 1;
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Closed => "closed",
            Self::Answer => "answer",
            Self::Status => "status",
            Self::Timeout => "timeout",
        })
    }
}

impl From<io::Error> for Fault {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}
