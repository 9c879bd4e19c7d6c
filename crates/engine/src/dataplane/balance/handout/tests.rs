//! What is handed out, to whom, and what is not.

use std::collections::BTreeSet;
use std::net::TcpStream;

use recluster_wire::node::{FromWorker, Taken};
use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::config::balance::{Balance, StickyBy};
use crate::dataplane::event_loop::note_member;
use crate::dataplane::fixtures::{FarEnd, Harness, Waiting, id};
use crate::dataplane::idle::EventLoop;
use crate::dataplane::messages::Command;
use crate::dataplane::reactor::ListenerId;

/// Workers that serve, each with a process whose loop is idle.
struct Idle {
    harness: Harness,
    ends: Vec<FarEnd>,
    processes: Vec<Waiting>,
    listener: ListenerId,
    clients: Vec<TcpStream>,
}

impl Idle {
    fn new(count: usize, balance: Balance) -> Self {
        let mut harness = Harness::new(balance);
        let mut ends: Vec<FarEnd> =
            (1..).zip(0..).take(count).map(|(number, slot)| harness.serving(number, slot)).collect();
        let listeners: Vec<ListenerId> =
            (1..).zip(&mut ends).map(|(number, end)| harness.listen(number, end)).collect();
        let listener = listeners[0];
        let mut idle = Self { harness, ends, processes: Vec::new(), listener, clients: Vec::new() };
        for place in 0..count {
            let socket = idle.harness.listener(listener).group.as_ref().unwrap().socket(place).unwrap();
            let process = Waiting::new(&*socket, "while True: own.poll()");
            idle.harness.worker(place as u64 + 1).pid = Some(process.id());
            idle.processes.push(process);
            idle.until(place, Look::Idle);
        }
        idle
    }

    /// Looks at a worker until there is that to see.
    fn until(&mut self, place: usize, wanted: Look) {
        let socket = self.harness.listener(self.listener).group.as_ref().unwrap().socket(place).unwrap();
        let pid = self.processes[place].id();
        while self.harness.worker(place as u64 + 1).event_loop.look(pid, &*socket) != wanted {
            std::thread::yield_now();
        }
    }

    /// A worker says how many connections it has.
    fn counts(&mut self, number: u64, open: u64, lately: u32, lasting: u32) {
        let said = Taken { connections: 100, open: Some(open), lately, lasting };
        self.harness.hear(number, FromWorker::Taken(said));
        self.harness.state.reactor.mark(self.listener);
        self.harness.turn();
    }

    fn desk(&mut self) -> Option<usize> {
        let desk = self.harness.listener(self.listener).group.as_ref().unwrap().desk.as_ref();
        desk.filter(|desk| desk.is_open).map(|desk| desk.place)
    }

    /// A client connects, and the master is told so.
    fn connect(&mut self) {
        let address = self.harness.address(self.listener);
        self.clients.push(TcpStream::connect(address).unwrap());
        let place = self.desk().unwrap();
        note_member(&mut self.harness.state, self.listener, place);
    }

    /// How many connections each worker has been sent, and takes.
    fn taken(&mut self) -> Vec<usize> {
        (1..).zip(&mut self.ends).map(|(number, end)| self.harness.take(number, end)).collect()
    }

