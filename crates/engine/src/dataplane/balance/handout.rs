//! Under balance `kernel`: few connections that may last are handed out one by one.
//!
//! Chance spreads many connections evenly, and few of them unevenly. So while connections come that are likely to last (`lasting`), and
//! not too many, the kernel puts them into a socket of the master's own, the *desk*. The master sends each to the idle worker with the
//! fewest open connections, by what workers say once a second and what they have taken since. That costs a connection some tenths of a
//! millisecond, which one that is kept pays once. Where connections are short, or come in great numbers, the kernel spreads them.
//!
//! A worker that is busy is sent nothing. What is at the desk waits a moment for one of the workers with the fewest, and then goes to
//! any that is idle. Where all are busy, they are asked whether their loops turn, so that under full load what was left at the desk does
//! not wait for one to be idle.
//!
//! More than a few are not handed out: where as many wait as may be handed out in a span, or as fill half of the socket's queue, the
//! kernel spreads those that come after them, and so it does where the master has no descriptor to accept one.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::node::ToWorker;

use crate::dataplane::balance::eligible::Eligible;
use crate::dataplane::balance::relief::{
    MOST_CANDIDATES, MOST_PATIENCE, OVERDUE_AFTER, Violations, give, longer, look, place_if_free,
};
use crate::dataplane::connection::{Connection, accept};
use crate::dataplane::group::Waits;
use crate::dataplane::handover::ACCEPT_PAUSE;
use crate::dataplane::idle::{Look, Looks};
use crate::dataplane::lasting::{Outlook, outlook};
use crate::dataplane::listener::Listener;
use crate::dataplane::reactor::{Reactor, Timer};
use crate::dataplane::reports::Reports;
use crate::dataplane::worker::{Worker, Workers};
use crate::sys;

/// How many more connections than the others a worker may have that is sent one at once.
const SLACK: u64 = 1;
/// How long a connection waits for one of the workers with the fewest, before any that is idle gets it.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long they all wait, one behind the other, before that.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(1);
/// For how long a worker that was busy for that long does not count among those with the fewest.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// The place of the desk, if the kernel is to put new connections there.
pub(super) fn desk(
    listener: &mut Listener,
    workers: &mut Workers,
    is_stopping: bool,
    looks: &mut Looks,
    reactor: &mut Reactor,
) -> Option<u32> {
    // One that was bound beside another and does not listen yet is to have the first place.
    if is_stopping || listener.deferred.is_some() {
        return None;
    }
    get_to_know(listener, workers, looks, reactor);
    if !can_choose(listener, workers, is_stopping) {
        return None;
    }
    let all = eligible(listener, workers, is_stopping);
    let expected = outlook(all.map(|worker| &worker.lasting), reactor.now);
    let id = listener.id;
    let group = listener.group.as_mut()?;
    let exhausted_until = group.desk.as_mut().and_then(|desk| desk.budget.exhausted_until(reactor.now));
    let again_at = match (expected, exhausted_until) {
        (Outlook::Short(until), _) | (Outlook::MayLast, Some(until)) => Some(until),
        (Outlook::MayLast, None) => None,
    };
    if let Some(at) = again_at {
        if group.recheck_at.is_none_or(|set| set <= reactor.now || at < set) {
            group.recheck_at = Some(at);
            reactor.set_timer(at, Timer::Listener(id));
        }
        return None;
    }
    let size = group.members.len();
    // Without a descriptor for it, the kernel spreads them.
    let place = group.set_desk_up(id, reactor).ok();
    if group.members.len() > size {
        // A service manager may have to keep it.
        reactor.mark(id);
    }
    u32::try_from(place?).ok()
}

/// Finds out on what the loops of workers wait, so that no connection has to wait for that.
fn get_to_know(listener: &Listener, workers: &mut Workers, looks: &mut Looks, reactor: &mut Reactor) {
    let Some(group) = listener.group.as_ref().filter(|_| listener.sticky_by.is_none()) else { return };
    for target in &listener.targets {
        // Also those that do not serve yet.
        let Some(worker) = workers.get_mut(&target.worker).filter(|worker| !worker.is_on_its_way_out())
        else {
            continue;
        };
        let counts = worker.lasting.open().is_some();
        if !counts || !worker.event_loop.may_become_known() || !worker.pace.is_due(reactor.now) {
            continue;
        }
        let place = group.place_of(worker.id).filter(|_| worker.pid.is_some() && looks.take(reactor.now));
        if let Some(place) = place {
            look(listener, place, worker);
        }
        if !worker.event_loop.is_known()
            && let Some(at) = worker.pace.put_off(reactor.now)
        {
            reactor.set_timer(at, Timer::Listener(listener.id));
        }
    }
}

