//! Which of a worker's two outputs is meant.

use serde::{Deserialize, Serialize};

/// One of a worker's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "a process has these two")]
pub enum Stream {
    /// Its descriptor 1.
    Stdout,
    /// Its descriptor 2.
    Stderr,
}

impl Stream {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}
