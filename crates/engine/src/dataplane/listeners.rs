//! All listeners: opened when a worker asks, closed when no worker will want them again, stopped when everything stops.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use recluster_wire::node::{ListenerKey, QueryServer, SocketKind};
use rustix::net::sockopt;

use super::beside::{self, REFUSE_SPAN};
use super::handover::take_all;
use super::inherited::{self, AllInherited, Inherited};
use super::keeping;
use super::listener::{Closing, Listener, Listeners, Mode};
use super::messages::{Fact, Standing};
use super::peeks::Peeks;
use super::reactor::{ListenerId, Reactor, Timer};
use super::reports::Reports;
use super::spares::Keeping;
use super::worker::{SERVER_LIFE, Worker, Workers};
use crate::config::balance::Balance;
use crate::report::worker::Address;
use crate::socket::kept::{KeptName, Pool};
use crate::socket::lend::{Lender, Lent, inode_of_socket};
use crate::socket::short_path::{is_short_from, too_long};

/// How long a listener that no worker uses is kept, in case a new worker comes to its second port late.
const UNUSED_LINGER: Duration = Duration::from_secs(5);
/// How many listeners that no worker uses are kept: a worker that opens and closes servers for ever must not use all
/// descriptors up.
const MOST_UNUSED: usize = 64;
/// How long workers go on accepting by themselves at a stop. It is over, and [`REFUSE_SPAN`] with it, before they are told
/// to go.
const LAST_CALL: Duration = Duration::from_millis(80);

/// Opens listeners.
#[derive(Debug)]
pub(super) struct Opener {
    /// None once everything stops.
    inherited: AllInherited,
    lender: Lender,
    /// Where the sockets were bound that were lent, by their numbers.
    lent: BTreeMap<i32, Address>,
    /// What a service manager has kept.
    pool: Pool,
    /// It is to keep what is opened.
    keeps: bool,
    /// When what came back and nobody wants is closed.
    unwanted_at: Option<Instant>,
    next: ListenerId,
}

impl Opener {
    pub(super) fn new(inherited: AllInherited, lender: Lender, pool: Pool, keeps: bool) -> Self {
        Self { inherited, lender, lent: BTreeMap::new(), pool, keeps, unwanted_at: None, next: 0 }
    }

    /// The listener that a worker's query means: one that is open already, or a new one. A worker that is on it already
    /// gets a new bind all the same, and with it the error that it would have got without a cluster.
    pub(super) fn find_or_open(
        &mut self,
        query: &QueryServer,
        worker: &Worker,
        mode: Mode,
        balance: &Balance,
        listeners: &mut Listeners,
        reactor: &Reactor,
    ) -> io::Result<ListenerId> {
        let meant = inherited::meant_by(query, &self.inherited);
        let identity = meant.map_or_else(|| ListenerKey::from(query), inherited::identity);
        let is_meant = |listener: &&mut Listener| {
            listener.identity.as_ref() == Some(&identity) || listener.is_found_by(&identity)
        };
        let known = listeners.values_mut().find(is_meant);
        let is_first = known.is_none();
        if let Some(listener) = known
            && !listener.is_used_by(worker.id)
        {
            listener.identity = Some(identity);
            return Ok(listener.id);
        }
        let inherited = meant.and_then(|number| self.inherited.get_mut(&number).map(|it| (number, it)));
        let mut listener = match inherited {
            Some((number, inherited)) if is_first || query.fd.is_some() => {
                inherited.is_used = true;
                let mut listener = Listener::adopt(number, &inherited.socket, mode)?;
                listener.set_aside(std::mem::take(&mut inherited.others), reactor.now);
                listener
            }
            _ if query.fd.is_some() => self.borrow(query, mode, listeners)?,
            _ if can_say_path(worker, query) => {
                self.open(query, worker, mode, is_first, listeners, reactor)?
            }
            _ => return Err(too_long()),
        };
        listener.id = self.next;
        listener.trial_until =
            (worker.standing == Some(Standing::Serving)).then(|| reactor.now + SERVER_LIFE);
        listener.identity = is_first.then_some(identity);
        listener.set_balance(balance);
        if listener.deferred.is_none()
            && let Err(error) = listener.watch(reactor)
        {
            self.put_back(listener, reactor);
            return Err(error);
        }
        self.next += 1;
        let id = listener.id;
        listeners.insert(id, listener);
        Ok(id)
    }

