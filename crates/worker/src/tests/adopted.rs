//! Taking over descriptors by their numbers.

use std::io;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};

use crate::sys::adopt;

#[test]
fn a_descriptor_that_came_by_exec_is_taken_once() {
    let file = tempfile::tempfile().expect("a file");
    // As an exec leaves it: not to be closed at the next one.
    let number = rustix::io::dup(&file).expect("a copy").into_raw_fd().unsigned_abs();
    let adopted = adopt(number).expect("it is there to be taken");
    let flags = rustix::io::fcntl_getfd(&adopted).expect("it is open");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let again = adopt(number).expect_err("it is taken");
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn what_the_process_opened_itself_is_left_alone() {
    let file = tempfile::tempfile().expect("a file");
    let error = adopt(file.as_raw_fd().unsigned_abs()).expect_err("std opened it");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(file.metadata().is_ok(), "it is still open");
}

#[test]
fn numbers_that_name_nothing_are_refused() {
    for number in [0, 1, 2, u32::MAX] {
        assert_eq!(adopt(number).expect_err("not ours").kind(), io::ErrorKind::InvalidInput);
    }
    let error = adopt(1_000_000).expect_err("nothing is open there");
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}
