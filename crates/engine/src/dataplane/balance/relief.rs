//! Under balance `kernel`: what waits for a busy worker is sent to an idle one.
//!
//! A busy worker does not accept. When connections have waited for [`OVERDUE_AFTER`] in its socket, some of the others are looked
//! at (`idle`). One that has nothing to do is sent one connection, and another when it has taken that. One that cannot be looked
//! at is asked whether its loop turns, and sent one if it answers at once (its preload does). So nothing is sent to a worker that
//! hangs or is as busy.
//!
//! Where all are busy there is nobody to be found: they are looked at less and less often, and all looks together are limited.

use std::os::fd::AsFd as _;
use std::time::Duration;

use recluster_core::WorkerId;
use recluster_wire::node::ToWorker;

use crate::dataplane::allowance::Allowance;
use crate::dataplane::balance::eligible::Eligible;
use crate::dataplane::channel::ProtocolViolation;
use crate::dataplane::connection::{Connection, accept};
use crate::dataplane::group::OWN;
use crate::dataplane::handover::{is_prompt, send};
use crate::dataplane::idle::Look;
use crate::dataplane::listener::{Listener, Target};
use crate::dataplane::reactor::{Reactor, Timer};
use crate::dataplane::reports::Reports;
use crate::dataplane::worker::{Worker, Workers};
use crate::sys;

/// How long connections wait in the socket of a busy worker before an idle one is sent them.
pub(super) const OVERDUE_AFTER: Duration = Duration::from_micros(300);
/// How long at most until the others are looked at again, where none was idle.
const MOST_PATIENCE: Duration = Duration::from_millis(4);
/// The same where as many looks have been taken as may be.
const NO_LOOKS_LEFT: Duration = Duration::from_millis(16);
/// How many workers are looked at for the sake of one socket.
const MOST_CANDIDATES: usize = 4;

/// Workers that could not be asked, because they do not read their channels: to be cut off.
pub(in crate::dataplane) type Violations = Vec<(WorkerId, ProtocolViolation)>;

/// When a socket is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing waits in it: when something does.
    Empty,
    In(Duration),
    /// When other workers may take connections.
    Leave,
    /// At once, to give what waits to whoever has room.
    TakeOver,
}

/// What a search for a worker touches.
pub(super) struct Search<'a> {
    pub(super) workers: &'a mut Workers,
    pub(super) is_stopping: bool,
    pub(super) looks: &'a mut Allowance,
    pub(super) reactor: &'a mut Reactor,
    pub(super) reports: &'a mut Reports,
    pub(super) violations: Violations,
}

/// Sends a connection that waits at a place to a worker that is idle, if one is found; returns when to look again.
pub(super) fn find(listener: &mut Listener, place: usize, search: &mut Search<'_>) -> Next {
    let Search { workers, is_stopping, looks, reactor, reports, violations } = search;
    let eligible = Eligible::of(listener, workers, *is_stopping);
    let patience =
        listener.group.as_ref().and_then(|group| group.members.get(place)?.patience.checked_mul(2));
    let patience = patience.unwrap_or_default().clamp(OVERDUE_AFTER, MOST_PATIENCE);
    let count = listener.targets.len();
    for _ in 0..count.min(MOST_CANDIDATES) {
        if !looks.take(reactor.now) {
            return Next::In(NO_LOOKS_LEFT);
        }
        let index = listener.rotation % count;
        listener.rotation = index + 1;
        let id = listener.targets.get(index).map(|target| target.worker);
        let worker = id.and_then(|id| workers.get_mut(&id)).filter(|worker| eligible.includes(worker));
        let Some(worker) = worker else { continue };
        let Some(own) = place_if_free(listener, worker).filter(|own| *own != place) else { continue };
        match look(listener, own, worker) {
            Look::Idle => {
                if let Some(connection) = take(listener, place) {
                    reports.tally.stolen += 1;
                    give(connection, listener, worker, reactor, reports);
                }
                return Next::In(OVERDUE_AFTER);
            }
            Look::Busy => {}
            Look::Unknown => ask(worker, reactor, violations),
        }
    }
    Next::In(patience)
}

