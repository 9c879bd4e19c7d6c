//! Balance `kernel` as a whole: whom the kernel chooses, what waits for a busy worker, and what is left in a vacant socket.

use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::Duration;

use recluster_wire::node::FromWorker;

use super::relief::OVERDUE_AFTER;
use crate::config::balance::{Balance, StickyBy};
use crate::dataplane::connection::accept;
use crate::dataplane::event_loop;
use crate::dataplane::fixtures::{FarEnd, Harness, Waiting, id};
use crate::dataplane::idle::Look;
use crate::dataplane::messages::{Command, Standing};
use crate::dataplane::reactor::ListenerId;
use crate::sys;

/// Two workers that serve, each with a socket of its own.
fn two_workers(balance: Balance) -> (Harness, [FarEnd; 2], ListenerId) {
    let mut harness = Harness::new(balance);
    let mut ends = [harness.serving(1, 0), harness.serving(2, 1)];
    let listener = harness.listen(1, &mut ends[0]);
    assert_eq!(harness.listen(2, &mut ends[1]), listener);
    harness.turn();
    (harness, ends, listener)
}

fn steered(harness: &mut Harness, listener: ListenerId) -> Vec<u32> {
    let group = harness.listener(listener).group.as_ref().unwrap();
    group.steered.iter().map(|place| place.number).collect()
}

/// Clients connect until one waits in the socket at this place; they all.
fn wait_at(place: usize, harness: &mut Harness, listener: ListenerId) -> Vec<TcpStream> {
    let socket = harness.listener(listener).group.as_ref().unwrap().socket(place).unwrap();
    let address = harness.address(listener);
    let mut clients = Vec::new();
    while sys::accept_queue(socket.as_fd()).unwrap() == 0 {
        clients.push(TcpStream::connect(address).unwrap());
    }
    clients
}

fn empty(place: usize, harness: &mut Harness, listener: ListenerId) {
    let socket = harness.listener(listener).group.as_ref().unwrap().socket(place).unwrap();
    while accept(socket.as_fd()).unwrap().is_some() {}
}

/// The worker at place 0 is overdue, and the other one has been asked.
fn overdue() -> (Harness, [FarEnd; 2], ListenerId, Vec<TcpStream>) {
    let (mut harness, mut ends, listener) = two_workers(Balance::Kernel);
    let clients = wait_at(0, &mut harness, listener);
    empty(1, &mut harness, listener);
    event_loop::note_member(&mut harness.state, listener, 0);
    assert!(ends[1].lines().is_empty());
    harness.pass(OVERDUE_AFTER);
    assert!(ends[0].lines().is_empty());
    assert_eq!(ends[1].lines().len(), 1, "it is asked whether its loop turns");
    (harness, ends, listener, clients)
}

#[test]
fn the_kernel_chooses_among_those_that_may_take_connections() {
    let (mut harness, mut ends, listener) = two_workers(Balance::Kernel);
    assert_eq!(steered(&mut harness, listener), [0, 1]);
    let mut third = harness.admitted(3, 0);
    harness.listen(3, &mut third);
    harness.turn();
    assert_eq!(steered(&mut harness, listener), [0, 1], "it does not serve");
    harness.set_standing(3, Some(Standing::Serving));
    harness.set_standing(1, None);
    harness.turn();
    assert_eq!(steered(&mut harness, listener), [2, 1], "in the order of slots");
    assert!(ends.iter_mut().all(|end| end.fds.len() == 1));
}

#[test]
fn where_no_worker_may_the_kernel_goes_on_as_before() {
    let (mut harness, _ends, listener) = two_workers(Balance::Kernel);
    harness.set_standing(1, None);
    harness.set_standing(2, None);
    harness.turn();
    assert_eq!(steered(&mut harness, listener), [0_u32; 0]);
    let clients = wait_at(0, &mut harness, listener);
    assert!(!clients.is_empty());
}

#[test]
fn by_address_the_kernel_chooses_the_slots_newest_worker() {
    let (mut harness, _ends, listener) = two_workers(Balance::Sticky(StickyBy::Ip));
    let mut newer = harness.serving(3, 0);
    harness.listen(3, &mut newer);
    harness.turn();
    assert_eq!(steered(&mut harness, listener), [2, 1]);
    assert_eq!(harness.listener(listener).balance(), "sticky");
}

#[test]
fn what_waits_for_a_busy_worker_goes_to_one_that_answers_at_once() {
    let (mut harness, mut ends, listener, clients) = overdue();
    harness.hear(2, FromWorker::Pong);
    assert_eq!(ends[1].connections().len(), 1);
    assert_eq!(harness.state.reports.tally.stolen, 1);
    assert!(!clients.is_empty());
    let sent = harness.worker(2).in_flight.values().next().unwrap();
    assert_eq!(sent.listener, listener);
}

