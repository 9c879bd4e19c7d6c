//! What a service manager is sent, and how what it kept is used again.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream, UdpSocket};

use recluster_wire::node::{FromWorker, Listening};

use super::super::fixtures::{FarEnd, Harness, query};
use super::super::listeners::Opener;
use super::super::messages::{Command, Standing};
use super::super::reactor::{ListenerId, Token};
use super::super::worker::SERVER_LIFE;
use super::*;
use crate::config::balance::Balance;
use crate::socket::kept::KeptName;
use crate::socket::lend::Lender;

const NAME: KeptName = KeptName { number: 3, place: 0, file: None };

/// A data plane that has this back.
fn with(back: impl IntoIterator<Item = OwnedFd>) -> Harness {
    let mut pool = Pool::default();
    (0..).zip(back).for_each(|(place, socket)| pool.add(KeptName { place, ..NAME }, socket));
    let mut harness = Harness::new(Balance::RoundRobin);
    harness.state.opener = Opener::new(BTreeMap::new(), Lender::default(), pool, true);
    harness
}

/// A socket that came back, and a client that has waited there meanwhile.
fn waiting() -> (OwnedFd, u16, TcpStream) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    (socket.into(), address.port(), client)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn at(port: u16) -> QueryServer {
    QueryServer { port: Some(port), ..query(1) }
}

fn everywhere(port: u16) -> QueryServer {
    QueryServer { address: Some("0.0.0.0".to_owned()), ..at(port) }
}

/// A worker that looks whether it could listen there.
fn tries(harness: &mut Harness, far: &mut FarEnd, query: QueryServer) -> ListenerId {
    let listener = harness.ask(1, far, query);
    harness.turn();
    let servers = &harness.worker(1).servers;
    let (key, _) = servers.iter().find(|(_, server)| server.listener == listener).unwrap();
    let key = key.clone();
    harness.hear(1, FromWorker::Close { key });
    harness.turn();
    listener
}

#[test]
fn a_port_that_is_merely_tried_is_not_sent_to_the_manager() {
    for standing in [None, Some(Standing::Standby), Some(Standing::Serving)] {
        let mut harness = with([]);
        let mut far = harness.admitted(1, 0);
        harness.set_standing(1, standing);
        let other = harness.ask(1, &mut far, query(9));
        let port = free_port();
        let listener = tries(&mut harness, &mut far, at(port));
        assert!(
            !harness.state.listeners.contains_key(&listener) && harness.state.listeners.contains_key(&other)
        );
        TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(!harness.fact_names().iter().any(|fact| fact.contains("recluster.")));
    }
}

#[test]
fn a_socket_is_sent_when_a_worker_that_serves_uses_it() {
    let mut harness = with([]);
    let mut far = harness.admitted(1, 0);
    harness.ask(1, &mut far, at(free_port()));
    harness.turn();
    assert!(harness.fact_names().is_empty());
    harness.set_standing(1, Some(Standing::Serving));
    harness.turn();
    assert_eq!(harness.fact_names(), ["keep recluster.0.0"]);
    harness.ask(1, &mut far, at(free_port()));
    harness.turn();
    assert!(harness.fact_names().is_empty(), "it may be a trial");
    harness.pass(SERVER_LIFE);
    assert_eq!(harness.fact_names(), ["keep recluster.1.0"]);
}

fn says_that_it_listens(harness: &mut Harness, port: u16) {
    let address = Some("127.0.0.1".to_owned());
    let listening = Listening { address, port: Some(port), kind: Some(SocketKind::Tcp4), fd: None };
    harness.hear(1, FromWorker::Listening(listening));
    harness.turn();
}

#[test]
fn all_that_was_sent_is_sent_again_when_there_is_room() {
    let mut harness = with([]);
    let mut far = harness.serving(1, 0);
    harness.ask(1, &mut far, at(free_port()));
    harness.ask(1, &mut far, query(2));
    harness.pass(SERVER_LIFE);
    harness.ask(1, &mut far, at(free_port()));
    harness.turn();
    assert_eq!(harness.fact_names(), ["keep recluster.0.0"]);
    harness.obey(Command::KeepAgain);
    assert_eq!(harness.fact_names(), ["keep recluster.0.0"], "neither a random port nor what may be a trial");
}

