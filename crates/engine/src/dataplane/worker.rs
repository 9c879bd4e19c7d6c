//! One worker as the data plane knows it: its channel, its servers, and the connections on their way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::node::ToWorker;

use super::channel::{Channel, ProtocolViolation};
use super::listener::{Connection, ListenerId};
use super::messages::{Backlog, Standing};

/// How many connections may be on their way to one worker. More would wait in a busy worker while others are idle.
const WINDOW: usize = 8;
/// How many servers one worker may have.
pub(super) const SERVERS: usize = 1024;
/// How long a worker that is out of descriptors is spared.
pub(super) const NACK_PAUSE: Duration = Duration::from_millis(100);
/// How long a drain waits for connections on their way to be taken.
pub(super) const TAKE_WAIT: Duration = Duration::from_secs(1);
/// How long Node's disconnect is held back. After a hand-over, because Node 26 resets a connection that a disconnect
/// follows at once, although it was accepted; and after the word to the application, so that one that closes its
/// servers itself has done so before Node does.
const SETTLE: Duration = Duration::from_millis(100);

/// A server of a worker.
#[derive(Debug)]
pub(super) struct Server {
    /// Counts what the worker asked for, in order.
    pub(super) number: u64,
    pub(super) listener: ListenerId,
    pub(super) opened: Instant,
}

/// A connection that was sent and not yet taken.
#[derive(Debug)]
pub(super) struct OnItsWay {
    pub(super) listener: ListenerId,
    pub(super) connection: Connection,
}

/// How far the worker's drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    /// It is not draining.
    None,
    /// It is given nothing new; what is on its way to it is being taken.
    Taking { since: Instant, until: Instant, held_back: Duration },
    /// It has been told to disconnect.
    Told,
}

/// What the supervisor was told of a worker, and need not be told again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) online: bool,
    /// Not the supervisor but the application was told, that it is let go.
    pub(super) drain: bool,
    /// Its last server closed after a life worth the name, or it said that it leaves.
    pub(super) retiring: bool,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slot: u32,
    pub(super) channel: Channel,
    /// It is a Node process: connections can be handed to it.
    pub(super) is_node: bool,
    /// By the key that names the server on this channel.
    pub(super) servers: BTreeMap<String, Server>,
    /// By the number of the `newconn`.
    pub(super) on_their_way: BTreeMap<u64, OnItsWay>,
    pub(super) standing: Option<Standing>,
    pub(super) drain: Drain,
    /// It began its own disconnect: a second one from us would kill it.
    pub(super) leaving: bool,
    pub(super) told: Told,
    /// It had closed all its servers when it was told to disconnect, so that the disconnect waits for no connection.
    pub(super) finishing: bool,
    /// Where it said that it listens: each address is worth telling once.
    pub(super) announced: BTreeSet<String>,
    /// Its messages that the supervisor has not dealt with.
    pub(super) backlog: Backlog,
    /// It is given no connection before then.
    pub(super) spared_until: Option<Instant>,
    pub(super) last_given: Option<Instant>,
    /// How many connections it has taken of those that it was handed.
    pub(super) taken: u64,
    /// How many connections it has got by its own count, if it counts: also those that it accepted by itself.
    pub(super) counted: Option<u64>,
    /// When it was asked whether its loop turns, if it has not answered yet.
    pub(super) asked: Option<Instant>,
    last_number: u64,
}

impl Worker {
    pub(super) fn new(id: WorkerId, slot: u32, channel: Channel, is_node: bool) -> Self {
        Self {
            id,
            slot,
            channel,
            is_node,
            servers: BTreeMap::new(),
            on_their_way: BTreeMap::new(),
            standing: None,
            drain: Drain::None,
            leaving: false,
            told: Told::default(),
            finishing: false,
            announced: BTreeSet::new(),
            backlog: Backlog::default(),
            spared_until: None,
            last_given: None,
            taken: 0,
            counted: None,
            asked: None,
            last_number: 0,
        }
    }

    /// A number for its next server. As its key it must be unique among the worker's live servers, or the worker dies.
    pub(super) fn new_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// How many connections it has got, as far as anybody knows: its own count comes a moment late.
    pub(super) fn connections(&self) -> u64 {
        self.counted.unwrap_or(0).max(self.taken)
    }

    /// Whether it leaves, by its own wish or by ours.
    pub(super) fn is_on_its_way_out(&self) -> bool {
        self.drain != Drain::None || self.leaving || self.told.retiring
    }

    /// Whether a connection can be handed to it at this moment.
    pub(super) fn has_room(&self) -> bool {
        self.on_their_way.len() < WINDOW && self.spared_until.is_none() && self.channel.takes_handles()
    }

    /// Whether it may still be given connections that were waiting when everything was told to stop.
    pub(super) fn takes_leftovers(&self) -> bool {
        self.drain != Drain::Told && !self.leaving
    }

    /// Tells the preload that the worker is let go, and holds Node's disconnect back. A worker that accepts by itself is given new connections until it hears the disconnect, so it hears that at once.
    pub(super) fn begin_drain(
        &mut self,
        since: Instant,
        until: Instant,
        grace: Option<Duration>,
        accepts_itself: bool,
    ) -> Result<(), ProtocolViolation> {
        let held_back = if accepts_itself { Duration::ZERO } else { SETTLE };
        self.drain = Drain::Taking { since, until, held_back };
        if let Some(grace) = grace {
            self.channel.send(&ToWorker::Drain { grace })?;
        }
        Ok(())
    }

    /// Tells the application, once. The preload has heard of it before, so that an application that closes its servers at
    /// the word closes none of their connections.
    pub(super) fn tell_of_drain(&mut self) -> Result<(), ProtocolViolation> {
        if std::mem::replace(&mut self.told.drain, true) {
            return Ok(());
        }
        self.channel.send(&ToWorker::UserDisconnect)
    }

    /// When Node's disconnect is due, if it is to be said: when the wait for what is on its way is over, and the worker
    /// has had a moment with what it took last. Leftovers of a stop are waited for as long as half of its patience.
    pub(super) fn disconnect_at(&self, leftovers_wait: bool) -> Option<Instant> {
        let Drain::Taking { since, until, held_back } = self.drain else { return None };
        let settled = self.last_given.unwrap_or(since).max(since) + held_back;
        Some(if leftovers_wait {
            settled.max(since + until.saturating_duration_since(since) / 2)
        } else if self.on_their_way.is_empty() {
            settled
        } else {
            settled.max(since + TAKE_WAIT)
        })
    }

    /// Node's own disconnect, once; not to a worker that began its own, since a second one kills it.
    pub(super) fn tell_to_disconnect(&mut self) -> Result<(), ProtocolViolation> {
        self.drain = Drain::Told;
        if self.leaving {
            return Ok(());
        }
        self.finishing = self.servers.is_empty() && self.last_number > 0;
        let seq = self.channel.seq();
        self.channel.send(&ToWorker::Disconnect { seq })
    }
}
