//! Sockets that the master was started with, by the protocol of systemd's socket activation.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, OwnedFd};

use listenfd::ListenFd;

/// Sockets by the number that they have: a worker's `listen({fd: 3})` means the one with number 3.
pub(crate) type Inherited = BTreeMap<i32, OwnedFd>;

/// Takes the sockets that `LISTEN_FDS` counts, if it is meant for this process. They are not passed on to workers
/// unasked. What is not a socket is left where it is.
///
/// Must be called before the process opens anything itself: what has such a number then is taken for an inherited
/// socket.
pub(crate) fn sockets() -> Inherited {
    let mut given = ListenFd::from_env();
    let taken = (0..given.len()).filter_map(|index| take(&mut given, index));
    taken.map(|socket| (socket.as_raw_fd(), socket)).collect()
}

/// Takes one, whichever kind of socket it is. What it is not stays in place for the next question.
fn take(given: &mut ListenFd, index: usize) -> Option<OwnedFd> {
    if let Ok(Some(socket)) = given.take_tcp_listener(index) {
        return Some(socket.into());
    }
    if let Ok(Some(socket)) = given.take_unix_listener(index) {
        return Some(socket.into());
    }
    given.take_udp_socket(index).ok().flatten().map(OwnedFd::from)
}