#[test]
fn a_trial_leaves_what_came_back_to_whoever_serves() {
    for standing in [None, Some(Standing::Standby), Some(Standing::Serving)] {
        let (socket, port, _client) = waiting();
        let mut harness = with([socket]);
        let mut far = harness.admitted(1, 0);
        harness.set_standing(1, standing);
        harness.ask(1, &mut far, query(9));
        harness.settle();
        let listener = tries(&mut harness, &mut far, at(port));
        assert_eq!(harness.ask(1, &mut far, at(port)), listener, "{standing:?}");
        harness.turn();
        says_that_it_listens(&mut harness, port);
        assert!(far.connections().is_empty(), "it may be another trial");
        harness.set_standing(1, Some(Standing::Serving));
        harness.pass(TRIED);
        assert_eq!(far.connections().len(), 1, "{standing:?}");
        assert!(!harness.fact_names().iter().any(|fact| fact.starts_with("forget")));
    }
}

#[test]
fn who_waits_there_need_not_wait_until_a_worker_serves() {
    let (socket, port, _client) = waiting();
    let mut harness = with([socket]);
    let mut far = harness.admitted(1, 0);
    harness.set_standing(1, Some(Standing::Standby));
    harness.ask(1, &mut far, at(port));
    harness.pass(TRIED);
    says_that_it_listens(&mut harness, port);
    harness.pass(TRIED);
    assert_eq!(far.connections().len(), 1);
}

#[test]
fn datagrams_come_to_a_socket_that_was_tried_as_well() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut harness = with([socket.into()]);
    let mut far = harness.admitted(1, 0);
    let datagrams = || QueryServer { kind: Some(SocketKind::Udp4), ..at(port) };
    let listener = tries(&mut harness, &mut far, datagrams());
    assert_eq!(harness.ask(1, &mut far, datagrams()), listener);
}

#[test]
fn what_is_tried_and_never_wanted_again_is_closed() {
    let (socket, port, _client) = waiting();
    let mut harness = with([socket]);
    let mut far = harness.serving(1, 0);
    harness.ask(1, &mut far, query(9));
    harness.settle();
    tries(&mut harness, &mut far, at(port));
    harness.pass(Duration::from_secs(5));
    let facts = harness.fact_names();
    assert!(facts.contains(&format!("forget {NAME}")), "{facts:?}");
    TcpListener::bind(("127.0.0.1", port)).unwrap();
}

#[test]
fn what_waits_at_an_address_that_overlaps_is_served_and_not_by_a_trial() {
    let (socket, port, client) = waiting();
    let mut harness = with([socket]);
    let mut far = harness.admitted(1, 0);
    tries(&mut harness, &mut far, everywhere(port));
    let late = TcpStream::connect(("127.0.0.1", port)).unwrap();
    harness.ask(1, &mut far, everywhere(port));
    harness.turn();
    assert!(far.connections().is_empty(), "it may be a trial");
    harness.set_standing(1, Some(Standing::Serving));
    harness.settle();
    harness.turn();
    assert_eq!(harness.take(1, &mut far), 2);
    drop((client, late));
    harness.pass(Duration::from_secs(1));
    harness.pass(LOOK);
    assert_eq!(harness.fact_names().last(), Some(&format!("forget {NAME}")));
}

#[test]
fn datagrams_of_an_address_that_overlaps_give_way() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut harness = with([socket.into()]);
    let mut far = harness.serving(1, 0);
    harness.ask(1, &mut far, QueryServer { kind: Some(SocketKind::Udp4), ..everywhere(port) });
    harness.pass(SERVER_LIFE);
    let facts = harness.fact_names();
    assert_eq!(facts, ["keep recluster.4.0".to_owned(), format!("forget {NAME}")]);
}

