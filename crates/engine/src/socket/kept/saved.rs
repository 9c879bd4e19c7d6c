//! What is left to the program after this one of sockets that came back and that nobody has asked for yet.

use std::os::fd::OwnedFd;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{KeptName, Pool};

/// What is known of them beside the sockets themselves.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedPool {
    useless: Vec<KeptName>,
    given_up: Vec<KeptName>,
    next: u32,
}

impl Serialize for KeptName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeptName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no name of a socket that is kept")))
    }
}

impl Pool {
    pub(crate) fn save(&self) -> SavedPool {
        let (useless, given_up) = (self.useless.clone(), self.given_up.clone());
        SavedPool { useless, given_up, next: self.next }
    }

    /// The sockets that nobody has asked for yet.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (KeptName, &OwnedFd)> {
        self.sockets.iter().map(|kept| (kept.name, &kept.socket))
    }

    /// Goes on with what was left, and with the manager that this one has.
    pub(crate) fn inherit(&mut self, saved: SavedPool, sockets: Vec<(KeptName, OwnedFd)>) {
        let SavedPool { useless, given_up, next } = saved;
        *self = Self { useless, given_up, manager: self.manager.take(), ..Self::default() };
        for (name, socket) in sockets {
            self.add(name, socket);
        }
        self.next = next;
    }
}
