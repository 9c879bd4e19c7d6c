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

use crate::dataplane::balance::eligible::Eligible;
use crate::dataplane::channel::ProtocolViolation;
use crate::dataplane::connection::{Connection, accept};
use crate::dataplane::handover::{is_prompt, send};
use crate::dataplane::idle::{Look, Looks};
use crate::dataplane::listener::{Listener, Target};
use crate::dataplane::reactor::Reactor;
use crate::dataplane::reports::Reports;
use crate::dataplane::worker::{Worker, Workers};
use crate::sys;

/// How long connections wait in the socket of a busy worker before an idle one is sent them.
pub(super) const OVERDUE_AFTER: Duration = Duration::from_micros(300);
/// How long at most until the others are looked at again, where none was idle.
pub(super) const MOST_PATIENCE: Duration = Duration::from_millis(4);
/// The same where as many looks have been taken as may be.
const NO_LOOKS_LEFT: Duration = Duration::from_millis(16);
/// How many workers are looked at for the sake of one socket.
pub(super) const MOST_CANDIDATES: usize = 4;

/// Workers that could not be asked, because they do not read their channels: to be cut off.
pub(in crate::dataplane) type Violations = Vec<(WorkerId, ProtocolViolation)>;

/// How long until a place is looked at again where the last look was in vain.
pub(super) fn longer(listener: &Listener, place: usize) -> Duration {
    let before = listener.group.as_ref().and_then(|group| group.members.get(place)?.patience.checked_mul(2));
    before.unwrap_or_default().clamp(OVERDUE_AFTER, MOST_PATIENCE)
}

/// Sends a connection that waits at a place to a worker that is idle, if one is found; returns when to look again.
pub(super) fn find(
    listener: &mut Listener,
    place: usize,
    workers: &mut Workers,
    is_stopping: bool,
    looks: &mut Looks,
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> (Duration, Violations) {
    let eligible = Eligible::of(listener, workers, is_stopping);
    let mut violations = Violations::new();
    let patience = longer(listener, place);
    let count = listener.targets.len();
    for _ in 0..count.min(MOST_CANDIDATES) {
        if !looks.take(reactor.now) {
            return (NO_LOOKS_LEFT, violations);
        }
        let index = listener.rotation % count;
        listener.rotation = index + 1;
        let id = listener.targets.get(index).map(|target| target.worker);
        let Some(worker) = id.and_then(|id| workers.get_mut(&id)) else { continue };
        let Some(own) = place_if_free(listener, worker, eligible).filter(|own| *own != place) else {
            continue;
        };
        match look(listener, own, worker) {
            Look::Idle => {
                if let Some(connection) = take(listener, place)
                    && give(connection, listener, worker, reactor, reports)
                {
                    reports.tally.stolen += 1;
                }
                return (OVERDUE_AFTER, violations);
            }
            Look::Busy => {}
            Look::Unknown => {
                if worker.pinged_at.is_none() {
                    worker.pinged_at = Some(reactor.now);
                    let sent = worker.channel.send(&ToWorker::Ping);
                    violations.extend(sent.err().map(|violation| (worker.id, violation)));
                }
            }
        }
    }
    (patience, violations)
}

pub(super) fn look(listener: &Listener, place: usize, worker: &mut Worker) -> Look {
    let socket = listener.group.as_ref().and_then(|group| group.socket(place));
    let Some((pid, socket)) = worker.pid.zip(socket) else { return Look::Unknown };
    worker.event_loop.look(pid, &*socket)
}

/// The place of a worker that may take connections and has none to take.
pub(super) fn place_if_free(listener: &Listener, worker: &Worker, eligible: Eligible) -> Option<usize> {
    if !eligible.includes(worker) || !worker.has_room() || !worker.in_flight.is_empty() {
        return None;
    }
    let group = listener.group.as_ref()?;
    let place = group.place_of(worker.id)?;
    let waiting = sys::accept_queue(group.members.get(place)?.socket.as_fd());
    waiting.is_ok_and(|waiting| waiting == 0).then_some(place)
}

/// A worker has answered that its loop turns; whether it did so at once.
pub(in crate::dataplane) fn ping_answered(worker: &mut Worker, reactor: &Reactor) -> bool {
    worker.pinged_at.take().is_some_and(|asked| is_prompt(asked, reactor.now))
}

/// Sends a worker whose loop turns a connection that waits for a busy one, if it has nothing to take itself.
pub(in crate::dataplane) fn offer(
    listener: &mut Listener,
    worker: WorkerId,
    workers: &mut Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    if listener.group.is_none() || listener.sticky_by.is_some() {
        return;
    }
    let eligible = Eligible::of(listener, workers, is_stopping);
    let Some(worker) = workers.get_mut(&worker) else { return };
    let Some(own) = place_if_free(listener, worker, eligible) else { return };
    let overdue = listener.group.iter().flat_map(|group| group.members.iter().enumerate());
    let overdue = overdue.filter(|(place, member)| member.is_overdue && *place != own);
    let places: Vec<usize> = overdue.map(|(place, _)| place).collect();
    for place in places {
        if let Some(connection) = take(listener, place) {
            if give(connection, listener, worker, reactor, reports) {
                reports.tally.stolen += 1;
            }
            return;
        }
    }
}

/// Takes a connection that waits at a place.
pub(super) fn take(listener: &Listener, place: usize) -> Option<Connection> {
    let member = listener.group.as_ref()?.members.get(place)?;
    accept(member.socket.as_fd()).ok().flatten()
}

/// Sends a connection to a worker that has nothing else to take. Where it cannot be sent, it waits for any worker.
pub(super) fn give(
    connection: Connection,
    listener: &mut Listener,
    worker: &mut Worker,
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> bool {
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
        return false;
    }
    true
}
