//! Balance `kernel`, and `sticky` by address: a socket for each worker at one address (`group`). The kernel spreads new
//! connections over the sockets of the workers that may take some, by a small program that is replaced whenever these change
//! (`SO_ATTACH_REUSEPORT_CBPF`); a worker accepts from its own socket by itself.
//!
//! While the master hands connections out (`handout`), the program names a socket of its own.
//!
//! A vacant socket is not chosen by the program any more. What still arrives there (a handshake that was under way) is
//! accepted here and sent to a worker.
//!
//! What waits for a busy worker is sent to an idle one (`relief`). Under `sticky` by address the kernel chooses by the address, and
//! nothing is taken from a busy worker.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use recluster_core::WorkerId;

use crate::dataplane::balance::eligible::{Eligible, by_slot};
use crate::dataplane::balance::handout;
use crate::dataplane::balance::relief::{self, OVERDUE_AFTER, Violations};
use crate::dataplane::bpf::Program;
use crate::dataplane::client_hash::Table;
use crate::dataplane::group::{Group, Place};
use crate::dataplane::handover::{ACCEPT_PAUSE, Queue, take};
use crate::dataplane::idle::Looks;
use crate::dataplane::listener::Listener;
use crate::dataplane::reactor::{Reactor, Timer, Token};
use crate::dataplane::reports::Reports;
use crate::dataplane::worker::Workers;
use crate::sys;

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
    let place = group.occupy(worker, listener.id, reactor)?;
    Ok(group.socket(place))
}

/// Has the kernel choose among the workers that may take connections now. Where there are none, it goes on as before: what
/// arrives waits.
pub(in crate::dataplane) fn steer(
    listener: &mut Listener,
    workers: &mut Workers,
    is_stopping: bool,
    looks: &mut Looks,
    reactor: &mut Reactor,
    reports: &mut Reports,
) {
    let places = places(listener, workers, is_stopping);
    let is_sticky = listener.sticky_by.is_some();
    let desk = handout::desk(listener, workers, is_stopping, looks, reactor);
    let Some(group) = &mut listener.group else { return };
    if group.steered == places && group.is_desk_open() == desk.is_some() {
        return;
    }
    if group.retry_at.is_none_or(|at| at <= reactor.now) {
        group.retry_at = None;
        let program = match desk {
            Some(desk) => Program::any_of(&[desk]),
            None if is_sticky => by_client(&places),
            None => at_random(&places),
        };
        if places.is_empty() || group.attach(program).is_ok() {
            group.steered = places;
            group.desk.iter_mut().for_each(|it| it.is_open = desk.is_some());
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

/// A connection waits in a socket: its worker has a moment to accept it. Returns the workers that had to be asked and could not.
pub(in crate::dataplane) fn note_member(
    listener: &mut Listener,
    place: usize,
    workers: &mut Workers,
    is_stopping: bool,
    looks: &mut Looks,
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> Violations {
    let Some(group) = &mut listener.group else { return Violations::new() };
    if group.is_desk(place) {
        return hand_out(listener, place, workers, is_stopping, looks, reactor, reports);
    }
    if !group.is_steered(place) {
        take_over(listener, place, workers, is_stopping, reactor, reports);
    } else if listener.sticky_by.is_none() {
        // Under sticky it belongs to that worker, however long it waits.
        look_again(listener, place, OVERDUE_AFTER, reactor);
    }
    Violations::new()
}

/// A socket's worker has had its moment. If a connection still waits, a worker that is idle is sent it; returns the workers that
/// had to be asked and could not.
pub(in crate::dataplane) fn revisit_member(
    listener: &mut Listener,
    place: usize,
    workers: &mut Workers,
    is_stopping: bool,
    looks: &mut Looks,
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> Violations {
    let is_sticky = listener.sticky_by.is_some();
    let Some(group) = &mut listener.group else { return Violations::new() };
    let is_steered = group.is_steered(place);
    let is_desk = group.is_desk(place);
    let Some(member) = group.members.get_mut(place) else { return Violations::new() };
    member.is_timed = false;
    if is_desk {
        return hand_out(listener, place, workers, is_stopping, looks, reactor, reports);
    }
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
    let (patience, violations) = relief::find(listener, place, workers, is_stopping, looks, reactor, reports);
    look_again(listener, place, patience, reactor);
    violations
}

/// Hands out what waits where the master accepts.
fn hand_out(
    listener: &mut Listener,
    place: usize,
    workers: &mut Workers,
    is_stopping: bool,
    looks: &mut Looks,
    reactor: &mut Reactor,
    reports: &mut Reports,
) -> Violations {
    if !handout::can_choose(listener, workers, is_stopping) {
        handout::leave(listener);
        take_over(listener, place, workers, is_stopping, reactor, reports);
        return Violations::new();
    }
    let (patience, violations) = handout::hand_out(listener, workers, is_stopping, looks, reactor, reports);
    match (patience, listener.group.as_ref().and_then(|group| group.socket(place))) {
        (Some(patience), _) => look_again(listener, place, patience, reactor),
        (None, Some(socket)) => reactor.arm(&socket, Token::Member(listener.id, place)),
        (None, None) => {}
    }
    violations
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
    let span = if listener.waiting.len() > before { OVERDUE_AFTER } else { relief::longer(listener, place) };
    match taken {
        Ok(Queue::Empty) => reactor.arm(&socket, Token::Member(listener.id, place)),
        // What is left is safe where it is, until there is room.
        Ok(Queue::MayHoldMore) => look_again(listener, place, span, reactor),
        Err(_) => look_again(listener, place, ACCEPT_PAUSE, reactor),
    }
}

/// Looks at a socket again after a while.
fn look_again(listener: &mut Listener, place: usize, span: Duration, reactor: &mut Reactor) {
    let id = listener.id;
    let member = listener.group.as_mut().and_then(|group| group.members.get_mut(place));
    if let Some(member) = member {
        (member.is_timed, member.patience) = (true, span);
        reactor.set_timer_in(span, Timer::Member(id, place));
    }
}
