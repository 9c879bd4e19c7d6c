//! [`Watched`]: files whose change is a reload.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A path whose change is a reload: a file, a symlink, or a directory with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
}

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Code that somebody is writing. What `.gitignore` names, `node_modules`, `.git` and files of editors are left out.
    Source,
    /// What is put in place in production: everything counts.
    Deployed,
}
