//! Listening sockets as the master holds them: bound once, owned here, outliving every worker that uses them.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use recluster_core::WorkerId;
use recluster_wire::Json;
use recluster_wire::node::{ListenerKey, QueryServer, SocketKind};
use socket2::{Domain, Protocol, Socket, Type};

use super::balance::kernel::Group;
use super::bpf::Program;
use super::client_hash::{Client, Table};
use crate::report::worker::Address;
use crate::socket::bind::{bind_unix, on_every_address};
use crate::socket::file::SocketFile;
use crate::sys::{self, Hook};

/// Names a listener for as long as it is open.
pub(super) type ListenerId = u64;

/// A connection that was accepted and belongs to no worker yet.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// How often everybody has refused it.
    pub(super) rounds: u32,
    /// Who has refused it in this round.
    pub(super) refused_by: Vec<WorkerId>,
    pub(super) owner: Owner,
}

/// Whose a connection is, where that decides on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody has looked.
    Unknown,
    Client(Client),
    Anybody,
}

/// Whether workers are handed connections, or the socket itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The master accepts.
    RoundRobin,
    /// The workers accept, or read datagrams.
    Shared,
    /// The workers accept, each from a socket of its own.
    Kernel,
}

impl Mode {
    /// What is done with sockets that cannot share their address.
    fn without_steering(self) -> Self {
        if self == Self::Kernel { Self::RoundRobin } else { self }
    }
}

/// Where a TCP socket listens, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    address: SocketAddr,
    only_v6: bool,
    backlog: i32,
    /// Other sockets of ours listen there as well.
    shared: bool,
}

impl Spot {
    pub(super) fn listen(&self) -> io::Result<OwnedFd> {
        let socket = self.bind()?;
        socket.listen(self.backlog)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    fn bind(&self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if self.shared {
            socket.set_reuse_port(true)?;
        }
        if self.address.is_ipv6() {
            socket.set_only_v6(self.only_v6)?;
        }
        socket.bind(&self.address.into())?;
        Ok(socket)
    }
}

/// What happens next to sockets from which workers accept, when everything stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Nothing is to begin there any more.
    Hush(Instant),
    /// They are closed here.
    Close(Instant),
}

/// A worker that has a server on a listener.
#[derive(Clone, Debug)]
pub(super) struct Taker {
    pub(super) worker: WorkerId,
    pub(super) key: String,
}

/// A bound socket and what waits on it.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) identity: Option<ListenerKey>,
    /// None once nobody listens any more.
    pub(super) socket: Option<Rc<OwnedFd>>,
    pub(super) mode: Mode,
    /// The workers' own sockets, of which `socket` is the first.
    pub(super) group: Option<Group>,
    pub(super) address: Address,
    pub(super) takers: Vec<Taker>,
    /// Where the next search for a taker begins.
    pub(super) rotation: usize,
    /// Connections that are ours again, or were taken at a stop: first in line.
    pub(super) waiting: VecDeque<Connection>,
    /// Under `sticky`: which slot is whose.
    pub(super) table: Table,
    /// Under `sticky`: what waits for a worker with its client's slot.
    pub(super) pending: BTreeMap<WorkerId, VecDeque<Connection>>,
    /// The kernel's queue may hold something.
    pub(super) acceptable: bool,
    /// Neither accept nor hand over before then.
    pub(super) paused_until: Option<Instant>,
    /// What is to be done when everything stops.
    pub(super) closing: Option<Closing>,
    /// What the first worker said of its TLS ticket keys, for all the others.
    pub(super) data: Option<Json>,
    /// A worker that serves has used it.
    pub(super) proven: bool,
    /// No wanted worker has used it since then.
    pub(super) unused_since: Option<Instant>,
    /// The file of a unix socket that we made; it goes with this.
    file: Option<SocketFile>,
}

