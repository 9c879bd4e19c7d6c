//! One connection on its way: taken from the kernel's queue, sent to a worker, taken by it or put back.
//!
//! A connection stays the master's until the worker has said that it took it: until then another worker can get it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use super::connection::{Connection, accept};
use super::listener::{Listener, Listeners};
use super::reactor::{ListenerId, Reactor};
use super::reports::Reports;
use super::worker::{InFlight, Server, Worker};

/// How many connections of one listener are handled at a time, before others get their turn.
pub(super) const BATCH: usize = 256;
/// How long a worker is given nothing to which a connection could not be sent: its channel is full, or too many descriptors
/// are on their way on this machine.
pub(super) const SEND_PAUSE: Duration = Duration::from_millis(5);
/// How long a listener rests when the master is out of descriptors or memory.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How soon an idle worker answers. One that takes longer is busy, or the machine is.
const PROMPT: Duration = Duration::from_millis(1);

/// What is left in the kernel's queue of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Empty,
    /// The limit was reached first.
    MayHoldMore,
}

/// What a worker's answer to a connection means.
#[derive(Debug)]
pub(super) enum Answer {
    /// There is no such connection.
    Unknown,
    Taken {
        listener: ListenerId,
        /// It answered so soon that it seems to have nothing else to do.
        is_idle: bool,
    },
    Refused(InFlight),
}

/// The next connection of a listener: the first that waits here, or else in the kernel's queue.
pub(super) fn next_connection(listener: &mut Listener, reactor: &mut Reactor) -> Option<Connection> {
    if let Some(connection) = listener.waiting.pop_front() {
        return Some(connection);
    }
    match listener.fd().map_or(Ok(None), accept) {
        Ok(Some(connection)) => Some(connection),
        Ok(None) => {
            listener.acceptable = false;
            None
        }
        Err(_) => {
            listener.pause(ACCEPT_PAUSE, reactor);
            None
        }
    }
}

/// Takes up to so many connections from the kernel's queue of a socket.
pub(super) fn take(socket: &OwnedFd, most: usize, waiting: &mut VecDeque<Connection>) -> io::Result<Queue> {
    for _ in 0..most {
        match accept(socket.as_fd())? {
            Some(connection) => waiting.push_back(connection),
            None => return Ok(Queue::Empty),
        }
    }
    Ok(Queue::MayHoldMore)
}

/// Takes everything from the kernel's queue of a socket, as far as there are descriptors.
pub(super) fn take_all(socket: &OwnedFd, waiting: &mut VecDeque<Connection>) {
    let _ = take(socket, usize::MAX, waiting);
}

/// Sends a connection to one of a worker's servers, or returns it.
pub(super) fn send(
    connection: Connection,
    listener: ListenerId,
    worker: &mut Worker,
    key: &str,
    closes: bool,
    now: Instant,
) -> Result<(), Connection> {
    let Some(seq) = worker.channel.try_send_connection(key, &connection.socket, closes) else {
        return Err(connection);
    };
    worker.last_given = Some(now);
    worker.in_flight.insert(seq, InFlight { listener, connection });
    Ok(())
}

/// Sends a connection to this very worker whatever its load, on the oldest of its servers that take connections; whether it
/// could be sent.
pub(super) fn send_to_this(worker: &mut Worker, connection: &OwnedFd, listeners: &Listeners) -> bool {
    let is_stream = |server: &Server| listeners.get(&server.listener).is_some_and(Listener::is_stream);
    let streams = worker.servers.iter().filter(|(_, server)| is_stream(server));
    let oldest = streams.min_by_key(|(_, server)| server.number);
    oldest.is_some_and(|(key, _)| worker.channel.try_send_connection(key, connection, false).is_some())
}

/// The worker says that it has taken a connection, or refuses it.
pub(super) fn answered(worker: &mut Worker, seq: u64, accepted: bool, reactor: &mut Reactor) -> Answer {
    let Some(mut sent) = worker.in_flight.remove(&seq) else { return Answer::Unknown };
    worker.mark_listeners(reactor);
    if !accepted {
        sent.connection.refused_by.push(worker.id);
        return Answer::Refused(sent);
    }
    worker.got.taken += 1;
    worker.lasting.takes();
    worker.passed_over_at = None;
    let is_idle = worker.last_given.is_some_and(|given| is_prompt(given, reactor.now));
    Answer::Taken { listener: sent.listener, is_idle }
}

/// Whether a worker is idle that was asked then, or given a connection, and answers now.
pub(super) fn is_prompt(then: Instant, now: Instant) -> bool {
    now.saturating_duration_since(then) <= PROMPT
}

/// Puts a connection back that was on its way to a worker: the first in line.
pub(super) fn put_back(
    sent: InFlight,
    listeners: &mut Listeners,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    reports.tally.requeued += 1;
    if let Some(listener) = listeners.get_mut(&sent.listener) {
        listener.waiting.push_front(sent.connection);
        reactor.mark(sent.listener);
    }
}
