//! What people were told that they are told once.

use serde::{Deserialize, Serialize};

use crate::supervisor::background::Background;

/// What people were told that they are told once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Everything stops.
    pub(crate) stop: bool,
    /// Who has an address that a worker wanted: the last generation of which that was told.
    pub(crate) address: Option<u64>,
    /// A worker has put something into the background: likewise.
    pub(crate) background: Option<u64>,
    /// What that was.
    pub(crate) left: Background,
}