impl Listener {
    /// Binds what the worker asked for. `replace` allows to replace the file of a unix socket that nobody holds any more.
    pub(super) fn bind(query: &QueryServer, mode: Mode, replace: bool) -> io::Result<Self> {
        match query.kind {
            Some(SocketKind::Unix) => Self::bind_unix(query, mode, replace),
            Some(kind) if kind.is_udp() => Self::bind_udp(query, kind),
            Some(kind) => Self::bind_tcp(query, kind, mode),
            None => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    /// Uses a socket that the master was started with.
    pub(super) fn adopt(number: i32, socket: &OwnedFd, mode: Mode) -> io::Result<Self> {
        let socket = Socket::from(socket.try_clone()?);
        socket.set_nonblocking(true)?;
        let is_datagram = socket.r#type()? == Type::DGRAM;
        let mode = if is_datagram { Mode::Shared } else { mode.without_steering() };
        let mut listener = Self::new(socket, mode, Address::Fd(number));
        // Whoever passed it on may have connections waiting already.
        listener.acceptable = true;
        Ok(listener)
    }

    fn new(socket: Socket, mode: Mode, address: Address) -> Self {
        Self {
            identity: None,
            socket: Some(Rc::new(OwnedFd::from(socket))),
            mode,
            group: None,
            address,
            takers: Vec::new(),
            rotation: 0,
            waiting: VecDeque::new(),
            table: Table::default(),
            pending: BTreeMap::new(),
            acceptable: false,
            paused_until: None,
            closing: None,
            data: None,
            proven: false,
            unused_since: None,
            file: None,
        }
    }

    fn bind_tcp(query: &QueryServer, kind: SocketKind, mode: Mode) -> io::Result<Self> {
        let port = query.port.unwrap_or(0);
        let bind = |address: SocketAddr| Self::bind_tcp_at(query, address, mode);
        match &query.address {
            Some(text) => bind(parse_address(text, port)?),
            None if kind == SocketKind::Tcp6 => bind((Ipv6Addr::UNSPECIFIED, port).into()),
            None => on_every_address(|ip| bind((ip, port).into())),
        }
    }

    fn bind_tcp_at(query: &QueryServer, address: SocketAddr, mode: Mode) -> io::Result<Self> {
        let mut spot =
            Spot { address, only_v6: query.ipv6_only(), backlog: query.listen_backlog(), shared: false };
        if mode == Mode::Kernel {
            if address.port() != 0 {
                // Sockets that share an address do not notice that it is somebody else's.
                spot.bind()?;
            }
            spot.shared = true;
        }
        let socket = Socket::from(spot.listen()?);
        let bound = socket.local_addr()?.as_socket().unwrap_or(address);
        let mut listener = Self::new(socket, mode, Address::Tcp(bound));
        if let Some(socket) = listener.socket.clone().filter(|_| mode == Mode::Kernel) {
            if sys::attach(socket.as_fd(), Hook::Group, Program::any_of(&[0]).instructions()).is_err() {
                // This kernel, or what stands in for one, cannot be told how to choose.
                drop((listener, socket));
                return Self::bind_tcp_at(query, bound, mode.without_steering());
            }
            listener.group = Some(Group::new(Spot { address: bound, ..spot }, socket));
        }
        Ok(listener)
    }

    fn bind_udp(query: &QueryServer, kind: SocketKind) -> io::Result<Self> {
        let any: IpAddr = if kind == SocketKind::Udp6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let port = query.port.unwrap_or(0);
        let address = match &query.address {
            Some(text) => parse_address(text, port)?,
            None => SocketAddr::new(any, port),
        };
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(query.reuse_addr())?;
        if address.is_ipv6() {
            socket.set_only_v6(query.ipv6_only())?;
        }
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self::new(socket, Mode::Shared, Address::Udp(bound)))
    }

    fn bind_unix(query: &QueryServer, mode: Mode, replace: bool) -> io::Result<Self> {
        let mode = mode.without_steering();
        let path = PathBuf::from(query.address.as_deref().unwrap_or_default());
        let (socket, file) = bind_unix(&path, replace)?;
        if file.is_some() {
            Self::open_to(query, &path)?;
        }
        socket.listen(query.listen_backlog())?;
        socket.set_nonblocking(true)?;
        let mut listener = Self::new(socket, mode, Address::Unix(path));
        listener.file = file;
        Ok(listener)
    }

    /// Sets the permissions that the worker asked for.
    fn open_to(query: &QueryServer, path: &Path) -> io::Result<()> {
        let readable = if query.readable_all { 0o444 } else { 0 };
        let writable = if query.writable_all { 0o222 } else { 0 };
        if readable | writable != 0 {
            let mode = fs::metadata(path)?.permissions().mode() | readable | writable;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
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

    /// The socket, for accepting; none once nobody listens any more.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// Whether it has connections, not datagrams.
    pub(super) fn is_stream(&self) -> bool {
        !matches!(self.address, Address::Udp(_))
    }

    /// Whether there is, or may soon be, something that was accepted and is still to be handed over.
    pub(super) fn has_leftovers(&self) -> bool {
        self.closing.is_some()
            || !self.waiting.is_empty()
            || self.pending.values().any(|desk| !desk.is_empty())
    }

    /// Whether workers accept from its sockets, and these are ours alone and can be told to let nothing begin any more.
    pub(super) fn can_be_hushed(&self) -> bool {
        self.mode != Mode::RoundRobin && matches!(self.address, Address::Tcp(_))
    }

    /// Lets no connection begin any more.
    pub(super) fn hush(&self) {
        let members = self.group.iter().flat_map(|group| &group.members).map(|member| &member.socket);
        for socket in members.chain(&self.socket) {
            // A kernel without such programs lets connections begin until the end.
            let _ = sys::attach(socket.as_fd(), Hook::Socket, Program::no_beginnings().instructions());
        }
    }

    /// Closes the master's end. What was accepted before still waits here.
    pub(super) fn stop_listening(&mut self) {
        (self.socket, self.group) = (None, None);
        self.acceptable = false;
    }

    pub(super) fn remove_taker(&mut self, worker: WorkerId, key: &str) {
        self.takers.retain(|taker| taker.worker != worker || taker.key != key);
    }

    pub(super) fn remove_worker(&mut self, worker: WorkerId) {
        self.takers.retain(|taker| taker.worker != worker);
    }

    pub(super) fn is_used_by(&self, worker: WorkerId) -> bool {
        self.takers.iter().any(|taker| taker.worker == worker)
    }
}

/// An IP address, perhaps with a zone. Names were resolved in the worker.
fn parse_address(text: &str, port: u16) -> io::Result<SocketAddr> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let (ip, zone) = text.split_once('%').ok_or_else(invalid)?;
    let ip = ip.parse::<Ipv6Addr>().map_err(|_| invalid())?;
    Ok(SocketAddrV6::new(ip, port, 0, zone_index(zone).ok_or_else(invalid)?).into())
}

/// The number of a network interface, by its name or its number.
fn zone_index(zone: &str) -> Option<u32> {
    if let Ok(index) = zone.parse() {
        return Some(index);
    }
    let name = Some(zone).filter(|name| !name.contains(['/', '.']))?;
    fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}
