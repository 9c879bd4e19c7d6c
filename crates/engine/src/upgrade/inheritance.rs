//! What the program before has left. Rooms are given duplicates: what was left stays open under its numbers until nothing can fail any
//! more, so that the program before can be gone back to.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rustix::io::fcntl_getfd;
use rustix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::sys;
use crate::upgrade::envelope::{Envelope, ReadError};
use crate::upgrade::exec::{BACK, Exec, MEMORY, UNTIL};
use crate::upgrade::memory;
use crate::upgrade::table::{Left, Missing};

/// The purpose of the old program's own file.
pub(crate) const PROGRAM: &str = "program";
/// The purpose of the pipe by which the guard is told that this program serves. Not all programs leave one.
pub(crate) const GUARD: &str = "guard";
/// What it is told.
pub(crate) const SERVES: &[u8] = b"1";

/// What is left, and not yet adopted.
#[derive(Debug)]
pub struct Inheritance {
    envelope: Envelope,
    left: Arc<Left>,
    back: Option<String>,
}

/// By which the program before is gone back to, for as long as this is there.
#[derive(Debug)]
pub struct WayBack {
    left: Arc<Left>,
    memory: OwnedFd,
    numbers: Vec<RawFd>,
    /// Where this is the program before, there is none to go back to, and it is tried again itself.
    back: Option<Back>,
}

/// The program before, which was gone back to.
#[derive(Clone, Debug)]
struct Back {
    /// Why.
    reason: String,
    /// Until which second of the monotonic clock it may try.
    until: u64,
}

/// For how long it is tried to become the program before, and that one tries to go on: what has made the next one fail may be a shortage that
/// is over soon. A guard waits a little longer.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often it does.
const PAUSE: Duration = Duration::from_millis(200);

/// Why it cannot be adopted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// It cannot be read.
    #[error("{0}")]
    Read(String),
    /// A descriptor is not what it was.
    #[error("{0}")]
    Missing(String),
    /// There is none.
    #[error("no descriptor was left for {0:?}")]
    NotLeft(String),
    /// There is none to be had.
    #[error("the descriptor for {purpose:?} cannot be duplicated: {source}")]
    Duplicate {
        /// What it is for.
        purpose: String,
        /// Why not.
        source: io::Error,
    },
    /// What was left contradicts itself or what this process finds.
    #[error("{0}")]
    Contradiction(String),
}

impl From<ReadError> for AdoptError {
    fn from(error: ReadError) -> Self {
        Self::Read(error.to_string())
    }
}

impl From<Missing> for AdoptError {
    fn from(error: Missing) -> Self {
        Self::Missing(error.to_string())
    }
}

impl Inheritance {
    /// What was left to this process, if anything was. To be called first of all: before anything is opened, and before there is another
    /// thread. An error says why it cannot be adopted; the program before was tried by then.
    pub fn of_process() -> Result<Option<(Self, WayBack)>, AdoptError> {
        let said = |name| env::var_os(name).inspect(|_| sys::forget_variable(name));
        let (number, back, until) = (said(MEMORY), said(BACK), said(UNTIL));
        let Some(number) = number.filter(|_| !sys::has_more_rights()) else { return Ok(None) };
        let back = back.map(|reason| reason.to_string_lossy().into_owned());
        let until = until.and_then(|until| until.to_str()?.parse().ok()).unwrap_or_default();
        let again = back.clone().map(|reason| Back { reason, until });
        let (envelope, memory) = envelope_at(&number)?;
        let numbers: Vec<_> = envelope.descriptors.iter().map(|entry| entry.number).collect();
        match Left::take(&envelope.descriptors) {
            Ok(left) => {
                let left = Arc::new(left);
                let way_back = WayBack { left: Arc::clone(&left), memory, numbers, back: again };
                Ok(Some((Self { envelope, left, back }, way_back)))
            }
            Err(missing) => {
                let left = Arc::new(Left::take_only(&envelope.descriptors, PROGRAM)?);
                // What is closed passes to nobody.
                let is_open = |number: &RawFd| {
                    sys::at_number(*number, |descriptor| Ok(fcntl_getfd(descriptor)?)).is_ok()
                };
                let numbers = numbers.into_iter().filter(is_open).collect();
                let way_back = WayBack { left, memory, numbers, back: again };
                let missing = AdoptError::from(missing);
                let failed = way_back.go(&missing.to_string());
                Err(AdoptError::Contradiction(format!("{missing}; {failed}")))
            }
        }
    }

    /// What is left in this memory, for a process that only looks at it.
    pub fn in_memory(number: &OsString) -> Result<Self, AdoptError> {
        let (envelope, _) = envelope_at(number)?;
        let left = Arc::new(Left::take(&envelope.descriptors)?);
        Ok(Self { envelope, left, back: None })
    }

