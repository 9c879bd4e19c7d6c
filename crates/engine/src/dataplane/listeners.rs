//! All listeners: opened when a worker asks, closed when no worker will want them again, stopped when everything stops.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use recluster_wire::node::{ListenerKey, QueryServer};

use super::handover::take_all;
use super::listener::{Closing, Listener, Listeners, Mode};
use super::messages::Standing;
use super::peeks::Peeks;
use super::reactor::{ListenerId, Reactor, Timer};
use super::worker::{Worker, Workers};
use crate::config::balance::Balance;

/// How long a listener that no worker uses is kept, in case a new worker comes to its second port late.
const UNUSED_LINGER: Duration = Duration::from_secs(5);
/// How many listeners that no worker uses are kept: a worker that opens and closes servers for ever must not use all
/// descriptors up.
const MOST_UNUSED: usize = 64;
/// How long workers go on accepting by themselves at a stop. It is over, and [`REFUSE_SPAN`] with it, before they are told
/// to go.
const LAST_CALL: Duration = Duration::from_millis(80);
/// How long a socket refuses new connections before it is closed: for handshakes that are under way.
const REFUSE_SPAN: Duration = Duration::from_millis(10);

/// Opens listeners.
#[derive(Debug)]
pub(super) struct Opener {
    /// Sockets that the master was started with, by the number that workers know them by.
    inherited: BTreeMap<i32, OwnedFd>,
    next: ListenerId,
}

impl Opener {
    pub(super) fn new(inherited: BTreeMap<i32, OwnedFd>) -> Self {
        Self { inherited, next: 0 }
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
        let identity = ListenerKey::from(query);
        let known = listeners.values().find(|listener| listener.identity.as_ref() == Some(&identity));
        if let Some(listener) = known
            && !listener.is_used_by(worker.id)
        {
            return Ok(listener.id);
        }
        let is_first = known.is_none();
        let mut listener = match query.fd.map(i32::try_from) {
            // The file of a unix socket that we have open ourselves is not stale.
            None => Listener::bind(query, mode, is_first)?,
            Some(number) => {
                let number = number.map_err(io::Error::other)?;
                let socket = self.inherited.get(&number);
                let socket = socket.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
                Listener::adopt(number, socket, mode)?
            }
        };
        listener.id = self.next;
        listener.identity = is_first.then_some(identity);
        listener.set_balance(balance);
        listener.watch(reactor)?;
        self.next += 1;
        let id = listener.id;
        listeners.insert(id, listener);
        Ok(id)
    }

    /// Everything stops: sockets that the master was started with are closed.
    pub(super) fn close_inherited(&mut self) {
        self.inherited.clear();
    }
}

/// Closes listeners that no worker will want again: at once where no worker that serves ever used them (a port that only a
/// rolled-back generation opened), else after a while. Not before the supervisor has `settled`, unless there are too many.
pub(super) fn close_unused(
    listeners: &mut Listeners,
    workers: &Workers,
    is_settled: bool,
    peeks: &mut Peeks,
    reactor: &mut Reactor,
) {
    let all = listeners.values_mut();
    let unused = all.filter_map(|listener| (!note_use(listener, workers, is_settled)).then_some(listener.id));
    let unused: Vec<ListenerId> = unused.collect();
    let too_many = unused.len().saturating_sub(MOST_UNUSED);
    for (number, id) in unused.into_iter().enumerate() {
        let Some(listener) = listeners.get_mut(&id) else { continue };
        if number < too_many || is_settled && is_unused_for_good(listener, reactor) {
            listener.unwatch(reactor);
            listeners.remove(&id);
            peeks.forget(id);
        }
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
    if !listener.proven {
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
        if listener.can_refuse() {
            let at = reactor.set_timer_in(LAST_CALL, Timer::Listener(listener.id));
            listener.closing = Some(Closing::Refuse(at));
        } else {
            stop(listener, reactor);
        }
    }
}

/// Takes the next step of a stop where workers accept; whether the listener has stopped by it.
///
/// These workers would close their sockets with connections in them. So, shortly before they are told to go, no connection
/// begins there any more, and then what they have not accepted is taken from them.
pub(super) fn step_stop(listener: &mut Listener, reactor: &mut Reactor) -> bool {
    match listener.closing {
        Some(Closing::Refuse(at)) if at <= reactor.now => {
            listener.refuse_connections();
            let at = reactor.set_timer_in(REFUSE_SPAN, Timer::Listener(listener.id));
            listener.closing = Some(Closing::Close(at));
            false
        }
        Some(Closing::Close(at)) if at <= reactor.now => {
            stop(listener, reactor);
            true
        }
        Some(Closing::Refuse(_) | Closing::Close(_)) | None => false,
    }
}

fn stop(listener: &mut Listener, reactor: &mut Reactor) {
    let is_stream = listener.is_stream();
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

/// At a stop, closes connections that no worker is left to take, so that their clients need not wait for the end.
pub(super) fn give_up_leftovers(listeners: &mut Listeners, workers: &Workers, is_stopping: bool) {
    if is_stopping && !workers.values().any(Worker::takes_leftovers) {
        for listener in listeners.values_mut() {
            listener.waiting.clear();
            listener.pending.clear();
        }
    }
}
