//! One listening socket as the master holds it: bound once, owned here, outliving every worker that uses it.
//!
//! ```text
//!   bind, adopt ──► Open ────────────────────────────────► stopped ──► dropped with the master
//!                   │ │        stop: only the master           ▲        (has no socket; what was accepted
//!                   │ │        accepts there                   │         still waits here)
//!                   │ └──► Closing::Refuse ──► Closing::Close ─┘
//!                   │      stop: workers accept until then;    what they have not
//!                   │      after it no connection begins       accepted is taken; both are skipped where no
//!                   │                                          worker is left that could take it
//!                   │
//!                   └──► dropped: unused for long enough, or never used by a worker that served (`listeners`)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::Json;
use recluster_wire::node::{ListenerKey, QueryServer, SocketKind};
use rustix::net::{Shutdown, shutdown};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

pub(super) use self::address::parse_address;
use super::bpf::Program;
use super::client_hash::Table;
use super::connection::Connection;
use super::group::{Group, Spot};
use super::reactor::{ListenerId, Reactor, Timer, Token};
use super::spares::{Keeping, Spares};
use crate::config::balance::{Balance, StickyBy};
use crate::report::worker::Address;
use crate::socket::bind::{bind_unix, on_every_address};
use crate::socket::file::SocketFile;
use crate::socket::named::Permissions;
use crate::sys::{self, Hook};
use crate::upgrade::moment;

/// All open listeners.
pub(super) type Listeners = BTreeMap<ListenerId, Listener>;

/// Who accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// The master, which sends connections to workers.
    RoundRobin,
    /// The workers, all of them on one socket; or they read datagrams from it.
    Shared,
    /// The workers, each on a socket of its own.
    Kernel,
}

impl Mode {
    /// The mode for a socket that cannot have others at its address.
    pub(super) fn without_group(self) -> Self {
        if self == Self::Kernel { Self::RoundRobin } else { self }
    }
}

/// What happens next, at a stop, to sockets from which workers accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Closing {
    /// From then on no connection begins there.
    Refuse(#[serde(with = "moment")] Instant),
    /// They are closed here.
    Close(#[serde(with = "moment")] Instant),
}

/// Who closed the last server of a listener, of all workers that live.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Abandoned {
    pub(super) by: WorkerId,
    /// When the listener is closed, if that worker goes on until then.
    #[serde(with = "moment::option")]
    pub(super) at: Option<Instant>,
}

/// What a socket is bound beside: other sockets may have an address that overlaps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// Sockets of ours, which allow it.
    Ours,
}

/// A server on a listener, and its worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) worker: WorkerId,
    pub(super) generation: u64,
    pub(super) key: String,
}

/// A bound socket and what waits on it.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) id: ListenerId,
    /// What other workers ask for when they mean this listener.
    pub(super) identity: Option<ListenerKey>,
    /// None once it has stopped.
    pub(super) socket: Option<Rc<OwnedFd>>,
    pub(super) mode: Mode,
    /// It is bound beside another one of ours, and is to listen with this backlog when a worker that serves uses it.
    pub(super) deferred: Option<i32>,
    /// The workers' own sockets, of which `socket` is the first.
    pub(super) group: Option<Group>,
    /// Sockets at its address that came back and are not needed.
    pub(super) spares: Option<Spares>,
    /// What a service manager keeps of it; none where that is nothing.
    pub(super) keeping: Option<Keeping>,
    /// What the kernel said to a group, which was to be there.
    pub(super) refusal: Option<io::Error>,
    pub(super) address: Address,
    pub(super) targets: Vec<Target>,
    /// Where the next search for a target begins.
    pub(super) rotation: usize,
    /// Connections that go to any target, before those in the kernel's queue: put back, or taken at a stop.
    pub(super) waiting: VecDeque<Connection>,
    /// How clients are known, where each has a slot of its own (`sticky`).
    pub(super) sticky_by: Option<Rc<StickyBy>>,
    /// Under `sticky`: the slot of each client.
    pub(super) table: Table,
    /// Under `sticky`: connections that wait for the worker in their client's slot.
    pub(super) pending: BTreeMap<WorkerId, VecDeque<Connection>>,
    /// The kernel's queue may hold a connection.
    pub(super) acceptable: bool,
    /// Nothing is accepted nor sent before then.
    pub(super) paused_until: Option<Instant>,
    pub(super) closing: Option<Closing>,
    /// The TLS ticket keys of the first worker, for all the others.
    pub(super) data: Option<Json>,
    /// It was opened for a worker that served already: one that closes it before then has only tried it.
    pub(super) trial_until: Option<Instant>,
    /// A worker said that it listens here.
    pub(super) announced: bool,
    /// The last server here was closed, by a worker that may go on.
    pub(super) abandoned: Option<Abandoned>,
    /// A worker that serves has used it.
    pub(super) proven: bool,
    /// No wanted worker has used it since then.
    pub(super) unused_since: Option<Instant>,
    /// The file of a unix socket that we made; it is removed with this.
    pub(super) file: Option<Arc<SocketFile>>,
}

