//! Listeners that outlive the master: which of their sockets a service manager is to keep, and how those that it kept are used again.
//!
//! Under `kernel` what came back is a group, if all of it did: the kernel knows its sockets by the places that they had, and where
//! there are more of them than workers, what arrives in the others is taken over. Otherwise one socket is used. The others are
//! emptied and closed.

use std::io;
use std::mem;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use recluster_wire::node::{QueryServer, SocketKind};
use rustix::net::listen;
use socket2::Socket;

use super::beside::{self, REFUSE_SPAN};
use super::bpf::Program;
use super::group::{Group, Spot};
use super::handover::{Queue, take, take_all};
use super::listener::{Listener, Mode};
use super::messages::Fact;
use super::reactor::{Reactor, Timer};
use super::reports::Reports;
use super::spares::{Keeping, Spares};
use crate::config::address::BindAddress;
use crate::report::worker::Address;
use crate::socket::kept::{Other, Returned};
use crate::sys::{self, Hook};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How many connections of such sockets wait here at most.
const MOST_WAITING: usize = 64;
/// What people are told, once, where sockets that came back cannot be those of a group.
pub(super) const APART: &str =
    "the sockets that the service manager has kept cannot be one for each worker: the master accepts there";

/// Where a worker wants to listen, as a place of which a socket may have come back.
pub(super) fn wanted(query: &QueryServer) -> Option<BindAddress> {
    if query.kind == Some(SocketKind::Unix) {
        return Some(BindAddress::Unix(query.address.as_deref()?.into()));
    }
    beside::place_of(query).filter(|place| !place.is_of_any_port())
}

/// Uses what came back for what a worker asks for.
pub(super) fn adopt(
    returned: Returned,
    query: &QueryServer,
    mode: Mode,
    reactor: &Reactor,
) -> io::Result<Listener> {
    let Returned { number, address, first, others, file, is_whole_group } = returned;
    let mode = match &address {
        Address::Udp(_) => Mode::Shared,
        Address::Tcp(at) if mode == Mode::Kernel && is_whole_group => match Group::refusal_at(*at)? {
            None => mode,
            Some(_) => mode.without_group(),
        },
        Address::Tcp(_) | Address::Unix(_) | Address::Fd(_) => mode.without_group(),
    };
    let backlog = query.listen_backlog();
    if !matches!(address, Address::Udp(_)) {
        // An error leaves it with the backlog that it had.
        for socket in others.iter().map(|(_, socket)| socket).chain([&first]) {
            let _ = listen(socket, backlog);
        }
    }
    let at = address.clone();
    let mut listener = Listener::new(Socket::from(first), mode, address);
    listener.file = file;
    // Connections may wait in it already.
    listener.acceptable = true;
    let mut keeping = Keeping { number, reported: 1, came_back: true };
    match (mode, at, listener.socket.clone()) {
        (Mode::Kernel, Address::Tcp(address), Some(first)) => {
            keeping.reported += others.len();
            let spot = Spot { address, only_v6: query.ipv6_only(), backlog, shared: true };
            listener.group = Some(Group::returned(spot, first, others));
        }
        _ => listener.set_aside(others, reactor.now),
    }
    listener.keeping = Some(keeping);
    Ok(listener)
}

impl Listener {
    /// Whether it came back from a service manager, and could not be what was asked for.
    pub(super) fn is_apart(&self) -> bool {
        let came_back = self.keeping.as_ref().is_some_and(|keeping| keeping.came_back);
        came_back && self.mode == Mode::RoundRobin && matches!(self.address, Address::Tcp(_))
    }

    /// Has connections come to its own socket alone, and keeps the others until they are empty.
    pub(super) fn set_aside(&mut self, others: Vec<Other>, now: Instant) {
        self.spares = Spares::new(others, now);
        if let (Some(socket), Some(_)) = (&self.socket, &self.spares) {
            // Where it cannot be, all of them are looked at for as long.
            let _ = sys::attach(socket.as_fd(), Hook::Group, Program::any_of(&[0]).instructions());
        }
    }
}

/// Has the manager keep what is new of a listener.
pub(super) fn report(listener: &mut Listener, reports: &Reports) {
    let Some(keeping) = listener.keeping.as_mut().filter(|_| listener.deferred.is_none()) else { return };
    let first = listener.socket.iter();
    let members = listener.group.iter().flat_map(|group| &group.members).map(|member| &member.socket);
    // The first of a group is the listener's own.
    let all: Vec<&Rc<OwnedFd>> = if listener.group.is_some() { members.collect() } else { first.collect() };
    for (place, socket) in all.into_iter().enumerate().skip(keeping.reported) {
        let Some((name, copy)) = keeping.name(place).zip(socket.try_clone().ok()) else { return };
        reports.fact(Fact::Keep(name, copy));
        keeping.reported = place + 1;
    }
}

/// Has the manager keep no socket of a listener any longer.
pub(super) fn forget(listener: &mut Listener, reports: &Reports) {
    let Some(keeping) = listener.keeping.take() else { return };
    let names = (0..keeping.reported).filter_map(|place| keeping.name(place));
    let spares = listener.spares.iter().flat_map(|spares| &spares.sockets).map(|(name, _)| *name);
    names.chain(spares).for_each(|name| reports.fact(Fact::Forget(name)));
}

/// Takes what waits in sockets that are one too many, as far as there is room, and closes them when their time is over.
pub(super) fn empty_spares(listener: &mut Listener, reactor: &mut Reactor, reports: &Reports) {
    let Some(spares) = &mut listener.spares else { return };
    let mut are_empty = true;
    for (_, socket) in &spares.sockets {
        let room = MOST_WAITING.saturating_sub(listener.waiting.len());
        are_empty &= matches!(take(socket, room, &mut listener.waiting), Ok(Queue::Empty));
    }
    if spares.refuse_at <= reactor.now && spares.close_at.is_none() {
        for (_, socket) in &spares.sockets {
            // As at a stop: a client that comes now tries again, and reaches the other socket.
            let _ = sys::attach(socket.as_fd(), Hook::Socket, Program::no_beginnings().instructions());
        }
        spares.close_at = Some(reactor.now + REFUSE_SPAN);
    }
    if are_empty && spares.close_at.is_some_and(|at| at <= reactor.now) {
        for (name, _) in mem::take(&mut spares.sockets) {
            reports.fact(Fact::Forget(name));
        }
        listener.spares = None;
        return;
    }
    reactor.set_timer_in(LOOK, Timer::Listener(listener.id));
}

/// Everything stops: what waits in sockets that are one too many is taken.
pub(super) fn stop_spares(listener: &mut Listener) {
    if let Some(spares) = listener.spares.take() {
        spares.sockets.iter().for_each(|(_, socket)| take_all(socket, &mut listener.waiting));
    }
}
