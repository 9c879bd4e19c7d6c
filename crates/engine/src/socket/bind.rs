//! Binding the addresses of [`Listen`] before the first worker starts.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recluster_wire::env::{Given, GivenAddress, SocketName};
use rustix::net::SocketType;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::time::{sleep, timeout};

use crate::aside::aside;
use crate::config::address::{BindAddress, Kind};
use crate::config::listen::Listen;
use crate::report::error::StartError;
use crate::report::worker::{Address, is_abstract};
use crate::socket::file::{SavedFile, SocketFile};
use crate::socket::holder::{PortOf, Wanted};
use crate::socket::kept::{KeptName, Other, Pool, Returned};
use crate::socket::local::address_of;
use crate::socket::named::{self, Permissions};
use crate::socket::probe::{Probe, obstacle, probe};
use crate::socket::runtime_dir::{may_create_in, parent_of};
use crate::socket::short_path::ShortPath;
use crate::sys;
use crate::upgrade::saving::Role;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// The descriptor of the first listener in a worker that is not Node, and the first `fd` of `listen({fd})` in one that is.
pub(crate) const FIRST_LISTENER: i32 = 3;
/// How long binding is tried again while the address is in use: its owner may be about to end.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a file system may take to answer.
const ANSWERS: Duration = Duration::from_secs(10);
/// How long it is looked for who has it then.
const SEARCH: Duration = Duration::from_secs(3);
/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that is bound.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) name: Option<SocketName>,
    pub(crate) address: Address,
    pub(crate) socket: OwnedFd,
    /// The file of a unix socket, removed together with the socket.
    pub(crate) file: Option<Arc<SocketFile>>,
    /// The name under which a service manager may keep it; none for what is somebody else's, or has a port of the kernel's choice.
    pub(crate) kept: Option<KeptName>,
    /// The master was started with it.
    pub(crate) is_given: bool,
    /// Sockets of a group that came back with it, or that were in its way, and are not needed.
    pub(crate) others: Vec<Other>,
}

/// A socket that another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    name: Option<String>,
    #[serde(with = "plain")]
    address: Address,
    file: Option<SavedFile>,
    kept: Option<KeptName>,
    is_given: bool,
}

/// The name of the part.
const PART: &str = "bound";

fn purpose(number: usize) -> String {
    format!("{PART}/{number}")
}

/// Leaves all of them to another program.
pub(crate) fn save_all(bound: &[Bound], saving: &mut Saving) -> Result<(), SaveError> {
    let left = bound.iter().enumerate().map(|(number, bound)| {
        saving.pass(&bound.socket, purpose(number))?;
        Ok(Left {
            name: bound.name.as_ref().map(ToString::to_string),
            address: bound.address.clone(),
            file: bound.file.as_ref().map(|file| file.save()),
            kept: bound.kept,
            is_given: bound.is_given,
        })
    });
    let left = left.collect::<Result<Vec<Left>, SaveError>>()?;
    arrive_all(bound, saving);
    saving.put(PART, &left)
}

/// Clients arrive at these, also where a master begins anew.
pub(crate) fn arrive_all(bound: &[Bound], saving: &mut Saving) {
    for (number, bound) in bound.iter().enumerate() {
        if let Some(role) = bound.role(number) {
            saving.arrive(&bound.socket, role);
        }
    }
}

/// Whether what was left can be read.
pub(crate) fn read_all(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
    inheritance.needed::<Vec<Left>>(PART).map(drop)
}

/// Those that were left, in their order. Their files belong to the program before until [`SocketFile::keep`].
pub(crate) fn adopt_all(inheritance: &mut Inheritance) -> Result<Vec<Bound>, AdoptError> {
    let left: Vec<Left> = inheritance.needed(PART)?;
    let adopted =
        left.into_iter().enumerate().map(|(number, Left { name, address, file, kept, is_given })| {
            Ok(Bound {
                name: name.and_then(|name| name.parse().ok()),
                address,
                socket: inheritance.descriptor(&purpose(number))?,
                file: file.map(|file| Arc::new(SocketFile::inherit(file))),
                kept,
                is_given,
                others: Vec::new(),
            })
        });
    adopted.collect()
}

