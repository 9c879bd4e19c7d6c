//! What a dead worker had not taken goes to another worker, if it is proven untouched: no request is ever executed twice.

use std::os::fd::{AsFd as _, BorrowedFd};

use super::channel::Channel;
use super::handover::put_back;
use super::listener::Listeners;
use super::reactor::Reactor;
use super::reports::Reports;
use super::worker::{InFlight, Worker};
use crate::report::worker::Address;
use crate::sys;

/// What becomes of the connections that were on their way to a worker whose channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reclaim {
    /// Those that are proven untouched go to another worker.
    Untouched,
    /// None: the worker lives and does not keep to the protocol, so it may use them still.
    Nothing,
}

/// Puts back what a worker had not taken, the oldest first in line.
///
/// To be called when everything that the worker wrote has been read. It acknowledges a connection before it touches it, so
/// one that is not acknowledged is normally untouched; but it may have held acknowledgements back, so there has to be proof.
pub(super) fn reclaim(
    worker: &mut Worker,
    listeners: &mut Listeners,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    for sent in std::mem::take(&mut worker.in_flight).into_values().rev() {
        if is_untouched(&sent, &worker.channel, listeners) {
            put_back(sent, listeners, reactor, reports);
        }
    }
}

fn is_untouched(sent: &InFlight, channel: &Channel, listeners: &Listeners) -> bool {
    let is_tcp = listeners.get(&sent.listener).is_some_and(|listener| match &listener.address {
        Address::Tcp(_) | Address::Udp(_) => true,
        Address::Unix(_) => false,
        Address::Fd(_) => listener.sockname().is_some(),
    });
    if is_tcp {
        is_unread(sent.connection.socket.as_fd())
    } else {
        !channel.took_handle() && !channel.was_crowded()
    }
}

/// Whether every byte that the connection ever received is still in its buffer. What cannot be found out is not proven.
fn is_unread(connection: BorrowedFd<'_>) -> bool {
    let received = sys::tcp_received(connection);
    let waiting = rustix::io::ioctl_fionread(connection);
    match (received, waiting) {
        // The kernel counts the end of the stream as a byte, but it cannot be read.
        (Ok(received), Ok(waiting)) => received.bytes == waiting + u64::from(received.ended),
        (Err(_), _) | (_, Err(_)) => false,
    }
}
