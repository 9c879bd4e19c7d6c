//! Balance `kernel`, and `sticky` by address: a socket for each worker at one address (`group`). The kernel spreads new
//! connections over the sockets of the workers that may take some, by a small program that is replaced whenever these change
//! (`SO_ATTACH_REUSEPORT_CBPF`); a worker accepts from its own socket by itself.
//!
//! A vacant socket is not chosen by the program any more. What still arrives there (a handshake that was under way) is
//! accepted here and sent to a worker.
//!
//! A busy worker does not accept. When connections have waited for [`OVERDUE_AFTER`] in its socket, the others are asked
//! whether their loops turn. One that answers at once (its preload does) and has nothing to accept itself is sent one
//! connection, and another when it has taken that. So nothing is sent to a worker that hangs or is as busy. Under `sticky` by
//! address the kernel chooses by the address, and nothing is taken from a busy worker.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use recluster_core::WorkerId;
use recluster_wire::node::ToWorker;

use crate::dataplane::balance::eligible::{Eligible, by_slot};
use crate::dataplane::bpf::Program;
use crate::dataplane::channel::ProtocolViolation;
use crate::dataplane::client_hash::Table;
use crate::dataplane::connection::accept;
use crate::dataplane::group::{Group, Place};
use crate::dataplane::handover::{ACCEPT_PAUSE, Queue, is_prompt, send, take};
use crate::dataplane::listener::{Listener, Target};
use crate::dataplane::reactor::{Reactor, Timer, Token};
use crate::dataplane::reports::Reports;
use crate::dataplane::worker::{Worker, Workers};
use crate::sys;

/// Workers that could not be asked, because they do not read their channels: to be cut off.
type Violations = Vec<(WorkerId, ProtocolViolation)>;

/// How long connections wait in the socket of a busy worker before an idle one is sent them.
const OVERDUE_AFTER: Duration = Duration::from_millis(1);
/// How long until the kernel is given a program again after it refused one.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What users are told, once, when it has.
const UNSTEERED: &str = "the kernel refuses the program by which it chooses a worker's socket (net.core.optmem_max may be \
                         too low for it): new connections may wait for a moment, or reach another slot";
/// How many connections from vacant sockets wait here until a worker has room.
const MOST_TAKEN_OVER: usize = 8;

/// The socket for a worker that comes to a listener: a vacant one, or a new one. None where the listener has no group.
pub(in crate::dataplane) fn socket_for(
    worker: WorkerId,
    listener: &mut Listener,
    reactor: &Reactor,
) -> io::Result<Option<Rc<OwnedFd>>> {
    let Some(group) = &mut listener.group else { return Ok(None) };
    let size = group.members.len();
    let place = group.occupy(worker)?;
    let socket = group.socket(place);
    if let Some(socket) = socket.as_ref().filter(|_| place == size) {
        let watched = reactor.watch(socket, Token::Member(listener.id, place));
        if watched.is_err() {
            group.vacate(worker);
        }
        watched?;
    }
    Ok(socket)
}

/// Has the kernel choose among the workers that may take connections now. Where there are none, it goes on as before: what
/// arrives waits.
pub(in crate::dataplane) fn steer(
    listener: &mut Listener,
    workers: &Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    let places = places(listener, workers, is_stopping);
    let is_sticky = listener.sticky_by.is_some();
    let Some(group) = listener.group.as_mut().filter(|group| group.steered != places) else { return };
    if group.retry_at.is_none_or(|at| at <= reactor.now) {
        group.retry_at = None;
        let program = if is_sticky { by_client(&places) } else { at_random(&places) };
        if places.is_empty() || group.attach(program).is_ok() {
            group.steered = places;
        } else {
            group.retry_at = Some(reactor.set_timer_in(RETRY_AFTER, Timer::Listener(listener.id)));
            reports.caveat(UNSTEERED);
        }
    }
    group.forget_vacated();
    let untimed = group.members.iter().enumerate().filter(|(_, member)| !member.is_timed);
    for (place, member) in untimed {
        reactor.arm(&member.socket, Token::Member(listener.id, place));
    }
}

/// The places of the workers that may take connections, in order.
fn places(listener: &Listener, workers: &Workers, is_stopping: bool) -> Vec<Place> {
    let Some(group) = &listener.group else { return Vec::new() };
    if listener.sticky_by.is_some() {
        let by_slot = by_slot(listener, workers, is_stopping).into_iter();
        return by_slot.filter_map(|(slot, worker)| group.steerable(slot, worker)).collect();
    }
    let eligible = Eligible::of(listener, workers, is_stopping);
    let all = listener.targets.iter().filter_map(|target| workers.get(&target.worker));
    let some = all.filter(|worker| eligible.includes(worker));
    let mut places: Vec<Place> = some.filter_map(|worker| group.steerable(worker.slot, worker.id)).collect();
    places.sort_unstable();
    places
}

fn at_random(places: &[Place]) -> Program {
    Program::any_of(&places.iter().map(|place| place.number).collect::<Vec<u32>>())
}

fn by_client(places: &[Place]) -> Program {
    let table = Table::new(places.iter().map(|place| place.slot).collect());
    let number_of =
        |slot: &u32| places.iter().find(|place| place.slot == *slot).map_or(0, |place| place.number);
    Program::by_source(&table.owners().iter().map(number_of).collect::<Vec<u32>>())
}

/// A connection waits in a socket: its worker has a moment to accept it.
pub(in crate::dataplane) fn note_member(
    listener: &mut Listener,
    place: usize,
    workers: &Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    let Some(group) = &mut listener.group else { return };
    if !group.is_steered(place) {
        take_over(listener, place, workers, is_stopping, reactor, reports);
    } else if listener.sticky_by.is_none() {
        // Under sticky it belongs to that worker, however long it waits.
        look_again(listener, place, OVERDUE_AFTER, reactor);
    }
}

