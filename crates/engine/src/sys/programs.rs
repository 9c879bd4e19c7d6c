//! This process becomes another program, or was another one.

use std::env;
use std::ffi::{CString, c_char};
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

/// Asks the kernel about whatever this number means.
pub(crate) fn at_number<T>(
    number: RawFd,
    ask: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> io::Result<T> {
    let closed = || io::Error::from_raw_os_error(libc::EBADF);
    let number = Some(number).filter(|number| *number >= 0).ok_or_else(closed)?;
    // SAFETY: the number is not negative, and nobody keeps what is made of it. Were it no open descriptor the kernel would refuse each
    // question.
    ask(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Whether what this number means passes to the program that this process becomes.
pub(crate) fn set_passes(number: RawFd, passes: bool) -> io::Result<()> {
    let flags = if passes { FdFlags::empty() } else { FdFlags::CLOEXEC };
    at_number(number, |descriptor| Ok(fcntl_setfd(descriptor, flags)?))
}

/// Takes what was left to this process under this number, which passes to no other program from then on. Whoever calls this was told the
/// number by who has left it: by a variable, an option, or the memory that one of these names. To be called once for each, by the first
/// thread, before another one is begun.
pub(crate) fn take_left(number: RawFd) -> io::Result<OwnedFd> {
    set_passes(number, false)?;
    // SAFETY: it is open, as the kernel has just said. It came with the `exec`, so nothing of this program owns it: that opens its own
    // descriptors under other numbers, and takes each of these once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
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
