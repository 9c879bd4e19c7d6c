//! Whether a process listens on the socket at a path.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::directory::Directory;
use super::short_path::ShortPath;

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

/// Looks at a path where a socket of this type is to be bound, without following a link and without waiting.
///
/// # Errors
///
/// When the file cannot be looked at, or the system does not let this process connect to the socket.
pub(crate) fn probe(path: &Path, socket_type: SocketType) -> io::Result<Probe> {
    match Directory::of(path) {
        Ok((directory, name)) => probe_in(&directory, &name, socket_type),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Probe::Nothing),
        Err(error) => Err(error),
    }
}

/// The same for a name in a directory.
pub(crate) fn probe_in(directory: &Directory, name: &OsStr, socket_type: SocketType) -> io::Result<Probe> {
    match directory.entry(name)? {
        None => return Ok(Probe::Nothing),
        // Connecting to a plain file is refused as well, as if it were a stale socket.
        Some(entry) if !entry.is_socket => return Ok(Probe::NotASocket),
        Some(_) => {}
    }
    match try_connect(&directory.path_of(name)?, socket_type) {
        Ok(_) => Ok(Probe::Alive),
        Err(Errno::CONNREFUSED) => Ok(Probe::Stale),
        Err(Errno::NOENT) => Ok(Probe::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// What is at a path that a socket cannot replace, in words: none where there is nothing, or a socket.
pub(crate) fn obstacle(path: &Path) -> Option<String> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    let what = if kind.is_socket() {
        return None;
    } else if kind.is_dir() {
        format!("a directory is there: name a file in it, such as {}", path.join("web.sock").display())
    } else if kind.is_symlink() {
        let to = fs::read_link(path).unwrap_or_default();
        format!(
            "a symlink to {} is there, and none is followed: name the path of the socket itself",
            to.display()
        )
    } else {
        let what = if kind.is_file() { "a file" } else { "a pipe or a device" };
        format!("{what} is there, and no socket: remove it, or name another path")
    };
    Some(what)
}

/// Connects to the process that listens at this path; none where its queue is full. A link is followed.
pub(crate) fn open(path: &Path) -> io::Result<Option<UnixStream>> {
    let stream = try_connect(&ShortPath::of(path)?, SocketType::STREAM)?.map(UnixStream::from);
    stream.as_ref().map_or(Ok(()), |stream| stream.set_nonblocking(false))?;
    Ok(stream)
}

/// None where the queue of a process that listens is full.
fn try_connect(short: &ShortPath, socket_type: SocketType) -> Result<Option<OwnedFd>, Errno> {
    let address = SocketAddrUnix::new(short.path())?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, socket_type, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
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
    fn what_is_in_the_way_of_a_socket_is_said() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlink("nowhere", at("link")).unwrap();
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        leave_stale(&at("socket"));
        let file = "is there, and no socket: remove it, or name another path";
        let directory = format!(
            "a directory is there: name a file in it, such as {}/web.sock",
            at("directory").display()
        );
        for (name, words) in [
            ("nothing", None),
            ("socket", None),
            ("file", Some(format!("a file {file}"))),
            ("pipe", Some(format!("a pipe or a device {file}"))),
            ("directory", Some(directory)),
            (
                "link",
                Some(
                    "a symlink to nowhere is there, and none is followed: name the path of the socket itself"
                        .to_owned(),
                ),
            ),
        ] {
            assert_eq!(obstacle(&at(name)), words, "{name}");
        }
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
}
