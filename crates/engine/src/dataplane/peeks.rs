//! Connections whose clients are still to be known: the master looks at their first bytes without taking them (`MSG_PEEK`).
//! How many bytes, for how long and of how many connections at a time is limited; beyond a limit the address decides.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use serde::{Deserialize, Serialize};

use super::client_key::{Finding, find};
use super::connection::{Connection, Owner, SavedConnection};
use super::listener::Listeners;
use super::passing::{Passing, Taking};
use super::reactor::{ListenerId, Reactor, Timer, Token};
use super::reports::Reports;
use crate::config::balance::{PeekLimits, StickyBy};
use crate::upgrade::{AdoptError, Moment, SaveError};

/// The most bytes that are looked at.
const MOST_BYTES: usize = 64 * 1024;

/// What users are told, once, who want clients known by what turns out to be encrypted.
const ENCRYPTED: &str = "connections begin with TLS, which the master cannot look into: their clients are known by their \
                         addresses instead (--sticky-by)";

/// A connection that has not sent enough yet.
#[derive(Debug)]
struct Peek {
    listener: ListenerId,
    by: Rc<StickyBy>,
    connection: Connection,
    until: Instant,
}

/// Connections that have not sent enough yet.
#[derive(Debug)]
pub(super) struct Peeks {
    limits: PeekLimits,
    /// By their number, oldest first.
    open: BTreeMap<u64, Peek>,
    next: u64,
    /// Connections that are awaited no longer, and whose listeners are to get them back.
    ended: Vec<(ListenerId, Connection)>,
    bytes: Vec<u8>,
}

/// What is left to the program after this one. What has come of a connection meanwhile is looked at when it is watched again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedPeeks {
    open: BTreeMap<u64, SavedPeek>,
    next: u64,
    ended: Vec<(ListenerId, SavedConnection)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedPeek {
    listener: ListenerId,
    by: String,
    connection: SavedConnection,
    until: Moment,
}

impl Peeks {
    pub(super) fn save(&self, passing: &mut Passing<'_>) -> Result<SavedPeeks, SaveError> {
        let mut open = BTreeMap::new();
        for (number, Peek { listener, by, connection, until }) in &self.open {
            let connection = connection.save(&format!("peek/{number}"), passing)?;
            let (by, until) = (by.to_string(), (*until).into());
            open.insert(*number, SavedPeek { listener: *listener, by, connection, until });
        }
        let ended = self.ended.iter().enumerate().map(|(index, (listener, connection))| {
            Ok((*listener, connection.save(&format!("peeked/{index}"), passing)?))
        });
        Ok(SavedPeeks { open, next: self.next, ended: ended.collect::<Result<_, SaveError>>()? })
    }

    pub(super) fn inherit(
        saved: SavedPeeks,
        limits: PeekLimits,
        taking: &mut Taking,
        reactor: &mut Reactor,
    ) -> Result<Self, AdoptError> {
        let mut peeks = Self { next: saved.next, ..Self::new(limits) };
        for (number, SavedPeek { listener, by, connection, until }) in saved.open {
            let by = by.parse::<StickyBy>().map_err(|error| AdoptError::Contradiction(error.to_string()))?;
            let connection = Connection::inherit(connection, taking)?;
            let watched = reactor.watch(&connection.socket, Token::Peek(number));
            watched.map_err(|error| {
                AdoptError::Contradiction(format!("a connection cannot be watched: {error}"))
            })?;
            peeks.open.insert(number, Peek { listener, by: Rc::new(by), connection, until: until.into() });
        }
        for (listener, connection) in saved.ended {
            peeks.ended.push((listener, Connection::inherit(connection, taking)?));
        }
        reactor.set_timer(reactor.now, Timer::Peeks);
        Ok(peeks)
    }

    pub(super) fn new(limits: PeekLimits) -> Self {
        Self { limits, open: BTreeMap::new(), next: 0, ended: Vec::new(), bytes: Vec::new() }
    }

