//! Binding a unix socket to a path, with the permissions that its file is to have.
//!
//! The file is never given them afterwards, by its path: another file may be there by then. The kernel makes it with those of the
//! socket itself, less the umask (`unix_bind_bsd` in its `net/unix/af_unix.c`), so that is where they are set.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, fchmod};
use rustix::net::SocketType;
use rustix::process::umask;
use socket2::{Domain, SockAddr, Socket, Type};

use super::directory::{Directory, Identity};
use super::probe::{Probe, probe_in};
use super::short_path::ShortPath;
use crate::sys;

/// The stack of a thread that does nothing but bind.
const STACK_BYTES: usize = 64 * 1024;

/// The permissions of a file that everybody may read, write and run.
const ALL: u32 = 0o777;

/// The permissions of a socket's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permissions {
    /// Those that the umask leaves.
    Usual,
    /// The same, and these bits.
    Added(u32),
    /// These.
    Exactly(u32),
}

impl Permissions {
    fn mode(self, usual: u32) -> u32 {
        match self {
            Self::Usual => usual,
            Self::Added(bits) => usual | bits,
            Self::Exactly(mode) => mode,
        }
    }
}

/// A socket that is bound to a path.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) socket: Socket,
    /// Where its file is, and which it is.
    pub(crate) directory: Directory,
    pub(crate) name: OsString,
    pub(crate) identity: Identity,
}

/// Binds a socket to a path. `replace` allows to replace the file of a stale socket.
pub(crate) fn bind(path: &Path, kind: Type, permissions: Permissions, replace: bool) -> io::Result<Named> {
    let (directory, name) = Directory::of(path)?;
    bind_in(directory, name, path, kind, permissions, replace)
}

/// The same where the path's directory is open already.
pub(crate) fn bind_in(
    directory: Directory,
    name: OsString,
    path: &Path,
    kind: Type,
    permissions: Permissions,
    replace: bool,
) -> io::Result<Named> {
    let short = ShortPath::of(path)?;
    let address = SockAddr::unix(short.path())?;
    if directory.entry(&name)?.is_some() {
        let wanted = if kind == Type::DGRAM { SocketType::DGRAM } else { SocketType::STREAM };
        if !replace || !matches!(probe_in(&directory, &name, wanted), Ok(Probe::Stale)) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        directory.remove(&name)?;
    }
    make(directory, name, Socket::new(Domain::UNIX, kind, None)?, &address, permissions, bind_as)
}

/// Binds, and returns the permissions that the file should have got. None where the umask may be in their way.
type Bind = fn(&Socket, &SockAddr, Permissions) -> io::Result<Option<u32>>;

fn make(
    directory: Directory,
    name: OsString,
    socket: Socket,
    address: &SockAddr,
    permissions: Permissions,
    bind: Bind,
) -> io::Result<Named> {
    let mode = bind(&socket, address, permissions)?;
    // There was nothing before. If there is nothing now, the path led elsewhere when the socket was bound.
    let found = directory.entry(&name)?.filter(|entry| entry.is_socket);
    let entry = found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    let mode = mode.unwrap_or_else(|| permissions.mode(entry.mode));
    if mode != entry.mode {
        directory.set_mode_of_socket(&name, entry.identity, mode)?;
    }
    Ok(Named { socket, directory, name, identity: entry.identity })
}

/// The umask is the process's: without one, for a moment, files of other threads would be everybody's. So a thread binds that has
/// a umask of its own.
fn bind_as(socket: &Socket, address: &SockAddr, permissions: Permissions) -> io::Result<Option<u32>> {
    if permissions == Permissions::Usual {
        return socket.bind(address).map(|()| None);
    }
    let bind = || -> Option<io::Result<u32>> {
        sys::leave_working_context().ok()?;
        let usual = ALL & !umask(Mode::empty()).bits();
        let mode = permissions.mode(usual);
        let set = fchmod(socket, Mode::from_raw_mode(mode)).map_err(io::Error::from);
        Some(set.and_then(|()| socket.bind(address)).map(|()| mode))
    };
    let bound = thread::scope(|scope| {
        let builder = thread::Builder::new().name("recluster-bind".to_owned()).stack_size(STACK_BYTES);
        builder.spawn_scoped(scope, bind).ok()?.join().ok()?
    });
    match bound {
        Some(bound) => bound.map(Some),
        // A filter of system calls does not let a thread have one, or there can be no further thread.
        None => bind_within_umask(socket, address, permissions),
    }
}

/// Permissions that the umask keeps back are added afterwards.
fn bind_within_umask(
    socket: &Socket,
    address: &SockAddr,
    permissions: Permissions,
) -> io::Result<Option<u32>> {
    if let Permissions::Exactly(mode) = permissions {
        // Never more than this, not even for a moment.
        fchmod(socket, Mode::from_raw_mode(mode))?;
    }
    socket.bind(address).map(|()| None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::super::races::{Race, race};
    use super::*;

    fn bind_with(bind: Bind, path: &Path, permissions: Permissions) -> io::Result<Named> {
        let (directory, name) = Directory::of(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        make(directory, name, socket, &SockAddr::unix(path)?, permissions, bind)
    }

    #[test]
    fn permissions_are_those_asked_for_by_either_way() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let mut modes = Vec::new();
        for bind in [bind_as, bind_within_umask] {
            for permissions in [Permissions::Exactly(0o602), Permissions::Added(0o222), Permissions::Usual] {
                bind_with(bind, &path, permissions).unwrap();
                modes.push(fs::metadata(&path).unwrap().mode() & ALL);
                fs::remove_file(&path).unwrap();
            }
        }
        let (own, within) = modes.split_at(3);
        assert_eq!(own, within);
        assert_eq!((own[0], own[1]), (0o602, own[2] | 0o222));
    }

    #[test]
    fn where_the_umask_cannot_be_left_others_suffer_as_little() {
        for kind in [Race::OfTheName, Race::OfTheDirectory] {
            race(kind, |path| bind_with(bind_within_umask, path, Permissions::Exactly(0o666)));
        }
    }
}