impl Listener {
    /// Binds what the worker asked for. `replace` allows to replace the file of a unix socket that no process has open.
    pub(super) fn bind(query: &QueryServer, mode: Mode, replace: bool) -> io::Result<Self> {
        match query.kind {
            Some(SocketKind::Unix) => Self::bind_unix(query, mode, replace),
            Some(kind) if kind.is_udp() => Self::bind_udp(query, kind, Beside::Nothing),
            Some(kind) => Self::bind_tcp(query, kind, mode, Beside::Nothing),
            None => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    /// Binds what the worker asked for beside sockets of ours that are in its way.
    pub(super) fn bind_beside(query: &QueryServer, mode: Mode) -> io::Result<Self> {
        match query.kind {
            Some(kind) if kind.is_udp() => Self::bind_udp(query, kind, Beside::Ours),
            Some(kind) if kind != SocketKind::Unix => Self::bind_tcp(query, kind, mode, Beside::Ours),
            Some(_) | None => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
        }
    }

    /// Uses a socket that the master was started with.
    pub(super) fn adopt(number: i32, socket: &OwnedFd, mode: Mode) -> io::Result<Self> {
        let socket = Socket::from(socket.try_clone()?);
        socket.set_nonblocking(true)?;
        let is_datagram = socket.r#type()? == Type::DGRAM;
        let mode = if is_datagram { Mode::Shared } else { mode.without_group() };
        let mut listener = Self::new(socket, mode, Address::Fd(number));
        // Connections may wait in it already.
        listener.acceptable = true;
        Ok(listener)
    }

    pub(super) fn new(socket: Socket, mode: Mode, address: Address) -> Self {
        Self {
            id: 0,
            identity: None,
            socket: Some(Rc::new(OwnedFd::from(socket))),
            mode,
            deferred: None,
            group: None,
            spares: None,
            keeping: None,
            refusal: None,
            address,
            targets: Vec::new(),
            rotation: 0,
            waiting: VecDeque::new(),
            sticky_by: None,
            table: Table::default(),
            pending: BTreeMap::new(),
            acceptable: false,
            paused_until: None,
            closing: None,
            data: None,
            trial_until: None,
            announced: false,
            abandoned: None,
            proven: false,
            unused_since: None,
            file: None,
        }
    }

    /// How many connections wait to be accepted or to be given to a worker; none where the kernel does not say, as of unix sockets.
    pub(super) fn queue(&self) -> Option<u64> {
        let first = self.socket.as_deref()?;
        let others = self.sockets().filter(|socket| socket.as_raw_fd() != first.as_raw_fd());
        let waiting = self.waiting.len() as u64;
        [first]
            .into_iter()
            .chain(others)
            .try_fold(waiting, |sum, socket| Some(sum + u64::from(sys::accept_queue(socket.as_fd()).ok()?)))
    }

    fn bind_tcp(query: &QueryServer, kind: SocketKind, mode: Mode, beside: Beside) -> io::Result<Self> {
        let port = query.port.unwrap_or(0);
        let bind = |address: SocketAddr| Self::bind_tcp_at(query, address, mode, beside);
        match &query.address {
            Some(text) => bind(parse_address(text, port)?),
            None if kind == SocketKind::Tcp6 => bind((Ipv6Addr::UNSPECIFIED, port).into()),
            None => on_every_address(|ip| bind((ip, port).into())),
        }
    }

    fn bind_tcp_at(query: &QueryServer, address: SocketAddr, mode: Mode, beside: Beside) -> io::Result<Self> {
        let shared = beside == Beside::Ours;
        let mut spot = Spot { address, only_v6: query.ipv6_only(), backlog: query.listen_backlog(), shared };
        if mode == Mode::RoundRobin && shared {
            let socket = spot.bind()?;
            socket.set_nonblocking(true)?;
            let bound = socket.local_addr()?.as_socket().unwrap_or(address);
            let mut listener = Self::new(socket, mode, Address::Tcp(bound));
            listener.deferred = Some(spot.backlog);
            return Ok(listener);
        }
        if mode == Mode::Kernel {
            if let Some(refusal) = Group::refusal_at(address)? {
                let mut listener = Self::bind_tcp_at(query, address, mode.without_group(), beside)?;
                listener.refusal = Some(refusal);
                return Ok(listener);
            }
            if address.port() != 0 && !shared {
                // With SO_REUSEPORT the bind would succeed even where another program listens there.
                spot.bind()?;
            }
            spot.shared = true;
        }
        let socket = Socket::from(spot.listen()?);
        let bound = socket.local_addr()?.as_socket().unwrap_or(address);
        let mut listener = Self::new(socket, mode, Address::Tcp(bound));
        if let Some(socket) = listener.socket.clone().filter(|_| mode == Mode::Kernel) {
            let group = Group::new(Spot { address: bound, ..spot }, socket);
            group.attach(Program::any_of(&[0]))?;
            listener.group = Some(group);
        }
        Ok(listener)
    }

    fn bind_udp(query: &QueryServer, kind: SocketKind, beside: Beside) -> io::Result<Self> {
        let any = if kind == SocketKind::Udp6 { "::" } else { "0.0.0.0" };
        let address = parse_address(query.address.as_deref().unwrap_or(any), query.port.unwrap_or(0))?;
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(query.reuse_addr())?;
        socket.set_reuse_port(beside == Beside::Ours)?;
        if address.is_ipv6() {
            socket.set_only_v6(query.ipv6_only())?;
        }
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self::new(socket, Mode::Shared, Address::Udp(bound)))
    }

    fn bind_unix(query: &QueryServer, mode: Mode, replace: bool) -> io::Result<Self> {
        let mode = mode.without_group();
        let path = PathBuf::from(query.address.as_deref().unwrap_or_default());
        let (socket, file) = bind_unix(&path, replace, permissions(query))?;
        socket.listen(query.listen_backlog())?;
        socket.set_nonblocking(true)?;
        let mut listener = Self::new(socket, mode, Address::Unix(path));
        listener.file = file.map(Arc::new);
        Ok(listener)
    }

    /// The address to report to a worker; none for a unix socket, which it knows by its path.
    pub(super) fn sockname(&self) -> Option<SocketAddr> {
        match &self.address {
            Address::Tcp(address) | Address::Udp(address) => Some(*address),
            Address::Unix(_) => None,
            Address::Fd(_) => {
                let name = rustix::net::getsockname(self.fd()?).ok()?;
                SocketAddr::try_from(name).ok()
            }
        }
    }

    /// The socket, for accepting; none once it has stopped.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// Puts the address that the socket has in the place of one that a worker says.
    pub(super) fn is_bound_to(&self, said: &mut Address) {
        if let (Address::Tcp(said) | Address::Udp(said), Some(bound)) = (said, self.sockname()) {
            *said = bound;
        }
    }

    /// Whether a worker that uses it and says that it listens there means this listener. By its address the worker may have
    /// asked for the same place in other words.
    pub(super) fn is_at(&self, address: &Address) -> bool {
        match (&self.address, address) {
            (Address::Unix(own), Address::Unix(other)) => own == other,
            (Address::Tcp(own), Address::Tcp(other)) | (Address::Udp(own), Address::Udp(other)) => {
                own.port() == other.port()
            }
            (Address::Fd(own), Address::Fd(other)) => own == other,
            (Address::Fd(_), Address::Tcp(other) | Address::Udp(other)) => {
                self.sockname().is_some_and(|own| own.port() == other.port())
            }
            (Address::Fd(_), Address::Unix(_)) => self.sockname().is_none(),
            (Address::Unix(_) | Address::Tcp(_) | Address::Udp(_), _) => false,
        }
    }

    /// Whether a query that names a port means the random one that this listener got for a query that did not.
    pub(super) fn is_found_by(&self, wanted: &ListenerKey) -> bool {
        let port = self.sockname().map(|name| name.port()).filter(|_| wanted.index.is_none());
        let named = |own: &ListenerKey| ListenerKey { port, index: None, ..own.clone() };
        port.is_some()
            && self.identity.as_ref().is_some_and(|own| own.index.is_some() && named(own) == *wanted)
    }

    /// Whether it has connections, not datagrams.
    pub(super) fn is_stream(&self) -> bool {
        !matches!(self.address, Address::Udp(_))
    }

    /// Decides how clients are known here: not at all, unless the balance is `sticky` and connections pass the master or
    /// come to one worker's socket each. An address says nothing on a unix socket.
    pub(super) fn set_balance(&mut self, balance: &Balance) {
        let by = balance
            .sticky_by()
            .filter(|by| self.mode != Mode::Shared && (**by != StickyBy::Ip || self.sockname().is_some()));
        self.sticky_by = by.cloned().map(Rc::new);
    }

    /// How connections reach workers from here, by the option's own word.
    pub(super) fn balance(&self) -> &'static str {
        match self.mode {
            Mode::Shared => "shared",
            Mode::RoundRobin | Mode::Kernel if self.sticky_by.is_some() => "sticky",
            Mode::RoundRobin => "round-robin",
            Mode::Kernel => "kernel",
        }
    }