    /// Whose connection it is; none if it has not sent enough yet.
    pub(super) fn owner_of(
        &mut self,
        connection: &Connection,
        by: &StickyBy,
        reports: &mut Reports,
    ) -> Option<Owner> {
        if *by == StickyBy::Ip {
            return Some(connection.owner_by_address());
        }
        let length = self.limits.bytes.min(MOST_BYTES);
        self.bytes.resize(length, 0);
        let received =
            match recv(&connection.socket, &mut self.bytes[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return None,
                Ok((received, _)) if received > 0 => received,
                // What cannot be read is not worth waiting for: the worker will see why.
                Ok(_) | Err(_) => return Some(connection.owner_by_address()),
            };
        match find(by, self.bytes.get(..received)?) {
            Finding::Client(client) => Some(Owner::Client(client)),
            Finding::TooLittle if received < length => None,
            Finding::TooLittle | Finding::Nothing => Some(connection.owner_by_address()),
            Finding::Encrypted => {
                reports.caveat(ENCRYPTED);
                Some(connection.owner_by_address())
            }
        }
    }

    /// Waits for a connection to send more. Where too many are awaited, the oldest is so no longer.
    pub(super) fn wait_for(
        &mut self,
        connection: Connection,
        listener: ListenerId,
        by: Rc<StickyBy>,
        reactor: &mut Reactor,
    ) {
        while self.open.len() >= self.limits.connections.max(1) {
            self.end_oldest(reactor);
        }
        let number = self.next;
        self.next += 1;
        let until = reactor.now + self.limits.timeout;
        let is_watched = reactor.watch(&connection.socket, Token::Peek(number)).is_ok();
        self.open.insert(number, Peek { listener, by, connection, until });
        if !is_watched {
            self.end(number, None, reactor);
        } else if self.open.len() == 1 {
            reactor.set_timer(until, Timer::Peeks);
        }
    }

    /// A connection has sent more, or its client has ended it.
    pub(super) fn note(&mut self, number: u64, reactor: &mut Reactor, reports: &mut Reports) {
        let Some(peek) = self.open.remove(&number) else { return };
        let owner = self.owner_of(&peek.connection, &peek.by, reports);
        self.open.insert(number, peek);
        if owner.is_some() {
            self.end(number, owner, reactor);
        }
    }

    /// Awaits no connection whose time is over. All have the same time, so the oldest is the first.
    pub(super) fn end_overdue(&mut self, reactor: &mut Reactor) {
        while let Some((_, peek)) = self.open.first_key_value() {
            if peek.until > reactor.now {
                return reactor.set_timer(peek.until, Timer::Peeks);
            }
            self.end_oldest(reactor);
        }
    }

    /// Awaits no connection any more: everything stops.
    pub(super) fn end_all(&mut self, reactor: &mut Reactor) {
        while !self.open.is_empty() {
            self.end_oldest(reactor);
        }
    }

    /// Has the connections of one listener come back to another.
    pub(super) fn pass_on(&mut self, old: ListenerId, heir: ListenerId) {
        let open = self.open.values_mut().map(|peek| &mut peek.listener);
        let ended = self.ended.iter_mut().map(|(listener, _)| listener);
        open.chain(ended).filter(|listener| **listener == old).for_each(|listener| *listener = heir);
    }

    /// Drops the connections of a listener that is closed.
    pub(super) fn forget(&mut self, listener: ListenerId) {
        self.open.retain(|_, peek| peek.listener != listener);
    }

    /// Whether connections are about to go back to their listeners.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Gives connections that are awaited no longer to their listeners.
    pub(super) fn return_ended(&mut self, listeners: &mut Listeners) {
        for (listener, connection) in self.ended.drain(..) {
            if let Some(listener) = listeners.get_mut(&listener) {
                listener.waiting.push_back(connection);
            }
        }
    }

    fn end_oldest(&mut self, reactor: &mut Reactor) {
        if let Some((&number, _)) = self.open.first_key_value() {
            self.end(number, None, reactor);
        }
    }

    /// Awaits a connection no longer: it is this owner's, or known by its address.
    fn end(&mut self, number: u64, owner: Option<Owner>, reactor: &mut Reactor) {
        let Some(Peek { listener, mut connection, .. }) = self.open.remove(&number) else { return };
        // It is about to become a worker's, and the kernel would go on watching it.
        reactor.unwatch(&connection.socket);
        connection.owner = owner.unwrap_or_else(|| connection.owner_by_address());
        self.ended.push((listener, connection));
        // Not among the listeners of this turn, which might never end then.
        reactor.set_timer(reactor.now, Timer::Listener(listener));
    }
}
