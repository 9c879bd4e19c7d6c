//! The primary's half of Node's cluster protocol: what each message of a worker means, and what it is answered.
//!
//! A worker's input is not trusted. What is unknown or makes no sense is ignored (Node does the same); what breaks a rule
//! that the channel itself rests on is a [`ProtocolViolation`], for which the caller cuts the worker off.

use std::path::Path;
use std::time::Duration;

use recluster_core::WorkerId;
use recluster_wire::node::{
    FromWorker, HandleEnvelope, HandleKind, Listening, QueryServer, SocketKind, ToWorker, UnansweredQuery,
};

use super::abandoned;
use super::application;
use super::balance::{kernel, relief};
use super::channel::{ProtocolViolation, Sent};
use super::handle::Handle;
use super::handover::{self, Answer, put_back};
use super::keeping::APART;
use super::later::Waiting;
use super::listener::{Listener, Listeners, Mode, Target};
use super::listeners;
use super::messages::{Config, Fact, Standing, server_limit};
use super::names::Names;
use super::reactor::{ListenerId, Reactor};
use super::reports::Reports;
use super::state::State;
use super::worker::{Drain, SERVER_LIFE, Server, Worker};
use crate::config::balance::{Balance, StickyBy};
use crate::report::worker::{Address, is_abstract};
use crate::socket::answers::answers;
use crate::socket::file::Found;

/// How long a worker that is out of descriptors is given no connection.
const LOST_PAUSE: Duration = Duration::from_millis(100);

/// Acts on one message of a worker.
pub(super) fn hear(state: &mut State, id: WorkerId, message: FromWorker) -> Result<(), ProtocolViolation> {
    let State { config, workers, reactor, reports, .. } = &mut *state;
    let Some(worker) = workers.get_mut(&id) else { return Ok(()) };
    match message {
        FromWorker::Online => online(worker, reports),
        FromWorker::QueryServer(query) => return query_server(state, id, &query),
        FromWorker::Listening(listening) => is_listening(state, id, listening),
        FromWorker::Close { key } => server_closed(state, id, &key),
        FromWorker::Ack { ack, accepted } => connection_answered(state, id, ack, accepted),
        FromWorker::ExitedAfterDisconnect { seq } => return leaving(worker, seq, reactor, reports),
        FromWorker::Handle(envelope) => return handle_received(state, id, envelope),
        FromWorker::HandleAck => return handle_arrived(worker, reactor),
        FromWorker::HandleNack => return handle_lost(state, id),
        // We close what we are sent at once, so there is never a socket to count or to wait for.
        FromWorker::SocketGetCount { key } => {
            return worker.channel.send(&ToWorker::SocketCount { key: &key, count: 0 });
        }
        FromWorker::SocketNotifyClose { key } => {
            return worker.channel.send(&ToWorker::SocketAllClosed { key: &key });
        }
        FromWorker::Leaves => worker.retires(reactor, reports),
        FromWorker::Pong => ping_answered(state, id),
        FromWorker::Taken(said) => {
            worker.got.own_count = Some(said.connections);
            worker.lasting.hear(said, reactor.now);
        }
        FromWorker::Measures(said) => worker.interview.hear(said, reactor.now),
        FromWorker::Held(held) => reports.fact(Fact::Held(id, held)),
        FromWorker::Farewell(farewell) => {
            worker.finishing = false;
            reports.fact(Fact::Farewell(id, farewell));
        }
        FromWorker::Stderr(text) => reports.fact(Fact::Stderr(id, text)),
        FromWorker::Keeps(timeout) => reports.fact(Fact::Keeps(id, timeout)),
        FromWorker::CacheOff(reason) => reports.fact(Fact::CacheOff(id, reason)),
        FromWorker::User(message) => application::said(worker, message, None, config, reactor, reports),
        FromWorker::Skipped(message) => {
            application::said_too_much(worker, &message, config, reactor, reports);
        }
        FromWorker::Unknown => {}
        FromWorker::Malformed(malformed) => {
            if let Some(query) = malformed.unanswered {
                return refuse(worker, &query, libc::EINVAL);
            }
        }
    }
    Ok(())
}

fn online(worker: &mut Worker, reports: &Reports) {
    if !std::mem::replace(&mut worker.said.online, true) {
        reports.fact(Fact::Online(worker.id));
    }
}

