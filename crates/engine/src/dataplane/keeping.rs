//! Listeners that outlive the master: which of their sockets a service manager is to keep, and how those that it kept are used again.
//!
//! Under `kernel` what came back is a group, if all of it did: the kernel knows its sockets by the places that they had, and where
//! there are more of them than workers, what arrives in the others is taken over. Otherwise one socket is used. The others are
//! emptied and closed.
//!
//! A socket that the manager has is open until it has read that it is to keep it no longer. So it is sent none that a worker
//! merely tries: that is to be free at once when it is closed. And one that came back is owed to the worker that will serve there:
//! before that no trial closes it, nor what is in the way of a trial.

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::net::Ipv6Addr;
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
use super::listener::{Listener, Mode, Target};
use super::messages::Fact;
use super::reactor::{Reactor, Timer};
use super::reports::Reports;
use super::spares::{Keeping, Spares};
use super::worker::Workers;
use crate::config::address::{BindAddress, Kind};
use crate::report::worker::Address;
use crate::socket::bind::Bound;
use crate::socket::kept::{KeptName, Other, Pool, Returned};
use crate::sys::{self, Hook};
use crate::upgrade::Saving;
use crate::upgrade::saving::Role;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a server is open at least, if its worker does not merely try whether it could listen.
const TRIED: Duration = Duration::from_millis(100);
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