#[test]
fn one_that_is_seen_to_be_idle_is_not_asked() {
    let (mut harness, mut ends, listener) = two_workers(Balance::Kernel);
    let socket = harness.listener(listener).group.as_ref().unwrap().socket(1).unwrap();
    let process = Waiting::new(&*socket, "while True: own.poll()");
    harness.worker(2).pid = Some(process.id());
    while harness.worker(2).event_loop.look(process.id(), &*socket) != Look::Idle {
        std::thread::yield_now();
    }
    let _clients = wait_at(0, &mut harness, listener);
    empty(1, &mut harness, listener);
    while harness.worker(2).event_loop.look(process.id(), &*socket) != Look::Idle {
        std::thread::yield_now();
    }
    event_loop::note_member(&mut harness.state, listener, 0);
    harness.pass(OVERDUE_AFTER);
    assert_eq!(ends[1].connections().len(), 1);
    assert_eq!(harness.state.reports.tally.stolen, 1);
}

#[test]
fn where_nobody_is_idle_they_are_looked_at_less_and_less_often() {
    let (mut harness, mut ends, listener) = two_workers(Balance::Kernel);
    let _clients = wait_at(0, &mut harness, listener);
    let _others = wait_at(1, &mut harness, listener);
    event_loop::note_member(&mut harness.state, listener, 0);
    let mut spans = Vec::new();
    for _ in 0..6 {
        spans.push(harness.listener(listener).group.as_ref().unwrap().members[0].patience);
        harness.pass(spans[spans.len() - 1]);
    }
    let micros: Vec<u128> = spans.iter().map(Duration::as_micros).collect();
    assert_eq!(micros, [300, 600, 1200, 2400, 4000, 4000]);
    empty(1, &mut harness, listener);
    harness.pass(Duration::from_millis(4));
    assert_eq!(ends[1].lines().len(), 1, "it is asked, since nobody can look at it");
    assert!(ends[0].lines().is_empty());
}

#[test]
fn the_next_one_goes_to_it_when_it_has_taken_that() {
    let (mut harness, mut ends, listener, _clients) = overdue();
    let socket = harness.listener(listener).group.as_ref().unwrap().socket(0).unwrap();
    let address = harness.address(listener);
    let mut more = Vec::new();
    while sys::accept_queue(socket.as_fd()).unwrap() < 2 {
        more.push(TcpStream::connect(address).unwrap());
    }
    empty(1, &mut harness, listener);
    harness.hear(2, FromWorker::Pong);
    assert_eq!(harness.take(2, &mut ends[1]), 1);
    assert_eq!(ends[1].connections().len(), 1);
    assert_eq!(harness.state.reports.tally.stolen, 2);
}

#[test]
fn one_that_answers_late_is_busy_too() {
    let (mut harness, mut ends, _listener, _clients) = overdue();
    harness.state.reactor.now += Duration::from_millis(2);
    harness.hear(2, FromWorker::Pong);
    assert!(ends[1].connections().is_empty());
    harness.hear(2, FromWorker::Pong);
    assert!(ends[1].connections().is_empty(), "it was not asked again");
}

#[test]
fn one_that_has_something_to_accept_itself_is_sent_nothing() {
    let (mut harness, mut ends, listener, _clients) = overdue();
    let _more = wait_at(1, &mut harness, listener);
    harness.hear(2, FromWorker::Pong);
    assert!(ends[1].connections().is_empty());
}

#[test]
fn what_was_accepted_in_time_is_not_overdue() {
    let (mut harness, mut ends, listener) = two_workers(Balance::Kernel);
    let _clients = wait_at(0, &mut harness, listener);
    event_loop::note_member(&mut harness.state, listener, 0);
    empty(0, &mut harness, listener);
    harness.pass(OVERDUE_AFTER);
    assert!(ends.iter_mut().all(|end| end.lines().is_empty()));
    assert!(!harness.listener(listener).group.as_ref().unwrap().members[0].is_overdue);
}

#[test]
fn under_sticky_nothing_is_taken_from_a_busy_worker() {
    let (mut harness, mut ends, listener) = two_workers(Balance::Sticky(StickyBy::Ip));
    let address = harness.address(listener);
    let _client = TcpStream::connect(address).unwrap();
    for place in 0..2 {
        event_loop::note_member(&mut harness.state, listener, place);
    }
    harness.pass(OVERDUE_AFTER);
    assert!(ends.iter_mut().all(|end| end.lines().is_empty()));
}

#[test]
fn what_waits_in_a_vacant_socket_is_sent_to_a_worker() {
    let (mut harness, mut ends, listener) = two_workers(Balance::Kernel);
    let _clients = wait_at(0, &mut harness, listener);
    empty(1, &mut harness, listener);
    harness.obey(Command::Ended(id(1)));
    harness.turn();
    assert_eq!(steered(&mut harness, listener), [1]);
    event_loop::note_member(&mut harness.state, listener, 0);
    harness.turn();
    assert!(!ends[1].connections().is_empty());
    assert!(harness.state.reports.tally.requeued > 0);
}
