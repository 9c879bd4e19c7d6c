//! Balance `sticky` where the master accepts: whose a connection is, and the way to that client's worker.
//!
//! A connection's client is known by its address, or by what it begins with, at which the master looks without taking it
//! (`MSG_PEEK`). How much, how long and at how many at a time is limited; beyond a limit it is the address that counts.
//! Then the connection waits at the desk of the worker of its client's slot until that worker has room, so that a busy
//! worker delays nobody else's clients. Whoever cannot be known is anybody, and goes to any worker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use recluster_core::WorkerId;
use rustix::event::epoll::{self, EventFlags};
use rustix::net::{RecvFlags, getpeername, recv};

use crate::config::balance::{Balance, StickyBy};
use crate::dataplane::balance::round_robin::{DISPATCH_BATCH, FULL_PAUSE};
use crate::dataplane::client_hash::{Client, Table};
use crate::dataplane::client_key::{Looked, look};
use crate::dataplane::listener::{Connection, Listener, ListenerId, Mode, Owner};
use crate::dataplane::pending_limit;
use crate::dataplane::state::{State, Timer, Token};

/// What people are told, once, whose clients are to be known by what is encrypted.
const ENCRYPTED: &str = "connections begin with TLS, which the master cannot look into: their clients are known by their \
                         addresses instead (--sticky-by)";

/// A connection that has not said enough yet.
#[derive(Debug)]
struct Peek {
    listener: ListenerId,
    connection: Connection,
    until: Instant,
}

/// Connections that are looked at.
#[derive(Debug, Default)]
pub(in crate::dataplane) struct Peeks {
    /// By their number, oldest first.
    open: BTreeMap<u64, Peek>,
    next: u64,
}

impl State {
    /// How clients of a listener are known; none where a connection is anybody's.
    pub(in crate::dataplane) fn sticky_by(&self, listener: &Listener) -> Option<&StickyBy> {
        let Balance::Sticky(by) = &self.setup.means.balance else { return None };
        let is_known =
            listener.mode != Mode::Shared && (*by != StickyBy::Ip || listener.sockname().is_some());
        is_known.then_some(by)
    }

    /// Sends what a listener has on its way to the clients' own workers. What is anybody's stays where it waits.
    pub(in crate::dataplane) fn sort(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get(&id) else { return };
        if self.sticky_by(listener).is_none() {
            return;
        }
        let seats = self.seats(listener);
        self.reseat(id, &seats);
        if !seats.is_empty() {
            self.sort_waiting(id, &seats);
            self.sort_arriving(id, &seats);
        }
        for &worker in seats.values() {
            self.serve_pending(id, worker);
        }
    }

    /// The worker of each slot that may take connections of a listener: the newest, where there are two.
    pub(in crate::dataplane) fn seats(&self, listener: &Listener) -> BTreeMap<u32, WorkerId> {
        let may_take = self.may_take(listener);
        let workers = listener.takers.iter().filter_map(|taker| self.workers.get(&taker.worker));
        let mut seats = BTreeMap::new();
        for peer in workers.filter(|peer| may_take(peer)) {
            let seat = seats.entry(peer.slot).or_insert(peer.id);
            *seat = peer.id.max(*seat);
        }
        seats
    }