impl Bound {
    /// A socket that the master was started with.
    pub(crate) fn adopt(socket: OwnedFd, name: Option<SocketName>) -> io::Result<Self> {
        let socket = Socket::from(socket);
        let local = socket.local_addr()?;
        let address = address_of(&local, socket.r#type()?);
        let socket = socket.into();
        Ok(Self { name, address, socket, file: None, kept: None, is_given: true, others: Vec::new() })
    }

    /// What it would be to a master that begins anew; none where that would choose another port.
    fn role(&self, number: usize) -> Option<Role> {
        if self.is_given {
            return Some(Role::Given(self.name.as_ref().map(ToString::to_string)));
        }
        let file = self.file.as_ref().map(|file| file.identity());
        self.kept.map(|_| Role::Own { is_first: true, listener: purpose(number), place: 0, file })
    }

    /// A socket that a service manager has kept.
    fn returned(returned: Returned, listen: &Listen) -> Self {
        let Returned { name: kept, address, first, others, file, .. } = returned;
        if !matches!(address, Address::Udp(_)) {
            // With what backlog it listened, another configuration may have said. It listens in any case.
            let _ = SockRef::from(&first).listen(backlog_of(listen));
        }
        // A program that is not Node expects what it is given at a first start: a socket that waits.
        let _ = SockRef::from(&first).set_nonblocking(false);
        let (name, kept) = (listen.name.clone(), Some(kept));
        Self { name, address, socket: first, file, kept, is_given: false, others }
    }

    /// The address as a [`Listen`] would say it.
    pub(crate) fn at(&self) -> Option<BindAddress> {
        let is_dual = || SockRef::from(&self.socket).only_v6().is_ok_and(|only_v6| !only_v6);
        let (address, kind) = match &self.address {
            Address::Tcp(address) => (*address, Kind::Tcp),
            Address::Udp(address) => (*address, Kind::Udp),
            Address::Unix(path) => return Some(BindAddress::Unix(path.clone())),
            Address::Fd(_) => return None,
        };
        Some(BindAddress::of(address, kind, is_dual))
    }

    /// Whether it is what this address would be bound to.
    fn is_at(&self, address: &BindAddress) -> bool {
        self.at().is_some_and(|own| match (&own, address) {
            (BindAddress::Unix(_), BindAddress::Unix(_)) => own.overlaps(address),
            (own, address) => own == address,
        })
    }

    /// The same socket by the name that it is to have.
    fn under(self, listen: &Listen) -> Self {
        Self { name: listen.name.clone().or(self.name), ..self }
    }

    /// How many connections wait to be accepted, where the kernel says: it does for TCP.
    pub(crate) fn queue(&self) -> Option<u64> {
        let is_tcp = matches!(self.address, Address::Tcp(_));
        is_tcp.then(|| sys::accept_queue(self.socket.as_fd()).ok().map(u64::from)).flatten()
    }

    /// Its description for the environment of a worker.
    pub(crate) fn given(&self) -> Given {
        let address = match &self.address {
            Address::Tcp(address) => GivenAddress::Tcp(*address),
            Address::Udp(address) => GivenAddress::Udp(*address),
            Address::Unix(path) => GivenAddress::Unix(path.to_string_lossy().into_owned()),
            Address::Fd(number) => GivenAddress::Unix(format!("fd:{number}")),
        };
        Given { name: self.name.clone(), address }
    }
}

/// Checks that all of them can be bound at the same time.
pub(crate) fn check_all(listens: &[Listen]) -> Result<(), StartError> {
    for (at, listen) in listens.iter().enumerate() {
        let earlier = listens.iter().take(at).find(|other| other.at.overlaps(&listen.at));
        if let Some(other) = earlier {
            return Err(StartError::ListenTwice { address: listen.to_string(), other: other.to_string() });
        }
    }
    Ok(())
}

/// Binds all of them, behind the adopted sockets, but for those at whose address an adopted socket is: they are that one. What a
/// service manager has kept comes next. After an error none of them is bound.
pub(crate) async fn bind_all(
    mut adopted: Vec<Bound>,
    listens: &[Listen],
    pool: &mut Pool,
) -> Result<Vec<Bound>, StartError> {
    do_file_systems_answer(listens).await?;
    check_all(listens)?;
    let given: Vec<BindAddress> = adopted.iter().filter_map(Bound::at).collect();
    let mut bound = Vec::new();
    for listen in listens {
        if let Some(own) = adopted.iter().position(|own| own.is_at(&listen.at)) {
            bound.push(adopted.remove(own).under(listen));
        } else if let Some(returned) = pool.take(&listen.at) {
            bound.push(Bound::returned(returned, listen));
        } else {
            let mut own = if is_tcp(&listen.at) && pool.share(&listen.at) {
                bind_patiently(listen, &given, PATIENCE, bind_beside).await?
            } else {
                pool.make_room(&listen.at);
                bind_patiently(listen, &given, PATIENCE, bind).await?
            };
            own.others = pool.take_rivals(&listen.at);
            let file = own.file.as_ref().map(|file| file.identity());
            own.kept =
                (!listen.at.is_of_any_port()).then(|| KeptName { number: pool.number(), place: 0, file });
            bound.push(own);
        }
    }
    adopted.append(&mut bound);
    Ok(adopted)
}

/// Answers as [`bind_all`] would, but keeps no address and makes no file, and does not wait for an address in use: it is not
/// known that its owner is about to leave.
pub(crate) async fn preview_all(adopted: &[Bound], listens: &[Listen]) -> Result<(), StartError> {
    do_file_systems_answer(listens).await?;
    check_all(listens)?;
    let given: Vec<BindAddress> = adopted.iter().filter_map(Bound::at).collect();
    for listen in listens.iter().filter(|listen| !adopted.iter().any(|own| own.is_at(&listen.at))) {
        bind_patiently(listen, &given, Duration::ZERO, preview).await?;
    }
    Ok(())
}

/// Whether the file systems of unix sockets answer: one whose server is gone keeps whoever asks it, and nobody would say why.
async fn do_file_systems_answer(listens: &[Listen]) -> Result<(), StartError> {
    for listen in listens {
        let BindAddress::Unix(path) = &listen.at else { continue };
        if is_abstract(path) {
            continue;
        }
        let path = path.clone();
        let asked = timeout(ANSWERS, aside(move || fs::symlink_metadata(path).is_ok())).await;
        if let Ok(Err(source)) = asked {
            return Err(StartError::System { what: "look at a file system", source });
        }
        if asked.is_err() {
            let source = io::Error::new(io::ErrorKind::TimedOut, "its file system does not answer");
            return Err(StartError::Listen { address: listen.to_string(), holder: None, source });
        }
    }
    Ok(())
}

/// Waits for an address that another process is about to leave, but not for one that an adopted socket has.
async fn bind_patiently<T>(
    listen: &Listen,
    given: &[BindAddress],
    patience: Duration,
    bind: impl Fn(&Listen) -> io::Result<T>,
) -> Result<T, StartError> {
    let until = Instant::now() + patience;
    let address = listen.to_string();
    loop {
        match bind(listen) {
            Ok(bound) => return Ok(bound),
            Err(source) if source.kind() != io::ErrorKind::AddrInUse => {
                return Err(StartError::Listen { address, holder: None, source });
            }
            Err(_) if given.iter().any(|at| at.overlaps(&listen.at)) => {
                return Err(StartError::ListenTwice {
                    address,
                    other: "a socket it was started with".into(),
                });
            }
            Err(source) => {
                if let Some(what) = obstacle_at(&listen.at) {
                    return Err(StartError::NotASocket { address, what });
                }
                if Instant::now() < until {
                    sleep(PAUSE).await;
                    continue;
                }
                let holder = wanted(&listen.at).holder(SEARCH).map(|holder| holder.to_string());
                return Err(StartError::Listen { address, holder, source });
            }
        }
    }
}

/// What is in the way of a unix socket there, and does not go away by itself.
pub(crate) fn obstacle_at(at: &BindAddress) -> Option<String> {
    match at {
        BindAddress::Unix(path) if !is_abstract(path) => obstacle(path),
        BindAddress::Unix(_) | BindAddress::Everywhere { .. } | BindAddress::One { .. } => None,
    }
}

/// What a socket at this address would take.
fn wanted(at: &BindAddress) -> Wanted {
    let protocol = |kind: &Kind| if *kind == Kind::Udp { PortOf::Udp } else { PortOf::Tcp };
    match at {
        BindAddress::Everywhere { port, kind } => Wanted::Port(protocol(kind), None, *port),
        BindAddress::One { address, kind } => {
            Wanted::Port(protocol(kind), Some(address.ip()), address.port())
        }
        BindAddress::Unix(path) => Wanted::Path(path.clone()),
    }
}

/// Binds an address once. The result has the port that the kernel chose.
pub(crate) fn bind(listen: &Listen) -> io::Result<Bound> {
    bind_as(listen, false)
}

/// The same where sockets are in the way that share their addresses. Nothing else is bound beside it later.
fn bind_beside(listen: &Listen) -> io::Result<Bound> {
    let bound = bind_as(listen, true)?;
    SockRef::from(&bound.socket).set_reuse_port(false)?;
    Ok(bound)
}

fn bind_as(listen: &Listen, shares: bool) -> io::Result<Bound> {
    let backlog = backlog_of(listen);
    let (socket, file) = match &listen.at {
        BindAddress::Everywhere { port, kind } => {
            (on_every_address(|ip| bind_ip((ip, *port).into(), *kind, false, shares, backlog))?, None)
        }
        BindAddress::One { address, kind } => (bind_ip(*address, *kind, true, shares, backlog)?, None),
        BindAddress::Unix(path) => {
            let permissions = listen.mode.map_or(Permissions::Usual, Permissions::Exactly);
            let (socket, file) = bind_unix(path, true, permissions)?;
            socket.listen(backlog)?;
            (socket, file)
        }
    };
    let local = socket.local_addr()?;
    let address = match (&listen.at, local.as_socket()) {
        (BindAddress::Unix(path), _) => Address::Unix(path.clone()),
        (
            BindAddress::Everywhere { kind: Kind::Udp, .. } | BindAddress::One { kind: Kind::Udp, .. },
            Some(local),
        ) => Address::Udp(local),
        (_, Some(local)) => Address::Tcp(local),
        (_, None) => return Err(io::ErrorKind::AddrNotAvailable.into()),
    };
    let (name, file) = (listen.name.clone(), file.map(Arc::new));
    let socket = socket.into();
    Ok(Bound { name, address, socket, file, kept: None, is_given: false, others: Vec::new() })
}

fn is_tcp(at: &BindAddress) -> bool {
    matches!(at, BindAddress::Everywhere { kind: Kind::Tcp, .. } | BindAddress::One { kind: Kind::Tcp, .. })
}

fn backlog_of(listen: &Listen) -> i32 {
    i32::try_from(listen.backlog).unwrap_or(i32::MAX)
}

/// Whether an address can be bound now. It is free again afterwards, and no client can have connected.
fn preview(listen: &Listen) -> io::Result<()> {
    match &listen.at {
        BindAddress::Everywhere { port, kind } => {
            on_every_address(|ip| open_ip((ip, *port).into(), *kind, false, false)).map(drop)
        }
        BindAddress::One { address, kind } => open_ip(*address, *kind, true, false).map(drop),
        BindAddress::Unix(path) if is_abstract(path) => bind_unix(path, false, Permissions::Usual).map(drop),
        BindAddress::Unix(path) => preview_unix(path),
    }
}

/// Whether [`bind_unix`] could make this file, or replace it.
fn preview_unix(path: &Path) -> io::Result<()> {
    ShortPath::of(path)?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(_) if matches!(probe(path, SocketType::STREAM), Ok(Probe::Stale)) => {}
        Ok(_) => return Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
    }
    may_create_in(parent_of(path))
}

