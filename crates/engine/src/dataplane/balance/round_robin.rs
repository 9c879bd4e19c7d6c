//! How new connections reach workers.
//!
//! *Passing* (`round-robin`): the master accepts, and only while some worker has room, so that the rest waits in the
//! kernel's queue. A connection goes to the worker with the fewest on their way, in turn among equals. It stays ours
//! until the worker says that it has taken it. *Sharing* (`shared`, and all of UDP): the workers accept by
//! themselves, and there is nothing to do here, except at a stop. *Steering* (`kernel`) is `steering`'s business, and whose a
//! connection is (`sticky`) is `sorting`'s.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::config::balance::StickyBy;
use crate::dataplane::balance::kernel::{is_prompt, take_all};
use crate::dataplane::listener::{Closing, Connection, Listener, ListenerId, Mode, Owner, Taker};
use crate::dataplane::messages::Standing;
use crate::dataplane::state::{State, Timer};
use crate::dataplane::worker::{OnItsWay, Worker};

/// How long a listener rests when every worker has refused a connection.
const REFUSED_PAUSE: Duration = Duration::from_millis(25);
/// How often a connection is offered to everybody before it is given up: some ten seconds, by the pause above.
const ROUNDS: u32 = 400;
/// How long a worker is spared to which a connection could not be sent.
pub(in crate::dataplane) const FULL_PAUSE: Duration = Duration::from_millis(5);
/// How long a listener rests when the master is out of descriptors.
pub(in crate::dataplane) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a listener that nobody uses is kept, in case a new worker comes to its second port late.
const UNUSED_LINGER: Duration = Duration::from_secs(5);
/// How many listeners that nobody uses are kept: a worker that opens and closes servers for ever must not use all
/// descriptors up.
const UNUSED_LISTENERS: usize = 64;
/// How long workers go on accepting by themselves when everything stops. It ends, and [`QUIET`] with it, before they are
/// told to go.
const LAST_CALL: Duration = Duration::from_millis(80);
/// How long a socket is hushed before it is closed: for handshakes that are under way.
const QUIET: Duration = Duration::from_millis(10);
/// How many connections one listener may dispatch before others get their turn.
pub(in crate::dataplane) const DISPATCH_BATCH: usize = 256;

impl State {
    /// Hands over what a listener has, while somebody has room.
    pub(in crate::dataplane) fn dispatch(&mut self, id: ListenerId) {
        self.sort(id);
        for _ in 0..DISPATCH_BATCH {
            if !self.dispatch_one(id) {
                return;
            }
        }
        self.set_timer(self.now, Timer::Listener(id));
    }

