//! [`Socket`]: taking a control socket's path, and giving it back.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use rustix::net::SocketType;
use socket2::Type;
use tokio::net::UnixListener;

use super::greeting::{Listener, listener_at};
use super::keeping::Bind;
use super::leaving::{self, Left, Outcome};
use crate::socket::directory::Directory;
use crate::socket::file::SocketFile;
use crate::socket::named::{self, Permissions};
use crate::socket::places;
use crate::socket::probe::{Probe, probe};
use crate::socket::runtime_dir::{self, DirectoryError, can_make, parent_of};
use crate::socket::short_path::{PATH_LIMIT, has_short_form};
use crate::upgrade::{AdoptError, Inheritance};

/// A file in the directory of control sockets, locked while one of them is bound: two masters that find the same
/// stale socket must not both replace it.
const LOCK: &str = ".recluster.lock";
/// How long it is waited for, and how often it is tried.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How many clients may wait for an answer to their connecting.
const BACKLOG: i32 = 4096;

/// A bound control socket. Clients that connect wait until it is served. Dropping it removes its file.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
    /// What the program before has left, where there was one.
    pub(super) left: Option<Left>,
}

/// Why a control socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A cluster that is still running answers there.
    #[error("a running cluster has the control socket {}", path.display())]
    Alive {
        /// The socket.
        path: PathBuf,
    },
    /// Another program listens there.
    #[error("the path of the control socket is taken by another program that listens there: {}", path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
    },
    /// Something listens there that does not answer.
    #[error(
        "something has the control socket and does not answer: a cluster that starts or hangs, or another program: {}",
        path.display()
    )]
    Silent {
        /// The path.
        path: PathBuf,
    },
    /// The directory is no place for it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file of another kind is there. It is not removed.
    #[error("the path of the control socket is taken by something that is no socket: {}", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path is longer than that of a unix socket can be.
    #[error("the path of the control socket is longer than {PATH_LIMIT} bytes: {}", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot make the control socket {}: {source}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Socket {
    /// Binds a control socket for this user alone, and replaces one on which no process listens any more.
    /// Must be called in a tokio runtime with IO enabled.
    ///
    /// # Errors
    ///
    /// When a running cluster has it, or its directory (made if it is not there, but not what is above it) is
    /// another user's or writable by others. What was at the path is still there then.
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, BindError> {
        let path = path.into();
        check_length(&path)?;
        let directory = parent_of(&path);
        runtime_dir::prepare(directory)?;
        let system = |source| BindError::System { path: path.clone(), source };
        let (open, name) = Directory::of(&path).map_err(system)?;
        runtime_dir::check_open(&open, directory)?;
        let locked = lock(&open, directory).map_err(system)?;
        look(&path)?;
        let named = named::bind_in(open, name, &path, Type::STREAM, Permissions::Exactly(0o600), true);
        let named = named.map_err(system)?;
        let file = SocketFile::of(path.clone(), &named);
        named.socket.listen(BACKLOG).map_err(system)?;
        named.socket.set_nonblocking(true).map_err(system)?;
        let listener = UnixListener::from_std(OwnedFd::from(named.socket).into()).map_err(system)?;
        drop(locked);
        places::may_hold_workers(directory);
        Ok(Self { listener, file, left: None })
    }

    /// The one that the program before has left, if it had one. Must be called in a tokio runtime with IO enabled.
    ///
    /// # Errors
    ///
    /// When what was left cannot be gone on with.
    pub fn adopt(inheritance: &mut Inheritance) -> Result<Option<Self>, AdoptError> {
        let Some((socket, file, left)) = leaving::adopt(inheritance)? else { return Ok(None) };
        let socket = std::os::unix::net::UnixListener::from(socket);
        let listener = socket.set_nonblocking(true).and_then(|()| UnixListener::from_std(socket));
        let listener = listener.map_err(|error| AdoptError::Contradiction(error.to_string()))?;
        places::may_hold_workers(parent_of(file.path()));
        Ok(Some(Self { listener, file, left: Some(left) }))
    }

    /// What is told to whoever has asked the program before for this one.
    pub fn upgraded(&mut self, outcome: Outcome) {
        if let Some(left) = &mut self.left {
            left.outcome = outcome;
        }
    }

    /// Whether [`bind`](Self::bind) would succeed now. Leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As those of [`bind`](Self::bind).
    pub fn check(path: &Path) -> Result<(), BindError> {
        check_length(path)?;
        let directory = parent_of(path);
        runtime_dir::preview(directory)?;
        if directory.exists() {
            can_make(directory, FileType::Socket)
                .map_err(|source| BindError::System { path: path.to_owned(), source })?;
        }
        look(path)
    }

    /// Binds the same path anew, again and again.
    pub(super) fn again(path: PathBuf) -> Bind {
        Arc::new(move || {
            let Self { listener, file, .. } = Self::bind(path.clone()).map_err(|error| error.to_string())?;
            Ok((listener, file))
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// Holds the directory's lock until the file is closed. Masters hold it only while they bind: whoever holds it for longer is
/// stopped, or no master.
fn lock(open: &Directory, directory: &Path) -> io::Result<OwnedFd> {
    let path = directory.join(LOCK);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(open, LOCK, flags, Mode::RUSR | Mode::WUSR)?;
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_WAIT => thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => {
                let held = format!("another process holds {} for too long", path.display());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, held));
            }
            locked => return Ok(locked.map(|()| file)?),
        }
    }
}