    /// What is said there, of which no descriptor is taken: for fuzz targets.
    pub(crate) fn of_words(envelope: Envelope) -> Self {
        Self { envelope, left: Arc::default(), back: None }
    }

    /// Which recluster has left it.
    pub fn program(&self) -> &str {
        &self.envelope.program
    }

    /// Why this is the program before again, if it is.
    pub fn came_back(&self) -> Option<&str> {
        self.back.as_deref()
    }

    /// What a part has left, which stays for others.
    pub fn see<T: DeserializeOwned>(&self, part: &str) -> Result<Option<T>, AdoptError> {
        Ok(self.envelope.see(part)?)
    }

    /// What a part has left; none where the program before knew no such part, or left nothing there.
    pub fn part<T: DeserializeOwned>(&mut self, part: &str) -> Result<Option<T>, AdoptError> {
        Ok(self.envelope.take(part)?)
    }

    /// The same, of a part that every program before has left.
    pub(crate) fn needed<T: DeserializeOwned>(&mut self, part: &str) -> Result<T, AdoptError> {
        self.part(part)?.ok_or_else(|| AdoptError::Contradiction(format!("the part {part:?} was not left")))
    }

    /// A duplicate of what was left for this; on the way back that itself, where there is no room for another one.
    pub fn descriptor(&mut self, purpose: &str) -> Result<OwnedFd, AdoptError> {
        self.optional(purpose)?.ok_or_else(|| AdoptError::NotLeft(purpose.to_owned()))
    }

    /// A duplicate of what was left for this, if anything was.
    pub fn optional(&mut self, purpose: &str) -> Result<Option<OwnedFd>, AdoptError> {
        let duplicate = self.left.duplicate(purpose).transpose();
        if duplicate.is_err() && self.back.is_some() {
            // There is nobody to go back to: the original need not stay.
            return Ok(self.left.give(purpose));
        }
        duplicate.map_err(|source| AdoptError::Duplicate { purpose: purpose.to_owned(), source })
    }

    /// One that was taken from an envelope, for tests of rooms.
    #[cfg(test)]
    pub(crate) fn take(envelope: Envelope) -> Result<Self, AdoptError> {
        let left = Arc::new(Left::take(&envelope.descriptors)?);
        Ok(Self { envelope, left, back: None })
    }
}

impl WayBack {
    /// This program serves, and nothing is gone back to.
    pub fn is_over(self) {
        if let Some(Ok(guard)) = self.left.duplicate(GUARD) {
            // A guard that has ended is told nothing.
            let _ = rustix::io::write(guard, SERVES);
        }
        // Where there is no room for that, it sees that the pipe is closed.
    }

    /// Becomes the program before, with all as it was left. Returns only where that cannot be, and why. To be called by the first thread.
    pub fn go(&self, reason: &str) -> String {
        let (reason, until) = match &self.back {
            None => (reason, second() + PATIENCE.as_secs()),
            // What it was left has to be there still.
            Some(back) if second() < back.until && self.left.len() >= self.numbers.len() => {
                sleep(PAUSE);
                (back.reason.as_str(), back.until)
            }
            Some(_) => return "this is the program that was gone back to".to_owned(),
        };
        let failed = |error: io::Error| format!("the program before cannot be gone back to: {error}");
        let program = self.left.duplicate(PROGRAM);
        let Some(program) = program else {
            return "the program before has left no way back".to_owned();
        };
        let exec = program.and_then(|program| {
            let words: Vec<OsString> = env::args_os().collect();
            Exec::new(
                (program, self.memory.try_clone()?),
                &words,
                self.numbers.clone(),
                Some((reason, until)),
            )
        });
        match exec {
            Ok(mut exec) => failed(exec.perform_within(PATIENCE)),
            Err(error) => failed(error),
        }
    }
}

/// On the clock that both programs have.
fn second() -> u64 {
    clock_gettime(ClockId::Monotonic).tv_sec.unsigned_abs()
}

/// What is left in the memory of this number, and that memory.
fn envelope_at(number: &OsString) -> Result<(Envelope, OwnedFd), AdoptError> {
    let (memory, bytes) = memory::left_as(number).map_err(|error| {
        AdoptError::Read(format!("what was left as {} cannot be read: {error}", number.display()))
    })?;
    Ok((Envelope::read(&bytes)?, memory))
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};
    use std::os::unix::net::UnixStream;

    use rustix::io::FdFlags;

    use super::*;
    use crate::upgrade::saving::Saving;

    #[test]
    fn what_was_left_is_given_as_duplicates_and_closed_at_last() {
        let (socket, other) = UnixStream::pair().unwrap();
        let number = socket.as_raw_fd();
        let mut saving = Saving::new("1.2.3");
        saving.pass(&socket, "it").unwrap();
        saving.put("part", &"said").unwrap();
        let text = saving.into_envelope().0.write().unwrap();
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
