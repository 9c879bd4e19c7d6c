//! Sockets that the master was started with, by the protocol of systemd's socket activation.

use std::env;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use recluster::host::{self, Anew, Lender};

/// What the master was started with.
#[derive(Default)]
pub(crate) struct Inherited {
    /// Sockets in the order of their numbers: in a Node worker `listen({fd: 3})` means the first of them.
    pub(crate) activated: Vec<Given>,
    /// Any other socket: `listen({fd})` means it by the number that it has in the master.
    pub(crate) lender: Lender,
    /// Why the master begins anew, where it does.
    pub(crate) anew: Option<Anew>,
}

/// One of them.
pub(crate) struct Given {
    pub(crate) socket: OwnedFd,
    /// Its name in `LISTEN_FDNAMES`.
    pub(crate) name: Option<String>,
}

/// Takes the sockets that `LISTEN_FDS` counts, if it is meant for this process. What is not a socket is left where it is,
/// and does not count.
///
/// Must be called before the process opens anything itself: what has such a number then is taken for an inherited
/// socket.
pub(crate) fn sockets() -> Inherited {
    let anew = host::begins_anew();
    let lender = Lender::open_now();
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut given = ListenFd::from_env();
    let names = names.split(':').map(|name| Some(name.to_owned()).filter(|name| !name.is_empty()));
    let names = names.chain(std::iter::repeat(None));
    let taken = (0..given.len()).zip(names);
    let activated = taken.filter_map(|(index, name)| Some(Given { socket: take(&mut given, index)?, name }));
    Inherited { activated: activated.collect(), lender, anew }
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