/// Looks at the loop of a worker that accepts at a place.
pub(super) fn look(listener: &Listener, place: usize, worker: &mut Worker) -> Look {
    let socket = listener.group.as_ref().and_then(|group| group.socket(place));
    let Some((pid, socket)) = worker.pid.zip(socket) else { return Look::Unknown };
    worker.event_loop.look(pid, &*socket)
}

/// Asks a worker whether its loop turns, if it has answered the last time.
pub(super) fn ask(worker: &mut Worker, reactor: &Reactor, violations: &mut Violations) {
    if worker.pinged_at.is_none() {
        worker.pinged_at = Some(reactor.now);
        let sent = worker.channel.send(&ToWorker::Ping);
        violations.extend(sent.err().map(|violation| (worker.id, violation)));
    }
}

/// The place of a worker that has nothing to take.
pub(super) fn place_if_free(listener: &Listener, worker: &Worker) -> Option<usize> {
    if !worker.has_room() || !worker.in_flight.is_empty() {
        return None;
    }
    let group = listener.group.as_ref()?;
    let place = group.place_of(worker.id)?;
    let waiting = sys::accept_queue(group.members.get(place)?.socket.as_fd());
    waiting.is_ok_and(|waiting| waiting == 0).then_some(place)
}

/// A worker has answered that its loop turns; whether it did so at once.
pub(in crate::dataplane) fn ping_answered(worker: &mut Worker, reactor: &Reactor) -> bool {
    let is_idle = worker.pinged_at.take().is_some_and(|asked| is_prompt(asked, reactor.now));
    worker.answered_at = is_idle.then_some(reactor.now);
    is_idle
}

/// A worker's loop turns. It is sent what waits for a busy one, if it seems to be idle and has nothing to take itself.
pub(in crate::dataplane) fn offer(
    listener: &mut Listener,
    worker: WorkerId,
    is_idle: bool,
    workers: &mut Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    let Some(group) = listener.group.as_ref().filter(|_| listener.sticky_by.is_none()) else { return };
    let (is_left, hands_out) = (group.waits_in_own(), group.hands_out());
    let eligible = Eligible::of(listener, workers, is_stopping);
    let Some(worker) = workers.get_mut(&worker).filter(|worker| eligible.includes(worker)) else { return };
    if is_left && hands_out {
        look_again(listener, OWN, Duration::ZERO, reactor);
    } else if is_left && worker.has_room() && worker.in_flight.is_empty() {
        if let Some(connection) = take(listener, OWN) {
            give(connection, listener, worker, reactor, reports);
        }
    } else if let Some(own) = place_if_free(listener, worker).filter(|_| is_idle) {
        let Some(connection) = take_overdue(listener, own) else { return };
        reports.tally.stolen += 1;
        give(connection, listener, worker, reactor, reports);
    }
}

/// Takes a connection that has waited for too long at another place.
fn take_overdue(listener: &Listener, own: usize) -> Option<Connection> {
    let members = listener.group.as_ref()?.members.iter().enumerate();
    let overdue = members.filter(|(place, member)| member.is_overdue && *place != own);
    overdue.map(|(place, _)| place).find_map(|place| take(listener, place))
}

/// Takes a connection that waits at a place.
pub(super) fn take(listener: &Listener, place: usize) -> Option<Connection> {
    let member = listener.group.as_ref()?.members.get(place)?;
    accept(member.socket.as_fd()).ok().flatten()
}

/// Sends a connection to a worker that has nothing else to take.
pub(super) fn give(
    connection: Connection,
    listener: &mut Listener,
    worker: &mut Worker,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    let Listener { id, targets, waiting, .. } = listener;
    let target = targets.iter().find(|target| target.worker == worker.id);
    let sent = match target {
        Some(Target { key, .. }) => send(connection, *id, worker, key, false, reactor.now),
        None => Err(connection),
    };
    if let Err(connection) = sent {
        reports.tally.requeued += 1;
        waiting.push_back(connection);
        reactor.mark(*id);
    }
}

/// Looks at a socket again after a while.
pub(super) fn look_again(listener: &mut Listener, place: usize, span: Duration, reactor: &mut Reactor) {
    let id = listener.id;
    let member = listener.group.as_mut().and_then(|group| group.members.get_mut(place));
    if let Some(member) = member {
        member.patience = span;
        member.look_at = Some(reactor.set_timer_in(span, Timer::Member(id, place)));
    }
}