    /// Takes back what waits for workers that have lost their seats.
    fn reseat(&mut self, id: ListenerId, seats: &BTreeMap<u32, WorkerId>) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        if !listener.table.slots().iter().eq(seats.keys()) {
            listener.table = Table::new(seats.keys().copied().collect());
        }
        let mut left = std::mem::take(&mut listener.pending);
        for worker in seats.values() {
            listener.pending.extend(left.remove_entry(worker));
        }
        for connection in left.into_values().flatten() {
            self.tally.requeued += 1;
            listener.waiting.push_back(connection);
        }
    }

    fn sort_waiting(&mut self, id: ListenerId, seats: &BTreeMap<u32, WorkerId>) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        for connection in std::mem::take(&mut listener.waiting) {
            self.sort_one(id, connection, seats);
        }
    }

    /// Accepts, unless there are connections already for which nobody has room.
    fn sort_arriving(&mut self, id: ListenerId, seats: &BTreeMap<u32, WorkerId>) {
        for _ in 0..DISPATCH_BATCH {
            let Some(listener) = self.listeners.get(&id) else { return };
            let accepts =
                listener.mode == Mode::RoundRobin && listener.acceptable && listener.paused_until.is_none();
            if !accepts || !listener.waiting.is_empty() {
                return;
            }
            let Some(connection) = self.next_connection(id) else { return };
            self.sort_one(id, connection, seats);
        }
        self.set_timer(self.now, Timer::Listener(id));
    }

    fn sort_one(&mut self, id: ListenerId, mut connection: Connection, seats: &BTreeMap<u32, WorkerId>) {
        if connection.owner == Owner::Unknown {
            match self.owner_of(id, &connection) {
                Some(owner) => connection.owner = owner,
                None if !self.closing => return self.watch(id, connection),
                // Nobody waits for it any more.
                None => connection.owner = owner_at(&connection),
            }
        }
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let slot = match connection.owner {
            Owner::Client(client) if connection.refused_by.is_empty() => listener.table.slot_of(client),
            Owner::Client(_) | Owner::Anybody | Owner::Unknown => None,
        };
        let Some(&worker) = slot.and_then(|slot| seats.get(&slot)) else {
            return listener.waiting.push_back(connection);
        };
        let most = pending_limit(seats.len());
        if listener.pending.get(&worker).is_some_and(|desk| desk.len() >= most) {
            self.serve_pending(id, worker);
        }
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let desk = listener.pending.entry(worker).or_default();
        if desk.len() < most {
            desk.push_back(connection);
        } else {
            listener.waiting.push_back(connection);
        }
    }

    /// Whose connection it is; none if it has not said enough yet.
    fn owner_of(&mut self, id: ListenerId, connection: &Connection) -> Option<Owner> {
        let by = self.sticky_by(self.listeners.get(&id)?)?.clone();
        if by == StickyBy::Ip {
            return Some(owner_at(connection));
        }
        let length = self.setup.means.peek.bytes.min(self.scratch.len());
        let space = self.scratch.get_mut(..length)?;
        // What cannot be read is not worth waiting for: the worker will see why.
        let received = match recv(&connection.socket, space, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN) => return None,
            Ok((received, _)) if received > 0 => received,
            Ok(_) | Err(_) => return Some(owner_at(connection)),
        };
        match look(&by, self.scratch.get(..received)?) {
            Looked::Client(client) => Some(Owner::Client(client)),
            Looked::TooLittle if received < length => None,
            Looked::TooLittle | Looked::Nothing => Some(owner_at(connection)),
            Looked::Encrypted => {
                self.tell_caveat(ENCRYPTED);
                Some(owner_at(connection))
            }
        }
    }

    /// Waits for the connection to say more.
    fn watch(&mut self, listener: ListenerId, connection: Connection) {
        while self.peeks.open.len() >= self.setup.means.peek.connections.max(1) {
            self.end_oldest_peek();
        }
        let number = self.peeks.next;
        self.peeks.next += 1;
        let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        let until = self.now + self.setup.means.peek.timeout;
        let is_watched =
            epoll::add(&self.poll, &connection.socket, Token::Peek(number).into(), interest).is_ok();
        self.peeks.open.insert(number, Peek { listener, connection, until });
        if !is_watched {
            self.end_peek(number, None);
        } else if self.peeks.open.len() == 1 {
            self.set_timer(until, Timer::Peeks);
        }
    }

    /// A connection that is looked at has said something more, or nothing more will come.
    pub(in crate::dataplane) fn note_peek(&mut self, number: u64) {
        let Some(peek) = self.peeks.open.remove(&number) else { return };
        let owner = self.owner_of(peek.listener, &peek.connection);
        self.peeks.open.insert(number, peek);
        if owner.is_some() {
            self.end_peek(number, owner);
        }
    }

    /// Looks no longer at a connection: it is this owner's, or known by its address.
    fn end_peek(&mut self, number: u64, owner: Option<Owner>) {
        let Some(Peek { listener, mut connection, .. }) = self.peeks.open.remove(&number) else { return };
        // Its description is about to become a worker's, and the kernel would go on watching that. (It fails where it was
        // never watched.)
        let _ = epoll::delete(&self.poll, &connection.socket);
        connection.owner = owner.unwrap_or_else(|| owner_at(&connection));
        if let Some(listener) = self.listeners.get_mut(&listener) {
            listener.waiting.push_back(connection);
        }
        // Not in this round of `dispatch`, which might never end then.
        self.set_timer(self.now, Timer::Listener(listener));
    }

    fn end_oldest_peek(&mut self) {
        if let Some((&number, _)) = self.peeks.open.first_key_value() {
            self.end_peek(number, None);
        }
    }

    /// All are given the same time, so the oldest is the first whose time is over.
    pub(in crate::dataplane) fn revisit_peeks(&mut self) {
        while let Some((_, peek)) = self.peeks.open.first_key_value() {
            if peek.until > self.now {
                let until = peek.until;
                return self.set_timer(until, Timer::Peeks);
            }
            self.end_oldest_peek();
        }
    }

    /// Everything stops: nobody waits for a client to say more.
    pub(in crate::dataplane) fn end_all_peeks(&mut self) {
        while !self.peeks.open.is_empty() {
            self.end_oldest_peek();
        }
    }

    /// Nobody is left to take what a listener's clients begin to say.
    pub(in crate::dataplane) fn forget_peeks(&mut self, id: ListenerId) {
        self.peeks.open.retain(|_, peek| peek.listener != id);
    }

    /// Hands over what waits for a worker, while it has room.
    fn serve_pending(&mut self, id: ListenerId, worker: WorkerId) {
        loop {
            let Some(listener) = self.listeners.get_mut(&id) else { return };
            let Some(taker) = listener.takers.iter().find(|taker| taker.worker == worker).cloned() else {
                return;
            };
            if !self.workers.get(&worker).is_some_and(crate::dataplane::worker::Worker::has_room) {
                return;
            }
            let Some(connection) =
                listener.pending.get_mut(&worker).and_then(std::collections::VecDeque::pop_front)
            else {
                return;
            };
            if let Err(connection) = self.hand_over(&taker, id, connection) {
                let desk = self.listeners.get_mut(&id).and_then(|listener| listener.pending.get_mut(&worker));
                if let Some(desk) = desk {
                    desk.push_front(connection);
                }
                return self.spare(worker, FULL_PAUSE);
            }
        }
    }
}

fn owner_at(connection: &Connection) -> Owner {
    address_of(connection.socket.as_fd()).map_or(Owner::Anybody, Owner::Client)
}

/// The client at the other end; none on a unix socket.
fn address_of(socket: BorrowedFd<'_>) -> Option<Client> {
    let address = SocketAddr::try_from(getpeername(socket).ok()??).ok()?;
    Some(Client::at(address.ip()))
}
