//! Which descriptors pass an `exec`, and what for. Whoever takes them looks whether each is what it is said to be: a number that means
//! something else by now would be a worker's channel that is written to as a log.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, FsWord, fstat, fstatfs};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::sys;

/// The file system of pidfds since Linux 6.9, where each process has an inode of its own.
const PIDFS: FsWord = 0x5049_4446;

/// What a descriptor is, as far as the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) enum Kind {
    Socket,
    Pipe,
    /// A file on a disk or in memory.
    File,
    Directory,
    /// A pidfd.
    Process,
    /// Anything else: a device, a timer, or what a later version names.
    Other(String),
}

impl Kind {
    fn name(&self) -> &str {
        match self {
            Self::Socket => "socket",
            Self::Pipe => "pipe",
            Self::File => "file",
            Self::Directory => "directory",
            Self::Process => "process",
            Self::Other(name) => name,
        }
    }
}

impl From<String> for Kind {
    fn from(name: String) -> Self {
        let known = [Self::Socket, Self::Pipe, Self::File, Self::Directory, Self::Process];
        known.into_iter().find(|kind| kind.name() == name).unwrap_or(Self::Other(name))
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Other(name) => name,
            Kind::Socket | Kind::Pipe | Kind::File | Kind::Directory | Kind::Process => {
                kind.name().to_owned()
            }
        }
    }
}

/// One descriptor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) number: RawFd,
    pub(crate) kind: Kind,
    /// Which part of the master it belongs to, and as what: no two have the same.
    pub(crate) purpose: String,
    device: u64,
    inode: u64,
    /// Whose pidfd it is, where the inode does not say it: before Linux 6.9 all of them have one.
    pub(crate) process: Option<i32>,
    /// What a later version has added.
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// Why a descriptor cannot be taken.
#[derive(Debug, Error)]
pub(crate) enum Missing {
    #[error("descriptor {number}, for {purpose:?}, is not open: {source}")]
    Closed { number: RawFd, purpose: String, source: io::Error },
    #[error("descriptor {number}, for {purpose:?}, is not what it was: {found} instead of {expected}")]
    Another { number: RawFd, purpose: String, expected: Identity, found: Identity },
}

/// What tells one descriptor from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    kind: Kind,
    device: u64,
    inode: u64,
    process: Option<i32>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, device, inode, process } = self;
        match (kind, process) {
            (_, Some(pid)) => write!(f, "process {pid}"),
            (Kind::Other(kind), None) => write!(f, "{kind:?} {device}:{inode}"),
            (kind, None) => write!(f, "{} {device}:{inode}", kind.name()),
        }
    }
}

impl Identity {
    fn of(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = fstat(descriptor)?;
        let mut process = None;
        // There may be thousands, and the master rests meanwhile: the kernel is asked no more than it has to be about each.
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => Kind::Socket,
            FileType::Fifo => Kind::Pipe,
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Unknown if fstatfs(descriptor)?.f_type == PIDFS => Kind::Process,
            FileType::Unknown => {
                process = process_of(descriptor);
                if process.is_some() { Kind::Process } else { Kind::Other("unknown".to_owned()) }
            }
            other @ (FileType::Symlink | FileType::CharacterDevice | FileType::BlockDevice) => {
                Kind::Other(format!("{other:?}").to_lowercase())
            }
        };
        Ok(Self { kind, device: stat.st_dev, inode: stat.st_ino, process })
    }
}

