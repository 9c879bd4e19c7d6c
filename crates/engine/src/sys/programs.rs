//! This process becomes another program, or was another one.

use std::env;
use std::ffi::{CString, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

use rustix::io::{FdFlags, fcntl_setfd};

/// Becomes this program, an open file, with these arguments (the first is its name) and this environment. Returns only where that
/// cannot be, and why. To be called by the first thread: children that end with the thread that has started them end with any other.
pub(crate) fn execute(program: BorrowedFd<'_>, words: &[CString], env: &[CString]) -> io::Error {
    let array = |texts: &[CString]| -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (array(words), array(env));
    // SAFETY: the descriptor is borrowed, so it is open; both arrays end in a null pointer, and all that they point to lives until the
    // call returns, if it does. Where it does not, nothing of this program is left that could be wrong.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Whether what this number means passes to the program that this process becomes.
pub(crate) fn set_passes(number: RawFd, passes: bool) -> io::Result<()> {
    let closed = || io::Error::from_raw_os_error(libc::EBADF);
    let number = Some(number).filter(|number| *number >= 0).ok_or_else(closed)?;
    // SAFETY: the number is not negative, and is used for nothing but this one call. Were it no open descriptor the kernel would refuse.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(fcntl_setfd(borrowed, if passes { FdFlags::empty() } else { FdFlags::CLOEXEC })?)
}

/// Takes the descriptor that the program which this process was before has left under this number.
pub(crate) fn take_left(number: c_int) -> OwnedFd {
    // SAFETY: that program has named it as one that is to pass, and has kept it open; it is taken once, by the table that names it, before
    // anything else is opened, so that nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Whether this program has more rights than whoever has started it (`setcap`, setuid), whose environment it cannot trust then.
pub(crate) fn has_more_rights() -> bool {
    // SAFETY: it only reads what the kernel has told this process at its start.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Takes a variable out of this process's environment. To be called by the first thread before it has begun another one.
pub(crate) fn forget_variable(name: &str) {
    // SAFETY: there is no other thread yet that could read the environment meanwhile: that is who may call this.
    unsafe { env::remove_var(name) };
}
