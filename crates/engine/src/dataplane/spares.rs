//! What a service manager keeps of a listener, and sockets that came back and are not needed.

use std::time::{Duration, Instant};

use crate::socket::directory::Identity;
use crate::socket::kept::{KeptName, Other};

/// How long a socket that is one too many goes on taking connections: for handshakes that are under way.
const SPARED: Duration = Duration::from_secs(1);

/// What the manager keeps of one listener.
#[derive(Debug)]
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
    pub(super) fn new(sockets: Vec<Other>, now: Instant) -> Option<Self> {
        (!sockets.is_empty()).then(|| Self { sockets, refuse_at: now + SPARED, close_at: None })
    }
}