/// Looks at a path where a socket is to be bound, and refuses one that is taken. A stale socket is not in the way.
fn look(path: &Path) -> Result<(), BindError> {
    let path = path.to_owned();
    match probe(&path, SocketType::STREAM) {
        Ok(Probe::Nothing | Probe::Stale) => Ok(()),
        Ok(Probe::Alive) => match listener_at(&path) {
            Ok(Listener::Cluster) => Err(BindError::Alive { path }),
            Ok(Listener::Silent) => Err(BindError::Silent { path }),
            // A cluster that ends right now hangs up, too, and is gone then.
            Ok(Listener::Other) | Err(_) => match probe(&path, SocketType::STREAM) {
                Ok(Probe::Nothing | Probe::Stale) => Ok(()),
                Ok(Probe::Alive | Probe::NotASocket) => Err(BindError::Foreign { path }),
                Err(source) => Err(BindError::System { path, source }),
            },
        },
        Ok(Probe::NotASocket) => Err(BindError::NotASocket { path }),
        Err(source) => Err(BindError::System { path, source }),
    }
}

fn check_length(path: &Path) -> Result<(), BindError> {
    if !has_short_form(path) {
        return Err(BindError::TooLong { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::UnixListener as StdListener;

    use super::*;
    use crate::control::greeting::tests::{REFUSED, answer_with};
    use crate::socket::probe::tests::leave_stale;
    use crate::socket::races::{Race, race};

    #[tokio::test]
    async fn a_socket_is_private_and_goes_when_it_is_dropped() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("made").join("it.sock");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(socket.path(), path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        leave_stale(&path);
        let socket = Socket::bind(&path).unwrap();
        // It is bound and not served yet.
        assert!(matches!(Socket::bind(&path), Err(BindError::Silent { .. })));
        assert!(path.exists());
        drop(socket);
        answer_with(path.clone(), REFUSED);
        assert!(matches!(Socket::bind(&path), Err(BindError::Alive { .. })));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_socket_of_another_program_is_called_that_and_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        answer_with(path.clone(), b"220 welcome\r\n");
        assert!(matches!(Socket::bind(&path), Err(BindError::Foreign { .. })));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_check_says_what_binding_would_and_makes_nothing() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        answer_with(at("alive.sock"), REFUSED);
        answer_with(at("foreign.sock"), b"hello\n");
        // Nothing can be made there, whatever its permissions say.
        let kernels = Path::new("/proc/recluster/it.sock");
        let checked = Socket::check(kernels).unwrap_err().to_string();
        assert_eq!(checked, Socket::bind(kernels).unwrap_err().to_string());
        fs::write(at("file"), "").unwrap();
        for name in
            ["alive.sock", "foreign.sock", "file", "file/it.sock", "gone/away/it.sock", &"x".repeat(108)]
        {
            let checked = Socket::check(&at(name)).unwrap_err().to_string();
            assert_eq!(checked, Socket::bind(at(name)).unwrap_err().to_string(), "{name}");
        }
        leave_stale(&at("stale.sock"));
        let before = fs::read_dir(base.path()).unwrap().count();
        for name in ["stale.sock", "it.sock", "made/it.sock"] {
            Socket::check(&at(name)).unwrap();
            assert_eq!(fs::read_dir(base.path()).unwrap().count(), before, "{name}");
        }
        Socket::bind(at("made/it.sock")).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(matches!(Socket::bind(&path), Err(BindError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[tokio::test]
    async fn a_socket_that_took_our_place_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let ours = Socket::bind(&path).unwrap();
        fs::rename(&path, base.path().join("away")).unwrap();
        let _theirs = StdListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_directory_that_is_swapped_costs_others_nothing() {
        for kind in [Race::OfTheName, Race::OfTheDirectory] {
            race(kind, |path| Socket::bind(path));
        }
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_named() {
        let path = format!("/nowhere/{}.sock", "x".repeat(100));
        assert!(matches!(Socket::bind(path), Err(BindError::TooLong { .. })));
    }
}