/// Binds one socket to every address of the machine: to `::`, which takes IPv4 as well, or to `0.0.0.0` where there is no
/// IPv6, as Node does.
pub(crate) fn on_every_address<T>(bind: impl Fn(IpAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(Ipv6Addr::UNSPECIFIED.into()) {
        Err(error) if lacks_ipv6(&error) => bind(Ipv4Addr::UNSPECIFIED.into()),
        bound => bound,
    }
}

/// Whether an error of binding `::` means that there is no IPv6.
///
/// - `EAFNOSUPPORT` comes from socket(2) in a kernel without IPv6, in one that was started with `ipv6.disable=1`, and under
///   a filter such as systemd's `RestrictAddressFamilies=` (`__sock_create` in the kernel's net/socket.c).
/// - `EADDRNOTAVAIL` comes from bind(2) for an address that no interface has. Linux 6.18 never returns it for `::`, other
///   kernels that run Linux programs may.
///
/// With `net.ipv6.conf.all.disable_ipv6=1` Linux does bind `::`, and such a socket takes IPv4. `EINVAL` does not mean that
/// there is no IPv6: bind(2) returns it for a socket that is bound already.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind_ip(address: SocketAddr, kind: Kind, only_v6: bool, shares: bool, backlog: i32) -> io::Result<Socket> {
    let socket = open_ip(address, kind, only_v6, shares)?;
    if kind == Kind::Tcp {
        socket.listen(backlog)?;
    }
    Ok(socket)
}

/// A socket that is bound, and does not listen yet.
fn open_ip(address: SocketAddr, kind: Kind, only_v6: bool, shares: bool) -> io::Result<Socket> {
    let (ty, protocol) = match kind {
        Kind::Tcp => (Type::STREAM, Protocol::TCP),
        Kind::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), ty, Some(protocol))?;
    if kind == Kind::Tcp {
        // Connections of an earlier master in TIME_WAIT do not keep the address.
        socket.set_reuse_address(true)?;
    }
    if shares {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Binds a unix socket, and returns it with the file that this made: an abstract socket has none. `replace` allows to
/// replace the file of a stale socket.
pub(crate) fn bind_unix(
    path: &Path,
    replace: bool,
    permissions: Permissions,
) -> io::Result<(Socket, Option<SocketFile>)> {
    if is_abstract(path) {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        return Ok((socket, None));
    }
    let named = named::bind(path, Type::STREAM, permissions, replace)?;
    let file = SocketFile::kept(path, &named)?;
    Ok((named.socket, Some(file)))
}

#[cfg(test)]
mod tests;
