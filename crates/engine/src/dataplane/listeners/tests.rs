//! When listeners are opened, kept and closed, and how they stop.

use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use recluster_wire::node::FromWorker;

use super::super::fixtures::{Harness, connection, id, just_before, query};
use super::super::messages::Command;
use super::super::state::State;
use super::super::worker::Drain;
use super::*;
use crate::config::balance::StickyBy;

/// A listener that a worker has used, which has ended.
fn unused(standing: Option<Standing>) -> Harness {
    let mut harness = Harness::new(Balance::RoundRobin);
    let mut far = harness.admitted(1, 0);
    harness.set_standing(1, standing);
    harness.listen(1, &mut far);
    harness.obey(Command::Ended(id(1)));
    harness
}

fn close_servers(harness: &mut Harness) {
    let keys: Vec<String> = harness.worker(1).servers.keys().cloned().collect();
    for key in keys {
        harness.hear(1, FromWorker::Close { key });
    }
}

fn count(harness: &Harness) -> usize {
    harness.state.listeners.len()
}

#[test]
fn a_proven_listener_is_kept_for_a_while() {
    let mut harness = unused(Some(Standing::Serving));
    harness.settle();
    harness.pass(just_before(UNUSED_LINGER));
    assert_eq!(count(&harness), 1);
    harness.pass(Duration::from_millis(1));
    assert_eq!(count(&harness), 0);
}

#[test]
fn one_that_no_worker_that_serves_has_used_is_closed_at_once() {
    for standing in [None, Some(Standing::Standby)] {
        let mut harness = unused(standing);
        assert_eq!(count(&harness), 1, "it may be wanted again");
        harness.settle();
        assert_eq!(count(&harness), 0);
    }
}

#[test]
fn nothing_is_closed_before_all_is_settled() {
    let mut harness = unused(Some(Standing::Serving));
    harness.pass(UNUSED_LINGER * 2);
    assert_eq!(count(&harness), 1);
    harness.settle();
    harness.pass(UNUSED_LINGER);
    assert_eq!(count(&harness), 0);
}

#[test]
fn one_that_is_used_again_is_kept() {
    let mut harness = unused(Some(Standing::Serving));
    harness.settle();
    harness.pass(UNUSED_LINGER / 2);
    let mut far = harness.serving(2, 0);
    assert_eq!(harness.listen(2, &mut far), 0);
    harness.pass(UNUSED_LINGER);
    assert_eq!(count(&harness), 1);
    harness.obey(Command::Ended(id(2)));
    harness.pass(just_before(UNUSED_LINGER));
    assert_eq!(count(&harness), 1, "the time begins anew");
    harness.pass(Duration::from_millis(1));
    assert_eq!(count(&harness), 0);
}

#[test]
fn the_oldest_of_too_many_unused_ones_are_closed() {
    let mut harness = Harness::new(Balance::RoundRobin);
    let _far = harness.serving(1, 0);
    for index in 0..70 {
        harness.hear(1, FromWorker::QueryServer(QueryServer { index, ..query(index.into()) }));
    }
    harness.obey(Command::Ended(id(1)));
    assert_eq!(count(&harness), MOST_UNUSED);
    assert_eq!(harness.state.listeners.keys().next_back(), Some(&69));
}

#[test]
fn workers_that_ask_for_the_same_have_the_same_listener() {
    let mut harness = Harness::new(Balance::RoundRobin);
    let mut ends = [harness.serving(1, 0), harness.serving(2, 1)];
    let first = harness.listen(1, &mut ends[0]);
    assert_eq!(harness.listen(2, &mut ends[1]), first);
    // The same worker again: a new bind, which gets another port here.
    assert_ne!(harness.listen(1, &mut ends[0]), first);
    assert_eq!(count(&harness), 2);
    assert!(harness.state.listeners[&1].identity.is_none(), "other workers mean the first");
}