    /// Whether the master's connections from here are to be closed behind their first response: one connection counts as
    /// one client.
    pub(super) fn closes_after_response(&self) -> bool {
        self.sticky_by.as_deref().is_some_and(StickyBy::is_request)
    }

    /// Whether there is, or may soon be, a connection that was accepted and is still to be sent to a worker.
    pub(super) fn has_leftovers(&self) -> bool {
        self.closing.is_some()
            || !self.waiting.is_empty()
            || self.pending.values().any(|pending| !pending.is_empty())
    }

    /// Whether its sockets are ours alone, and handshakes may be under way there.
    pub(super) fn has_handshakes(&self) -> bool {
        matches!(self.address, Address::Tcp(_))
    }

    /// Lets no connection begin any more on a unix socket that is ours alone. What waits there stays; on TCP this would reset it.
    pub(super) fn refuse_on_unix(&self) {
        if let (Address::Unix(_), Some(socket)) = (&self.address, &self.socket) {
            let _ = shutdown(socket, Shutdown::Read);
        }
    }

    /// Lets no connection begin any more.
    pub(super) fn refuse_connections(&self) {
        for socket in self.sockets() {
            // A kernel without such programs lets connections begin until the end.
            let _ = sys::attach(socket.as_fd(), Hook::Socket, Program::no_beginnings().instructions());
        }
    }

