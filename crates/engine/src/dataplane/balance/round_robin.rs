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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::balance::Balance;
    use crate::dataplane::connection::Connection;
    use crate::dataplane::fixtures::{FarEnd, Harness, connection, id};
    use crate::dataplane::messages::{Command, Standing};
    use crate::dataplane::reactor::ListenerId;
    use crate::dataplane::worker::InFlight;
    use recluster_wire::node::FromWorker;

    /// Workers 1 to `count` that serve on one listener.
    fn cluster(count: usize) -> (Harness, Vec<FarEnd>, ListenerId) {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut ends: Vec<FarEnd> =
            (1..).zip(0..).take(count).map(|(n, slot)| harness.serving(n, slot)).collect();
        let listeners: Vec<ListenerId> =
            (1..).zip(&mut ends).map(|(n, end)| harness.listen(n, end)).collect();
        (harness, ends, listeners[0])
    }

    /// The worker that would get the next connection.
    fn picked(harness: &mut Harness, listener: ListenerId) -> Option<u64> {
        let is_stopping = harness.state.is_stopping;
        let listener = &harness.state.listeners[&listener];
        let workers = &harness.state.workers;
        let index = pick(listener, workers, Eligible::of(listener, workers, is_stopping))?;
        Some(listener.targets[index].worker.get())
    }

    fn give(harness: &mut Harness, worker: u64, listener: ListenerId) {
        let worker = harness.worker(worker);
        let number = 1000 + worker.in_flight.len() as u64;
        worker.in_flight.insert(number, InFlight { listener, connection: connection().0 });
    }

    fn refused_by(workers: &[u64]) -> Connection {
        Connection { refused_by: workers.iter().map(|&number| id(number)).collect(), ..connection().0 }
    }

    #[test]
    fn the_worker_with_the_fewest_on_their_way_is_picked() {
        let (mut harness, _ends, listener) = cluster(3);
        give(&mut harness, 1, listener);
        give(&mut harness, 1, listener);
        give(&mut harness, 2, listener);
        give(&mut harness, 3, listener);
        assert_eq!(picked(&mut harness, listener), Some(2));
        give(&mut harness, 2, listener);
        assert_eq!(picked(&mut harness, listener), Some(3));
    }

    #[test]
    fn equals_are_picked_in_turn() {
        let (mut harness, mut ends, listener) = cluster(3);
        let _clients: Vec<_> = (0..6).map(|_| harness.connect(listener)).collect();
        harness.turn();
        assert!(ends.iter_mut().all(|end| end.connections().len() == 2));
        assert_eq!(picked(&mut harness, listener), Some(1));
        harness.listener(listener).rotation = 2;
        assert_eq!(picked(&mut harness, listener), Some(3));
    }

    #[test]
    fn a_standby_is_picked_only_where_no_worker_serves() {
        let (mut harness, _ends, listener) = cluster(2);
        harness.set_standing(1, Some(Standing::Standby));
        assert_eq!(picked(&mut harness, listener), Some(2));
        // The one that serves has no room, and yet the other is not to be used.
        (0..8).for_each(|_| give(&mut harness, 2, listener));
        assert_eq!(picked(&mut harness, listener), None);
        harness.set_standing(2, Some(Standing::Standby));
        assert_eq!(picked(&mut harness, listener), Some(1));
        harness.set_standing(1, None);
        assert_eq!(picked(&mut harness, listener), None);
    }

    #[test]
    fn a_worker_without_room_is_not_picked() {
        let (mut harness, _ends, listener) = cluster(1);
        (0..7).for_each(|_| give(&mut harness, 1, listener));
        assert_eq!(picked(&mut harness, listener), Some(1));
        give(&mut harness, 1, listener);
        assert_eq!(picked(&mut harness, listener), None);
    }

    #[test]
    fn a_paused_worker_is_not_picked_before_its_pause_is_over() {
        let (mut harness, _ends, listener) = cluster(1);
        let pause = Duration::from_millis(100);
        let worker = harness.state.workers.get_mut(&id(1)).unwrap();
        worker.pause(pause, &mut harness.state.reactor);
        assert_eq!(picked(&mut harness, listener), None);
        harness.pass(pause / 2);
        assert_eq!(picked(&mut harness, listener), None);
        harness.pass(pause / 2);
        assert_eq!(picked(&mut harness, listener), Some(1));
    }

    #[test]
    fn a_worker_that_leaves_is_never_picked() {
        let (mut harness, _ends, listener) = cluster(3);
        harness.hear(1, FromWorker::ExitedAfterDisconnect { seq: 9 });
        let until = harness.state.reactor.now + Duration::from_secs(9);
        harness.obey(Command::Drain { worker: id(2), until, grace: None });
        harness.worker(3).said.retiring = true;
        assert_eq!(picked(&mut harness, listener), None);
        harness.worker(3).said.retiring = false;
        assert_eq!(picked(&mut harness, listener), Some(3));
    }

    #[test]
    fn at_a_stop_drains_and_standbys_take_what_waits() {
        let (mut harness, _ends, listener) = cluster(2);
        let until = harness.state.reactor.now + Duration::from_secs(9);
        harness.close_listeners();
        harness.set_standing(1, None);
        harness.obey(Command::Drain { worker: id(1), until, grace: None });
        harness.worker(2).leaving = true;
        assert_eq!(picked(&mut harness, listener), Some(1));
        // The socket is closed, and then it is told to disconnect.
        harness.pass(Duration::from_millis(10));
        harness.pass(Duration::from_millis(100));
        assert_eq!(picked(&mut harness, listener), None, "it was told to disconnect");
    }

    #[test]
    fn a_connection_is_not_offered_again_to_a_worker_that_refused_it() {
        let (mut harness, _ends, listener) = cluster(2);
        harness.listener(listener).waiting.push_back(refused_by(&[1]));
        assert_eq!(picked(&mut harness, listener), Some(2));
    }

    #[test]
    fn what_all_refuse_is_offered_again_after_a_rest() {
        let (mut harness, mut ends, listener) = cluster(2);
        harness.listener(listener).waiting.push_back(refused_by(&[1, 2]));
        harness.state.reactor.mark(listener);
        harness.turn();
        assert!(harness.listener(listener).paused_until.is_some());
        assert!(ends.iter_mut().all(|end| end.connections().is_empty()));
        harness.pass(REFUSED_PAUSE);
        assert!(harness.listener(listener).waiting.is_empty());
        assert_eq!(ends.iter_mut().map(|end| end.connections().len()).sum::<usize>(), 1);
    }

    #[test]
    fn what_is_refused_for_ever_is_closed() {
        let (mut harness, _ends, listener) = cluster(1);
        let connection = Connection { rounds: MOST_ROUNDS, ..refused_by(&[1]) };
        harness.listener(listener).waiting.push_back(connection);
        harness.state.reactor.mark(listener);
        harness.turn();
        assert!(harness.listener(listener).waiting.is_empty());
        assert!(harness.worker(1).in_flight.is_empty());
    }

    #[test]
    fn what_no_worker_has_room_for_stays_in_the_kernels_queue() {
        let (mut harness, mut ends, listener) = cluster(1);
        let _clients: Vec<_> = (0..10).map(|_| harness.connect(listener)).collect();
        harness.turn();
        assert_eq!(harness.worker(1).in_flight.len(), 8);
        assert!(harness.listener(listener).waiting.is_empty());
        assert_eq!(harness.take(1, &mut ends[0]), 8);
        harness.turn();
        assert_eq!(harness.take(1, &mut ends[0]), 2);
        assert_eq!(harness.worker(1).connections(), Some(10));
    }
}