#[test]
fn at_a_stop_what_the_kernel_has_is_taken_and_the_socket_closed() {
    let mut harness = Harness::new(Balance::RoundRobin);
    let mut far = harness.serving(1, 0);
    let listener = harness.listen(1, &mut far);
    let address = harness.address(listener);
    let _client = TcpStream::connect(address).unwrap();
    harness.close_listeners();
    assert!(harness.listener(listener).has_leftovers(), "a handshake may be under way");
    harness.pass(REFUSE_SPAN);
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(far.connections().len(), 1);
    assert!(!harness.listener(listener).has_leftovers());
}

#[test]
fn at_a_stop_a_unix_socket_refuses_and_keeps_what_has_come() {
    let mut harness = Harness::new(Balance::RoundRobin);
    let mut far = harness.serving(1, 0);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("it.sock");
    let address = Some(path.to_string_lossy().into_owned());
    let query = QueryServer { kind: Some(SocketKind::Unix), address, port: None, ..query(1) };
    harness.hear(1, FromWorker::QueryServer(query));
    let _client = UnixStream::connect(&path).unwrap();
    // As if it were not closed yet.
    let open = (harness.listener(0).socket.clone(), harness.listener(0).file.clone());
    harness.close_listeners();
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    drop(open);
    harness.turn();
    assert_eq!(far.connections().len(), 1);
}

#[test]
fn at_a_stop_workers_that_accept_have_a_last_call() {
    for balance in [Balance::Shared, Balance::Kernel, Balance::Sticky(StickyBy::Ip)] {
        let mut harness = Harness::new(balance);
        let mut far = harness.serving(1, 0);
        let listener = harness.listen(1, &mut far);
        harness.turn();
        let address = harness.address(listener);
        harness.close_listeners();
        let _client = TcpStream::connect(address).unwrap();
        harness.pass(LAST_CALL);
        assert!(matches!(harness.listener(listener).closing, Some(Closing::Close(_))));
        assert!(harness.listener(listener).socket.is_some());
        harness.pass(REFUSE_SPAN);
        assert!(harness.listener(listener).socket.is_none());
        assert_eq!(far.connections().len(), 1, "what the worker had not accepted");
    }
}

#[test]
fn what_no_worker_is_left_to_take_is_closed() {
    let mut harness = Harness::new(Balance::RoundRobin);
    let mut ends = [harness.serving(1, 0), harness.serving(2, 1)];
    let listener = harness.listen(1, &mut ends[0]);
    let (left, mut client) = connection();
    harness.listener(listener).waiting.push_back(left);
    let State { listeners, workers, reactor, .. } = &mut harness.state;
    give_up_leftovers(listeners, workers, reactor);
    assert!(listeners[&listener].has_leftovers(), "there is a worker");
    workers.get_mut(&id(1)).unwrap().drain = Drain::Disconnecting;
    give_up_leftovers(listeners, workers, reactor);
    assert!(!listeners[&listener].has_leftovers(), "the other one has no server there");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

/// The application closed its server before it heard of the stop, or the worker is gone.
#[test]
fn at_a_stop_a_socket_that_no_worker_uses_is_closed_at_once() {
    for balance in [Balance::RoundRobin, Balance::Shared, Balance::Kernel, Balance::Sticky(StickyBy::Ip)] {
        for closes_before in [true, false] {
            let mut harness = Harness::new(balance.clone());
            let mut far = harness.serving(1, 0);
            let listener = harness.listen(1, &mut far);
            harness.turn();
            let address = harness.address(listener);
            let mut client = TcpStream::connect(address).unwrap();
            if closes_before {
                close_servers(&mut harness);
            }
            harness.close_listeners();
            if !closes_before {
                close_servers(&mut harness);
            }
            // What the worker's copy would hold open is closed with the worker.
            drop(far);
            harness.turn();
            assert!(!harness.listener(listener).has_leftovers(), "{balance}");
            assert!(TcpStream::connect(address).is_err(), "{balance}");
            assert!(client.read(&mut [0]).map_or(true, |count| count == 0), "{balance}");
        }
    }
}
