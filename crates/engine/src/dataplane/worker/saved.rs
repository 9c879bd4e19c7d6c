//! What is left of a worker to the program after this one.
//!
//! How its event loop is looked at, when it is looked at again and whether it was asked if it turns begin anew: that costs a few looks, and
//! until then what waits for a busy worker waits a moment longer. The supervisor has dealt with its messages before another program begins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use recluster_core::WorkerId;
use serde::{Deserialize, Serialize};

use super::{Drain, Got, InFlight, Places, Said, Server, TAKE_WAIT, Worker};
use crate::dataplane::channel::saved::SavedChannel;
use crate::dataplane::channel::{Channel, Limits};
use crate::dataplane::connection::{Connection, SavedConnection};
use crate::dataplane::interview::{Interview, SavedInterview};
use crate::dataplane::lasting::Lasting;
use crate::dataplane::messages::Standing;
use crate::dataplane::passing::{Passing, Taking};
use crate::dataplane::reactor::{ListenerId, Reactor, Timer, Token};
use crate::upgrade::{AdoptError, Moment, SaveError};

/// A worker as it is left.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::dataplane) struct SavedWorker {
    id: WorkerId,
    slot: u32,
    generation: u64,
    pid: Option<u32>,
    channel: SavedChannel,
    is_node: bool,
    servers: BTreeMap<String, Server>,
    in_flight: BTreeMap<u64, SavedInFlight>,
    standing: Option<Standing>,
    drain: Drain,
    leaving: bool,
    finishing: bool,
    said: Said,
    announced: BTreeSet<String>,
    paused_until: Option<Moment>,
    last_given: Option<Moment>,
    got: Got,
    lasting: Lasting,
    interview: SavedInterview,
    last_number: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedInFlight {
    listener: ListenerId,
    connection: SavedConnection,
}

impl Worker {
    pub(in crate::dataplane) fn save(&self, passing: &mut Passing<'_>) -> Result<SavedWorker, SaveError> {
        let name = format!("worker/{}", self.id);
        let mut in_flight = BTreeMap::new();
        for (number, sent) in &self.in_flight {
            let connection = sent.connection.save(&format!("{name}/connection/{number}"), passing)?;
            in_flight.insert(*number, SavedInFlight { listener: sent.listener, connection });
        }
        Ok(SavedWorker {
            id: self.id,
            slot: self.slot,
            generation: self.generation,
            pid: self.pid,
            channel: self.channel.save(&name, passing)?,
            is_node: self.is_node,
            servers: self.servers.clone(),
            in_flight,
            standing: self.standing,
            drain: self.drain,
            leaving: self.leaving,
            finishing: self.finishing,
            said: self.said,
            announced: self.announced.said.clone(),
            paused_until: self.paused_until.map(Moment::from),
            last_given: self.last_given.map(Moment::from),
            got: self.got,
            lasting: self.lasting,
            interview: self.interview.save(),
            last_number: self.last_number,
        })
    }

    /// It is looked at once as if everything had happened: what has is found by that.
    pub(in crate::dataplane) fn inherit(
        saved: SavedWorker,
        limits: Limits,
        taking: &mut Taking,
        reactor: &mut Reactor,
    ) -> Result<Self, AdoptError> {
        let mut in_flight = BTreeMap::new();
        for (number, SavedInFlight { listener, connection }) in saved.in_flight {
            let connection = Connection::inherit(connection, taking)?;
            in_flight.insert(number, InFlight { listener, connection });
        }
        let channel = Channel::inherit(saved.channel, limits, taking)?;
        let bytes = saved.announced.iter().map(String::len).sum();
        let worker = Self {
            generation: saved.generation,
            pid: saved.pid,
            servers: saved.servers,
            in_flight,
            standing: saved.standing,
            drain: saved.drain,
            leaving: saved.leaving,
            finishing: saved.finishing,
            said: saved.said,
            announced: Places { said: saved.announced, bytes },
            paused_until: saved.paused_until.map(Instant::from),
            last_given: saved.last_given.map(Instant::from),
            got: saved.got,
            lasting: saved.lasting,
            interview: Interview::inherit(saved.interview),
            last_number: saved.last_number,
            ..Self::new(saved.id, saved.slot, channel, saved.is_node)
        };
        let watched = reactor.watch(worker.channel.socket(), Token::Worker(worker.id));
        watched.map_err(|error| {
            AdoptError::Contradiction(format!(
                "the channel of worker {} cannot be watched: {error}",
                worker.id
            ))
        })?;
        let stuck_at =
            if let Drain::Taking { since, .. } = worker.drain { Some(since + TAKE_WAIT) } else { None };
        for at in [Some(reactor.now), worker.paused_until, stuck_at].into_iter().flatten() {
            reactor.set_timer(at, Timer::Worker(worker.id));
        }
        reactor.mark_unread(worker.id);
        Ok(worker)
    }
}
