//! The one unsafe block of this crate: JavaScript knows descriptors as numbers.
#![expect(
    unsafe_code,
    reason = "a number says nothing of who owns the descriptor; the function says what is asked of it"
)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// A descriptor of our own for what this number means now. It stays the caller's.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not -1, and is used for nothing but this one call, which runs on Node's thread while the
    // socket or stream that it was read from is held by the caller. Were it closed all the same, the kernel would refuse.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_descriptor_is_refused() {
        for fd in [-1, i32::MAX] {
            assert!(duplicate(fd).is_err(), "{fd}");
        }
    }
}
