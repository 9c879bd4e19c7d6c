//! [`Which`]: how a user names one worker.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One worker that is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the master must find each of them")]
pub enum Which {
    /// That of this slot.
    Slot(u32),
    /// That with this process id.
    #[serde(rename = "process")]
    Pid(u32),
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "slot {slot}"),
            Self::Pid(pid) => write!(f, "pid {pid}"),
        }
    }
}