/// A socket's worker has had its moment. If a connection still waits, the others are asked whether they can take it; returns
/// the workers that cannot be asked.
pub(in crate::dataplane) fn revisit_member(
    listener: &mut Listener,
    place: usize,
    workers: &mut Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> Violations {
    let is_sticky = listener.sticky_by.is_some();
    let Some(group) = &mut listener.group else { return Violations::new() };
    let is_steered = group.is_steered(place);
    let Some(member) = group.members.get_mut(place) else { return Violations::new() };
    member.is_timed = false;
    // Where the kernel does not say what waits, nothing counts as overdue.
    let waits = sys::accept_queue(member.socket.as_fd()).is_ok_and(|waiting| waiting > 0);
    member.is_overdue = waits && is_steered;
    if !is_steered {
        take_over(listener, place, workers, is_stopping, reactor, reports);
        return Violations::new();
    }
    if !waits || is_sticky {
        reactor.arm(&member.socket, Token::Member(listener.id, place));
        return Violations::new();
    }
    let eligible = Eligible::of(listener, workers, is_stopping);
    let mut violations = Violations::new();
    for target in &listener.targets {
        let Some(worker) = workers.get_mut(&target.worker) else { continue };
        if place_if_idle(listener, worker, eligible).is_some_and(|own| own != place)
            && worker.pinged_at.is_none()
        {
            worker.pinged_at = Some(reactor.now);
            let sent = worker.channel.send(&ToWorker::Ping);
            violations.extend(sent.err().map(|violation| (worker.id, violation)));
        }
    }
    look_again(listener, place, OVERDUE_AFTER, reactor);
    violations
}

/// The place of a worker that may take connections and has none to take.
fn place_if_idle(listener: &Listener, worker: &Worker, eligible: Eligible) -> Option<usize> {
    if !eligible.includes(worker) || !worker.has_room() || !worker.in_flight.is_empty() {
        return None;
    }
    let group = listener.group.as_ref()?;
    let place = group.place_of(worker.id)?;
    let waiting = sys::accept_queue(group.members.get(place)?.socket.as_fd());
    waiting.is_ok_and(|waiting| waiting == 0).then_some(place)
}

/// A worker has answered that its loop turns; whether it did so at once.
pub(in crate::dataplane) fn ping_answered(worker: &mut Worker, reactor: &Reactor) -> bool {
    worker.pinged_at.take().is_some_and(|asked| is_prompt(asked, reactor.now))
}

/// Sends a worker whose loop turns a connection that waits for a busy one, if it has nothing to take itself.
pub(in crate::dataplane) fn offer(
    listener: &mut Listener,
    worker: WorkerId,
    workers: &mut Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    if listener.group.is_none() || listener.sticky_by.is_some() {
        return;
    }
    let eligible = Eligible::of(listener, workers, is_stopping);
    let Some(worker) = workers.get_mut(&worker) else { return };
    let Some(own) = place_if_idle(listener, worker, eligible) else { return };
    let Listener { id, group: Some(group), targets, waiting, .. } = listener else { return };
    let Some(Target { key, .. }) = targets.iter().find(|target| target.worker == worker.id) else { return };
    let mut overdue =
        group.members.iter().enumerate().filter(|(place, member)| member.is_overdue && *place != own);
    let stolen = overdue.find_map(|(_, member)| accept(member.socket.as_fd()).ok().flatten());
    let Some(connection) = stolen else { return };
    match send(connection, *id, worker, key, false, reactor.now) {
        Ok(()) => reports.tally.stolen += 1,
        Err(connection) => {
            reports.tally.requeued += 1;
            waiting.push_back(connection);
            reactor.mark(*id);
        }
    }
}

/// Takes what waits in a vacant socket, if there is a worker to send it to.
fn take_over(
    listener: &mut Listener,
    place: usize,
    workers: &Workers,
    is_stopping: bool,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    if places(listener, workers, is_stopping).is_empty() {
        // The next `steer` arms the socket again.
        return;
    }
    let Some(socket) = listener.group.as_ref().and_then(|group: &Group| group.socket(place)) else { return };
    let before = listener.waiting.len();
    let taken = take(&socket, MOST_TAKEN_OVER.saturating_sub(before), &mut listener.waiting);
    reports.tally.requeued += (listener.waiting.len() - before) as u64;
    reactor.mark(listener.id);
    match taken {
        Ok(Queue::Empty) => reactor.arm(&socket, Token::Member(listener.id, place)),
        // What is left is safe where it is, until there is room.
        Ok(Queue::MayHoldMore) => look_again(listener, place, OVERDUE_AFTER, reactor),
        Err(_) => look_again(listener, place, ACCEPT_PAUSE, reactor),
    }
}

/// Looks at a socket again after a while.
fn look_again(listener: &mut Listener, place: usize, span: Duration, reactor: &mut Reactor) {
    let id = listener.id;
    let member = listener.group.as_mut().and_then(|group| group.members.get_mut(place));
    if let Some(member) = member {
        member.is_timed = true;
        reactor.set_timer_in(span, Timer::Member(id, place));
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use recluster_wire::node::FromWorker;

    use super::*;
    use crate::config::balance::{Balance, StickyBy};
    use crate::dataplane::event_loop;
    use crate::dataplane::fixtures::{FarEnd, Harness, id};
    use crate::dataplane::messages::{Command, Standing};
    use crate::dataplane::reactor::ListenerId;

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
}