/// Uses what came back at this place for what a worker asks for, if anything has.
pub(super) fn adopt(
    pool: &mut Pool,
    place: &BindAddress,
    query: &QueryServer,
    mode: Mode,
    reactor: &Reactor,
) -> io::Result<Option<Listener>> {
    // A shortage leaves all of it where it is.
    let refuses_groups = match place {
        BindAddress::Everywhere { port, kind: Kind::Tcp } if mode == Mode::Kernel && pool.has(place) => {
            Group::refusal_at((Ipv6Addr::UNSPECIFIED, *port).into())?.is_some()
        }
        BindAddress::One { address, kind: Kind::Tcp } if mode == Mode::Kernel && pool.has(place) => {
            Group::refusal_at(*address)?.is_some()
        }
        BindAddress::Everywhere { .. } | BindAddress::One { .. } | BindAddress::Unix(_) => false,
    };
    let Some(returned) = pool.take(place) else { return Ok(None) };
    let Returned { name, address, first, others, file, is_whole_group } = returned;
    let mode = match &address {
        Address::Udp(_) => Mode::Shared,
        Address::Tcp(_) if is_whole_group && !refuses_groups => mode,
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
    let mut keeping = Keeping::returned(name);
    match (mode, at, listener.socket.clone()) {
        (Mode::Kernel, Address::Tcp(address), Some(first)) => {
            keeping.names.extend(others.iter().map(|(name, _)| *name));
            let spot = Spot { address, only_v6: query.ipv6_only(), backlog, shared: true };
            listener.group = Some(Group::returned(spot, first, others));
        }
        _ => listener.set_aside(others, reactor.now),
    }
    listener.keeping = Some(keeping);
    Ok(Some(listener))
}

/// Has what came back and cannot be used now come back again.
pub(super) fn put_back(mut listener: Listener, pool: &mut Pool) {
    let Some(keeping) = listener.keeping.take().filter(|keeping| keeping.came_back) else { return };
    let spares = listener.spares.take().into_iter().flat_map(|spares| spares.sockets);
    let own: Vec<(KeptName, Rc<OwnedFd>)> =
        keeping.names.into_iter().zip(places(&listener).cloned()).collect();
    drop(listener);
    let own = own.into_iter().filter_map(|(name, socket)| Some((name, Rc::into_inner(socket)?)));
    own.chain(spares).for_each(|(name, socket)| pool.add(name, socket));
}

/// A program that accepts by itself has one socket at an address, and cannot be given what arrives elsewhere: what came back beside
/// that is closed, and clients come to that one.
pub(crate) fn stand_alone(bound: &mut [Bound], pool: &mut Pool) {
    for bound in bound.iter_mut().filter(|bound| !bound.others.is_empty()) {
        if bound.kept.is_some_and(|name| name.place == 0) {
            // The manager has the others still. An error leaves clients to chance until it has read that it is to close them.
            let _ = sys::attach(bound.socket.as_fd(), Hook::Group, Program::any_of(&[0]).instructions());
        }
        for (name, _) in mem::take(&mut bound.others) {
            pool.give_up(name);
        }
    }
}

impl Listener {
    /// Whether it came back from a service manager, and could not be what was asked for.
    pub(super) fn is_apart(&self) -> bool {
        let came_back = self.keeping.as_ref().is_some_and(|keeping| keeping.came_back);
        came_back && self.mode == Mode::RoundRobin && matches!(self.address, Address::Tcp(_))
    }

    /// Whether connections may wait in it that came before this master did: no worker has served there yet.
    pub(super) fn is_owed(&self) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| keeping.came_back && !keeping.is_used)
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

/// Has the manager keep what is new of a listener that a worker serves at, and what came back and was in the way of that give way.
pub(super) fn settle(
    listener: &mut Listener,
    workers: &Workers,
    pool: &mut Pool,
    reactor: &mut Reactor,
    reports: &Reports,
) {
    if listener.keeping.is_none() && pool.is_empty() {
        return;
    }
    let was_used = listener.keeping.as_ref().is_some_and(|keeping| keeping.is_used);
    if !was_used && !is_used(listener, workers, reactor) {
        if listener.is_owed() {
            hold(listener, workers, reactor);
        }
        return;
    }
    if let Some(keeping) = &mut listener.keeping {
        if keeping.came_back && !was_used {
            // Whoever waits there was held for this.
            listener.paused_until = None;
        }
        keeping.is_used = true;
        report(listener, reports);
    }
    if !pool.is_empty() {
        replace_rivals(listener, pool, reactor, reports);
    }
}

/// Whether a worker that serves uses it, and does not merely try it.
fn is_used(listener: &Listener, workers: &Workers, reactor: &mut Reactor) -> bool {
    if listener.deferred.is_some() || !beside::serves(listener, workers) {
        return false;
    }
    let trial = listener.trial_until.filter(|until| *until > reactor.now);
    if let Some(until) = trial {
        reactor.set_timer(until, Timer::Listener(listener.id));
    }
    trial.is_none()
}

/// Whoever waits there is given to no server that its worker merely tries: that is closed as soon as it listens, and a client that
/// it has taken by then would be lost.
fn hold(listener: &mut Listener, workers: &Workers, reactor: &mut Reactor) {
    let is_meant = |target: &Target| {
        let server = workers.get(&target.worker).and_then(|worker| worker.servers.get(&target.key));
        server.and_then(|server| server.listens_since).is_some_and(|since| since + TRIED <= reactor.now)
    };
    let is_tried = !listener.targets.is_empty() && !listener.targets.iter().any(is_meant);
    if is_tried && listener.paused_until.is_none() {
        listener.pause(TRIED, reactor);
    }
}

fn report(listener: &mut Listener, reports: &Reports) {
    let known = listener.keeping.as_ref().map_or(0, |keeping| keeping.names.len());
    let new: Vec<Rc<OwnedFd>> = places(listener).skip(known).cloned().collect();
    if !new.is_empty() {
        set_stays(listener, true);
    }
    let Some(keeping) = &mut listener.keeping else { return };
    for (place, socket) in (known..).zip(new) {
        let Some((name, copy)) = keeping.name(place).zip(socket.try_clone().ok()) else { return };
        reports.fact(Fact::Keep(name, copy));
        keeping.names.push(name);
    }
}

/// The manager had no room for some, and has it now.
pub(super) fn report_again(listener: &Listener, reports: &Reports) {
    let Some(keeping) = &listener.keeping else { return };
    for (name, socket) in keeping.names.iter().zip(places(listener)) {
        // Without a descriptor to spare it is not kept.
        if let Ok(copy) = socket.try_clone() {
            reports.fact(Fact::Keep(*name, copy));
        }
    }
}

/// Its sockets in the order of their places. The first of a group is its own.
fn places(listener: &Listener) -> impl Iterator<Item = &Rc<OwnedFd>> {
    let members = listener.group.iter().flat_map(|group| &group.members).map(|member| &member.socket);
    members.chain(listener.socket.iter().filter(|_| listener.group.is_none()))
}

/// Clients arrive at its sockets, also where a master begins anew: but for those of a port that the kernel would choose anew.
pub(super) fn arrive(listener: &Listener, saving: &mut Saving) {
    let is_of_any_port = listener.identity.as_ref().is_some_and(|asked| asked.index.is_some());
    if listener.deferred.is_some() || is_of_any_port {
        return;
    }
    let file = listener.file.as_ref().map(|file| file.identity());
    for (place, socket) in (0..).zip(places(listener)) {
        let listener = format!("listener/{}", listener.id);
        saving.arrive(socket, Role::Own { is_first: false, listener, place, file });
    }
}

/// What came back at an address that overlaps this one is wanted by nobody any more. It is emptied and closed.
fn replace_rivals(listener: &mut Listener, pool: &mut Pool, reactor: &mut Reactor, reports: &Reports) {
    let Some(place) = beside::own_place(listener) else { return };
    let rivals = pool.take_rivals(&place);
    if rivals.is_empty() {
        return;
    }
    if listener.is_stream() {
        let known = listener.spares.take().map(|spares| spares.sockets);
        let all = known.into_iter().flatten().chain(rivals).collect();
        listener.spares = Spares::new(all, reactor.now);
    } else {
        for (name, _) in rivals {
            reports.fact(Fact::Forget(name));
        }
    }
}

/// Has the manager keep no socket of a listener any longer.
pub(super) fn forget(listener: &mut Listener, reports: &Reports) {
    let is_kept = listener.keeping.is_some();
    let names = listener.keeping.take().map(|keeping| keeping.names);
    let spares = listener.spares.iter().flat_map(|spares| &spares.sockets).map(|(name, _)| *name);
    names.into_iter().flatten().chain(spares).for_each(|name| reports.fact(Fact::Forget(name)));
    // What was left to the next master stays.
    if is_kept {
        set_stays(listener, false);
    }
}

/// A listener of which the manager keeps something all the same is left to the next master with whoever waits there. Whatever was done
/// to such a socket would be done to its other copies.
pub(super) fn leave(
    listener: &mut Listener,
    name: Option<KeptName>,
    kept: &BTreeSet<KeptName>,
    reactor: &mut Reactor,
) {
    let names = listener.keeping.iter().flat_map(|keeping| keeping.names.iter().copied());
    let is_left = names.chain(name).any(|name| kept.contains(&name));
    set_stays(listener, is_left);
    if is_left {
        (listener.keeping, listener.spares) = (None, None);
        listener.unwatch(reactor);
        listener.close_sockets();
        reactor.mark(listener.id);
    }
}

fn set_stays(listener: &Listener, stays: bool) {
    if let Some(file) = &listener.file {
        file.set_stays(stays);
    }
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

#[cfg(test)]
mod tests;
