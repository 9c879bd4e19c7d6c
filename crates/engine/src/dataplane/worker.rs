//! One worker as the data plane knows it: its channel, its servers, and the connections on their way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use serde::{Deserialize, Serialize};

use super::channel::Channel;
use super::connection::Connection;
use super::idle::{EventLoop, Pace};
use super::interview::Interview;
use super::lasting::Lasting;
use super::messages::{Backlog, Fact, MOST_SERVERS_EACH, Standing};
use super::reactor::{ListenerId, Reactor, Timer};
use super::reports::Reports;
use crate::upgrade::moment;

/// How many connections may be on their way to one worker. More would wait in a busy worker while others are idle.
const MOST_IN_FLIGHT: usize = 8;
/// How many bytes all the places may have where one worker says that it listens.
const MOST_PLACES_BYTES: usize = 64 << 10;
/// How long a drain waits for connections on their way to be taken.
pub(super) const TAKE_WAIT: Duration = Duration::from_secs(1);
/// A worker whose last server closes after at least this long is on its way out. A shorter life is a probe for a
/// free port, as some libraries make one before the real server listens.
pub(super) const SERVER_LIFE: Duration = Duration::from_secs(1);

/// All workers with an open channel.
pub(super) type Workers = BTreeMap<WorkerId, Worker>;

/// A server of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Server {
    /// Counts the worker's requests to listen, in order.
    pub(super) number: u64,
    pub(super) listener: ListenerId,
    #[serde(with = "moment")]
    pub(super) opened: Instant,
    /// What the worker said of it, if it listens.
    pub(super) announced: Option<String>,
    /// When the worker has said so.
    #[serde(with = "moment::option")]
    pub(super) listens_since: Option<Instant>,
}

/// A connection that was sent, and that the worker has not yet said to have taken.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) listener: ListenerId,
    pub(super) connection: Connection,
}

/// How far the worker's drain has come; `drain` has the diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Drain {
    /// It is not draining.
    None,
    /// It is given nothing new, and takes what is on its way to it.
    Taking {
        #[serde(with = "moment")]
        since: Instant,
        #[serde(with = "moment")]
        until: Instant,
        /// For how long Node's disconnect is held back.
        held_back: Duration,
        /// The last connection that it was given has a moment before its application hears of the drain.
        spares_last: bool,
        /// When its application was told, if it has been.
        #[serde(with = "moment::option")]
        told_at: Option<Instant>,
    },
    /// It was told to disconnect.
    Disconnecting,
}

/// Something that is said once, when its time has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    #[default]
    Unwanted,
    Due,
    Said,
}

/// What is said of a worker, to it or by it: whether it was.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is said on its own")]
pub(super) struct Said {
    /// To the supervisor: the worker is online.
    pub(super) online: bool,
    /// To the supervisor: its last server has closed and was no mere probe, or the worker said that it leaves.
    pub(super) retiring: bool,
    /// To the application: it is let go.
    pub(super) drain: Word,
    /// To the supervisor: a message of its application was too long.
    pub(super) too_much: bool,
    /// To the supervisor: a message of its application has no end.
    pub(super) without_end: bool,
    /// By the worker: that it wants a socket, as Node does. Bun, which also tells where it listens, binds its own.
    pub(super) query: bool,
}

/// What is known of the connections that a worker has got.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Got {
    /// How many of those that were sent to it it has taken.
    pub(super) taken: u64,
    /// How many there are by its own count, if it counts: also those that it accepted by itself.
    pub(super) own_count: Option<u64>,
    /// It accepts by itself, at one address at least: the master does not see those connections.
    pub(super) accepts: bool,
}

/// Where a worker said that it listens, within bounds: what it says beyond them is not reported.
#[derive(Debug, Default)]
pub(super) struct Places {
    said: BTreeSet<String>,
    bytes: usize,
}

impl Places {
    /// Whether this is a place that it has not said, and there is room to remember it.
    pub(super) fn insert(&mut self, place: String) -> bool {
        let bytes = self.bytes.saturating_add(place.len());
        if self.said.len() >= MOST_SERVERS_EACH || bytes > MOST_PLACES_BYTES || !self.said.insert(place) {
            return false;
        }
        self.bytes = bytes;
        true
    }

    pub(super) fn remove(&mut self, place: &str) -> bool {
        let is_there = self.said.remove(place);
        self.bytes -= if is_there { place.len() } else { 0 };
        is_there
    }
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slot: u32,
    pub(super) generation: u64,
    pub(super) pid: Option<u32>,
    pub(super) channel: Channel,
    /// It is a Node process: connections can be sent to it.
    pub(super) is_node: bool,
    /// By the key that names the server on this channel.
    pub(super) servers: BTreeMap<String, Server>,
    /// By the number of the `newconn`.
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    pub(super) standing: Option<Standing>,
    pub(super) drain: Drain,
    /// It began its own disconnect: a second one from us would kill it.
    pub(super) leaving: bool,
    /// It had closed all its servers when it was told to disconnect, so that the disconnect waits for no connection; and it
    /// has not said that it has none.
    pub(super) finishing: bool,
    pub(super) said: Said,
    /// Where it said that it listens: each address is reported once.
    pub(super) announced: Places,
    /// Its messages that the supervisor has not dealt with.
    pub(super) backlog: Backlog,
    /// It is given no connection before then.
    pub(super) paused_until: Option<Instant>,
    pub(super) last_given: Option<Instant>,
    pub(super) got: Got,
    /// Its open connections.
    pub(super) lasting: Lasting,
    /// It was to be handed a connection, and was busy for so long that another worker got it.
    pub(super) passed_over_at: Option<Instant>,
    /// When it was asked whether its loop turns, if it has not answered yet.
    pub(super) pinged_at: Option<Instant>,
    /// The way to see whether its loop has anything to do.
    pub(super) event_loop: EventLoop,
    /// When that is looked for again, if it has not been found yet.
    pub(super) pace: Pace,
    /// What it says of itself.
    pub(super) interview: Interview,
    last_number: u64,
}

