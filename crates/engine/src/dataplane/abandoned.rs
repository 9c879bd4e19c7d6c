//! Sockets that a worker closes while it goes on.
//!
//! A listener outlives its workers, so that whoever connects while one is replaced waits for the next one. That is for
//! workers that end. A socket that a worker merely tries, as those do that look for a free port, or that it has used
//! and wants no more, is closed with its queue: by [`Judgement`] at once, or as soon as the worker is known to go on.

use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::node::{ListenerKey, QueryServer};

use super::listener::{Abandoned, Listener};
use super::listeners;
use super::messages::Standing;
use super::reactor::{ListenerId, Timer};
use super::state::State;
use super::worker::Worker;

/// How long a worker that closes one of its servers is watched: it closes the others as well when it is about to end.
const SECOND_THOUGHTS: Duration = Duration::from_millis(50);

/// What becomes of a listener whose last living user has closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    /// It was no more than a trial, or its worker does not serve yet: nobody was promised anything there.
    Close,
    /// Its worker served there and has other servers: it is closed if the worker goes on.
    Watch,
    /// The worker has no other server, or is on its way out: the next one may want it. Or clients wait there for whoever is the
    /// first to serve.
    Keep,
}

/// A worker has closed a server of this listener.
pub(super) fn closed_by(state: &mut State, id: WorkerId, listener: ListenerId) {
    let State { workers, listeners, is_stopping, reactor, .. } = &mut *state;
    let (Some(worker), Some(abandoned)) = (workers.get(&id), listeners.get_mut(&listener)) else { return };
    if *is_stopping || !abandoned.targets.is_empty() {
        return;
    }
    abandoned.abandoned = Some(Abandoned { by: id, at: None });
    match judge(worker, abandoned, reactor.now) {
        Judgement::Close => close(state, listener),
        Judgement::Watch => {
            let at = reactor.set_timer_in(SECOND_THOUGHTS, Timer::Listener(listener));
            abandoned.abandoned = Some(Abandoned { by: id, at: Some(at) });
        }
        Judgement::Keep => {}
    }
}

fn judge(worker: &Worker, listener: &Listener, now: Instant) -> Judgement {
    let is_trial = listener.trial_until.is_some_and(|until| now < until);
    if worker.is_on_its_way_out() || listener.is_owed() {
        Judgement::Keep
    } else if !listener.proven && worker.standing != Some(Standing::Serving) {
        Judgement::Close
    } else if worker.servers.is_empty() {
        Judgement::Keep
    } else if is_trial {
        Judgement::Close
    } else {
        Judgement::Watch
    }
}

/// A listener's time has come: it is closed if the worker that abandoned it goes on.
pub(super) fn revisit(state: &mut State, id: ListenerId) {
    let Some(listener) = state.listeners.get_mut(&id) else { return };
    let Some(Abandoned { by, at: Some(at) }) = listener.abandoned else { return };
    if at > state.reactor.now || state.is_stopping {
        return;
    }
    listener.abandoned = Some(Abandoned { by, at: None });
    let goes_on = |worker: &Worker| !worker.is_on_its_way_out() && !worker.servers.is_empty();
    if state.workers.get(&by).is_some_and(goes_on) {
        close(state, id);
    }
}

/// A worker that asks to listen goes on. What it has abandoned is closed, but for a queue of connections whose address it asks
/// for again.
pub(super) fn close_before(state: &mut State, id: WorkerId, query: &QueryServer) {
    let wanted = ListenerKey::from(query);
    let is_over = |listener: &Listener| {
        let Some(Abandoned { by, at }) = listener.abandoned.filter(|_| listener.targets.is_empty()) else {
            return false;
        };
        let is_wanted = listener.identity.as_ref() == Some(&wanted);
        let is_resumed =
            is_wanted && (listener.is_owed() || (wanted.index.is_none() && listener.is_stream()));
        by == id && (at.is_some() || is_wanted) && !is_resumed
    };
    let over: Vec<ListenerId> = state.listeners.values().filter(|it| is_over(it)).map(|it| it.id).collect();
    for listener in over {
        close(state, listener);
    }
}

