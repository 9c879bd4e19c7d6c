//! What is left of a listener to the program after this one: its sockets, who uses it, and the connections that wait here.
//!
//! Whether something waits in a queue of the kernel is not left: all of them are looked at.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use recluster_core::WorkerId;
use recluster_wire::Json;
use recluster_wire::node::ListenerKey;
use serde::{Deserialize, Serialize};

use super::{Abandoned, Closing, Listener, Mode, Target};
use crate::config::balance::StickyBy;
use crate::dataplane::client_hash::Table;
use crate::dataplane::connection::{Connection, SavedConnection};
use crate::dataplane::group::Group;
use crate::dataplane::group::saved::SavedGroup;
use crate::dataplane::passing::{Passing, Taking};
use crate::dataplane::reactor::{ListenerId, Reactor, Timer};
use crate::dataplane::spares::{Keeping, SavedSpares, Spares};
use crate::report::worker::Address;
use crate::socket::file::{SavedFile, SocketFile};
use crate::upgrade::{AdoptError, Moment, SaveError, plain};

/// A listener as it is left.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::dataplane) struct SavedListener {
    id: ListenerId,
    identity: Option<ListenerKey>,
    socket: Option<String>,
    mode: Mode,
    deferred: Option<i32>,
    group: Option<SavedGroup>,
    spares: Option<SavedSpares>,
    keeping: Option<Keeping>,
    /// The number of the kernel's error.
    refusal: Option<i32>,
    #[serde(with = "plain")]
    address: Address,
    targets: Vec<Target>,
    rotation: usize,
    waiting: Vec<SavedConnection>,
    sticky_by: Option<String>,
    /// The slots of the table of clients.
    slots: Vec<u32>,
    pending: BTreeMap<WorkerId, Vec<SavedConnection>>,
    paused_until: Option<Moment>,
    closing: Option<Closing>,
    data: Option<Json>,
    trial_until: Option<Moment>,
    announced: bool,
    abandoned: Option<Abandoned>,
    proven: bool,
    unused_since: Option<Moment>,
    file: Option<SavedFile>,
}

impl Listener {
    pub(in crate::dataplane) fn save(&self, passing: &mut Passing<'_>) -> Result<SavedListener, SaveError> {
        let name = format!("listener/{}", self.id);
        let group = self.group.as_ref().map(|group| group.save(&name, passing)).transpose()?;
        let socket = self.socket.as_deref();
        let socket =
            socket.map(|socket| passing.descriptor(socket, &format!("{name}/socket"))).transpose()?;
        let spares = self.spares.as_ref().map(|spares| spares.save(&name, passing)).transpose()?;
        let mut pending = BTreeMap::new();
        for (worker, connections) in &self.pending {
            pending.insert(*worker, save_all(connections, &format!("{name}/pending/{worker}"), passing)?);
        }
        Ok(SavedListener {
            id: self.id,
            identity: self.identity.clone(),
            socket,
            mode: self.mode,
            deferred: self.deferred,
            group,
            spares,
            keeping: self.keeping.clone(),
            refusal: self.refusal.as_ref().map(|error| error.raw_os_error().unwrap_or(libc::EINVAL)),
            address: self.address.clone(),
            targets: self.targets.clone(),
            rotation: self.rotation,
            waiting: save_all(&self.waiting, &format!("{name}/waiting"), passing)?,
            sticky_by: self.sticky_by.as_deref().map(StickyBy::to_string),
            slots: self.table.slots().to_vec(),
            pending,
            paused_until: self.paused_until.map(Moment::from),
            closing: self.closing,
            data: self.data.clone(),
            trial_until: self.trial_until.map(Moment::from),
            announced: self.announced,
            abandoned: self.abandoned,
            proven: self.proven,
            unused_since: self.unused_since.map(Moment::from),
            file: self.file.as_ref().map(|file| file.save()),
        })
    }

    pub(in crate::dataplane) fn inherit(
        saved: SavedListener,
        taking: &mut Taking,
        reactor: &mut Reactor,
    ) -> Result<Self, AdoptError> {
        let wrong = |what: String| AdoptError::Contradiction(what);
        let by = saved.sticky_by.map(|by| by.parse::<StickyBy>()).transpose();
        let by = by.map_err(|error| wrong(error.to_string()))?;
        let mut pending = BTreeMap::new();
        for (worker, connections) in saved.pending {
            pending.insert(worker, inherit_all(connections, taking)?);
        }
        let listener = Self {
            id: saved.id,
            identity: saved.identity,
            group: saved.group.map(|group| Group::inherit(group, taking, reactor)).transpose()?,
            socket: saved.socket.map(|name| taking.shared(&name)).transpose()?,
            mode: saved.mode,
            deferred: saved.deferred,
            spares: saved.spares.map(|spares| Spares::inherit(spares, taking)).transpose()?,
            keeping: saved.keeping,
            refusal: saved.refusal.map(io::Error::from_raw_os_error),
            address: saved.address,
            targets: saved.targets,
            rotation: saved.rotation,
            waiting: inherit_all(saved.waiting, taking)?,
            sticky_by: by.map(Rc::new),
            table: Table::new(saved.slots),
            pending,
            acceptable: true,
            paused_until: saved.paused_until.map(Instant::from),
            closing: saved.closing,
            data: saved.data,
            trial_until: saved.trial_until.map(Instant::from),
            announced: saved.announced,
            abandoned: saved.abandoned,
            proven: saved.proven,
            unused_since: saved.unused_since.map(Instant::from),
            file: saved.file.map(|file| Arc::new(SocketFile::inherit(file))),
        };
        if listener.deferred.is_none() {
            let watched = listener.watch(reactor);
            watched.map_err(|error| wrong(format!("{} cannot be watched: {error}", listener.address)))?;
        }
        listener.look_again(reactor);
        Ok(listener)
    }

    /// Has it looked at at once, and when it would have been.
    fn look_again(&self, reactor: &mut Reactor) {
        let closing = self.closing.map(|(Closing::Refuse(at) | Closing::Close(at))| at);
        let abandoned = self.abandoned.and_then(|abandoned| abandoned.at);
        for at in [Some(reactor.now), self.paused_until, closing, abandoned].into_iter().flatten() {
            reactor.set_timer(at, Timer::Listener(self.id));
        }
        reactor.mark(self.id);
    }
}

fn save_all(
    connections: &VecDeque<Connection>,
    name: &str,
    passing: &mut Passing<'_>,
) -> Result<Vec<SavedConnection>, SaveError> {
    let all = connections.iter().enumerate();
    all.map(|(index, connection)| connection.save(&format!("{name}/{index}"), passing)).collect()
}

fn inherit_all(
    connections: Vec<SavedConnection>,
    taking: &mut Taking,
) -> Result<VecDeque<Connection>, AdoptError> {
    connections.into_iter().map(|connection| Connection::inherit(connection, taking)).collect()
}
