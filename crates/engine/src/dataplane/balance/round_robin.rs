//! Balance `round-robin`: the master accepts, and only while a worker has room, so that the rest waits in the kernel's queue.
//! A connection goes to the worker with the fewest on their way, in turn among equals.
//!
//! What was put back or taken at a stop is dispatched here under every balance.

use std::time::Duration;

use recluster_core::WorkerId;

use crate::dataplane::balance::eligible::Eligible;
use crate::dataplane::handover::{BATCH, SEND_PAUSE, next_connection, send};
use crate::dataplane::listener::{Listener, Mode};
use crate::dataplane::reactor::{Reactor, Timer};
use crate::dataplane::worker::Workers;

/// How long a listener rests when every worker has refused a connection.
const REFUSED_PAUSE: Duration = Duration::from_millis(25);
/// How often a connection is offered to all workers before it is closed: for some ten seconds, by the pause above.
const MOST_ROUNDS: u32 = 400;

/// Sends what a listener has to workers while one has room.
pub(in crate::dataplane) fn dispatch(
    listener: &mut Listener,
    workers: &mut Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
) {
    for _ in 0..BATCH {
        if !dispatch_one(listener, workers, is_stopping, reactor) {
            return;
        }
    }
    reactor.set_timer(reactor.now, Timer::Listener(listener.id));
}

/// Sends one connection; false when there is none, or no worker to take it.
fn dispatch_one(
    listener: &mut Listener,
    workers: &mut Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
) -> bool {
    let accepts = listener.acceptable && listener.mode == Mode::RoundRobin && listener.sticky_by.is_none();
    if listener.waiting.is_empty() && !accepts || listener.paused_until.is_some() {
        return false;
    }
    let eligible = Eligible::of(listener, workers, is_stopping);
    if is_refused_by_all(listener, workers, eligible) {
        begin_next_round(listener, reactor);
        return false;
    }
    let Some(index) = pick(listener, workers, eligible) else { return false };
    let Some(connection) = next_connection(listener, reactor) else { return false };
    listener.rotation = index + 1;
    let closes = listener.closes_after_response();
    let Listener { id, targets, waiting, .. } = listener;
    let target = targets.get(index).and_then(|it| Some((&it.key, workers.get_mut(&it.worker)?)));
    let Some((key, worker)) = target else {
        waiting.push_front(connection);
        return false;
    };
    if let Err(connection) = send(connection, *id, worker, key, closes, reactor.now) {
        waiting.push_front(connection);
        worker.pause(SEND_PAUSE, reactor);
    }
    true
}

/// The target of the next connection, by its index: the search begins behind the one before.
fn pick(listener: &Listener, workers: &Workers, eligible: Eligible) -> Option<usize> {
    let refused_by = refusers(listener);
    let count = listener.targets.len();
    let mut best: Option<(usize, usize)> = None;
    for step in 0..count {
        let index = (listener.rotation + step) % count;
        let worker = listener.targets.get(index).and_then(|target| workers.get(&target.worker));
        let Some(worker) = worker else { continue };
        if !eligible.includes(worker) || !worker.has_room() || refused_by.contains(&worker.id) {
            continue;
        }
        let load = worker.in_flight.len();
        if best.is_none_or(|(least, _)| load < least) {
            best = Some((load, index));
        }
        if load == 0 {
            break;
        }
    }
    best.map(|(_, index)| index)
}

/// Whether all workers that may take the first connection have refused it in this round.
fn is_refused_by_all(listener: &Listener, workers: &Workers, eligible: Eligible) -> bool {
    let refused_by = refusers(listener);
    let mut targets = listener.targets.iter().filter_map(|target| workers.get(&target.worker));
    !refused_by.is_empty()
        && targets.all(|worker| !eligible.includes(worker) || refused_by.contains(&worker.id))
}

/// The workers that have refused the first connection in this round.
fn refusers(listener: &Listener) -> &[WorkerId] {
    listener.waiting.front().map_or(&[], |connection| &connection.refused_by)
}

/// Offers the first connection to all workers again, after a rest; or closes it.
fn begin_next_round(listener: &mut Listener, reactor: &mut Reactor) {
    if let Some(connection) = listener.waiting.front_mut() {
        connection.refused_by.clear();
        connection.rounds += 1;
    }
    if listener.waiting.front().is_some_and(|connection| connection.rounds > MOST_ROUNDS) {
        listener.waiting.pop_front();
    }
    listener.pause(REFUSED_PAUSE, reactor);
}