impl Worker {
    pub(super) fn new(id: WorkerId, slot: u32, channel: Channel, is_node: bool) -> Self {
        Self {
            id,
            slot,
            generation: 0,
            pid: None,
            channel,
            is_node,
            servers: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            standing: None,
            drain: Drain::None,
            leaving: false,
            finishing: false,
            said: Said::default(),
            announced: Places::default(),
            backlog: Backlog::default(),
            paused_until: None,
            last_given: None,
            got: Got { accepts: !is_node, ..Got::default() },
            lasting: Lasting::default(),
            passed_over_at: None,
            pinged_at: None,
            event_loop: EventLoop::default(),
            pace: Pace::default(),
            interview: Interview::default(),
            last_number: 0,
        }
    }

    /// A number for its next server. As its key it must be unique among the worker's live servers, or the worker dies.
    pub(super) fn new_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Whether it ever asked to listen, with success or not.
    pub(super) fn has_asked_to_listen(&self) -> bool {
        self.last_number > 0
    }

    /// How many connections it has got, if that is known: its own count comes a moment late.
    pub(super) fn connections(&self) -> Option<u64> {
        let Got { taken, own_count, accepts } = self.got;
        own_count.map(|count| count.max(taken)).or((!accepts).then_some(taken))
    }

    /// Reports, once, that it leaves of its own accord.
    pub(super) fn retires(&mut self, reactor: &mut Reactor, reports: &Reports) {
        if !std::mem::replace(&mut self.said.retiring, true) {
            self.mark_listeners(reactor);
            reports.fact(Fact::Retiring(self.id));
        }
    }

    /// Whether it leaves, by its own wish or by ours.
    pub(super) fn is_on_its_way_out(&self) -> bool {
        self.drain != Drain::None || self.leaving || self.said.retiring
    }

    /// Whether a connection can be sent to it at this moment.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < MOST_IN_FLIGHT && self.paused_until.is_none() && self.channel.takes_handles()
    }

    /// Whether it may still be given connections that waited when everything was told to stop.
    pub(super) fn takes_leftovers(&self) -> bool {
        self.drain != Drain::Disconnecting && !self.leaving
    }

    /// Whether it is to take what is on its way to it before it leaves, and has not for too long.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        let Drain::Taking { since, .. } = self.drain else { return false };
        !self.in_flight.is_empty() && !self.has_room() && since + TAKE_WAIT <= now
    }

    /// Has all listeners on which it has a server looked at.
    pub(super) fn mark_listeners(&self, reactor: &mut Reactor) {
        for server in self.servers.values() {
            reactor.mark(server.listener);
        }
    }

    /// Gives it no connection for a while.
    pub(super) fn pause(&mut self, span: Duration, reactor: &mut Reactor) {
        self.paused_until = Some(reactor.set_timer_in(span, Timer::Worker(self.id)));
    }

    /// Ends its pause if that is over.
    pub(super) fn resume(&mut self, now: Instant) {
        self.paused_until = self.paused_until.filter(|until| *until > now);
    }
}

pub(super) mod saved;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::channel::Limits;
    use crate::dataplane::fixtures::{channel, id};

    #[test]
    fn where_it_says_that_it_listens_is_remembered_within_bounds() {
        let mut places = Places::default();
        assert!(places.insert("127.0.0.1:80".to_owned()));
        assert!(!places.insert("127.0.0.1:80".to_owned()), "it has said that");
        let half = MOST_PLACES_BYTES / 2;
        assert!(places.insert("a".repeat(half)));
        assert!(!places.insert("b".repeat(half)), "that is too much together");
        assert!(!places.remove(&"b".repeat(half)));
        assert!(places.remove(&"a".repeat(half)) && places.insert("b".repeat(half)), "there is room again");
        assert_eq!(places.bytes, half + "127.0.0.1:80".len());
    }

    #[test]
    fn only_so_many_places_are_remembered_however_short_they_are() {
        let mut places = Places::default();
        let count = (0..2 * MOST_SERVERS_EACH).filter(|number| places.insert(number.to_string())).count();
        assert_eq!(count, MOST_SERVERS_EACH);
    }

    #[test]
    fn what_it_says_that_it_has_taken_counts_however_much_it_is() {
        let (channel, _far) = channel(Limits::AMPLE);
        let mut worker = Worker::new(id(1), 0, channel, true);
        worker.got.taken = 7;
        assert_eq!(worker.connections(), Some(7));
        worker.got.own_count = Some(u64::MAX);
        assert_eq!(worker.connections(), Some(u64::MAX));
    }
}
