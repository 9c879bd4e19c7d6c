//! Binding the addresses of [`Listen`] before the first worker starts.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use recluster_wire::env::{Given, GivenAddress, SocketName};
use rustix::net::SocketType;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::time::sleep;

use crate::config::address::{BindAddress, Kind};
use crate::config::listen::Listen;
use crate::report::error::StartError;
use crate::report::worker::Address;
use crate::socket::file::{Probe, SocketFile, probe};

/// The descriptor of the first listener in a worker that is not Node, and the first `fd` of `listen({fd})` in one that is.
pub(crate) const FIRST_LISTENER: i32 = 3;
/// How long binding is tried again while the address is in use: its owner may be about to end.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that is bound.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) name: Option<SocketName>,
    pub(crate) address: Address,
    pub(crate) socket: OwnedFd,
    /// The file of a unix socket, removed together with the socket.
    pub(crate) _file: Option<SocketFile>,
}

impl Bound {
    /// A socket that the master was started with.
    pub(crate) fn adopt(socket: OwnedFd, name: Option<SocketName>) -> io::Result<Self> {
        let socket = Socket::from(socket);
        let local = socket.local_addr()?;
        let address = match (local.as_socket(), socket.r#type()?) {
            (Some(local), Type::DGRAM) => Address::Udp(local),
            (Some(local), _) => Address::Tcp(local),
            (None, _) => Address::Unix(local.as_pathname().map(PathBuf::from).unwrap_or_default()),
        };
        Ok(Self { name, address, socket: socket.into(), _file: None })
    }

    /// The address as a [`Listen`] would say it.
    fn at(&self) -> Option<BindAddress> {
        let is_dual = || SockRef::from(&self.socket).only_v6().is_ok_and(|only_v6| !only_v6);
        let (address, kind) = match &self.address {
            Address::Tcp(address) => (*address, Kind::Tcp),
            Address::Udp(address) => (*address, Kind::Udp),
            Address::Unix(path) => return Some(BindAddress::Unix(path.clone())),
            Address::Fd(_) => return None,
        };
        let everywhere = address.is_ipv6() && address.ip().is_unspecified() && is_dual();
        Some(if everywhere {
            BindAddress::Everywhere { port: address.port(), kind }
        } else {
            BindAddress::One { address, kind }
        })
    }

    /// What the environment of a worker says about it.
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

/// Binds all of them, behind the adopted sockets. After an error none of them is bound.
pub(crate) async fn bind_all(adopted: Vec<Bound>, listens: &[Listen]) -> Result<Vec<Bound>, StartError> {
    check_all(listens)?;
    let given: Vec<BindAddress> = adopted.iter().filter_map(Bound::at).collect();
    let mut bound = adopted;
    for listen in listens {
        bound.push(bind_patiently(listen, &given, PATIENCE).await?);
    }
    Ok(bound)
}

/// Waits for an address that another process is about to leave, but not for one that an adopted socket has.
async fn bind_patiently(
    listen: &Listen,
    given: &[BindAddress],
    patience: Duration,
) -> Result<Bound, StartError> {
    let until = Instant::now() + patience;
    let address = listen.to_string();
    loop {
        match bind(listen) {
            Ok(bound) => return Ok(bound),
            Err(source) if source.kind() != io::ErrorKind::AddrInUse => {
                return Err(StartError::Listen { address, source });
            }
            Err(_) if given.iter().any(|at| at.overlaps(&listen.at)) => {
                return Err(StartError::ListenTwice {
                    address,
                    other: "a socket it was started with".into(),
                });
            }
            Err(_) if Instant::now() < until => sleep(PAUSE).await,
            Err(source) => return Err(StartError::Listen { address, source }),
        }
    }
}

/// Binds an address once. The result has the port that the kernel chose.
pub(crate) fn bind(listen: &Listen) -> io::Result<Bound> {
    let backlog = i32::try_from(listen.backlog).unwrap_or(i32::MAX);
    let (socket, file) = match &listen.at {
        BindAddress::Everywhere { port, kind } => {
            (on_every_address(|ip| bind_ip((ip, *port).into(), *kind, false, backlog))?, None)
        }
        BindAddress::One { address, kind } => (bind_ip(*address, *kind, true, backlog)?, None),
        BindAddress::Unix(path) => {
            let (socket, file) = bind_unix(path, true)?;
            if let Some(mode) = listen.mode {
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            }
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
    Ok(Bound { name: listen.name.clone(), address, socket: socket.into(), _file: file })
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
/// - `EADDRNOTAVAIL` comes from bind(2) for an address that no interface has. Linux 6.18 never says it of `::`, other
///   kernels that run Linux programs may.
///
/// With `net.ipv6.conf.all.disable_ipv6=1` Linux does bind `::`, and such a socket takes IPv4. `EINVAL` does not mean that
/// there is no IPv6: bind(2) says it of a socket that is bound already.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind_ip(address: SocketAddr, kind: Kind, only_v6: bool, backlog: i32) -> io::Result<Socket> {
    let (ty, protocol) = match kind {
        Kind::Tcp => (Type::STREAM, Protocol::TCP),
        Kind::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), ty, Some(protocol))?;
    if kind == Kind::Tcp {
        // Connections of an earlier master in TIME_WAIT do not keep the address.
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&address.into())?;
    if kind == Kind::Tcp {
        socket.listen(backlog)?;
    }
    Ok(socket)
}

/// Binds a unix socket, and returns it with the file that this made: an abstract socket has none. `replace` allows to
/// replace the file of a stale socket.
pub(crate) fn bind_unix(path: &Path, replace: bool) -> io::Result<(Socket, Option<SocketFile>)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let is_abstract = path.as_os_str().as_bytes().first() == Some(&0);
    match socket.bind(&address) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) && replace && !is_abstract => {
            if !matches!(probe(path, SocketType::STREAM), Ok(Probe::Stale)) {
                return Err(error);
            }
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        Err(error) => return Err(error),
    }
    let file = if is_abstract { None } else { Some(SocketFile::at(path)?) };
    Ok((socket, file))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::pin::pin;

