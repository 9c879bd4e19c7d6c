//! The file of a unix socket: whether a process listens there, and its removal by the process that made it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::short_path::ShortPath;

/// The file of a unix socket that this process made. Dropping it removes the file, unless another one has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// A second name of the file, a hard link, by which the first one can be made again: connecting reaches a socket by its inode.
    second: Option<PathBuf>,
    /// People know that the first name leads elsewhere.
    is_told: AtomicBool,
}

/// What was found at the path of a socket that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It leads to the socket.
    Ours,
    /// It did not, and does again.
    Restored,
    /// Something of others is there.
    Foreign,
    /// There is nothing, and the socket has no other name.
    Lost,
}

/// What is at the path of a socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Nothing.
    Nothing,
    /// A file of another kind, which must not be removed.
    NotASocket,
    /// A socket on which no process listens any more.
    Stale,
    /// A socket on which a process listens.
    Alive,
}

impl SocketFile {
    /// The file that is at this path now.
    pub(crate) fn at(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let identity = identity(&path)?;
        Ok(Self { path, identity, second: None, is_told: AtomicBool::new(false) })
    }

    /// The same, with a second name where the file system and the directory allow it.
    pub(crate) fn kept(path: &Path) -> io::Result<Self> {
        let mut file = Self::at(std::path::absolute(path)?)?;
        file.second = second_names(&file.path).find(|second| link(&file.path, second));
        Ok(file)
    }

    /// Whether it is the file at this path.
    pub(crate) fn is_named(&self, path: &Path) -> bool {
        std::path::absolute(path).is_ok_and(|path| path == self.path)
    }

    /// Puts the file back if it was removed.
    pub(crate) fn restore(&self) -> Found {
        match identity(&self.path) {
            Ok(identity) if identity == self.identity => Found::Ours,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.link_again(),
            Ok(_) | Err(_) => Found::Foreign,
        }
    }

    /// The same, in the place of a socket on which no process listens.
    pub(crate) fn claim(&self) -> Found {
        match self.restore() {
            Found::Foreign if matches!(probe(&self.path, SocketType::STREAM), Ok(Probe::Stale)) => {
                let _ = fs::remove_file(&self.path);
                self.link_again()
            }
            found @ (Found::Ours | Found::Restored | Found::Foreign | Found::Lost) => found,
        }
    }

    fn link_again(&self) -> Found {
        let Some(second) = &self.second else { return Found::Lost };
        if identity(second).is_ok_and(|identity| identity == self.identity) {
            match fs::hard_link(second, &self.path) {
                Ok(()) => return Found::Restored,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Found::Foreign,
                Err(_) => {}
            }
        }
        Found::Lost
    }

    /// Notes whether people know that the name leads elsewhere; returns whether they did before.
    pub(crate) fn set_told(&self, now: bool) -> bool {
        self.is_told.swap(now, Ordering::Relaxed)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // A file that cannot be removed is stale, and the next process to bind this path replaces it.
            let _ = fs::remove_file(&self.path);
        }
        if let Some(second) = &self.second
            && identity(second).is_ok_and(|identity| identity == self.identity)
        {
            let _ = fs::remove_file(second);
        }
    }
}

/// The names that a socket's file may have beside its own. One may be taken by a socket that another master has at the same
/// path, or had.
fn second_names(path: &Path) -> impl Iterator<Item = PathBuf> {
    let name = path.file_name().unwrap_or_default().to_os_string();
    (0..4).map(move |number| {
        let mut second = OsString::from(".");
        second.push(&name);
        second.push(if number == 0 { ".kept".to_owned() } else { format!(".kept-{number}") });
        path.with_file_name(second)
    })
}

/// Makes a second name for a file, in the place of one that leads to a dead socket.
fn link(path: &Path, second: &Path) -> bool {
    match fs::hard_link(path, second) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            matches!(probe(second, SocketType::STREAM), Ok(Probe::Stale))
                && fs::remove_file(second).is_ok()
                && fs::hard_link(path, second).is_ok()
        }
        linked => linked.is_ok(),
    }
}