    fn stop(&mut self, place: usize, signal: Signal) {
        let pid = Pid::from_raw(self.processes[place].id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        self.until(place, if signal == Signal::STOP { Look::Busy } else { Look::Idle });
    }
}

#[test]
fn each_connection_goes_to_the_worker_with_the_fewest() {
    let mut idle = Idle::new(3, Balance::Kernel);
    for (number, open) in [(1, 4), (2, 0), (3, 2)] {
        assert_eq!(idle.desk(), None, "one has not counted");
        idle.counts(number, open, 0, 0);
    }
    assert_eq!(idle.desk(), Some(3), "behind those of the workers");
    let mut sum = [0; 3];
    for _ in 0..9 {
        idle.connect();
        for (sum, taken) in sum.iter_mut().zip(idle.taken()) {
            *sum += taken;
        }
    }
    assert_eq!(sum, [1, 5, 3]);
    // What has ended since then is known from its next count.
    idle.counts(1, 0, 0, 0);
    for expected in [[1, 0, 0]; 3] {
        idle.connect();
        assert_eq!(idle.taken(), expected);
    }
}

#[test]
fn one_that_has_not_taken_the_last_one_is_not_sent_another() {
    let mut idle = Idle::new(2, Balance::Kernel);
    idle.counts(1, 0, 0, 0);
    idle.counts(2, 0, 0, 0);
    (0..6).for_each(|_| idle.connect());
    let on_their_way = |idle: &mut Idle| [1, 2].map(|number| idle.harness.worker(number).in_flight.len());
    assert_eq!(on_their_way(&mut idle), [1, 1]);
    let mut all = [0, 0];
    while all != [3, 3] {
        let taken = idle.taken();
        assert_ne!(taken, [0, 0], "the next one comes when it has taken the last one");
        (all[0], all[1]) = (all[0] + taken[0], all[1] + taken[1]);
    }
}

#[test]
fn where_connections_are_short_the_kernel_spreads_them() {
    let mut idle = Idle::new(2, Balance::Kernel);
    idle.counts(1, 0, 25, 0);
    idle.counts(2, 0, 0, 0);
    assert_eq!(idle.desk(), None);
    idle.counts(1, 20, 20, 19);
    assert!(idle.desk().is_some());
    idle.counts(2, 0, 25, 0);
    assert_eq!(idle.desk(), None);
    idle.harness.pass(Duration::from_secs(10));
    assert!(idle.desk().is_some(), "that is long ago");
}

#[test]
fn too_many_in_a_second_are_spread_by_the_kernel() {
    let mut idle = Idle::new(2, Balance::Kernel);
    idle.counts(1, 0, 0, 0);
    idle.counts(2, 0, 0, 0);
    let mut count = 0;
    while idle.desk().is_some() {
        idle.connect();
        idle.taken();
        idle.clients.clear();
        // Not all looks at once.
        idle.harness.pass(Duration::from_millis(1));
        count += 1;
    }
    assert_eq!(count, 256);
    idle.harness.pass(Duration::from_secs(1));
    assert!(idle.desk().is_some());
}

#[test]
fn one_that_stands_still_is_waited_for_a_moment() {
    let mut idle = Idle::new(2, Balance::Kernel);
    idle.counts(1, 0, 0, 0);
    idle.counts(2, 9, 0, 0);
    idle.stop(0, Signal::STOP);
    idle.connect();
    idle.harness.pass(PATIENCE / 2);
    assert_eq!(idle.taken(), [0, 0]);
    idle.harness.pass(PATIENCE);
    assert_eq!(idle.taken(), [0, 1]);
    idle.connect();
    assert_eq!(idle.taken(), [0, 1], "it is not waited for again");
    idle.stop(0, Signal::CONT);
    idle.connect();
    assert_eq!(idle.taken(), [1, 0]);
}

#[test]
fn where_nobody_is_idle_the_first_whose_loop_turns_gets_it() {
    let mut idle = Idle::new(2, Balance::Kernel);
    idle.counts(1, 0, 0, 0);
    idle.counts(2, 9, 0, 0);
    (0..2).for_each(|place| idle.stop(place, Signal::STOP));
    idle.connect();
    idle.harness.pass(PATIENCE / 2);
    assert!(idle.ends.iter_mut().all(|end| end.lines().is_empty()), "nobody is asked yet");
    idle.harness.pass(PATIENCE);
    assert!(idle.ends.iter_mut().all(|end| end.lines().len() == 1));
    idle.harness.state.reactor.now += Duration::from_secs(1);
    idle.harness.hear(2, FromWorker::Pong);
    assert_eq!(idle.taken(), [0, 1]);
}

#[test]
fn what_is_at_the_desk_reaches_a_worker_whoever_is_left() {
    let mut idle = Idle::new(2, Balance::Kernel);
    idle.counts(1, 0, 0, 0);
    idle.counts(2, 0, 0, 0);
    (0..2).for_each(|place| idle.stop(place, Signal::STOP));
    idle.connect();
    idle.harness.obey(Command::Ended(id(1)));
    idle.harness.turn();
    assert_eq!(idle.desk(), None, "there is no choice");
    idle.harness.pass(OVERDUE_AFTER);
    assert_eq!(idle.harness.take(2, &mut idle.ends[1]), 1);
}

#[test]
fn a_worker_that_comes_has_a_place_of_its_own() {
    let mut idle = Idle::new(2, Balance::Kernel);
    idle.counts(1, 0, 0, 0);
    idle.counts(2, 0, 0, 0);
    let mut far = idle.harness.serving(3, 2);
    idle.harness.listen(3, &mut far);
    idle.harness.turn();
    assert_eq!(idle.desk(), None, "it has not counted");
    let group = idle.harness.listener(idle.listener).group.as_ref().unwrap();
    assert_eq!((group.place_of(id(3)), group.is_desk(2)), (Some(3), true));
}

#[test]
fn under_sticky_nothing_is_handed_out() {
    let mut idle = Idle::new(2, Balance::Sticky(StickyBy::Ip));
    idle.counts(1, 0, 0, 0);
    idle.counts(2, 0, 0, 0);
    assert_eq!(idle.desk(), None);
}

#[test]
fn more_than_a_few_at_once_are_the_last_ones() {
    let mut idle = Idle::new(2, Balance::Kernel);
    idle.counts(1, 0, 0, 0);
    idle.counts(2, 0, 0, 0);
    let (address, place) = (idle.harness.address(idle.listener), idle.desk().unwrap());
    let many = idle.harness.listener(idle.listener).group.as_ref().unwrap().desk.as_ref().unwrap().room + 1;
    idle.clients.extend((0..many).map(|_| TcpStream::connect(address).unwrap()));
    note_member(&mut idle.harness.state, idle.listener, place);
    idle.harness.turn();
    assert_eq!(idle.desk(), None, "the next ones are spread by the kernel");
    let mut taken = 0;
    while taken < many as usize {
        let now = idle.taken().iter().sum::<usize>();
        assert!(now > 0, "{taken} of {many}: none was given");
        taken += now;
        idle.harness.pass(OVERDUE_AFTER);
    }
    idle.harness.pass(Duration::from_secs(1));
    assert!(idle.desk().is_some());
}

#[test]
fn one_that_takes_nothing_is_waited_for_once() {
    let mut idle = Idle::new(3, Balance::Kernel);
    for (number, open) in [(1, 0), (2, 9), (3, 9)] {
        idle.counts(number, open, 0, 0);
    }
    idle.connect();
    assert_eq!(idle.harness.worker(1).in_flight.len(), 1, "it is not taken");
    idle.connect();
    let others = |idle: &mut Idle| {
        (2..).zip(&mut idle.ends[1..]).map(|(number, end)| idle.harness.take(number, end)).sum::<usize>()
    };
    assert_eq!(others(&mut idle), 0, "the first one has fewer");
    idle.harness.pass(PATIENCE);
    idle.harness.pass(MOST_PATIENCE);
    assert_eq!(others(&mut idle), 1);
    idle.connect();
    assert_eq!(others(&mut idle), 1, "it is not waited for again");
}

#[test]
fn what_is_late_comes_before_what_a_worker_has_in_its_own_socket() {
    let mut idle = Idle::new(2, Balance::Kernel);
    idle.counts(1, 0, 0, 0);
    idle.counts(2, 0, 0, 0);
    (0..2).for_each(|place| idle.stop(place, Signal::STOP));
    idle.connect();
    idle.counts(1, 0, 25, 0);
    assert_eq!(idle.desk(), None, "short ones come");
    let socket = idle.harness.listener(idle.listener).group.as_ref().unwrap().socket(1).unwrap();
    let address = idle.harness.address(idle.listener);
    while sys::accept_queue(socket.as_fd()).unwrap() == 0 {
        idle.clients.push(TcpStream::connect(address).unwrap());
    }
    idle.harness.pass(PATIENCE);
    idle.harness.pass(MOST_PATIENCE);
    idle.harness.hear(2, FromWorker::Pong);
    assert_eq!(idle.taken(), [0, 1]);
}

#[test]
fn nothing_is_handed_out_while_it_cannot_be_seen_when_a_worker_is_idle() {
    let mut idle = Idle::new(2, Balance::Kernel);
    let mut far = idle.harness.serving(3, 2);
    idle.harness.listen(3, &mut far);
    let socket = idle.harness.listener(idle.listener).group.as_ref().unwrap().socket(2).unwrap();
    // Such as a shell that has started the worker.
    let other = Waiting::new(&*socket, "other = select.epoll()\nprint(flush=True)\nother.poll()");
    idle.harness.worker(3).pid = Some(other.id());
    (1..=3).for_each(|number| idle.counts(number, 0, 0, 0));
    for _ in 0..12 {
        idle.harness.pass(Duration::from_secs(1));
        assert_eq!(idle.desk(), None);
    }
    let process = Waiting::new(&*socket, "while True: own.poll()");
    (idle.harness.worker(3).pid, idle.harness.worker(3).event_loop) =
        (Some(process.id()), EventLoop::default());
    while idle.desk().is_none() {
        idle.harness.state.reactor.mark(idle.listener);
        idle.harness.pass(Duration::from_secs(1));
    }
    assert!(idle.harness.worker(3).event_loop.is_known());
}

#[test]
fn at_a_stop_what_is_at_the_desk_is_taken_first() {
    let mut idle = Idle::new(2, Balance::Kernel);
    idle.counts(1, 0, 0, 0);
    idle.counts(2, 0, 0, 0);
    (0..2).for_each(|place| idle.stop(place, Signal::STOP));
    (0..3).for_each(|_| idle.connect());
    idle.harness.obey(Command::CloseListeners { kept: BTreeSet::new() });
    idle.harness.turn();
    assert_eq!(idle.desk(), None);
    let until = idle.harness.state.reactor.now + Duration::from_secs(9);
    for number in 1..=2 {
        idle.harness.obey(Command::Drain { worker: id(number), until, grace: None });
    }
    for _ in 0..2 {
        idle.harness.pass(Duration::from_millis(100));
    }
    let taken = idle.taken();
    assert_eq!(taken.iter().sum::<usize>(), 3, "{taken:?}");
}

/// Whether it is handed out, or taken over before the workers' loops are known again.
#[test]
fn what_waits_at_the_desk_is_given_away_by_another_program() {
    let mut idle = Idle::new(3, Balance::Kernel);
    (1..=3).for_each(|number| idle.counts(number, 0, 0, 0));
    let desk = idle.desk();
    let address = idle.harness.address(idle.listener);
    (0..9).for_each(|_| idle.clients.push(TcpStream::connect(address).unwrap()));
    idle.harness = std::mem::replace(&mut idle.harness, Harness::new(Balance::Kernel)).inherited();
    assert_eq!(idle.desk(), desk, "the kernel puts new connections there still");
    let mut given = 0;
    while given < 9 {
        idle.harness.look();
        idle.harness.pass(Duration::from_millis(1));
        given += idle.taken().iter().sum::<usize>();
    }
    assert!(idle.desk().is_some() && idle.harness.state.listeners.len() == 1);
    idle.connect();
    assert_eq!(idle.taken().iter().sum::<usize>(), 1);
}