/// Whether there is a choice, and it is known of all who may be chosen how many connections they have, and when they are idle.
pub(super) fn can_choose(listener: &Listener, workers: &Workers, is_stopping: bool) -> bool {
    let is_known = |worker: &Worker| worker.lasting.open().is_some() && worker.event_loop.is_known();
    let mut count = 0;
    listener.group.is_some()
        && listener.sticky_by.is_none()
        && eligible(listener, workers, is_stopping).inspect(|_| count += 1).all(is_known)
        && count > 1
}

fn eligible<'a>(
    listener: &'a Listener,
    workers: &'a Workers,
    is_stopping: bool,
) -> impl Iterator<Item = &'a Worker> {
    let eligible = Eligible::of(listener, workers, is_stopping);
    let all = listener.targets.iter().filter_map(|target| workers.get(&target.worker));
    all.filter(move |worker| eligible.includes(worker))
}

/// Sends what waits at the desk to idle workers; returns when to look again, if something is left.
pub(super) fn hand_out(
    listener: &mut Listener,
    workers: &mut Workers,
    is_stopping: bool,
    looks: &mut Looks,
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> (Option<Duration>, Violations) {
    if listener.paused_until.is_some() {
        return (Some(MOST_PATIENCE), Violations::new());
    }
    let mut has_given = false;
    while let Some(is_late) = is_next_late(listener, reactor) {
        let Some(worker) = choose(listener, workers, is_stopping, is_late, looks, reactor.now) else {
            let violations =
                if is_late { ask(listener, workers, is_stopping, reactor.now) } else { Vec::new() };
            return (Some(patience(listener, has_given)), violations);
        };
        if !give_next(listener, worker, workers, reactor, reports) {
            return (Some(ACCEPT_PAUSE), Vec::new());
        }
        has_given = true;
    }
    (None, Vec::new())
}

/// Sends a worker whose loop turns what waits at the desk, if it has not too many connections; whether something was sent. What is
/// late goes to it even where others wait for it in its own socket: these came after that.
pub(in crate::dataplane) fn offer(
    listener: &mut Listener,
    worker: WorkerId,
    workers: &mut Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> bool {
    if listener.paused_until.is_some() || !can_choose(listener, workers, is_stopping) {
        return false;
    }
    let Some(is_late) = is_next_late(listener, reactor) else { return false };
    let most = least(listener, workers, is_stopping, reactor.now).saturating_add(SLACK);
    let eligible = Eligible::of(listener, workers, is_stopping);
    let is_free = workers.get(&worker).is_some_and(|worker| {
        if is_late {
            eligible.includes(worker) && worker.has_room() && worker.in_flight.is_empty()
        } else {
            load(worker) <= most && place_if_free(listener, worker, eligible).is_some()
        }
    });
    is_free && give_next(listener, worker, workers, reactor, reports)
}

/// Whether the next connection at the desk has waited for too long; none if there is none.
fn is_next_late(listener: &mut Listener, reactor: &mut Reactor) -> Option<bool> {
    let now = reactor.now;
    let group = listener.group.as_mut()?;
    let desk = group.desk.as_mut()?;
    let socket = &group.members.get(desk.place)?.socket;
    let waiting = sys::accept_queue(socket.as_fd()).unwrap_or_default();
    if waiting == 0 {
        desk.waits = None;
        return None;
    }
    if desk.budget.is_exceeded_by(waiting, desk.room, now) {
        // The kernel is to spread those that come after them.
        reactor.mark(listener.id);
    }
    let waits = *desk.waits.get_or_insert(Waits { next: now, any: now });
    Some(waits.next + PATIENCE <= now || waits.any + PATIENCE_WITH_ALL <= now)
}

/// The desk is not used for now: nothing is known any more of what waits there.
pub(super) fn leave(listener: &mut Listener) {
    if let Some(desk) = listener.group.as_mut().and_then(|group| group.desk.as_mut()) {
        desk.waits = None;
    }
}

/// How many connections a worker has, with those on their way to it.
fn load(worker: &Worker) -> u64 {
    worker.lasting.open().unwrap_or_default().saturating_add(worker.in_flight.len() as u64)
}

/// The fewest connections that a worker has. Those that have been busy for too long do not count, if there are others.
fn least(listener: &Listener, workers: &Workers, is_stopping: bool, now: Instant) -> u64 {
    let is_there = |worker: &&Worker| worker.passed_over_at.is_none_or(|at| at + PASSED_OVER <= now);
    let there = eligible(listener, workers, is_stopping).filter(is_there).map(load).min();
    there.or_else(|| eligible(listener, workers, is_stopping).map(load).min()).unwrap_or_default()
}

/// The idle worker with the fewest connections, in turn among equals, out of those that have few enough; out of all if it is late.
fn choose(
    listener: &mut Listener,
    workers: &mut Workers,
    is_stopping: bool,
    is_late: bool,
    looks: &mut Looks,
    now: Instant,
) -> Option<WorkerId> {
    let few = least(listener, workers, is_stopping, now).saturating_add(SLACK);
    let most = if is_late { u64::MAX } else { few };
    let count = listener.targets.len().max(1);
    let turn = listener.rotation % count;
    listener.rotation = turn + 1;
    let eligible = Eligible::of(listener, workers, is_stopping);
    let all = (0..count).filter_map(|step| {
        let target = listener.targets.get((turn + step) % count)?;
        workers.get(&target.worker)
    });
    let free = all.filter(|worker| load(worker) <= most);
    let mut candidates: Vec<(u64, WorkerId)> = free
        .filter(|worker| worker.in_flight.is_empty() && eligible.includes(worker))
        .map(|worker| (load(worker), worker.id))
        .collect();
    // A stable sort: equals stay in turn.
    candidates.sort_by_key(|(load, _)| *load);
    let mut chosen = None;
    for (load, id) in candidates.into_iter().take(MOST_CANDIDATES) {
        let Some(worker) = workers.get_mut(&id) else { continue };
        let Some(place) = place_if_free(listener, worker, eligible) else { continue };
        if !looks.take(now) {
            break;
        }
        if look(listener, place, worker) == Look::Idle {
            chosen = Some((load, id));
            break;
        }
    }
    if is_late {
        // It has waited for those with fewer in vain: the next ones do not.
        let fewer = chosen.map_or(few.saturating_add(1), |(load, _)| load);
        pass_over(listener, workers, eligible, fewer, now);
    }
    chosen.map(|(_, id)| id)
}

/// Those with fewer connections than that, which are busy, or have not taken what they were sent, no longer count for a while.
fn pass_over(listener: &Listener, workers: &mut Workers, eligible: Eligible, fewer: u64, now: Instant) {
    for target in &listener.targets {
        let worker = workers.get_mut(&target.worker);
        if let Some(worker) = worker.filter(|worker| eligible.includes(worker) && load(worker) < fewer) {
            worker.passed_over_at = Some(now);
        }
    }
}

/// Asks all workers whether their loops turn.
fn ask(listener: &Listener, workers: &mut Workers, is_stopping: bool, now: Instant) -> Violations {
    let ids: Vec<WorkerId> = eligible(listener, workers, is_stopping).map(|worker| worker.id).collect();
    let mut violations = Violations::new();
    for id in ids {
        let Some(worker) = workers.get_mut(&id).filter(|worker| worker.pinged_at.is_none()) else { continue };
        worker.pinged_at = Some(now);
        let sent = worker.channel.send(&ToWorker::Ping);
        violations.extend(sent.err().map(|violation| (id, violation)));
    }
    violations
}

/// Sends a worker the next connection at the desk; whether there was one, and it was sent.
fn give_next(
    listener: &mut Listener,
    worker: WorkerId,
    workers: &mut Workers,
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> bool {
    let taken = take(listener);
    let Some(desk) = listener.group.as_mut().and_then(|group| group.desk.as_mut()) else { return false };
    match taken {
        Ok(_) => desk.budget.take(),
        Err(_) => desk.budget.end(reactor.now),
    }
    // The kernel may have to spread them from now on.
    reactor.mark(listener.id);
    let Some(connection) = taken.ok().flatten() else { return false };
    desk.waits = desk.waits.map(|waits| Waits { next: reactor.now, ..waits });
    let Some(worker) = workers.get_mut(&worker) else {
        listener.waiting.push_back(connection);
        return false;
    };
    give(connection, listener, worker, reactor, reports)
}

fn take(listener: &Listener) -> io::Result<Option<Connection>> {
    let group = listener.group.as_ref();
    let member = group.and_then(|group| group.members.get(group.desk.as_ref()?.place));
    member.map_or(Ok(None), |member| accept(member.socket.as_fd()))
}

/// How long until the desk is looked at again: longer and longer while nobody is idle.
fn patience(listener: &Listener, has_given: bool) -> Duration {
    let desk = listener.group.as_ref().and_then(|group| Some(group.desk.as_ref()?.place));
    desk.filter(|_| !has_given).map_or(OVERDUE_AFTER, |place| longer(listener, place))
}

#[cfg(test)]
mod tests;
