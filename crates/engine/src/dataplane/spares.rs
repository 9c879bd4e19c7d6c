//! What a service manager keeps of a listener, and sockets that came back and are not needed.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::passing::{Passing, Taking};
use crate::socket::directory::Identity;
use crate::socket::kept::{KeptName, Other};
use crate::upgrade::{AdoptError, Moment, SaveError};

/// How long a socket that is one too many goes on taking connections: for handshakes that are under way.
const SPARED: Duration = Duration::from_secs(1);

/// What the manager keeps of one listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Keeping {
    number: u32,
    /// The file of a unix socket.
    file: Option<Identity>,
    /// What it was sent, whether it had room or not.
    pub(super) names: Vec<KeptName>,
    /// It has been kept before.
    pub(super) came_back: bool,
    /// A worker that serves uses it, and does not merely try it.
    pub(super) is_used: bool,
}

/// Sockets that came back and are not needed.
#[derive(Debug)]
pub(super) struct Spares {
    pub(super) sockets: Vec<Other>,
    /// When they take no connections any more.
    pub(super) refuse_at: Instant,
    /// When they are closed.
    pub(super) close_at: Option<Instant>,
}

/// Spares as they are left to the program after this one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedSpares {
    sockets: SavedOthers,
    refuse_at: Moment,
    close_at: Option<Moment>,
}

/// Sockets that came back, by the names that a service manager has for them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedOthers(Vec<(KeptName, String)>);

impl SavedOthers {
    pub(super) fn of<'a>(
        others: impl IntoIterator<Item = (KeptName, &'a OwnedFd)>,
        name: &str,
        passing: &mut Passing<'_>,
    ) -> Result<Self, SaveError> {
        let others = others.into_iter().enumerate().map(|(index, (kept, socket))| {
            Ok((kept, passing.descriptor(socket, &format!("{name}/spare/{index}"))?))
        });
        others.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn inherit(self, taking: &mut Taking) -> Result<Vec<Other>, AdoptError> {
        self.0.into_iter().map(|(kept, name)| Ok((kept, taking.descriptor(&name)?))).collect()
    }
}

impl Keeping {
    /// Of a listener whose sockets are new.
    pub(super) fn new(number: u32, file: Option<Identity>) -> Self {
        Self { number, file, names: Vec::new(), came_back: false, is_used: false }
    }

    /// Of one whose sockets were kept by these names.
    pub(super) fn returned(first: KeptName) -> Self {
        Self { number: first.number, file: first.file, names: vec![first], came_back: true, is_used: false }
    }

    pub(super) fn name(&self, place: usize) -> Option<KeptName> {
        Some(KeptName { number: self.number, place: u32::try_from(place).ok()?, file: self.file })
    }
}

impl Spares {
    pub(super) fn save(&self, name: &str, passing: &mut Passing<'_>) -> Result<SavedSpares, SaveError> {
        let sockets = SavedOthers::of(own(&self.sockets), name, passing)?;
        let (refuse_at, close_at) = (self.refuse_at.into(), self.close_at.map(Moment::from));
        Ok(SavedSpares { sockets, refuse_at, close_at })
    }

    pub(super) fn inherit(saved: SavedSpares, taking: &mut Taking) -> Result<Self, AdoptError> {
        let SavedSpares { sockets, refuse_at, close_at } = saved;
        let (refuse_at, close_at) = (refuse_at.into(), close_at.map(Instant::from));
        Ok(Self { sockets: sockets.inherit(taking)?, refuse_at, close_at })
    }

    pub(super) fn new(sockets: Vec<Other>, now: Instant) -> Option<Self> {
        (!sockets.is_empty()).then(|| Self { sockets, refuse_at: now + SPARED, close_at: None })
    }
}

/// By their names.
pub(super) fn own(others: &[Other]) -> impl Iterator<Item = (KeptName, &OwnedFd)> {
    others.iter().map(|(name, socket)| (*name, socket))
}