#[test]
fn what_cannot_be_used_for_a_shortage_is_there_for_the_next_one_that_asks() {
    let (socket, port, _client) = waiting();
    let (other, ..) = waiting();
    let mut harness = with([socket]);
    // What is watched already cannot be watched: as where the kernel has no room.
    let watched = harness.state.opener.pool().take(&wanted(&at(port)).unwrap()).unwrap().first;
    harness.state.reactor.watch(&watched, Token::Files).unwrap();
    harness.state.opener.pool().add(NAME, watched);
    harness.state.opener.pool().add(KeptName { number: 4, ..NAME }, other);
    let mut far = harness.serving(1, 0);
    harness.hear(1, FromWorker::QueryServer(at(port)));
    assert_eq!(far.replies(), [(1, Err(libc::EEXIST))]);
    let names = |harness: &mut Harness| harness.state.opener.pool().names();
    assert_eq!(names(&mut harness), [KeptName { number: 4, ..NAME }, NAME]);
    harness.ask(1, &mut far, QueryServer { seq: 2, ..at(port) });
    harness.pass(SERVER_LIFE);
    assert_eq!(harness.fact_names(), Vec::<String>::new(), "the manager has it");
    assert_eq!(names(&mut harness), [KeptName { number: 4, ..NAME }]);
}

#[test]
fn what_the_manager_keeps_when_all_ends_is_left_as_it_is() {
    for is_kept in [true, false] {
        let (socket, port, _client) = waiting();
        let manager = socket.try_clone().unwrap();
        let mut harness = with([socket]);
        let mut far = harness.admitted(1, 0);
        harness.ask(1, &mut far, at(port));
        harness.turn();
        harness.obey(Command::CloseListeners { kept: is_kept.then_some(NAME).into_iter().collect() });
        harness.pass(REFUSE_SPAN);
        drop((harness, far));
        let manager = TcpListener::from(manager);
        manager.set_nonblocking(true).unwrap();
        assert_eq!(manager.accept().is_ok(), is_kept, "whoever waits there");
        let mut address = manager.local_addr().unwrap();
        address.set_ip([127, 0, 0, 1].into());
        assert_eq!(TcpStream::connect_timeout(&address, SERVER_LIFE).is_ok(), is_kept);
    }
}

#[test]
fn what_came_back_is_kept_by_another_program() {
    let (socket, port, _client) = waiting();
    let (other, other_port, _other_client) = waiting();
    let mut harness = with([]);
    harness.state.opener.pool().add(NAME, socket);
    harness.state.opener.pool().add(KeptName { number: 7, ..NAME }, other);
    let mut far = harness.serving(1, 0);
    harness.ask(1, &mut far, at(port));
    harness.ask(1, &mut far, at(free_port()));
    harness.settle();
    harness.turn();
    let mut harness = harness.inherited();
    harness.pass(SERVER_LIFE);
    assert_eq!(harness.fact_names(), ["keep recluster.8.0"], "the first one is kept");
    assert_eq!(harness.take(1, &mut far), 1);
    let came_back = harness.ask(1, &mut far, QueryServer { seq: 3, ..at(other_port) });
    assert!(harness.listener(came_back).is_owed());
    let (socket, port, _third) = waiting();
    harness.state.opener.pool().add(KeptName { number: 9, ..NAME }, socket);
    harness.settle();
    let mut harness = harness.inherited();
    harness.pass(Duration::from_secs(5));
    let facts = harness.fact_names();
    assert!(facts.contains(&"forget recluster.9.0".to_owned()), "nobody has asked for it: {facts:?}");
    TcpListener::bind(("127.0.0.1", port)).unwrap();
}

#[test]
fn sockets_that_are_one_too_many_are_emptied_by_another_program() {
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let (second, _, client) = waiting();
    rustix::io::ioctl_fionbio(&second, true).unwrap();
    let mut harness = with([first.into()]);
    let mut far = harness.serving(1, 0);
    let listener = harness.ask(1, &mut far, at(port));
    harness.pass(SERVER_LIFE);
    let now = harness.state.reactor.now;
    harness.listener(listener).spares = Spares::new(vec![(KeptName { place: 1, ..NAME }, second)], now);
    let mut harness = harness.inherited();
    harness.turn();
    assert_eq!(far.connections().len(), 1);
    harness.pass(Duration::from_secs(1));
    let mut harness = harness.inherited();
    harness.pass(LOOK);
    assert_eq!(harness.fact_names(), ["forget recluster.3.1"]);
    drop(client);
}