/// The worker began its own disconnect and hangs until it is answered.
fn leaving(
    worker: &mut Worker,
    query: u64,
    reactor: &mut Reactor,
    reports: &Reports,
) -> Result<(), ProtocolViolation> {
    worker.leaving = true;
    let seq = worker.channel.seq();
    worker.channel.send(&ToWorker::Ack { seq, ack: query })?;
    worker.retires(reactor, reports);
    Ok(())
}

/// A server of the worker listens. One that it has closed by now was a mere trial: Node says this behind the close then.
fn is_listening(state: &mut State, id: WorkerId, listening: Listening) {
    let State { workers, listeners, opener, reactor, reports, .. } = state;
    let (Some(worker), Some(mut address)) = (workers.get_mut(&id), address_of(&listening)) else {
        return;
    };
    let is_there = |id: &ListenerId| listeners.get(id).is_some_and(|listener| listener.is_at(&address));
    let there = worker.servers.values_mut().filter(|server| is_there(&server.listener));
    // Two of its servers may have the same port: one of which this was not said yet.
    let server = there.min_by_key(|server| server.announced.is_some());
    if server.is_none() && worker.is_node && worker.said.query {
        return;
    }
    // It has bound a socket of its own, as Bun does, or has one that it was started with.
    worker.got.accepts |= server.is_none();
    if server.is_none() && !worker.is_node {
        opener.is_listened_on(&address);
    }
    if let Some(server) = server {
        if let Some(listener) = listeners.get_mut(&server.listener) {
            listener.announced = true;
            if listening.address.is_none() {
                // Who names no host listens on what the master could bind: IPv6 and IPv4, or IPv4 alone.
                listener.is_bound_to(&mut address);
            } else if let (Address::Unix(said), Address::Unix(own)) =
                (&mut address, opener.address_of(listener))
            {
                // A socket of ours that it has asked for by another path has one name.
                said.clone_from(own);
            }
        }
        server.announced = Some(address.to_string());
        server.listens_since = Some(reactor.now);
    }
    if worker.announced.insert(address.to_string()) {
        reports.fact(Fact::Listening(worker.id, address, listening));
    }
}

fn server_closed(state: &mut State, id: WorkerId, key: &str) {
    let State { workers, listeners, reactor, reports, .. } = &mut *state;
    let Some(worker) = workers.get_mut(&id) else { return };
    let Some(server) = worker.servers.remove(key) else { return };
    if let Some(listener) = listeners.get_mut(&server.listener) {
        listener.remove_target(id, key);
        listener.group.iter_mut().for_each(|group| group.vacate(id));
    }
    reactor.mark(server.listener);
    let was_probe = reactor.now.saturating_duration_since(server.opened) < SERVER_LIFE;
    let was_announced = server.announced.is_some_and(|address| worker.announced.remove(&address));
    let is_proven = worker.standing == Some(Standing::Serving);
    if worker.servers.is_empty() && is_proven && !was_probe {
        worker.retires(reactor, reports);
    } else if worker.servers.is_empty() && was_announced && !is_proven {
        reports.fact(Fact::ListensNoMore(worker.id));
    }
    abandoned::closed_by(state, id, server.listener);
    state.close_unused();
}

/// The worker has taken a connection, or refused it.
fn connection_answered(state: &mut State, id: WorkerId, seq: u64, accepted: bool) {
    let State { workers, listeners, reactor, reports, .. } = &mut *state;
    let Some(worker) = workers.get_mut(&id) else { return };
    match handover::answered(worker, seq, accepted, reactor) {
        Answer::Unknown => return,
        // There may be more for it.
        Answer::Taken { listener, is_idle } => state.offer(listener, id, is_idle),
        Answer::Refused(sent) => put_back(sent, listeners, reactor, reports),
    }
    state.step_drain(id);
}

fn ping_answered(state: &mut State, id: WorkerId) {
    let Some(worker) = state.workers.get_mut(&id) else { return };
    let is_idle = relief::ping_answered(worker, &state.reactor);
    let ids: Vec<ListenerId> = worker.servers.values().map(|server| server.listener).collect();
    for listener in ids {
        state.offer(listener, id, is_idle);
    }
}

