//! What a dying worker had not taken goes to another worker, if it is proven untouched: no request is ever executed
//! twice.

use std::os::fd::{AsFd as _, BorrowedFd};

use recluster_core::WorkerId;

use super::Fact;
use super::channel::Read;
use super::state::State;
use super::worker::{OnItsWay, Worker};
use crate::report::worker::Address;
use crate::sys;

/// How often a dead worker's channel is read: more than fits its buffer. A child of the worker may hold the other end
/// and write for ever.
const LAST_READS: usize = 64;

/// What becomes of the connections that were on their way to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reclaim {
    /// Those that are proven untouched go to another worker.
    Untouched,
    /// None: the worker lives and does not keep to the protocol, so it may use them still.
    Nothing,
}

impl State {
    /// The worker's process has ended: everything that it wrote before is still in the channel.
    pub(super) fn bury(&mut self, worker: WorkerId) {
        for _ in 0..LAST_READS {
            if !matches!(self.read_once(worker), Ok(Read::Bytes(_))) {
                break;
            }
        }
        self.forget(worker, Reclaim::Untouched);
        self.unseat(worker);
        self.report_fact(Fact::ChannelDrained(worker));
    }

    /// Drops the worker's channel, takes back what the worker had not taken, and says so. Once.
    ///
    /// Called when everything that the worker wrote has been read. An acknowledgement is written before the worker
    /// touches the connection, so one that is not acknowledged is normally untouched; but a worker may have held
    /// acknowledgements back, so there has to be proof.
    pub(super) fn forget(&mut self, worker: WorkerId, rescue: Reclaim) {
        let Some(mut peer) = self.workers.remove(&worker) else { return };
        *self.tally.past.entry(peer.slot).or_default() += peer.connections();
        self.dirty.extend(peer.servers.values().map(|server| server.listener));
        for listener in self.listeners.values_mut() {
            listener.remove_worker(worker);
        }
        // Put back one before the other, so that the oldest is first in line again.
        for sent in std::mem::take(&mut peer.on_their_way).into_values().rev() {
            if rescue == Reclaim::Untouched && self.is_untouched(&peer, &sent) {
                self.put_back(sent);
            }
        }
        self.give_up_leftovers();
        self.close_unused();
        self.report_fact(Fact::Disconnected { worker, finishing: peer.finishing });
    }

    fn is_untouched(&self, peer: &Worker, sent: &OnItsWay) -> bool {
        let is_tcp = self.listeners.get(&sent.listener).is_some_and(|listener| match &listener.address {
            Address::Tcp(_) | Address::Udp(_) => true,
            Address::Unix(_) => false,
            Address::Fd(_) => listener.sockname().is_some(),
        });
        if is_tcp {
            is_unread(sent.connection.socket.as_fd())
        } else {
            !peer.channel.took_handle() && !peer.channel.was_crowded()
        }
    }
}

/// Whether every byte that the connection ever received is still in its buffer. What cannot be found out is not proven.
fn is_unread(connection: BorrowedFd<'_>) -> bool {
    let received = sys::tcp_received(connection);
    let waiting = rustix::io::ioctl_fionread(connection);
    match (received, waiting) {
        // The kernel counts the end of the stream as a byte, but nobody can read it.
        (Ok(received), Ok(waiting)) => received.bytes == waiting + u64::from(received.ended),
        (Err(_), _) | (_, Err(_)) => false,
    }
}
