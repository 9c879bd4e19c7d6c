//! What waits on the way out of one program, and goes on in another.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::process::console::LeftFile;
use crate::process::source::Source;
use crate::upgrade::AdoptError;
use crate::upgrade::store::{Stored, Taken};

/// What waits to be written, and where: what another program goes on with.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::process) struct Left {
    pub(super) lanes: Vec<LeftLane>,
    pub(in crate::process) files: BTreeMap<u32, LeftFile>,
    /// The same lanes with what waits in them.
    #[serde(skip)]
    pub(super) taken: Vec<TakenLane>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LeftLane {
    pub(super) source: Source,
    pub(super) pieces: Vec<Stored>,
}

#[derive(Debug)]
pub(super) struct TakenLane {
    pub(super) source: Source,
    pub(super) pieces: VecDeque<Vec<u8>>,
}

impl Left {
    /// Takes what waits out of where it was stored.
    pub(in crate::process) fn take(&mut self, taken: &Taken) -> Result<(), AdoptError> {
        for LeftLane { source, pieces } in std::mem::take(&mut self.lanes) {
            let pieces = pieces.into_iter().map(|piece| taken.bytes(piece)).collect::<Result<_, _>>()?;
            self.taken.push(TakenLane { source, pieces });
        }
        Ok(())
    }
}