/// A worker wants to listen. Every query gets exactly one answer, or its `listen` hangs silently; the exception is
/// a worker that is leaving.
fn query_server(state: &mut State, id: WorkerId, query: &QueryServer) -> Result<(), ProtocolViolation> {
    abandoned::close_before(state, id, query);
    let State { config, workers, listeners, names, opener, later, reactor, reports, .. } = state;
    let most_servers = server_limit(workers.len());
    let Some(worker) = workers.get_mut(&id) else { return Ok(()) };
    worker.said.query = true;
    if state.is_stopping || worker.drain == Drain::Disconnecting {
        // As Node's own primary: the disconnect that is on its way ends this `listen` as well. A server that began
        // now would hold the worker until its drain timeout.
        return Ok(());
    }
    if worker.servers.len() >= most_servers {
        // As where it is out of descriptors itself: the master's are not its own to use up.
        return refuse(worker, &unanswered(query), libc::EMFILE);
    }
    let mode = mode_for(worker, config);
    let opened = claim_path(query, listeners, names, reports)
        .and_then(|()| opener.find_or_open(query, worker, mode, &config.balance, listeners, reactor));
    let placed = opened.and_then(|listener| {
        let listener = listeners.get_mut(&listener).ok_or(std::io::ErrorKind::NotFound)?;
        let own = kernel::socket_for(id, listener, reactor)?;
        listener.file.iter().for_each(|file| names.add(file, reactor));
        if mode == Mode::Kernel && listener.is_apart() {
            reports.caveat(APART);
        }
        // What came back with it is looked at.
        reactor.mark(listener.id);
        Ok((listener, own))
    });
    match placed {
        Ok((listener, own)) => {
            worker.got.accepts |= listener.is_stream() && listener.mode != Mode::RoundRobin;
            let key = add_server(worker, listener, query, reactor);
            welcome(worker, listener, query, &key, own)
        }
        Err(error) => {
            let is_in_use = listeners::is_in_use(&error);
            let own = is_in_use.then(|| opener.in_the_way(query, listeners)).flatten();
            if is_in_use && own.is_none() && later.takes(id, query, reactor) {
                return Ok(());
            }
            if let Some(own) = own {
                reports.fact(Fact::InTheWay(id, own));
            }
            refuse(worker, &unanswered(query), error.raw_os_error().unwrap_or(libc::EINVAL))
        }
    }
}

/// Tries again what has waited for an address.
pub(super) fn ask_again(state: &mut State) {
    for Waiting { worker, query, until } in state.later.take_all() {
        state.later.again = Some(until);
        if let Err(violation) = query_server(state, worker, &query) {
            state.cut_off(worker, &violation);
        }
    }
    state.later.again = None;
}

/// Has the path of a unix socket lead to the socket that is open there, or to none of ours. Nothing looks at one whose file system does
/// not answer.
fn claim_path(
    query: &QueryServer,
    listeners: &mut Listeners,
    names: &Names,
    reports: &Reports,
) -> std::io::Result<()> {
    let path = query.address.as_deref().filter(|_| query.kind == Some(SocketKind::Unix)).map(Path::new);
    if path.is_some_and(|path| !is_abstract(path) && !answers(path)) {
        return Err(std::io::Error::from_raw_os_error(libc::ETIMEDOUT));
    }
    match path.and_then(|path| Some((path, names.claim(path, reports)?))) {
        None | Some((_, Found::Ours | Found::Restored)) => Ok(()),
        Some((_, Found::Foreign)) => Err(std::io::Error::from_raw_os_error(libc::EADDRINUSE)),
        Some((path, Found::Lost)) => {
            let has_path =
                |listener: &&mut Listener| listener.file.as_ref().is_some_and(|file| file.is_named(path));
            listeners.values_mut().filter(has_path).for_each(Listener::lose_name);
            Ok(())
        }
    }
}

fn mode_for(worker: &Worker, config: &Config) -> Mode {
    match &config.balance {
        _ if !worker.is_node => Mode::Shared,
        Balance::Shared => Mode::Shared,
        Balance::Kernel | Balance::Sticky(StickyBy::Ip) if config.workers_accept => Mode::Kernel,
        Balance::RoundRobin | Balance::Kernel | Balance::Sticky(_) => Mode::RoundRobin,
    }
}

fn unanswered(query: &QueryServer) -> UnansweredQuery {
    UnansweredQuery { seq: query.seq, data: query.data.clone() }
}

fn refuse(worker: &mut Worker, query: &UnansweredQuery, errno: i32) -> Result<(), ProtocolViolation> {
    let (seq, key) = (worker.channel.seq(), worker.new_number().to_string());
    let data = query.data.as_ref();
    worker.channel.send(&ToWorker::ErrorReply { seq, ack: query.seq, key: &key, data, errno })
}

