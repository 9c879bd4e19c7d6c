//! What is seen of files that are watched.

use std::path::PathBuf;

use crate::config::watched::Kind;

/// What is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// Files have changed: some of them, and how many more.
    Changed { kind: Kind, files: Vec<PathBuf>, more: usize },
    /// Not everything is seen, or not at once: why, for people.
    Limited { reason: String },
}
