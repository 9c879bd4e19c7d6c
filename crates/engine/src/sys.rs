//! Every `unsafe` block of this crate. Each is a thin door to one system call that has no safe binding in the
//! crates we use.
#![expect(unsafe_code, reason = "this module is the one place for it")]

mod commands;
mod heap;
mod programs;
mod sockets;

use std::ffi::c_int;
use std::io;
use std::os::fd::OwnedFd;

use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use commands::{
    become_other, begins, exec_knowing_pid, forget_signals, inherit_nothing, limit_open_files, pass,
    restrain, term_when_parent_dies,
};
pub(crate) use heap::{share as share_heap, trim as trim_heap};
pub(crate) use programs::{at_number, execute, forget_variable, has_more_rights, set_passes, take_left};
pub(crate) use sockets::{Datagram, Hook, accept_limit, accept_queue, attach, receive, tcp_received};

/// Gives the calling thread a working directory, a root directory and a umask of its own, for the rest of its life.
pub(crate) fn leave_working_context() -> io::Result<()> {
    // SAFETY: only `CLONE_FILES` can make descriptors of other threads invalid in this one, and it is not asked for.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
}

/// A descriptor of our own for what this number means now. It stays whose it was.
pub(crate) fn duplicate(number: u32) -> io::Result<OwnedFd> {
    let number = c_int::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    at_number(number, |descriptor| descriptor.try_clone_to_owned())
}

/// Has the runtime watch a descriptor for something to read.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` answers `as_raw_fd` with the same open descriptor for as long as it lives, and the
    // `AsyncFd`, which owns it from here on, deregisters it before it is closed.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