    /// Hands over one connection; false when there is none, or nobody to take it.
    fn dispatch_one(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.listeners.get(&id) else { return false };
        let accepts =
            listener.acceptable && listener.mode == Mode::RoundRobin && self.sticky_by(listener).is_none();
        if listener.waiting.is_empty() && !accepts || listener.paused_until.is_some() {
            return false;
        }
        let first = listener.waiting.front();
        if first.is_some_and(|connection| self.is_refused_by_all(listener, connection)) {
            self.begin_next_round(id);
            return false;
        }
        let Some((taker, rotation)) = self.pick(listener, first) else { return false };
        let Some(connection) = self.next_connection(id) else { return false };
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.rotation = rotation;
        }
        if let Err(connection) = self.hand_over(&taker, id, connection) {
            if let Some(listener) = self.listeners.get_mut(&id) {
                listener.waiting.push_front(connection);
            }
            // Its end is full, or too many descriptors are on their way on this machine: it is the others' turn.
            self.spare(taker.worker, FULL_PAUSE);
        }
        true
    }

    /// Gives a worker no connection for a while.
    pub(in crate::dataplane) fn spare(&mut self, worker: WorkerId, span: Duration) {
        let until = self.now + span;
        if let Some(peer) = self.workers.get_mut(&worker) {
            peer.spared_until = Some(until);
            self.set_timer(until, Timer::Worker(worker));
        }
    }

    /// Which workers may be given the listener's connections, room or not: never one that leaves, and one that does
    /// not serve yet only where nobody serves.
    pub(in crate::dataplane) fn may_take(&self, listener: &Listener) -> impl Fn(&Worker) -> bool {
        let mut standings =
            listener.takers.iter().filter_map(|taker| self.workers.get(&taker.worker)?.standing);
        let anybody_serves = standings.any(|standing| standing == Standing::Serving);
        let standing = if anybody_serves { Standing::Serving } else { Standing::Standby };
        let closing = self.closing;
        move |peer| {
            if closing {
                peer.takes_leftovers()
            } else {
                !peer.is_on_its_way_out() && peer.standing == Some(standing)
            }
        }
    }

    /// Whether everybody who may take the connection has refused it in this round.
    fn is_refused_by_all(&self, listener: &Listener, connection: &Connection) -> bool {
        let may_take = self.may_take(listener);
        let mut takers = listener.takers.iter().filter_map(|taker| self.workers.get(&taker.worker));
        !connection.refused_by.is_empty()
            && takers.all(|peer| !may_take(peer) || connection.refused_by.contains(&peer.id))
    }

    /// Offers the first connection to everybody again, after a rest; or gives it up.
    fn begin_next_round(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        if let Some(connection) = listener.waiting.front_mut() {
            connection.refused_by.clear();
            connection.rounds += 1;
        }
        if listener.waiting.front().is_some_and(|connection| connection.rounds > ROUNDS) {
            listener.waiting.pop_front();
        }
        self.pause(id, REFUSED_PAUSE);
    }

    /// The worker that is to get the next connection, and where the search after it begins.
    fn pick(&self, listener: &Listener, first: Option<&Connection>) -> Option<(Taker, usize)> {
        let peer_of = |taker: &Taker| self.workers.get(&taker.worker);
        let may_take = self.may_take(listener);
        let has_refused =
            |peer: &Worker| first.is_some_and(|connection| connection.refused_by.contains(&peer.id));
        let count = listener.takers.len();
        let mut best: Option<(usize, usize)> = None;
        for step in 0..count {
            let index = (listener.rotation + step) % count;
            let Some(peer) = listener.takers.get(index).and_then(peer_of) else { continue };
            if !may_take(peer) || !peer.has_room() || has_refused(peer) {
                continue;
            }
            let load = peer.on_their_way.len();
            if best.is_none_or(|(least, _)| load < least) {
                best = Some((load, index));
            }
            if load == 0 {
                break;
            }
        }
        let (_, index) = best?;
        Some((listener.takers.get(index)?.clone(), index + 1))
    }

    /// The connection that is first in line.
    pub(in crate::dataplane) fn next_connection(&mut self, id: ListenerId) -> Option<Connection> {
        let listener = self.listeners.get_mut(&id)?;
        if let Some(connection) = listener.waiting.pop_front() {
            return Some(connection);
        }
        loop {
            match listener.fd().ok_or(io::ErrorKind::WouldBlock.into()).and_then(accept) {
                Ok(connection) => return Some(connection),
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        listener.acceptable = false;
                    } else {
                        // Out of descriptors or memory: the connection waits in the kernel's queue.
                        self.pause(id, ACCEPT_PAUSE);
                    }
                    return None;
                }
            }
        }
    }

    pub(in crate::dataplane) fn hand_over(
        &mut self,
        taker: &Taker,
        listener: ListenerId,
        connection: Connection,
    ) -> Result<(), Connection> {
        let by = self.listeners.get(&listener).and_then(|listener| self.sticky_by(listener));
        let closes = by.is_some_and(StickyBy::is_request);
        let Some(peer) = self.workers.get_mut(&taker.worker) else { return Err(connection) };
        let Some(seq) = peer.channel.try_send_connection(&taker.key, &connection.socket, closes) else {
            return Err(connection);
        };
        peer.last_given = Some(self.now);
        peer.on_their_way.insert(seq, OnItsWay { listener, connection });
        Ok(())
    }

    /// The worker has taken a connection, or refused it.
    pub(in crate::dataplane) fn connection_answered(&mut self, worker: WorkerId, seq: u64, accepted: bool) {
        let Some(peer) = self.workers.get_mut(&worker) else { return };
        let Some(mut sent) = peer.on_their_way.remove(&seq) else { return };
        self.dirty.extend(peer.servers.values().map(|server| server.listener));
        if accepted {
            peer.taken += 1;
            if peer.last_given.is_some_and(|given| is_prompt(given, self.now)) {
                // It is idle: there may be more for it that waits for a busy worker.
                self.offer(sent.listener, worker);
            }
        } else {
            sent.connection.refused_by.push(worker);
            self.put_back(sent);
        }
        if self.closing {
            // The last leftover may have been what the other drains waited for.
            self.step_drains();
        } else {
            self.step_drain(worker);
        }
    }

    fn step_drains(&mut self) {
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        for worker in workers {
            self.step_drain(worker);
        }
    }

    /// A connection is ours again: the first in line.
    pub(in crate::dataplane) fn put_back(&mut self, sent: OnItsWay) {
        self.tally.requeued += 1;
        if let Some(listener) = self.listeners.get_mut(&sent.listener) {
            listener.waiting.push_front(sent.connection);
            self.dirty.insert(sent.listener);
        }
    }

    fn pause(&mut self, id: ListenerId, span: Duration) {
        let until = self.now + span;
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.paused_until = Some(until);
            self.set_timer(until, Timer::Listener(id));
        }
    }

    /// Everything stops: what waits in the kernel's queues is taken, to be handed over before workers are told to
    /// go; then nobody listens any more.
    pub(in crate::dataplane) fn close_for_good(&mut self) {
        self.closing = true;
        self.setup.inherited.clear();
        self.end_all_peeks();
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        for id in ids {
            let hush_at = self.now + LAST_CALL;
            match self.listeners.get_mut(&id) {
                Some(listener) if listener.can_be_hushed() => {
                    listener.closing = Some(Closing::Hush(hush_at));
                    self.set_timer(hush_at, Timer::Listener(id));
                }
                Some(_) => self.stop_listening(id),
                None => {}
            }
        }
    }

    /// Workers that accept by themselves would close their sockets with connections in them. So, shortly before they are
    /// told to go, nothing begins there any more, and then what they have not accepted is taken from them.
    pub(in crate::dataplane) fn step_closing(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        match listener.closing {
            Some(Closing::Hush(at)) if at <= self.now => {
                listener.hush();
                let close_at = self.now + QUIET;
                listener.closing = Some(Closing::Close(close_at));
                self.set_timer(close_at, Timer::Listener(id));
            }
            Some(Closing::Close(at)) if at <= self.now => self.stop_listening(id),
            Some(Closing::Hush(_) | Closing::Close(_)) | None => {}
        }
    }

    fn stop_listening(&mut self, id: ListenerId) {
        self.take_over_all(id);
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.closing = None;
            if let Some(socket) = listener.socket.clone().filter(|_| listener.is_stream()) {
                take_all(listener, &socket);
            }
            self.dirty.insert(id);
        }
        if let Some(listener) = self.listeners.get(&id) {
            self.unwatch_listener(listener);
        }
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.stop_listening();
        }
        // What was waited for may have been the last look at it.
        self.step_drains();
    }

    /// At a stop, what nobody is left to take is closed, so that its client need not wait for the end.
    pub(in crate::dataplane) fn give_up_leftovers(&mut self) {
        if self.closing && !self.workers.values().any(Worker::takes_leftovers) {
            for listener in self.listeners.values_mut() {
                listener.waiting.clear();
                listener.pending.clear();
            }
        }
    }

    /// Closes listeners that nobody will want again: at once where no serving worker ever used them (a port that
    /// only a rolled-back generation opened), else after a while.
    pub(in crate::dataplane) fn close_unused(&mut self) {
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        let unused: Vec<ListenerId> = ids.into_iter().filter(|&id| !self.note_use(id)).collect();
        let too_many = unused.len().saturating_sub(UNUSED_LISTENERS);
        for (place, id) in unused.into_iter().enumerate() {
            if place < too_many || self.routes.settled && self.is_unused_for_good(id) {
                self.close(id);
            }
        }
    }

    /// Whether a wanted worker uses the listener.
    fn note_use(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.listeners.get_mut(&id) else { return false };
        let standings = listener.takers.iter().filter_map(|taker| self.workers.get(&taker.worker)?.standing);
        let standings: Vec<Standing> = standings.collect();
        listener.proven |= standings.contains(&Standing::Serving);
        if !standings.is_empty() || !self.routes.settled {
            listener.unused_since = None;
        }
        !standings.is_empty()
    }

    /// Whether a listener without users has been so for long enough; if not, it is looked at again.
    fn is_unused_for_good(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.listeners.get_mut(&id).filter(|listener| listener.proven) else {
            return true;
        };
        let closes_at: Instant = *listener.unused_since.get_or_insert(self.now) + UNUSED_LINGER;
        self.set_timer(closes_at, Timer::Listener(id));
        closes_at <= self.now
    }

    fn close(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.remove(&id) {
            self.unwatch_listener(&listener);
            self.forget_peeks(id);
        }
    }
}

/// Errors of a connection that was gone before it was accepted, and interruptions: the next one may be fine.
pub(in crate::dataplane) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
        || error.raw_os_error() == Some(libc::EPROTO)
}

/// Accepts one connection. Non-blocking, because the worker's runtime does not see to that: a blocking connection
/// would freeze the whole worker.
pub(in crate::dataplane) fn accept(socket: BorrowedFd<'_>) -> io::Result<Connection> {
    match accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(socket) => Ok(Connection { socket, rounds: 0, refused_by: Vec::new(), owner: Owner::Unknown }),
        Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}