/// Gives a worker a server on a listener; returns its key.
fn add_server(
    worker: &mut Worker,
    listener: &mut Listener,
    query: &QueryServer,
    reactor: &mut Reactor,
) -> String {
    if listener.data.is_none() {
        listener.data.clone_from(&query.data);
    }
    listener.proven |= worker.standing == Some(Standing::Serving);
    (listener.unused_since, listener.abandoned) = (None, None);
    let number = worker.new_number();
    let key = number.to_string();
    let server =
        Server { number, listener: listener.id, opened: reactor.now, announced: None, listens_since: None };
    worker.servers.insert(key.clone(), server);
    listener.targets.push(Target { worker: worker.id, generation: worker.generation, key: key.clone() });
    reactor.mark(listener.id);
    key
}

/// Answers a query with success: with the worker's `own` socket, the listener's, or none where the master accepts.
fn welcome(
    worker: &mut Worker,
    listener: &Listener,
    query: &QueryServer,
    key: &str,
    own: Option<std::rc::Rc<std::os::fd::OwnedFd>>,
) -> Result<(), ProtocolViolation> {
    let seq = worker.channel.seq();
    let (ack, data) = (query.seq, listener.data.as_ref());
    match listener.mode {
        Mode::RoundRobin => {
            let sockname = listener.sockname();
            worker.channel.send(&ToWorker::RoundRobinReply { seq, ack, key, data, sockname })
        }
        Mode::Shared | Mode::Kernel => {
            let is_udp = query.kind.is_some_and(SocketKind::is_udp);
            let kind = if is_udp { HandleKind::DatagramNative } else { HandleKind::NetNative };
            let reply = ToWorker::SharedReply { seq, ack, key, data, kind };
            match own.or_else(|| listener.socket.clone()) {
                Some(socket) => worker.channel.send_socket(&reply, socket),
                None => Ok(()),
            }
        }
    }
}

/// A handle message of the worker: it sends nothing more before it is acknowledged, so that comes first. Without a host
/// program that is shown the message, the descriptor is of no use to a master and is closed.
fn handle_received(
    state: &mut State,
    id: WorkerId,
    envelope: HandleEnvelope,
) -> Result<(), ProtocolViolation> {
    let State { config, workers, reactor, reports, .. } = &mut *state;
    let Some(worker) = workers.get_mut(&id) else { return Ok(()) };
    let Some(fd) = worker.channel.take_received() else {
        return worker.channel.send(&ToWorker::HandleNack);
    };
    worker.channel.send(&ToWorker::HandleAck)?;
    match (*envelope.message, envelope.kind) {
        (FromWorker::User(message), Some(kind)) if config.is_hosted => {
            application::said(worker, message, Some(Handle { kind, fd }), config, reactor, reports);
            Ok(())
        }
        (message, _) => hear(state, id, message),
    }
}

fn handle_arrived(worker: &mut Worker, reactor: &mut Reactor) -> Result<(), ProtocolViolation> {
    worker.channel.answered()?;
    worker.channel.flush();
    worker.mark_listeners(reactor);
    Ok(())
}

/// A handle was lost on its way, most likely because the worker is out of descriptors: others may have some.
fn handle_lost(state: &mut State, id: WorkerId) -> Result<(), ProtocolViolation> {
    let State { workers, listeners, reactor, reports, .. } = state;
    let Some(worker) = workers.get_mut(&id) else { return Ok(()) };
    match worker.channel.answered()? {
        Sent::Connection(seq) => {
            worker.pause(LOST_PAUSE, reactor);
            if let Some(lost) = worker.in_flight.remove(&seq) {
                put_back(lost, listeners, reactor, reports);
            }
            Ok(())
        }
        // As with Node's own primary, in the end: the message is lost with it.
        Sent::Message => Ok(()),
        // Its `listen` would hang for ever: better that the worker dies and is respawned.
        Sent::Socket => Err(ProtocolViolation::OutOfDescriptors),
    }
}

/// What a worker says about where it listens, as an address; none if that makes no sense.
fn address_of(listening: &Listening) -> Option<Address> {
    if let Some(fd) = listening.fd {
        return Some(Address::Fd(i32::try_from(fd).ok()?));
    }
    let kind = listening.kind?;
    if kind == SocketKind::Unix {
        return Some(Address::Unix(listening.address.clone()?.into()));
    }
    let any = if matches!(kind, SocketKind::Tcp6 | SocketKind::Udp6) { "::" } else { "0.0.0.0" };
    let ip = listening.address.as_deref().unwrap_or(any).parse().ok()?;
    let address = std::net::SocketAddr::new(ip, listening.port?);
    Some(if kind.is_udp() { Address::Udp(address) } else { Address::Tcp(address) })
}

#[cfg(test)]
mod tests;