/// Of which process this is a pidfd. One that has ended and was reaped has none any more.
fn process_of(descriptor: BorrowedFd<'_>) -> Option<i32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

impl Entry {
    /// What is to be known of a descriptor that passes.
    pub(crate) fn of(descriptor: impl AsFd, purpose: String) -> io::Result<Self> {
        let descriptor = descriptor.as_fd();
        let Identity { kind, device, inode, process } = Identity::of(descriptor)?;
        let number = descriptor.as_raw_fd();
        Ok(Self { number, kind, purpose, device, inode, process, unknown: Map::new() })
    }

    fn identity(&self) -> Identity {
        let Self { kind, device, inode, process, .. } = self;
        Identity { kind: kind.clone(), device: *device, inode: *inode, process: *process }
    }

    /// Whether this is the descriptor that is meant.
    fn verify(&self, descriptor: BorrowedFd<'_>) -> Result<(), Missing> {
        let (number, purpose) = (self.number, self.purpose.clone());
        let found = Identity::of(descriptor).map(|found| match self.process {
            // Whoever has written this did not go by the inode.
            Some(_) => Identity { process: process_of(descriptor), ..found },
            None => found,
        });
        match found {
            Err(source) => Err(Missing::Closed { number, purpose, source }),
            Ok(found) if found == self.identity() => Ok(()),
            Ok(found) => Err(Missing::Another { number, purpose, expected: self.identity(), found }),
        }
    }
}

/// Descriptors that are to pass an `exec`, by their numbers. If that has returned, they pass none from when this is dropped.
#[derive(Debug)]
pub(crate) struct Passing(Vec<RawFd>);

impl Passing {
    /// Has exactly these pass. Where one cannot, none does.
    pub(crate) fn let_through(numbers: impl IntoIterator<Item = RawFd>) -> io::Result<Self> {
        let mut passing = Self(Vec::new());
        for number in numbers {
            sys::set_passes(number, true)?;
            passing.0.push(number);
        }
        Ok(passing)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        for number in &self.0 {
            // It is open: whoever lets it through keeps it so.
            let _ = sys::set_passes(*number, false);
        }
    }
}

/// The descriptors that this process was left, by what for.
#[derive(Debug, Default)]
pub(crate) struct Left(Mutex<BTreeMap<String, OwnedFd>>);

impl Left {
    /// Takes all of them, or none: where one is missing they stay as they are, for the program that may be gone back to. Those that were
    /// taken pass to no other program. To be called once, before anything else is opened.
    pub(crate) fn take(entries: &[Entry]) -> Result<Self, Missing> {
        let closed = |entry: &Entry| {
            let (number, purpose) = (entry.number, entry.purpose.clone());
            move |source| Missing::Closed { number, purpose, source }
        };
        for entry in entries {
            sys::at_number(entry.number, |descriptor| Ok(entry.verify(descriptor)))
                .map_err(closed(entry))??;
        }
        let taken = entries.iter().map(|entry| {
            let descriptor = sys::take_left(entry.number).map_err(closed(entry))?;
            Ok((entry.purpose.clone(), descriptor))
        });
        Ok(Self(Mutex::new(taken.collect::<Result<_, Missing>>()?)))
    }

    /// Takes the one that is for this alone, whatever the others are.
    pub(crate) fn take_only(entries: &[Entry], purpose: &str) -> Result<Self, Missing> {
        let one: Vec<_> = entries.iter().filter(|entry| entry.purpose == purpose).cloned().collect();
        Self::take(&one)
    }

    /// A duplicate of the one that is for this.
    pub(crate) fn duplicate(&self, purpose: &str) -> Option<io::Result<OwnedFd>> {
        self.lock().get(purpose).map(OwnedFd::try_clone)
    }

    /// The one itself, for whoever goes back to nobody: there may be no room for another one.
    pub(crate) fn give(&self, purpose: &str) -> Option<OwnedFd> {
        self.lock().remove(purpose)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::IntoRawFd as _;
    use std::os::unix::net::UnixStream;
    use std::process::{Child, Command};

    use rustix::io::{FdFlags, dup2, fcntl_getfd};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    fn entry(descriptor: &impl AsFd) -> Entry {
        Entry::of(descriptor, "it".to_owned()).unwrap()
    }

    fn passes(descriptor: &impl AsFd) -> bool {
        !fcntl_getfd(descriptor).unwrap().contains(FdFlags::CLOEXEC)
    }

    fn child() -> (Child, OwnedFd) {
        let child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        (child, pidfd)
    }

    #[test]
    fn each_kind_is_told_from_the_others_and_one_from_another_of_its_kind() {
        let (socket, other_socket) = UnixStream::pair().unwrap();
        let (pipe, _end) = rustix::pipe::pipe().unwrap();
        let ((mut one, pidfd), (mut another, other_pidfd)) = (child(), child());
        let descriptors: [OwnedFd; 7] = [
            socket.into(),
            other_socket.into(),
            pipe,
            File::open("/proc/self/exe").unwrap().into(),
            File::open("/").unwrap().into(),
            pidfd,
            other_pidfd,
        ];
        let entries = descriptors.each_ref().map(entry);
        let kinds = entries.each_ref().map(|entry| entry.kind.clone());
        assert_eq!(
            kinds,
            [
                Kind::Socket,
                Kind::Socket,
                Kind::Pipe,
                Kind::File,
                Kind::Directory,
                Kind::Process,
                Kind::Process
            ]
        );
        for (index, entry) in entries.iter().enumerate() {
            for (other, descriptor) in descriptors.iter().enumerate() {
                assert_eq!(entry.verify(descriptor.as_fd()).is_ok(), index == other, "{entry:?}");
            }
        }
        for child in [&mut one, &mut another] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// A worker may end while the program changes.
    #[test]
    fn a_process_that_has_ended_and_was_not_reaped_is_still_what_it_was() {
        let (mut child, pidfd) = child();
        let entry = entry(&pidfd);
        child.kill().unwrap();
        rustix::process::waitid(
            rustix::process::WaitId::PidFd(pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .unwrap();
        entry.verify(pidfd.as_fd()).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn exactly_these_pass_and_none_when_it_is_over() {
        let (one, other) = UnixStream::pair().unwrap();
        let passing = Passing::let_through([one.as_raw_fd()]).unwrap();
        assert!(passes(&one) && !passes(&other));
        drop(passing);
        assert!(!passes(&one) && !passes(&other));
    }

    #[test]
    fn what_was_left_is_taken_and_passes_no_more() {
        let (socket, other) = UnixStream::pair().unwrap();
        drop(Passing::let_through([socket.as_raw_fd()]));
        let entries = [entry(&socket)];
        let number = socket.into_raw_fd();
        let left = Left::take(&entries).unwrap();
        assert_ne!(left.duplicate("it").unwrap().unwrap().as_raw_fd(), number);
        let socket = left.give("it").unwrap();
        assert_eq!((socket.as_raw_fd(), left.duplicate("it").is_none()), (number, true));
        assert!(!passes(&socket));
        drop((left, socket));
        assert!(rustix::io::read(&other, &mut [0; 1]).is_ok_and(|read| read == 0), "it was the only one");
    }

    #[test]
    fn where_one_is_missing_or_another_all_stay_as_they_are() {
        let (socket, other) = UnixStream::pair().unwrap();
        let mut second = File::open("/").unwrap().into();
        let mut entries = [entry(&socket), Entry { purpose: "second".to_owned(), ..entry(&second) }];
        dup2(&other, &mut second).unwrap();
        let error = Left::take(&entries).unwrap_err().to_string();
        let number = second.as_raw_fd();
        assert!(
            error.starts_with(&format!("descriptor {number}, for \"second\", is not what it was: socket ")),
            "{error}"
        );
        // No descriptor has so high a number.
        entries[1].number = RawFd::MAX;
        let error = Left::take(&entries).unwrap_err().to_string();
        assert!(error.contains("for \"second\", is not open: "), "{error}");
        rustix::net::send(&socket, b"it is open", rustix::net::SendFlags::empty()).unwrap();
    }
}