    /// There is not enough of something for a listener to be used: what came back is there for the next worker that asks.
    fn put_back(&mut self, mut listener: Listener, reactor: &Reactor) {
        listener.unwatch(reactor);
        let Address::Fd(number) = listener.address else {
            return keeping::put_back(listener, &mut self.pool);
        };
        if let Some(inherited) = self.inherited.get_mut(&number) {
            inherited.others.extend(listener.spares.take().into_iter().flat_map(|spares| spares.sockets));
            inherited.is_used = false;
        }
    }

    /// Uses what a service manager has kept, or binds what the worker asks for.
    fn open(
        &mut self,
        query: &QueryServer,
        worker: &Worker,
        mode: Mode,
        is_first: bool,
        listeners: &Listeners,
        reactor: &Reactor,
    ) -> io::Result<Listener> {
        let place = keeping::wanted(query);
        if let Some(place) = place.as_ref().filter(|_| is_first)
            && let Some(listener) = keeping::adopt(&mut self.pool, place, query, mode, reactor)?
        {
            return Ok(listener);
        }
        // The file of a unix socket that we have open ourselves is not stale.
        let mut listener = match Listener::bind(query, mode, is_first) {
            Err(error) if is_in_use(&error) => {
                self.open_beside(query, worker, mode, listeners)?.ok_or(error)?
            }
            bound => bound?,
        };
        if self.keeps && place.is_some() {
            let file = listener.file.as_ref().map(|file| file.identity());
            listener.keeping = Some(Keeping::new(self.pool.number(), file));
        }
        Ok(listener)
    }

    /// Binds what the worker asks for beside what is in its way, if that is ours and may be. What a service manager has kept there
    /// stays until a worker serves here.
    fn open_beside(
        &self,
        query: &QueryServer,
        worker: &Worker,
        mode: Mode,
        listeners: &Listeners,
    ) -> io::Result<Option<Listener>> {
        let has_rivals = beside::make_room(query, worker, listeners);
        let is_beside_kept = keeping::wanted(query).is_some_and(|place| self.pool.share(&place));
        if !has_rivals && !is_beside_kept {
            return Ok(None);
        }
        let mut listener = Listener::bind_beside(query, mode)?;
        if !has_rivals && let Some(backlog) = listener.deferred.take() {
            listener.fd().map_or(Ok(()), |socket| rustix::net::listen(socket, backlog))?;
        }
        Ok(Some(listener))
    }

    /// Everything stops. What the manager keeps all the same, since a start has failed, is left to the next master.
    pub(super) fn leave(
        &mut self,
        listeners: &mut Listeners,
        kept: &BTreeSet<KeptName>,
        reactor: &mut Reactor,
    ) {
        self.pool.leave(kept);
        for listener in listeners.values_mut() {
            keeping::leave(listener, self.kept_name(listener), kept, reactor);
        }
    }

    /// By which name a service manager keeps the socket of this listener, if the master has bound it before any worker asked.
    fn kept_name(&self, listener: &Listener) -> Option<KeptName> {
        let Address::Fd(number) = &listener.address else { return None };
        self.inherited.get(number)?.kept
    }

    /// What a service manager has kept and nobody has asked for.
    pub(super) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Closes what a service manager has kept and no worker has asked for by now.
    pub(super) fn close_unwanted(&mut self, reactor: &mut Reactor, reports: &Reports) {
        let has_others = |it: &Inherited| !it.is_used && !it.others.is_empty();
        if self.pool.is_empty() && !self.inherited.values().any(has_others) {
            return;
        }
        let closes_at = *self.unwanted_at.get_or_insert(reactor.now + UNUSED_LINGER);
        if closes_at > reactor.now {
            reactor.set_timer(closes_at, Timer::Unwanted);
            return;
        }
        let (addresses, mut names) = self.pool.close();
        let others =
            self.inherited.values_mut().filter(|it| has_others(it)).flat_map(|it| it.others.drain(..));
        names.extend(others.map(|(name, _)| name));
        let (names, addresses) =
            (names.into_iter().map(Fact::Forget), addresses.into_iter().map(Fact::Closed));
        names.chain(addresses).for_each(|fact| reports.fact(fact));
    }

