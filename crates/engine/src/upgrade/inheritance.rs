//! What the program before has left. Rooms are given duplicates: what was left stays open under its numbers until nothing can fail any
//! more, so that the program before can be gone back to.

use std::io;
use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::upgrade::envelope::{Envelope, ReadError};
use crate::upgrade::table::{Left, Missing};

/// What is left, and not yet adopted.
#[derive(Debug)]
pub(crate) struct Inheritance {
    envelope: Envelope,
    left: Left,
}

/// Why it cannot be adopted.
#[derive(Debug, Error)]
pub(crate) enum AdoptError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error("no descriptor was left for {0:?}")]
    NotLeft(String),
    #[error("the descriptor for {purpose:?} cannot be duplicated: {source}")]
    Duplicate { purpose: String, source: io::Error },
    /// What was left contradicts itself or what this process finds.
    #[error("{0}")]
    Contradiction(String),
}

impl Inheritance {
    /// Takes what this envelope names. To be called before anything else is opened.
    pub(crate) fn take(envelope: Envelope) -> Result<Self, AdoptError> {
        let left = Left::take(&envelope.descriptors)?;
        Ok(Self { envelope, left })
    }

    /// Which recluster has left it.
    pub(crate) fn program(&self) -> &str {
        &self.envelope.program
    }

    /// What a part has left; none where the program before knew no such part, or left nothing there.
    pub(crate) fn part<T: DeserializeOwned>(&mut self, part: &str) -> Result<Option<T>, AdoptError> {
        Ok(self.envelope.take(part)?)
    }

    /// A duplicate of what was left for this.
    pub(crate) fn descriptor(&mut self, purpose: &str) -> Result<OwnedFd, AdoptError> {
        self.optional(purpose)?.ok_or_else(|| AdoptError::NotLeft(purpose.to_owned()))
    }

    /// A duplicate of what was left for this, if anything was.
    pub(crate) fn optional(&mut self, purpose: &str) -> Result<Option<OwnedFd>, AdoptError> {
        let duplicate = self.left.get(purpose).map(OwnedFd::try_clone).transpose();
        duplicate.map_err(|source| AdoptError::Duplicate { purpose: purpose.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};
    use std::os::unix::net::UnixStream;

    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;
    use crate::upgrade::saving::Saving;

    #[test]
    fn what_was_left_is_given_as_duplicates_and_closed_at_last() {
        let (socket, other) = UnixStream::pair().unwrap();
        let number = socket.as_raw_fd();
        let mut saving = Saving::new("1.2.3");
        saving.pass(&socket, "it").unwrap();
        saving.put("part", &"said").unwrap();
        let text = saving.into_envelope().write().unwrap();
        // Another program owns it from here on.
        assert_eq!(socket.into_raw_fd(), number);
        let mut inheritance = Inheritance::take(Envelope::read(&text).unwrap()).unwrap();
        assert_eq!(inheritance.program(), "1.2.3");
        assert_eq!(inheritance.part::<String>("part").unwrap().as_deref(), Some("said"));
        assert_eq!(inheritance.part::<String>("part").unwrap(), None);
        let given = inheritance.descriptor("it").unwrap();
        assert_ne!(given.as_raw_fd(), number);
        assert!(fcntl_getfd(&given).unwrap().contains(FdFlags::CLOEXEC));
        assert!(inheritance.optional("none").unwrap().is_none());
        let error = inheritance.descriptor("none").unwrap_err().to_string();
        assert_eq!(error, "no descriptor was left for \"none\"");
        drop((given, inheritance));
        assert!(rustix::io::read(&other, &mut [0; 1]).is_ok_and(|read| read == 0), "nobody has it");
    }
}
