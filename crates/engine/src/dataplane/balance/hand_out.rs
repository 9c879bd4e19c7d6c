//! Under balance `kernel`, where connections come slowly (`pace`): the master hands out each one. It goes to the worker that has the
//! fewest open, of those that are idle. Where none is, it waits in the kernel's queue.
//!
//! What is left in that queue when the kernel has begun to spread goes to whoever answers that its loop turns: by then nobody may
//! be idle for a long time.

use std::time::{Duration, Instant};

use recluster_core::WorkerId;

use crate::dataplane::balance::eligible::Eligible;
use crate::dataplane::balance::relief::{
    Next, OVERDUE_AFTER, Search, Violations, ask, give, look, place_if_free, take,
};
use crate::dataplane::group::{Group, OWN};
use crate::dataplane::handover::is_prompt;
use crate::dataplane::idle::Look;
use crate::dataplane::listener::Listener;
use crate::dataplane::pace::Pace;
use crate::dataplane::reactor::Reactor;
use crate::dataplane::worker::{Worker, Workers};

/// How many workers are looked at for one connection.
const MOST_CANDIDATES: usize = 8;
/// How soon a worker is looked for again at most, where none was idle or no more looks may be taken.
const MOST_PATIENCE: Duration = Duration::from_millis(2);
/// By how many connections a worker whose clients keep them may be ahead of another before that has a moment to become idle.
const MOST_AHEAD: u64 = 2;
/// How long that moment is.
const CATCH_UP: Duration = Duration::from_millis(15);
/// After that time, what is left goes to any worker that has room: perhaps no preload is there to answer.
const LAST_RESORT: Duration = Duration::from_secs(5);

/// How many connections the workers have got.
pub(super) fn taken(workers: &Workers) -> u64 {
    workers.values().map(Worker::connections).fold(0, u64::saturating_add)
}

/// Hands out what waits; returns when to look again.
pub(super) fn all(listener: &mut Listener, search: &mut Search<'_>) -> Next {
    let Search { workers, is_stopping, looks, reactor, reports, violations } = search;
    let order = by_load(listener, workers, *is_stopping);
    if order.is_empty() {
        return Next::Leave;
    }
    let taken = taken(workers);
    let fewest = order
        .iter()
        .filter_map(|id| workers.get(id))
        .find(|worker| !worker.load.lags)
        .map_or(0, Worker::holds);
    let has_waited = note(listener, reactor, |pace, now| pace.waited(now)) >= CATCH_UP;
    let hands_out = listener.group.as_ref().is_some_and(Group::hands_out);
    for id in order.into_iter().take(MOST_CANDIDATES) {
        let Some(worker) = workers.get_mut(&id) else { continue };
        if !hands_out {
            ask(worker, reactor, violations);
            continue;
        }
        let is_ahead = worker.load.is_kept && worker.holds() > fewest.saturating_add(MOST_AHEAD);
        if is_ahead && !has_waited || !looks.take(reactor.now) {
            break;
        }
        let is_idle = is_idle(listener, worker, reactor, violations);
        worker.load.lags = !is_idle && (has_waited || worker.load.lags);
        if is_idle {
            let Some(connection) = take(listener, OWN) else { return Next::Empty };
            give(connection, listener, worker, reactor, reports);
            note(listener, reactor, |pace, now| pace.handed_out(taken, now));
        }
    }
    let waited = note(listener, reactor, |pace, now| pace.nobody_is_idle(taken, now));
    if waited >= LAST_RESORT { Next::TakeOver } else { Next::In(patience(listener)) }
}

/// How soon to look again: less and less often.
fn patience(listener: &Listener) -> Duration {
    let own = listener.group.as_ref().and_then(|group| group.members.get(OWN));
    let last = own.map_or(Duration::ZERO, |member| member.patience);
    (last * 2).clamp(OVERDUE_AFTER, MOST_PATIENCE)
}

/// The workers that may be given a connection, those with the fewest open first, and in turn among equals.
fn by_load(listener: &mut Listener, workers: &Workers, is_stopping: bool) -> Vec<WorkerId> {
    let eligible = Eligible::of(listener, workers, is_stopping);
    let count = listener.targets.len();
    let all = listener.targets.iter().enumerate();
    let all = all.filter_map(|(index, target)| Some((index, workers.get(&target.worker)?)));
    let free = all.filter(|(_, worker)| eligible.includes(worker));
    let turn = |index: usize| (index + count - listener.rotation % count) % count;
    let mut order: Vec<(u64, usize, WorkerId)> =
        free.map(|(index, worker)| (worker.holds(), turn(index), worker.id)).collect();
    order.sort_unstable();
    listener.rotation = (listener.rotation + 1) % count.max(1);
    order.into_iter().map(|(_, _, id)| id).collect()
}

/// Whether a worker has nothing to do. One that cannot be looked at is asked, and has answered a moment later.
fn is_idle(listener: &Listener, worker: &mut Worker, reactor: &Reactor, violations: &mut Violations) -> bool {
    let Some(own) = place_if_free(listener, worker) else { return false };
    match look(listener, own, worker) {
        Look::Idle => true,
        Look::Busy => false,
        Look::Unknown => {
            let has_answered = worker.answered_at.take().is_some_and(|at| is_prompt(at, reactor.now));
            if !has_answered {
                ask(worker, reactor, violations);
            }
            has_answered
        }
    }
}

/// Notes how connections come, and has the kernel spread them as soon as they come too fast.
fn note<T: Default>(
    listener: &mut Listener,
    reactor: &mut Reactor,
    note: impl FnOnce(&mut Pace, Instant) -> T,
) -> T {
    let Some(pace) = listener.group.as_mut().and_then(|group| group.pace.as_mut()) else {
        return T::default();
    };
    let noted = note(pace, reactor.now);
    if !pace.is_slow() {
        reactor.mark(listener.id);
    }
    noted
}