    /// Uses a socket of somebody else in this process, by its number there.
    fn borrow(&mut self, query: &QueryServer, mode: Mode, listeners: &Listeners) -> io::Result<Listener> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let number = query.fd.ok_or_else(invalid)?;
        let wants_datagrams = query.kind.is_some_and(SocketKind::is_udp);
        let Lent { socket, address, inode } = self.lender.lend(number, wants_datagrams)?;
        let number = i32::try_from(number).map_err(|_| invalid())?;
        // What the cluster has opened by itself has numbers as well, which nobody was told.
        if is_own(number, inode, listeners) {
            return Err(invalid());
        }
        if !wants_datagrams {
            begin_to_listen(&socket, query)?;
        }
        let listener = Listener::adopt(number, &socket, mode)?;
        self.lent.insert(number, address);
        Ok(listener)
    }

    /// What of ours has the address that a query asks for.
    pub(super) fn in_the_way(&self, query: &QueryServer, listeners: &Listeners) -> Option<Address> {
        let place = beside::place_of(query)?;
        let inherited = |it: &&Inherited| it.place.as_ref().is_some_and(|own| own.overlaps(&place));
        let inherited = self.inherited.values().find(inherited).map(|it| &it.address);
        inherited.or_else(|| beside::in_the_way(&place, listeners)).cloned()
    }

    /// A worker that is not Node listens here, and has not asked for that.
    pub(super) fn is_listened_on(&mut self, address: &Address) {
        let there = self.inherited.values_mut().filter(|inherited| inherited.address == *address);
        there.for_each(|inherited| inherited.is_announced = true);
    }

    /// What no worker has asked for, nor said that it listens there.
    pub(super) fn unused(&self) -> Vec<Address> {
        let unused =
            self.inherited.values().filter(|inherited| !inherited.is_used && !inherited.is_announced);
        unused.map(|inherited| inherited.address.clone()).collect()
    }

    /// The address of a listener, also of one that workers know by its number.
    pub(super) fn address_of<'a>(&'a self, listener: &'a Listener) -> &'a Address {
        let Address::Fd(number) = &listener.address else { return &listener.address };
        let inherited = self.inherited.get(number).map(|inherited| &inherited.address);
        inherited.or_else(|| self.lent.get(number)).unwrap_or(&listener.address)
    }

    /// Everything stops: sockets that the master was started with are closed, and none is lent.
    pub(super) fn close_inherited(&mut self) {
        self.inherited.clear();
        self.lender = Lender::default();
        self.pool.close();
    }
}

pub(super) mod saved;

/// Whether the cluster has opened this socket itself, or the number is that of a copy which it has.
fn is_own(number: i32, inode: u64, listeners: &Listeners) -> bool {
    listeners.values().any(|listener| {
        let is_lent = matches!(listener.address, Address::Fd(_));
        listener.sockets().any(|socket| {
            let is_same = || inode_of_socket(socket).is_ok_and(|known| known == inode);
            socket.as_raw_fd() == number || (!is_lent && is_same())
        })
    })
}

/// A socket that is merely bound begins to listen, as Node has it do.
fn begin_to_listen(socket: &OwnedFd, query: &QueryServer) -> io::Result<()> {
    if sockopt::socket_acceptconn(socket)? {
        return Ok(());
    }
    Ok(rustix::net::listen(socket, query.listen_backlog())?)
}

/// Whether the path of a unix socket is short enough from where the worker is, as without a cluster: Node makes it absolute.
fn can_say_path(worker: &Worker, query: &QueryServer) -> bool {
    let path = query.address.as_deref().filter(|_| query.kind == Some(SocketKind::Unix)).map(Path::new);
    let directory = || fs::read_link(format!("/proc/{}/cwd", worker.pid.filter(|_| worker.is_node)?)).ok();
    path.is_none_or(|path| directory().is_none_or(|directory| is_short_from(&directory, path)))
}