fn close(state: &mut State, id: ListenerId) {
    let State { listeners, peeks, reactor, reports, .. } = state;
    listeners::close(id, listeners, peeks, reactor, reports);
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use recluster_wire::node::{FromWorker, Listening, SocketKind};

    use super::super::fixtures::{FarEnd, Harness, just_before, query};
    use super::super::messages::Command;
    use super::super::worker::SERVER_LIFE;
    use super::*;
    use crate::config::balance::Balance;
    use crate::report::worker::Address;

    /// A worker that serves at one address since long ago.
    fn serving(balance: Balance) -> (Harness, FarEnd) {
        let mut harness = Harness::new(balance);
        let mut far = harness.serving(1, 0);
        harness.listen(1, &mut far);
        harness.pass(SERVER_LIFE);
        (harness, far)
    }

    fn ask(harness: &mut Harness, far: &mut FarEnd, worker: u64, query: QueryServer) -> (String, ListenerId) {
        let listener = harness.ask(worker, far, query);
        let servers = &harness.worker(worker).servers;
        let key = servers.iter().find(|(_, server)| server.listener == listener).map(|(key, _)| key.clone());
        (key.unwrap(), listener)
    }

    fn second() -> QueryServer {
        QueryServer { index: 1, ..query(9) }
    }

    fn shut(harness: &mut Harness, worker: u64, key: &str) {
        harness.hear(worker, FromWorker::Close { key: key.to_owned() });
    }

    fn is_open(harness: &Harness, listener: ListenerId) -> bool {
        harness.state.listeners.contains_key(&listener)
    }

    #[test]
    fn what_is_closed_before_its_worker_serves_is_closed_at_once() {
        for balance in [Balance::RoundRobin, Balance::Shared, Balance::Kernel] {
            let mut harness = Harness::new(balance);
            let mut far = harness.admitted(1, 0);
            harness.set_standing(1, Some(Standing::Standby));
            let (key, listener) = ask(&mut harness, &mut far, 1, query(1));
            let address = harness.address(listener);
            harness.pass(SERVER_LIFE * 2);
            // As the worker does.
            far.fds.clear();
            shut(&mut harness, 1, &key);
            assert!(!is_open(&harness, listener));
            TcpListener::bind(address).unwrap();
        }
    }

    #[test]
    fn a_trial_of_a_worker_that_serves_is_closed_at_once() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        let (key, listener) = ask(&mut harness, &mut far, 1, second());
        shut(&mut harness, 1, &key);
        assert!(!is_open(&harness, listener));
        assert!(is_open(&harness, 0));
    }

    #[test]
    fn what_served_is_closed_when_its_worker_goes_on() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        let (key, listener) = ask(&mut harness, &mut far, 1, second());
        harness.pass(SERVER_LIFE);
        shut(&mut harness, 1, &key);
        harness.pass(just_before(SECOND_THOUGHTS));
        assert!(is_open(&harness, listener));
        harness.pass(Duration::from_millis(1));
        assert!(!is_open(&harness, listener) && is_open(&harness, 0));
    }

    /// Closes both servers of a worker, and lets it end by `end`.
    fn ending(end: impl FnOnce(&mut Harness, &str)) -> (Harness, ListenerId) {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        let first = harness.worker(1).servers.keys().next().cloned().unwrap();
        let (key, listener) = ask(&mut harness, &mut far, 1, second());
        harness.pass(SERVER_LIFE);
        shut(&mut harness, 1, &key);
        end(&mut harness, &first);
        harness.pass(SECOND_THOUGHTS);
        (harness, listener)
    }

    #[test]
    fn what_a_worker_closes_that_ends_is_kept_for_the_next_one() {
        let (harness, listener) = ending(|harness, other| shut(harness, 1, other));
        assert!(is_open(&harness, listener) && is_open(&harness, 0), "it closes all its servers");
        let (harness, listener) = ending(|harness, _| harness.hear(1, FromWorker::Leaves));
        assert!(is_open(&harness, listener), "it leaves");
        let (harness, listener) =
            ending(|harness, _| harness.obey(Command::Ended(super::super::fixtures::id(1))));
        assert!(is_open(&harness, listener), "it is dead");
    }

    #[test]
    fn what_another_worker_uses_stays() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        let mut other = harness.serving(2, 1);
        let (key, listener) = ask(&mut harness, &mut far, 1, second());
        ask(&mut harness, &mut other, 2, second());
        shut(&mut harness, 1, &key);
        harness.pass(SECOND_THOUGHTS);
        assert!(is_open(&harness, listener));
    }

    #[test]
    fn the_next_random_port_of_a_worker_is_another_one() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = harness.serving(1, 0);
        let (key, listener) = ask(&mut harness, &mut far, 1, query(1));
        shut(&mut harness, 1, &key);
        assert!(is_open(&harness, listener), "it was the last one");
        assert_ne!(ask(&mut harness, &mut far, 1, query(2)).1, listener);
        assert!(!is_open(&harness, listener));
    }

    #[test]
    fn a_queue_of_connections_goes_on_where_its_address_is_asked_for_again() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let named = |seq| QueryServer { port: Some(port), ..query(seq) };
        let (key, listener) = ask(&mut harness, &mut far, 1, named(1));
        harness.pass(SERVER_LIFE);
        shut(&mut harness, 1, &key);
        assert_eq!(ask(&mut harness, &mut far, 1, named(2)).1, listener);
        harness.pass(SECOND_THOUGHTS);
        assert!(is_open(&harness, listener));
    }

    #[test]
    fn datagrams_wait_for_nobody_else() {
        let (mut harness, mut far) = serving(Balance::RoundRobin);
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let named = |seq| QueryServer { port: Some(port), kind: Some(SocketKind::Udp4), ..query(seq) };
        let (key, listener) = ask(&mut harness, &mut far, 1, named(1));
        harness.pass(SERVER_LIFE);
        shut(&mut harness, 1, &key);
        assert_ne!(ask(&mut harness, &mut far, 1, named(2)).1, listener);
    }

    #[test]
    fn a_port_that_another_worker_found_is_the_same_socket_by_its_number() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let (mut far, mut other) = (harness.admitted(1, 0), harness.admitted(2, 1));
        let (key, listener) = ask(&mut harness, &mut far, 1, query(1));
        let (others, shared) = ask(&mut harness, &mut other, 2, query(1));
        assert_eq!(shared, listener, "both look for a port");
        shut(&mut harness, 1, &key);
        let port = Some(harness.address(listener).port());
        assert_eq!(ask(&mut harness, &mut far, 1, QueryServer { port, ..query(2) }).1, listener);
        shut(&mut harness, 2, &others);
        assert_eq!(ask(&mut harness, &mut other, 2, QueryServer { port, ..query(2) }).1, listener);
        assert_ne!(ask(&mut harness, &mut other, 2, query(3)).1, listener, "a random port is another one");
    }

    #[test]
    fn who_binds_its_own_sockets_listens_where_it_says() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let _far = harness.admitted(1, 0);
        let address = Some("127.0.0.1".to_owned());
        let listening = Listening { address, port: Some(8080), kind: Some(SocketKind::Tcp4), fd: None };
        harness.hear(1, FromWorker::Listening(listening));
        assert_eq!(harness.fact_names(), ["listening 1"]);
    }

    #[test]
    fn a_server_that_is_closed_already_listens_nowhere() {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = harness.admitted(1, 0);
        let listening = |port| Listening {
            address: Some("127.0.0.1".to_owned()),
            port: Some(port),
            kind: Some(SocketKind::Tcp4),
            fd: None,
        };
        let (key, listener) = ask(&mut harness, &mut far, 1, query(1));
        let Address::Tcp(address) = harness.listener(listener).address else { panic!("it is not TCP") };
        shut(&mut harness, 1, &key);
        for port in [0, address.port()] {
            harness.hear(1, FromWorker::Listening(listening(port)));
        }
        assert!(harness.fact_names().is_empty());
        let (key, listener) = ask(&mut harness, &mut far, 1, query(2));
        let port = harness.address(listener).port();
        harness.hear(1, FromWorker::Listening(listening(port)));
        shut(&mut harness, 1, &key);
        assert_eq!(
            harness.fact_names(),
            ["listening 1", "listens no more 1", &format!("closed 127.0.0.1:{port}")]
        );
    }
}