/// Looks at a path where a socket of this type is to be bound, without following a link and without waiting.
///
/// # Errors
///
/// When the file cannot be looked at, or the system does not let this process connect to the socket.
pub(crate) fn probe(path: &Path, socket_type: SocketType) -> io::Result<Probe> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Probe::Nothing),
        Err(error) => return Err(error),
        // Connecting to a plain file is refused as well, as if it were a stale socket.
        Ok(about) if !about.file_type().is_socket() => return Ok(Probe::NotASocket),
        Ok(_) => {}
    }
    match try_connect(path, socket_type) {
        Ok(_) => Ok(Probe::Alive),
        Err(Errno::CONNREFUSED) => Ok(Probe::Stale),
        Err(Errno::NOENT) => Ok(Probe::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// Connects to the process that listens at this path; none where its queue is full. A link is followed.
pub(crate) fn open(path: &Path) -> io::Result<Option<UnixStream>> {
    let stream = try_connect(path, SocketType::STREAM)?.map(UnixStream::from);
    stream.as_ref().map_or(Ok(()), |stream| stream.set_nonblocking(false))?;
    Ok(stream)
}

/// None where the queue of a process that listens is full.
fn try_connect(path: &Path, socket_type: SocketType) -> Result<Option<OwnedFd>, Errno> {
    let short =
        ShortPath::of(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NAMETOOLONG))?;
    let address = SocketAddrUnix::new(short.path())?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, socket_type, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|about| (about.dev(), about.ino()))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// Makes the file of a socket on which no process listens. It was never open here, so no process that another test
    /// forks can hold it.
    pub(crate) fn leave_stale(path: &Path) {
        mknodat(CWD, path, FileType::Socket, Mode::RWXU, 0).unwrap();
    }

    #[test]
    fn a_socket_is_alive_while_a_process_listens() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let stream = || probe(&path, SocketType::STREAM).unwrap();
        assert_eq!(stream(), Probe::Nothing);
        leave_stale(&path);
        assert_eq!(stream(), Probe::Stale);
        assert!(open(&path).is_err());
        fs::remove_file(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(stream(), Probe::Alive);
        assert!(open(&path).unwrap().is_some());
    }

    #[test]
    fn a_listener_with_a_full_queue_is_alive() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        for _ in 0..3 {
            assert_eq!(probe(&path, SocketType::STREAM).unwrap(), Probe::Alive);
            assert!(open(&path).unwrap().is_none());
        }
    }

    #[test]
    fn datagram_sockets_are_probed_as_such() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.notify");
        leave_stale(&path);
        assert_eq!(probe(&path, SocketType::DGRAM).unwrap(), Probe::Stale);
        fs::remove_file(&path).unwrap();
        let _socket = UnixDatagram::bind(&path).unwrap();
        assert_eq!(probe(&path, SocketType::DGRAM).unwrap(), Probe::Alive);
        assert!(probe(&path, SocketType::STREAM).is_err(), "it is of another type");
    }

    #[test]
    fn files_and_links_are_no_stale_sockets() {
        let base = tempfile::tempdir().unwrap();
        let [file, socket, link] = ["file", "socket", "link"].map(|name| base.path().join(name));
        fs::write(&file, "data").unwrap();
        assert_eq!(probe(&file, SocketType::STREAM).unwrap(), Probe::NotASocket);
        symlink(&socket, &link).unwrap();
        leave_stale(&socket);
        assert_eq!(probe(&link, SocketType::STREAM).unwrap(), Probe::NotASocket);
        fs::remove_file(&socket).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(probe(&link, SocketType::STREAM).unwrap(), Probe::NotASocket);
        assert!(open(&link).is_ok(), "a client follows links");
    }

    #[test]
    fn a_file_is_removed_by_its_owner_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let _first = UnixListener::bind(&path).unwrap();
        let file = SocketFile::at(&path).unwrap();
        assert_eq!(file.path(), path);
        drop(file);
        assert!(!path.exists());
        let _second = UnixListener::bind(&path).unwrap();
        let file = SocketFile::at(&path).unwrap();
        fs::rename(&path, base.path().join("away")).unwrap();
        let _third = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists(), "another socket has taken its place");
    }
}
