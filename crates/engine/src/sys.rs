//! Every `unsafe` block of the workspace. Each is a thin door to one system call that has no safe binding in the
//! crates we use.
#![expect(unsafe_code, reason = "this module is the one place for it")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Where `tcpi_bytes_received` stands in Linux's `struct tcp_info` (linux/tcp.h; since kernel 4.1).
const BYTES_RECEIVED_AT: usize = 128;
const TCP_INFO_LEN: usize = BYTES_RECEIVED_AT + mem::size_of::<u64>();

/// `TCP_CLOSE_WAIT` of the kernel's `enum` of states: the other side has said all that it had to say.
const CLOSE_WAIT: u8 = 8;

/// What a TCP connection has received in its life, read by anybody or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Bytes; the end of the stream is counted as one.
    pub(crate) bytes: u64,
    /// Whether the end of the stream is among them.
    pub(crate) ended: bool,
}

/// Asks the kernel what a TCP connection has received.
pub(crate) fn tcp_received(socket: BorrowedFd<'_>) -> io::Result<Received> {
    let mut info = [0_u8; TCP_INFO_LEN];
    let mut len = libc::socklen_t::try_from(info.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the duration of the call (it is borrowed), `info` is writable memory of
    // `len` bytes, and the kernel writes no more than `len` bytes and stores in `len` how many it wrote.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if (len as usize) < TCP_INFO_LEN {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    let [state, ..] = info;
    let (_, tail) = info.split_at(BYTES_RECEIVED_AT);
    let bytes = u64::from_ne_bytes(tail.try_into().map_err(io::Error::other)?);
    Ok(Received { bytes, ended: state == CLOSE_WAIT })
}

/// Has the runtime watch a descriptor for something to read.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` answers `as_raw_fd` with the same open descriptor for as long as it lives, and the
    // `AsyncFd`, which owns it from here on, deregisters it before it is closed.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Has the kernel send TERM to the command's process when the thread that starts it ends, which is at the latest when
/// the master's process does.
pub(crate) fn term_when_parent_dies(command: &mut Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are three plain
    // system calls, and nothing is allocated: an error is made from a number.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            if getppid() == Some(parent) {
                Ok(())
            } else {
                // The master died before the kernel was asked to watch.
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        });
    }
}
