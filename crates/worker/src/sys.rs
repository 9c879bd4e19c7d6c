//! The only unsafe code of this crate: taking over the descriptors that the process was started with.
#![expect(unsafe_code, reason = "a number becomes an owned descriptor only by assertion")]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Where the numbers of a process's standard streams end.
const FIRST_OTHER: RawFd = 3;

/// Takes over the descriptor with this number, and closes it at an exec from now on.
///
/// Only one that came by the exec of this process is taken: it is open, and not marked to be closed at an exec, as is
/// everything that the standard library opens, and what was adopted before. It must be called only for numbers which
/// the environment says are for this process to take, so that no other code has taken them.
pub(crate) fn adopt(number: u32) -> io::Result<OwnedFd> {
    let number = RawFd::try_from(number).ok().filter(|&number| number >= FIRST_OTHER);
    let number = number.ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: the call reads a flag of the descriptor with this number, or fails if there is none.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags == -1 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the descriptor is in use by this process"));
    }
    // SAFETY: the descriptor is open, as was just seen, and the call touches no memory. All that the flag changes is
    // whether programs that this process starts inherit the descriptor.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open. It came with the exec and was announced in the environment for this process to
    // own; this function takes a number once only, since the flag that it sets makes it refuse the second time.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