    /// Neither accepts nor sends for a while.
    pub(super) fn pause(&mut self, span: Duration, reactor: &mut Reactor) {
        self.paused_until = Some(reactor.set_timer_in(span, Timer::Listener(self.id)));
    }

    /// Ends its pause if that is over.
    pub(super) fn resume(&mut self, now: Instant) {
        self.paused_until = self.paused_until.filter(|until| *until > now);
    }

    /// Begins to watch the sockets from which the master accepts, or may have to.
    pub(super) fn watch(&self, reactor: &Reactor) -> io::Result<()> {
        match (&self.socket, &self.group) {
            (Some(_), Some(group)) => group.watch(self.id, reactor),
            (Some(socket), None) if self.mode == Mode::RoundRobin => {
                reactor.watch(socket, Token::Listener(self.id))
            }
            (Some(_), None) | (None, _) => Ok(()),
        }
    }

    pub(super) fn unwatch(&self, reactor: &Reactor) {
        self.sockets().for_each(|socket| reactor.unwatch(socket));
    }

    /// Its socket, and those of its group.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        let members = self.group.iter().flat_map(|group| &group.members);
        members.map(|member| &*member.socket).chain(self.socket.as_deref())
    }

    /// Closes the master's end. What was accepted before still waits here.
    pub(super) fn close_sockets(&mut self) {
        (self.socket, self.group) = (None, None);
        self.acceptable = false;
    }

    /// Its path leads to it no more: a worker that asks for that has a new one.
    pub(super) fn lose_name(&mut self) {
        if let Some(file) = self.file.take() {
            file.set_stays(false);
        }
        self.identity = None;
    }

    pub(super) fn remove_target(&mut self, worker: WorkerId, key: &str) {
        self.targets.retain(|target| target.worker != worker || target.key != key);
    }

    pub(super) fn remove_worker(&mut self, worker: WorkerId) {
        self.targets.retain(|target| target.worker != worker);
    }

    /// Drops what was accepted and belongs to no worker yet: these connections are closed.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
        self.pending.clear();
        self.closing = None;
    }

    pub(super) fn is_used_by(&self, worker: WorkerId) -> bool {
        self.targets.iter().any(|target| target.worker == worker)
    }
}

/// The permissions that the worker asked for.
fn permissions(query: &QueryServer) -> Permissions {
    let readable = if query.readable_all { 0o444 } else { 0 };
    let writable = if query.writable_all { 0o222 } else { 0 };
    match readable | writable {
        0 => Permissions::Usual,
        bits => Permissions::Added(bits),
    }
}

mod address;
pub(super) mod saved;
#[cfg(test)]
mod tests;
