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

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::node::ToWorker;

use crate::dataplane::balance::eligible::Eligible;
use crate::dataplane::balance::relief::{
    MOST_CANDIDATES, MOST_PATIENCE, OVERDUE_AFTER, Violations, give, look, place_if_free,
};
use crate::dataplane::connection::{Connection, accept};
use crate::dataplane::handover::ACCEPT_PAUSE;
use crate::dataplane::idle::Look;
use crate::dataplane::lasting::{Outlook, outlook};
use crate::dataplane::listener::Listener;
use crate::dataplane::reactor::{Reactor, Timer, Token};
use crate::dataplane::reports::Reports;
use crate::dataplane::worker::{Worker, Workers};
use crate::sys;

/// How many more connections than the others a worker may have that is sent one at once.
const SLACK: u64 = 1;
/// How long a connection waits for one of the workers with the fewest, before any that is idle gets it.
const PATIENCE: Duration = Duration::from_millis(10);
/// For how long a worker that was busy for that long does not count among those with the fewest.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// The place of the desk, if the kernel is to put new connections there.
pub(super) fn desk(
    listener: &mut Listener,
    workers: &Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
) -> Option<u32> {
    if is_stopping || !can_choose(listener, workers, is_stopping) {
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
    let place = group.set_desk_up(reactor.now).ok()?;
    let socket = group.socket(place).filter(|_| place == size && group.members.len() > size);
    if let Some(socket) = socket {
        if reactor.watch(socket, Token::Member(id, place)).is_err() {
            group.desk = None;
            return None;
        }
        // A service manager may have to keep it.
        reactor.mark(id);
    }
    u32::try_from(place).ok()
}

/// Whether there is a choice, and it is known of all who may be chosen how many connections they have, and when they are idle.
pub(super) fn can_choose(listener: &Listener, workers: &Workers, is_stopping: bool) -> bool {
    let is_known = |worker: &Worker| {
        worker.lasting.open().is_some() && worker.pid.is_some() && !worker.event_loop.is_hidden()
    };
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
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> (Option<Duration>, Violations) {
    if listener.paused_until.is_some() {
        return (Some(MOST_PATIENCE), Violations::new());
    }
    let mut has_given = false;
    while let Some(since) = waits_since(listener, reactor.now) {
        let is_late = since + PATIENCE <= reactor.now;
        let Some(worker) = choose(listener, workers, is_stopping, is_late, reactor.now) else {
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

/// Sends a worker whose loop turns what waits at the desk, if it has not too many connections; whether something was sent.
pub(in crate::dataplane) fn offer(
    listener: &mut Listener,
    worker: WorkerId,
    workers: &mut Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> bool {
    if !can_choose(listener, workers, is_stopping) {
        return false;
    }
    let Some(since) = waits_since(listener, reactor.now) else { return false };
    let most = least(listener, workers, is_stopping, reactor.now).saturating_add(SLACK);
    let is_late = since + PATIENCE <= reactor.now;
    let is_free = workers.get(&worker).is_some_and(|worker| {
        let eligible = Eligible::of(listener, workers, is_stopping);
        (is_late || load(worker) <= most) && place_if_free(listener, worker, eligible).is_some()
    });
    is_free && give_next(listener, worker, workers, reactor, reports)
}

/// Since when a connection has waited at the desk, if one does.
fn waits_since(listener: &mut Listener, now: Instant) -> Option<Instant> {
    let group = listener.group.as_mut()?;
    let desk = group.desk.as_mut()?;
    let socket = &group.members.get(desk.place)?.socket;
    let waits = sys::accept_queue(socket.as_fd()).is_ok_and(|waiting| waiting > 0);
    desk.waits_since = waits.then(|| desk.waits_since.unwrap_or(now));
    desk.waits_since
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
    now: Instant,
) -> Option<WorkerId> {
    let most =
        if is_late { u64::MAX } else { least(listener, workers, is_stopping, now).saturating_add(SLACK) };
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
    for (_, id) in candidates.into_iter().take(MOST_CANDIDATES) {
        let Some(worker) = workers.get_mut(&id) else { continue };
        let Some(place) = place_if_free(listener, worker, eligible) else { continue };
        if look(listener, place, worker) == Look::Idle {
            return Some(id);
        }
        if is_late {
            worker.passed_over_at = Some(now);
        }
    }
    None
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
    let Some(connection) = take(listener) else { return false };
    if let Some(desk) = listener.group.as_mut().and_then(|group| group.desk.as_mut()) {
        desk.waits_since = None;
        desk.budget.take();
        // The kernel may have to spread them from now on.
        reactor.mark(listener.id);
    }
    let Some(worker) = workers.get_mut(&worker) else {
        listener.waiting.push_back(connection);
        return false;
    };
    give(connection, listener, worker, reactor, reports)
}

fn take(listener: &Listener) -> Option<Connection> {
    let group = listener.group.as_ref()?;
    let socket = group.socket(group.desk.as_ref()?.place)?;
    accept(socket.as_fd()).ok().flatten()
}

/// How long until the desk is looked at again: longer and longer while nobody is idle.
fn patience(listener: &Listener, has_given: bool) -> Duration {
    let member = listener.group.as_ref().and_then(|group| group.members.get(group.desk.as_ref()?.place));
    let before = member.filter(|_| !has_given).and_then(|member| member.patience.checked_mul(2));
    before.unwrap_or_default().clamp(OVERDUE_AFTER, MOST_PATIENCE)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use recluster_wire::node::{FromWorker, Taken};
    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use crate::config::balance::{Balance, StickyBy};
    use crate::dataplane::event_loop::note_member;
    use crate::dataplane::fixtures::{FarEnd, Harness, Waiting, id};
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
            idle.harness.turn();
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
}
