//! What an admin listener leaves to the program after this one: its socket and its history. Who is connected is cut off, and who comes
//! waits in the kernel.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use crate::admin::keeper;
use crate::admin::site::Site;
use crate::report::worker::Address;
use crate::socket::file::{SavedFile, SocketFile};
use crate::upgrade::{SaveError, Saving, plain};

pub(super) const PART: &str = "admin";
pub(super) const SOCKET: &str = "admin/socket";
/// The lines of the history.
pub(super) const HISTORY: &str = "admin/history";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    #[serde(with = "plain")]
    pub(super) address: Address,
    pub(super) file: Option<SavedFile>,
    /// None where the program before has left none, or no answers were given yet.
    #[serde(default)]
    pub(super) history: Option<keeper::Saved>,
}

/// By which a listener that answers is left to the program after this one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leaver {
    pub(super) address: Address,
    /// The socket; a unix socket may be bound anew.
    pub(super) socket: Arc<Mutex<OwnedFd>>,
    pub(super) file: Weak<Mutex<SocketFile>>,
    pub(super) site: Weak<Site>,
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
        let history = match self.site.upgrade().map(|site| site.keeper.save()) {
            Some((history, lines)) => {
                saving.remember(&lines, HISTORY)?;
                Some(history)
            }
            None => None,
        };
        saving.put(PART, &Saved { address: self.address.clone(), file, history })
    }
}
