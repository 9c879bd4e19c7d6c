//! Sockets that this process was given, and sockets that it binds itself because there is no master.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, statat, unlinkat};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::address::{Kind, Place};

/// The length of the accept queue: as Node's.
const BACKLOG: i32 = 511;

/// Where a socket is bound, if it is of a kind that we know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Inet(Kind, SocketAddr),
    Unix(PathBuf),
}

/// A socket that the process was started with.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) name: Option<String>,
    pub(crate) bound: Bound,
    pub(crate) socket: OwnedFd,
}

impl Inherited {
    /// None for another kind of descriptor.
    pub(crate) fn new(name: Option<String>, socket: OwnedFd) -> Option<Self> {
        let bound = bound(&socket)?;
        Some(Self { name, bound, socket })
    }
}

/// Where a socket is bound; none if it is of another kind, or does not listen.
pub(crate) fn bound(socket: &OwnedFd) -> Option<Bound> {
    let socket = SockRef::from(socket);
    let address = socket.local_addr().ok()?;
    let listens = socket.is_listener().unwrap_or(false);
    match socket.r#type().ok()? {
        Type::STREAM if listens => match address.as_socket() {
            Some(address) => Some(Bound::Inet(Kind::Tcp, address)),
            None => Some(Bound::Unix(address.as_pathname()?.to_owned())),
        },
        Type::DGRAM => Some(Bound::Inet(Kind::Udp, address.as_socket()?)),
        _ => None,
    }
}

/// Binds as the master would.
pub(crate) fn bind(place: Place, kind: Kind) -> io::Result<OwnedFd> {
    let mut refusal = None;
    for (address, v6_only) in place.candidates() {
        match bind_one(address, v6_only, kind) {
            Err(error) if lacks_family(&error) => refusal = Some(error),
            bound => return bound,
        }
    }
    Err(refusal.unwrap_or_else(|| io::ErrorKind::InvalidInput.into()))
}

fn bind_one(address: SocketAddr, v6_only: bool, kind: Kind) -> io::Result<OwnedFd> {
    let r#type = if kind == Kind::Tcp { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(Domain::for_address(address), r#type, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    if kind == Kind::Tcp {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if kind == Kind::Tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Binds a unix stream socket, and replaces the file of one on which no process listens any more.
pub(crate) fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse || !remove_stale(path)? {
            return Err(error);
        }
        socket.bind(&address)?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Removes the socket if no process listens there. Its directory is held open meanwhile: another user may be able to have the path
/// lead elsewhere. Never waits: an owner whose queue is full is alive.
fn remove_stale(path: &Path) -> io::Result<bool> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else { return Ok(false) };
    let directory = open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let about = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_socket = FileType::from_raw_mode(about.st_mode) == FileType::Socket;
    let held = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let connect = || {
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        probe.set_nonblocking(true)?;
        // A long name leaves no room for that of a descriptor.
        probe.connect(&SockAddr::unix(&held).or_else(|_| SockAddr::unix(path))?)
    };
    let is_stale =
        is_socket && connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_stale {
        unlinkat(&directory, name, AtFlags::empty())?;
    }
    Ok(is_stale)
}

pub(crate) fn lacks_family(error: &io::Error) -> bool {
    let family = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|errno| family.contains(&errno))
}
