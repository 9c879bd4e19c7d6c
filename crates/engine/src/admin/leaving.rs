//! What an admin listener leaves to the program after this one: its socket. Who is connected is cut off, and who comes waits in the kernel.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use crate::report::worker::Address;
use crate::socket::file::{SavedFile, SocketFile};
use crate::upgrade::{SaveError, Saving};

pub(super) const PART: &str = "admin";
pub(super) const SOCKET: &str = "admin/socket";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) address: Address,
    pub(super) file: Option<SavedFile>,
}

/// By which a listener that answers is left to the program after this one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leaver {
    pub(super) address: Address,
    /// The socket; a unix socket may be bound anew.
    pub(super) socket: Arc<Mutex<OwnedFd>>,
    pub(super) file: Weak<Mutex<SocketFile>>,
}

impl Leaver {
    /// Adds what there is. Changes nothing.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell what the socket is.
    pub fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        saving.pass(&*self.socket.lock().unwrap_or_else(PoisonError::into_inner), SOCKET)?;
        let file = self.file.upgrade();
        let file = file.map(|file| file.lock().unwrap_or_else(PoisonError::into_inner).save());
        saving.put(PART, &Saved { address: self.address.clone(), file })
    }
}