    use super::*;

    fn listen(text: &str) -> Listen {
        text.parse().unwrap()
    }

    fn bound_at(text: &str) -> (Bound, SocketAddr) {
        let bound = bind(&listen(text)).unwrap();
        let address = bound.address.ip().unwrap();
        (bound, address)
    }

    #[test]
    fn a_port_of_the_kernels_choice_is_known() {
        let (_tcp, address) = bound_at("127.0.0.1:0");
        assert_ne!(address.port(), 0);
        TcpStream::connect(address).unwrap();
        let (udp, address) = bound_at("udp:127.0.0.1:0");
        assert!(matches!(udp.address, Address::Udp(_)));
        UdpSocket::bind(address).unwrap_err();
    }

    #[test]
    fn everywhere_takes_both_families() {
        let (bound, address) = bound_at("0");
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
        assert_eq!(bound.at(), Some(BindAddress::Everywhere { port: address.port(), kind: Kind::Tcp }));
        if address.is_ipv6() && TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).unwrap();
        }
        let (_bound, address) = bound_at("udp:0");
        UdpSocket::bind((Ipv4Addr::LOCALHOST, address.port())).unwrap_err();
    }

    #[test]
    fn one_address_of_ipv6_is_for_ipv6_alone() {
        if Socket::new(Domain::IPV6, Type::STREAM, None).is_ok() {
            let (bound, address) = bound_at("[::]:0");
            assert!(SockRef::from(&bound.socket).only_v6().unwrap());
            assert_eq!(bound.at(), Some(BindAddress::One { address, kind: Kind::Tcp }));
            TcpListener::bind((Ipv4Addr::LOCALHOST, address.port())).unwrap();
        }
    }

    #[test]
    fn without_ipv6_every_address_is_one_of_ipv4() {
        let refusing = |errno: i32| {
            on_every_address(
                |ip| if ip.is_ipv6() { Err(io::Error::from_raw_os_error(errno)) } else { Ok(ip) },
            )
        };
        for errno in [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL] {
            assert_eq!(refusing(errno).unwrap(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        }
        for errno in [libc::EADDRINUSE, libc::EACCES, libc::EINVAL] {
            assert_eq!(refusing(errno).unwrap_err().raw_os_error(), Some(errno));
        }
        assert_eq!(on_every_address(Ok).unwrap(), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }

    /// What this very kernel says where it lacks a family, and where no interface has the address.
    #[test]
    fn the_errors_of_this_kernel_are_recognised() {
        // Econet was removed in Linux 3.5, and its number was not given away.
        let no_family = Socket::new(Domain::from(libc::AF_ECONET), Type::STREAM, None).unwrap_err();
        assert!(lacks_ipv6(&no_family), "{no_family}");
        // Of the addresses that RFC 3849 reserves for documentation.
        let address = "[2001:db8::1]:0".parse().unwrap();
        let no_address = bind_ip(address, Kind::Tcp, true, 1).unwrap_err();
        assert!(lacks_ipv6(&no_address), "{no_address}");
        let (_owner, address) = bound_at("127.0.0.1:0");
        assert!(!lacks_ipv6(&bind_ip(address, Kind::Tcp, true, 1).unwrap_err()));
    }

    #[test]
    fn the_backlog_is_the_one_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.sock");
        let _bound = bind(&listen(&format!("unix:{}?backlog=0", path.display()))).unwrap();
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.connect(&SockAddr::unix(&path).unwrap()).map(|()| socket)
        };
        // Linux lets one more wait than the backlog says.
        let _first = connect().unwrap();
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_unix_socket_has_the_permissions_asked_for_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.sock");
        let it = listen(&format!("unix:{}?mode=600", path.display()));
        let bound = bind(&it).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert_eq!(bind(&it).unwrap_err().kind(), io::ErrorKind::AddrInUse, "its owner lives");
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.sock");
        drop(UnixListener::bind(&path).unwrap());
        bind_unix(&path, false).unwrap_err();
        let (socket, file) = bind_unix(&path, true).unwrap();
        drop((socket, file));
        fs::write(&path, "mine").unwrap();
        bind_unix(&path, true).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn an_abstract_socket_has_no_file() {
        let path = PathBuf::from(format!("\0recluster-bind-test-{}", std::process::id()));
        let (socket, file) = bind_unix(&path, true).unwrap();
        assert!(file.is_none());
        assert!(socket.local_addr().unwrap().as_abstract_namespace().is_some());
        assert_eq!(bind_unix(&path, true).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    fn adopt(socket: impl Into<OwnedFd>) -> Bound {
        Bound::adopt(socket.into(), None).unwrap()
    }

    #[test]
    fn an_adopted_socket_says_what_it_is() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let tcp = adopt(tcp);
        assert_eq!(tcp.address, Address::Tcp(address));
        assert_eq!(tcp.given(), Given { name: None, address: GivenAddress::Tcp(address) });
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        assert_eq!(adopt(udp).given().address, GivenAddress::Udp(address));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.sock");
        let unix = adopt(UnixListener::bind(&path).unwrap());
        assert_eq!(unix.at(), Some(BindAddress::Unix(path.clone())));
        drop(unix);
        assert!(path.exists(), "the file belongs to the process that bound it");
    }

    #[tokio::test]
    async fn adopted_sockets_come_first() {
        let adopted = adopt(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = adopted.address.clone();
        let bound = bind_all(vec![adopted], &[listen("web=127.0.0.1:0")]).await.unwrap();
        assert_eq!(bound[0].address, address);
        assert_eq!(bound[1].name.as_ref().map(SocketName::as_str), Some("web"));
    }

    #[tokio::test]
    async fn an_address_twice_is_refused_before_anything_is_bound() {
        let directory = tempfile::tempdir().unwrap();
        let unix = format!("unix:{}", directory.path().join("it.sock").display());
        let error = bind_all(Vec::new(), &[listen(&unix), listen("8080"), listen("127.0.0.1:8080")]).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "cannot listen on 127.0.0.1:8080 twice: name it once (8080 has it already)"
        );
        assert!(!directory.path().join("it.sock").exists());
    }

    #[tokio::test]
    async fn an_address_of_an_adopted_socket_is_not_waited_for() {
        let adopted = adopt(TcpListener::bind("127.0.0.1:0").unwrap());
        let text = adopted.address.to_string();
        let error = bind_all(vec![adopted], &[listen(&text)]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {text} twice: name it once (a socket it was started with has it already)"
            )
        );
    }

    #[tokio::test]
    async fn an_address_that_stays_in_use_is_refused() {
        let owner = TcpListener::bind("127.0.0.1:0").unwrap();
        let text = owner.local_addr().unwrap().to_string();
        let error = bind_patiently(&listen(&text), &[], Duration::ZERO).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {text}: Address already in use")), "{error}");
    }

    #[tokio::test]
    async fn an_address_whose_owner_leaves_is_waited_for() {
        let owner = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = listen(&owner.local_addr().unwrap().to_string());
        let mut waiting = pin!(bind_patiently(&listen, &[], Duration::from_secs(3600)));
        tokio::select! {
            biased;
            bound = &mut waiting => panic!("{bound:?}"),
            () = std::future::ready(()) => drop(owner),
        }
        waiting.await.unwrap();
    }
}
