//! One worker as the data plane knows it: its channel, its servers, and the connections on their way to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::node::ToWorker;

use super::channel::{Channel, Poison};
use super::listener::{Connection, ListenerId};

/// How many connections may be on their way to one worker. More would wait in a busy worker while others are idle.
const WINDOW: usize = 8;
/// How many servers one worker may have.
pub(super) const SERVERS: usize = 1024;
/// How long a worker that is out of descriptors is spared.
pub(super) const NACK_PAUSE: Duration = Duration::from_millis(100);
/// How long a drain waits for connections on their way to be taken.
const TAKE_WAIT: Duration = Duration::from_secs(1);
/// How long after the last hand-over a disconnect is held back: Node 26 resets a connection that a disconnect
/// follows at once, although it was accepted.
const SETTLE: Duration = Duration::from_millis(100);

/// What a worker may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Connections.
    Serving,
    /// Connections of listeners on which nobody serves.
    Standby,
}

/// A server of a worker.
#[derive(Debug)]
pub(super) struct Server {
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
    Taking { since: Instant },
    /// It has been told to disconnect.
    Told,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) worker: WorkerId,
    pub(super) channel: Channel,
    /// By the key that names the server on this channel.
    pub(super) servers: BTreeMap<String, Server>,
    /// By the number of the `newconn`.
    pub(super) on_their_way: BTreeMap<u64, OnItsWay>,
    pub(super) standing: Option<Standing>,
    pub(super) drain: Drain,
    /// It began its own disconnect: a second one from us would kill it.
    pub(super) leaving: bool,
    /// Its last server closed after a life worth the name, or it said so: the driver was told.
    pub(super) retiring: bool,
    pub(super) online: bool,
    /// It is given no connection before then.
    pub(super) spared_until: Option<Instant>,
    pub(super) last_given: Option<Instant>,
    /// How many connections it has taken.
    pub(super) taken: u64,
    next_key: u64,
}

impl Peer {
    pub(super) fn new(worker: WorkerId, channel: Channel) -> Self {
        Self {
            worker,
            channel,
            servers: BTreeMap::new(),
            on_their_way: BTreeMap::new(),
            standing: None,
            drain: Drain::None,
            leaving: false,
            retiring: false,
            online: false,
            spared_until: None,
            last_given: None,
            taken: 0,
            next_key: 0,
        }
    }

    /// A key for its next server. It must be unique among the worker's live servers, or the worker dies.
    pub(super) fn new_key(&mut self) -> String {
        self.next_key += 1;
        self.next_key.to_string()
    }

    /// Whether a connection can be handed to it at this moment.
    pub(super) fn has_room(&self) -> bool {
        self.on_their_way.len() < WINDOW && self.spared_until.is_none() && self.channel.takes_handles()
    }

    /// Whether it may still be given connections that were waiting when everything was told to stop.
    pub(super) fn takes_leftovers(&self) -> bool {
        self.drain != Drain::Told && !self.leaving
    }

    /// When the next step of the drain is due, if one is: when the wait for what is on its way is over, and the
    /// worker has had a moment with what it took last.
    pub(super) fn drain_step_at(&self, leftovers_wait: bool) -> Option<Instant> {
        let Drain::Taking { since } = self.drain else { return None };
        let settled = self.last_given.map_or(since, |given| given + SETTLE);
        let all_taken = self.on_their_way.is_empty() && !leftovers_wait;
        Some(if all_taken { settled } else { (since + TAKE_WAIT).max(settled) })
    }

    /// Says goodbye: the words of the application first, then Node's own disconnect, once.
    pub(super) fn tell_to_disconnect(&mut self) -> Result<(), Poison> {
        self.drain = Drain::Told;
        self.channel.send(&ToWorker::UserDisconnect)?;
        if !self.leaving {
            let seq = self.channel.seq();
            self.channel.send(&ToWorker::Disconnect { seq })?;
        }
        Ok(())
    }
}
