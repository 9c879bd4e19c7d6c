//! The primary's half of Node's cluster protocol: what each message of a worker means, and what it is answered.
//!
//! A worker's input is not trusted. What is unknown or makes no sense is ignored (Node does the same); what breaks a
//! rule that the channel itself rests on is a [`ProtocolViolation`], and the worker is cut off.

use std::io;
use std::time::Duration;

use recluster_core::WorkerId;
use recluster_wire::node::{
    FromWorker, HandleEnvelope, HandleKind, ListenerKey, Listening, QueryServer, SocketKind, ToWorker,
    UnansweredQuery, UserCommand, UserMessage,
};

use super::channel::{ProtocolViolation, Sent};
use super::listener::{Listener, ListenerId, Mode, Taker};
use super::messages::Standing;
use super::state::State;
use super::worker::{Drain, NACK_PAUSE, SERVERS, Server};
use super::{Fact, Handle};
use crate::config::balance::{Balance, StickyBy};
use crate::report::worker::Address;

/// A worker whose last server closes after at least this long is on its way out. A shorter life is a probe for a
/// free port, as some libraries make one before the real server listens.
const SERVER_LIFE: Duration = Duration::from_secs(1);

impl State {
    /// Acts on one message of a worker.
    pub(super) fn hear(&mut self, worker: WorkerId, message: FromWorker) -> Result<(), ProtocolViolation> {
        match message {
            FromWorker::Online => self.online(worker),
            FromWorker::QueryServer(query) => return self.query_server(worker, &query),
            FromWorker::Listening(listening) => self.listening(worker, listening),
            FromWorker::Close { key } => self.server_closed(worker, &key),
            FromWorker::Ack { ack, accepted } => self.connection_answered(worker, ack, accepted),
            FromWorker::ExitedAfterDisconnect { seq } => return self.leaving(worker, seq),
            FromWorker::Handle(envelope) => return self.handle_received(worker, envelope),
            FromWorker::HandleAck => return self.handle_arrived(worker),
            FromWorker::HandleNack => return self.handle_lost(worker),
            // We close what we are sent at once, so there is never a socket to count or to wait for.
            FromWorker::SocketGetCount { key } => {
                return self.answer(worker, &ToWorker::SocketCount { key: &key, count: 0 });
            }
            FromWorker::SocketNotifyClose { key } => {
                return self.answer(worker, &ToWorker::SocketAllClosed { key: &key });
            }
            FromWorker::Pong => self.answered(worker),
            FromWorker::Taken(connections) => self.counted(worker, connections),
            FromWorker::Held(held) => self.report_fact(Fact::Held(worker, held)),
            FromWorker::User(message) => self.user_message(worker, message, None),
            FromWorker::Unknown => {}
            FromWorker::Malformed(malformed) => {
                if let Some(query) = malformed.unanswered {
                    return self.refuse(worker, &query, libc::EINVAL);
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, worker: WorkerId, message: &ToWorker<'_>) -> Result<(), ProtocolViolation> {
        self.workers.get_mut(&worker).map_or(Ok(()), |peer| peer.channel.send(message))
    }

    fn online(&mut self, worker: WorkerId) {
        if let Some(peer) = self.workers.get_mut(&worker)
            && !peer.told.online
        {
            peer.told.online = true;
            self.report_fact(Fact::Online(worker));
        }
    }

    fn counted(&mut self, worker: WorkerId, connections: u64) {
        if let Some(peer) = self.workers.get_mut(&worker) {
            peer.counted = Some(connections);
        }
    }

    fn user_message(&mut self, worker: WorkerId, message: UserMessage, handle: Option<Handle>) {
        let Some(peer) = self.workers.get(&worker) else { return };
        let command = message.command();
        let json = message.into_json();
        let receipt = peer.backlog.note(&json);
        // The message comes first: whoever hears what follows from it has heard it.
        self.report_fact(Fact::Message { worker, json, handle, receipt });
        match command {
            UserCommand::Ready => self.report_fact(Fact::SaidReady(worker)),
            UserCommand::Disconnect => self.retiring(worker),
            UserCommand::Other => {}
        }
    }

    /// Tells the supervisor, once, that the worker leaves of its own accord.
    fn retiring(&mut self, worker: WorkerId) {
        if let Some(peer) = self.workers.get_mut(&worker)
            && !peer.told.retiring
        {
            peer.told.retiring = true;
            self.dirty.extend(peer.servers.values().map(|server| server.listener));
            self.report_fact(Fact::Retiring(worker));
        }
    }

    /// The worker began its own disconnect and hangs until we have said that we know.
    fn leaving(&mut self, worker: WorkerId, query: u64) -> Result<(), ProtocolViolation> {
        let Some(peer) = self.workers.get_mut(&worker) else { return Ok(()) };
        peer.leaving = true;
        let seq = peer.channel.seq();
        peer.channel.send(&ToWorker::Ack { seq, ack: query })?;
        self.retiring(worker);
        Ok(())
    }

    fn listening(&mut self, worker: WorkerId, listening: Listening) {
        let (Some(peer), Some(address)) = (self.workers.get_mut(&worker), address_of(&listening)) else {
            return;
        };
        if peer.announced.len() < SERVERS && peer.announced.insert(address.to_string()) {
            self.report_fact(Fact::Listening(worker, address, listening));
        }
    }

    fn server_closed(&mut self, worker: WorkerId, key: &str) {
        let Some(peer) = self.workers.get_mut(&worker) else { return };
        let Some(server) = peer.servers.remove(key) else { return };
        let had_a_life = self.now.saturating_duration_since(server.opened) >= SERVER_LIFE;
        let was_last = peer.servers.is_empty();
        if let Some(listener) = self.listeners.get_mut(&server.listener) {
            listener.remove_taker(worker, key);
        }
        self.vacate(server.listener, worker);
        if was_last && had_a_life {
            self.retiring(worker);
        }
        self.close_unused();
    }

    /// A worker wants to listen. Every query gets exactly one answer, or its `listen` hangs silently; the exception is
    /// a worker that is leaving.
    fn query_server(&mut self, worker: WorkerId, query: &QueryServer) -> Result<(), ProtocolViolation> {
        let Some(peer) = self.workers.get(&worker) else { return Ok(()) };
        if self.closing || peer.drain == Drain::Told {
            // As Node's own primary: the disconnect that is on its way ends this `listen` as well. A server that began
            // now would hold the worker until its patience ends.
            return Ok(());
        }
        if peer.servers.len() >= SERVERS {
            return Err(ProtocolViolation::TooManyServers(SERVERS));
        }
        match self.find_or_bind(worker, query) {
            Ok(id) => self.welcome(worker, query, id),
            Err(error) => {
                let unanswered = UnansweredQuery { seq: query.seq, data: query.data.clone() };
                self.refuse(worker, &unanswered, error.raw_os_error().unwrap_or(libc::EINVAL))
            }
        }
    }

    fn refuse(
        &mut self,
        worker: WorkerId,
        query: &UnansweredQuery,
        errno: i32,
    ) -> Result<(), ProtocolViolation> {
        let Some(peer) = self.workers.get_mut(&worker) else { return Ok(()) };
        let (seq, key) = (peer.channel.seq(), peer.new_number().to_string());
        let data = query.data.as_ref();
        peer.channel.send(&ToWorker::ErrorReply { seq, ack: query.seq, key: &key, data, errno })
    }

    /// The listener that a query means: one that is open already, or a new one. A worker that is on it already
    /// gets a new bind all the same, and with it the error that it would have got without a cluster.
    fn find_or_bind(&mut self, worker: WorkerId, query: &QueryServer) -> io::Result<ListenerId> {
        let identity = ListenerKey::from(query);
        let known = self.listeners.iter().find(|(_, listener)| listener.identity.as_ref() == Some(&identity));
        if let Some((&id, listener)) = known
            && !listener.is_used_by(worker)
        {
            return Ok(id);
        }
        let is_first = known.is_none();
        let takes_connections = self.workers.get(&worker).is_some_and(|peer| peer.is_node);
        let mode = match &self.setup.means.balance {
            _ if !takes_connections => Mode::Shared,
            Balance::Shared => Mode::Shared,
            Balance::Kernel | Balance::Sticky(StickyBy::Ip) if self.setup.means.workers_accept => {
                Mode::Kernel
            }
            Balance::RoundRobin | Balance::Kernel | Balance::Sticky(_) => Mode::RoundRobin,
        };
        let mut listener = match query.fd.map(i32::try_from) {
            // The file of a unix socket that we have open ourselves is not stale.
            None => Listener::bind(query, mode, is_first)?,
            Some(number) => {
                let number = number.map_err(io::Error::other)?;
                let socket = self.setup.inherited.get(&number);
                let socket = socket.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
                Listener::adopt(number, socket, mode)?
            }
        };
        if is_first {
            listener.identity = Some(identity);
        }
        let id = self.next_listener;
        if listener.mode == Mode::RoundRobin {
            self.watch_listener(id, &listener)?;
        }
        self.next_listener += 1;
        let is_steered = listener.mode == Mode::Kernel;
        self.listeners.insert(id, listener);
        if is_steered {
            self.watch_member(id, 0)?;
        }
        Ok(id)
    }

    /// Gives a worker its place on a listener.
    fn welcome(
        &mut self,
        worker: WorkerId,
        query: &QueryServer,
        id: ListenerId,
    ) -> Result<(), ProtocolViolation> {
        let own = match self.seat(id, worker) {
            Ok(own) => own,
            Err(error) => {
                let unanswered = UnansweredQuery { seq: query.seq, data: query.data.clone() };
                return self.refuse(worker, &unanswered, error.raw_os_error().unwrap_or(libc::EINVAL));
            }
        };
        let (Some(peer), Some(listener)) = (self.workers.get_mut(&worker), self.listeners.get_mut(&id))
        else {
            return Ok(());
        };
        if listener.data.is_none() {
            listener.data.clone_from(&query.data);
        }
        listener.proven |= peer.standing == Some(Standing::Serving);
        listener.unused_since = None;
        let (seq, number) = (peer.channel.seq(), peer.new_number());
        let key = number.to_string();
        peer.servers.insert(key.clone(), Server { number, listener: id, opened: self.now });
        listener.takers.push(Taker { worker, key: key.clone() });
        self.dirty.insert(id);
        let (ack, data, key) = (query.seq, listener.data.as_ref(), key.as_str());
        match listener.mode {
            Mode::RoundRobin => {
                let sockname = listener.sockname();
                peer.channel.send(&ToWorker::RoundRobinReply { seq, ack, key, data, sockname })
            }
            Mode::Shared | Mode::Kernel => {
                let kind = if query.kind.is_some_and(SocketKind::is_udp) {
                    HandleKind::DatagramNative
                } else {
                    HandleKind::NetNative
                };
                let reply = ToWorker::SharedReply { seq, ack, key, data, kind };
                match own.or_else(|| listener.socket.clone()) {
                    Some(socket) => peer.channel.send_socket(&reply, socket),
                    None => Ok(()),
                }
            }
        }
    }

    /// A handle message of the worker: it sends nothing more before it is acknowledged, so that comes first. Without a
    /// host that shows it to somebody the descriptor is of no use to a master and is closed.
    fn handle_received(
        &mut self,
        worker: WorkerId,
        envelope: HandleEnvelope,
    ) -> Result<(), ProtocolViolation> {
        let Some(peer) = self.workers.get_mut(&worker) else { return Ok(()) };
        let Some(fd) = peer.channel.take_received() else {
            return peer.channel.send(&ToWorker::HandleNack);
        };
        peer.channel.send(&ToWorker::HandleAck)?;
        match (*envelope.message, envelope.kind) {
            (FromWorker::User(message), Some(kind)) if self.setup.means.is_hosted => {
                self.user_message(worker, message, Some(Handle { kind, fd }));
                Ok(())
            }
            (message, _) => self.hear(worker, message),
        }
    }

    fn handle_arrived(&mut self, worker: WorkerId) -> Result<(), ProtocolViolation> {
        let Some(peer) = self.workers.get_mut(&worker) else { return Ok(()) };
        peer.channel.answered()?;
        peer.channel.flush();
        self.dirty.extend(peer.servers.values().map(|server| server.listener));
        Ok(())
    }

    /// A handle was lost on its way, most likely because the worker is out of descriptors: others may have some.
    fn handle_lost(&mut self, worker: WorkerId) -> Result<(), ProtocolViolation> {
        let Some(peer) = self.workers.get_mut(&worker) else { return Ok(()) };
        match peer.channel.answered()? {
            Sent::Connection(seq) => {
                let lost = peer.on_their_way.remove(&seq);
                self.spare(worker, NACK_PAUSE);
                if let Some(lost) = lost {
                    self.put_back(lost);
                }
                Ok(())
            }
            // As with Node's own primary, in the end: the message is lost with it.
            Sent::Message => Ok(()),
            // Its `listen` would hang for ever: better that the worker dies and is respawned.
            Sent::Socket => Err(ProtocolViolation::OutOfDescriptors),
        }
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
