//! The sockets of a thread that has panicked, for a master that begins anew. Whatever the thread has made of what it knew, a socket is what the
//! kernel knows of it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::guard::attempt;
use crate::sys;
use crate::upgrade::Saving;
use crate::upgrade::saving::Role;

use super::keeping;
use super::messages::PART;
use super::state::State;

type Sockets = Vec<(OwnedFd, Role)>;

/// For people, who never see it: nothing is written of this.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Nothing, for as long as it has not panicked.
#[derive(Clone, Debug, Default)]
pub(super) struct Remains(Arc<Mutex<Option<Sockets>>>);

impl Remains {
    /// Has them stay, with their files, as far as they are there.
    pub(super) fn take(&self, state: &State) {
        let mut all = Saving::new(VERSION);
        for listener in state.listeners.values() {
            // What cannot be looked at is left out.
            let _ = attempt(PART, || {
                keeping::arrive(listener, &mut all);
                listener.file.iter().for_each(|file| file.set_stays(true));
            });
        }
        let sockets = all.arrivals().iter().filter_map(|arrival| {
            let number = u32::try_from(arrival.number).ok()?;
            Some((sys::duplicate(number).ok()?, arrival.role.clone()))
        });
        *self.lock() = Some(sockets.collect());
    }

    /// They are open for as long as this thing is there.
    pub(super) fn saving(&self) -> Option<Saving> {
        let sockets = self.lock();
        let mut saving = Saving::new(VERSION);
        sockets.as_ref()?.iter().for_each(|(socket, role)| saving.arrive(socket, role.clone()));
        Some(saving)
    }

    /// They are wanted no more.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sockets>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