pub(super) fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Closes listeners that no worker will want again: at once where no worker that serves ever used them (a port that only a
/// rolled-back generation opened), else after a while. Not before the supervisor has `settled`, unless there are too many.
pub(super) fn close_unused(
    listeners: &mut Listeners,
    workers: &Workers,
    is_settled: bool,
    peeks: &mut Peeks,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    for listener in listeners.values_mut() {
        beside::begin(listener, workers, reactor, reports);
    }
    let all = listeners.values_mut();
    let unused = all.filter_map(|listener| (!note_use(listener, workers, is_settled)).then_some(listener.id));
    let unused: Vec<ListenerId> = unused.collect();
    let too_many = unused.len().saturating_sub(MOST_UNUSED);
    for (number, id) in unused.into_iter().enumerate() {
        let heir = listeners.get(&id).and_then(|old| beside::heir(old, listeners, workers));
        let Some(listener) = listeners.get_mut(&id) else { continue };
        let is_over = match heir.filter(|_| is_settled) {
            Some(heir) => beside::give_way(id, heir, listeners, workers, peeks, reactor),
            None => is_settled && is_unused_for_good(listener, reactor),
        };
        if number < too_many || is_over {
            close(id, listeners, peeks, reactor, reports);
        }
    }
}

/// Closes a listener, and what waits there.
pub(super) fn close(
    id: ListenerId,
    listeners: &mut Listeners,
    peeks: &mut Peeks,
    reactor: &Reactor,
    reports: &Reports,
) {
    let Some(mut listener) = listeners.remove(&id) else { return };
    listener.unwatch(reactor);
    keeping::forget(&mut listener, reports);
    peeks.forget(id);
    // One that the master was started with stays open here.
    if listener.announced && !matches!(listener.address, Address::Fd(_)) {
        reports.fact(Fact::Closed(listener.address));
    }
}

/// Whether a wanted worker uses the listener.
fn note_use(listener: &mut Listener, workers: &Workers, is_settled: bool) -> bool {
    let mut is_used = false;
    for standing in listener.targets.iter().filter_map(|target| workers.get(&target.worker)?.standing) {
        is_used = true;
        listener.proven |= standing == Standing::Serving;
    }
    if is_used || !is_settled {
        listener.unused_since = None;
    }
    is_used
}

/// Whether an unused listener has been so for long enough; if not, it is looked at again.
fn is_unused_for_good(listener: &mut Listener, reactor: &mut Reactor) -> bool {
    if !listener.proven && !listener.is_owed() {
        return true;
    }
    let closes_at = *listener.unused_since.get_or_insert(reactor.now) + UNUSED_LINGER;
    reactor.set_timer(closes_at, Timer::Listener(listener.id));
    closes_at <= reactor.now
}

/// Everything stops. What waits in the kernel's queues is taken, to be sent to workers before these are told to go, and the
/// sockets are closed. Where workers accept, they go on for [`LAST_CALL`].
pub(super) fn stop_all(listeners: &mut Listeners, reactor: &mut Reactor) {
    for listener in listeners.values_mut() {
        if !listener.has_handshakes() {
            listener.refuse_on_unix();
            stop(listener, reactor);
        } else if listener.mode == Mode::RoundRobin {
            refuse(listener, reactor);
        } else {
            let at = reactor.set_timer_in(LAST_CALL, Timer::Listener(listener.id));
            listener.closing = Some(Closing::Refuse(at));
            // What was to be handed out comes to workers from now on.
            reactor.mark(listener.id);
        }
    }
}

/// Takes the next step of a stop.
///
/// A socket that is closed resets what is in its queue, and a connection may come just before. So no connection begins any more, and
/// a moment later what has come is taken: also from workers that accept, shortly before they are told to go.
pub(super) fn step_stop(listener: &mut Listener, reactor: &mut Reactor) {
    match listener.closing {
        Some(Closing::Refuse(at)) if at <= reactor.now => refuse(listener, reactor),
        Some(Closing::Close(at)) if at <= reactor.now => stop(listener, reactor),
        Some(Closing::Refuse(_) | Closing::Close(_)) | None => {}
    }
}

/// Lets no connection begin; those that have begun come for a moment yet.
fn refuse(listener: &mut Listener, reactor: &mut Reactor) {
    listener.refuse_connections();
    let at = reactor.set_timer_in(REFUSE_SPAN, Timer::Listener(listener.id));
    listener.closing = Some(Closing::Close(at));
}

fn stop(listener: &mut Listener, reactor: &mut Reactor) {
    let is_stream = listener.is_stream();
    keeping::stop_spares(listener);
    let Listener { group, socket, waiting, .. } = listener;
    let members = group.iter().flat_map(|group| &group.members).map(|member| &member.socket);
    for socket in members.chain(&*socket).filter(|_| is_stream) {
        take_all(socket, waiting);
    }
    listener.closing = None;
    listener.unwatch(reactor);
    listener.close_sockets();
    reactor.mark(listener.id);
}

/// At a stop, closes sockets and connections that no worker is left to take from, so that their clients need not wait for
/// the end.
pub(super) fn give_up_leftovers(listeners: &mut Listeners, workers: &Workers, reactor: &Reactor) {
    for listener in listeners.values_mut() {
        let mut users = listener.targets.iter().filter_map(|target| workers.get(&target.worker));
        if !users.any(Worker::takes_leftovers) {
            listener.give_up();
            listener.unwatch(reactor);
            listener.close_sockets();
        }
    }
}

#[cfg(test)]
mod tests;
