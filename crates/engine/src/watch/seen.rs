//! What is seen of files that are watched.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::watched::Kind;
use crate::upgrade::plain;

/// How the files of one path were when they were last looked at. Another program finds by it that they have changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastLook {
    pub(crate) kind: Kind,
    #[serde(with = "plain")]
    pub(crate) path: PathBuf,
    /// What is looked at, and how that becomes one number.
    pub(crate) manner: u32,
    pub(crate) digest: u64,
}

/// What is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// Files have changed: some of them, and how many more.
    Changed { kind: Kind, files: Vec<PathBuf>, more: usize, look: LastLook },
    /// Not everything is seen, or not at once: why, for people.
    Limited { reason: String },
}
