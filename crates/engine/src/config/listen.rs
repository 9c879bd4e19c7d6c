//! Addresses that the master binds itself, before it starts the first worker: how they are written, and how they become
//! sockets.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use recluster_wire::env::{Given, GivenAddress, SocketName};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::time::sleep;

use crate::config::address::{BindAddress, Kind};
use crate::report::error::StartError;
use crate::report::worker::Address;

/// The number of the first listener in a worker that is not Node, and in `listen({fd})` of one that is.
pub(crate) const FIRST_LISTENER: i32 = 3;
/// How long an address that is in use is asked for again: a predecessor may be about to leave it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often.
const PAUSE: Duration = Duration::from_millis(50);
/// The length of the accept queue where nothing else is said: as Node's.
const BACKLOG: u32 = 511;

/// An address for the master to bind: what `--listen` takes.
///
/// `[NAME=]ADDRESS[?OPTION=VALUE[&…]]`, where the address is
///
/// - `8080` or `*:8080`: TCP on every address, IPv6 and IPv4;
/// - `127.0.0.1:8080`, `0.0.0.0:8080`, `[::1]:8080`, `[::]:8080`: TCP on this one (`[::]`: every IPv6 address);
/// - `unix:/path` or `/path`: a unix stream socket;
/// - `udp:` before any of the first two: a UDP socket.
///
/// Port 0 lets the kernel choose. Options: `backlog`, the length of the accept queue (511); `mode`, the permissions of a
/// unix socket in octal (what the umask leaves of 777).
///
/// ```
/// # use recluster::Listen;
/// let listen: Listen = "web=127.0.0.1:8080?backlog=1024".parse()?;
/// assert_eq!(listen.name(), Some("web"));
/// # Ok::<(), recluster::ListenError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    name: Option<SocketName>,
    at: BindAddress,
    backlog: u32,
    mode: Option<u32>,
    text: String,
}

/// Why a text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// It is none of the forms.
    #[error(
        "'{0}' is no address: write 8080, 127.0.0.1:8080, [::1]:8080, unix:/path, or udp: before an IP address or port"
    )]
    NoAddress(String),
    /// The name cannot be passed on to workers.
    #[error("'{0}' is no name for a listener: 1 to 255 bytes without a colon or a control character")]
    BadName(String),
    /// An option that there is not.
    #[error("there is no option '{0}' of an address: there are backlog=N and, for unix sockets, mode=OCTAL")]
    UnknownOption(String),
    /// An option's value that cannot be.
    #[error("'{value}' is no value of {option}: {expected}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What would be one.
        expected: &'static str,
    },
}

/// A socket that is bound.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) name: Option<SocketName>,
    pub(crate) address: Address,
    pub(crate) socket: OwnedFd,
    /// The file that goes with it.
    pub(crate) _file: Option<SocketFile>,
}

impl Bound {
    /// A socket that the master was started with.
    pub(crate) fn adopt(socket: OwnedFd, name: Option<SocketName>) -> io::Result<Self> {
        let asked = Socket::from(socket);
        let local = asked.local_addr()?;
        let address = match (local.as_socket(), asked.r#type()?) {
            (Some(local), Type::DGRAM) => Address::Udp(local),
            (Some(local), _) => Address::Tcp(local),
            (None, _) => Address::Unix(local.as_pathname().map(PathBuf::from).unwrap_or_default()),
        };
        Ok(Self { name, address, socket: asked.into(), _file: None })
    }

    /// Where it listens, in the words of whoever would ask for that address.
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

    /// What a worker is told of it.
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

/// Whether all of them can be bound at the same time.
pub(crate) fn check_all(listens: &[Listen]) -> Result<(), StartError> {
    for (at, listen) in listens.iter().enumerate() {
        let earlier = listens.iter().take(at).find(|other| other.at.overlaps(&listen.at));
        if let Some(other) = earlier {
            return Err(StartError::ListenTwice { address: listen.to_string(), other: other.to_string() });
        }
    }
    Ok(())
}

/// Binds everything, adopted sockets first; all or nothing.
pub(crate) async fn bind_all(adopted: Vec<Bound>, listens: &[Listen]) -> Result<Vec<Bound>, StartError> {
    check_all(listens)?;
    let given: Vec<BindAddress> = adopted.iter().filter_map(Bound::at).collect();
    let mut bound = adopted;
    for listen in listens {
        bound.push(bind_patiently(listen, &given).await?);
    }
    Ok(bound)
}

/// Whoever has the address may be about to leave it, unless it is ourselves.
async fn bind_patiently(listen: &Listen, given: &[BindAddress]) -> Result<Bound, StartError> {
    let until = Instant::now() + PATIENCE;
    let address = listen.to_string();
    loop {
        match listen.bind() {
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

/// The file of a unix socket that we made; it is removed when this is dropped, if it still is that file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The file that is there now.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let about = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: about.dev(), inode: about.ino() })
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let (head, options) = text.split_once('?').unwrap_or((text, ""));
        let (name, address) = match head.split_once('=') {
            Some((name, address)) => {
                let name = name.parse().map_err(|_| ListenError::BadName(name.to_owned()))?;
                (Some(name), address)
            }
            None => (None, head),
        };
        let at = BindAddress::parse(address).ok_or_else(|| ListenError::NoAddress(address.to_owned()))?;
        let mut listen = Self { name, at, backlog: BACKLOG, mode: None, text: address.to_owned() };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            listen.set(option)?;
        }
        Ok(listen)
    }
}

impl Listen {
    /// The name by which workers may know it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_ref().map(SocketName::as_str)
    }

    fn set(&mut self, option: &str) -> Result<(), ListenError> {
        let unknown = || ListenError::UnknownOption(option.to_owned());
        let (name, value) = option.split_once('=').ok_or_else(unknown)?;
        let bad = |option, expected| ListenError::BadOption { option, value: value.to_owned(), expected };
        match (name, &self.at) {
            ("backlog", _) => {
                self.backlog = value.parse().map_err(|_| bad("backlog", "a whole number"))?;
            }
            ("mode", BindAddress::Unix(_)) => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777);
                self.mode = Some(mode.ok_or_else(|| bad("mode", "permissions in octal, such as 660"))?);
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// Gives it a name, if it has none.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = self.name.or_else(|| name.parse().ok());
        self
    }

    /// Whether every worker can have a listener of its own at such an address, and a use for it.
    pub(crate) fn suits_checks(&self, is_node: bool) -> Result<(), StartError> {
        let has_own = match &self.at {
            BindAddress::Everywhere { port, kind } => *port == 0 && *kind == Kind::Tcp,
            BindAddress::One { address, kind } => address.port() == 0 && *kind == Kind::Tcp,
            BindAddress::Unix(_) => false,
        };
        let reason = match (is_node, has_own) {
            (true, _) => "a Node worker needs none: it is asked over a connection that is handed to it alone",
            (false, false) => {
                "each worker needs one of its own: name a TCP address with port 0, such as 127.0.0.1:0"
            }
            (false, true) => return Ok(()),
        };
        Err(StartError::CheckListen { address: self.to_string(), reason })
    }

    /// Binds it. An address of the kernel's choice is known afterwards.
    pub(crate) fn bind(&self) -> io::Result<Bound> {
        let (socket, file) = match &self.at {
            BindAddress::Everywhere { port, kind } => (self.bind_everywhere(*port, *kind)?, None),
            BindAddress::One { address, kind } => (self.bind_one(*address, *kind, true)?, None),
            BindAddress::Unix(path) => {
                let (socket, file) = self.bind_unix(path)?;
                (socket, Some(file))
            }
        };
        let local = socket.local_addr()?;
        let address = match (&self.at, local.as_socket()) {
            (BindAddress::Unix(path), _) => Address::Unix(path.clone()),
            (
                BindAddress::Everywhere { kind: Kind::Udp, .. } | BindAddress::One { kind: Kind::Udp, .. },
                Some(local),
            ) => Address::Udp(local),
            (_, Some(local)) => Address::Tcp(local),
            (_, None) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        Ok(Bound { name: self.name.clone(), address, socket: socket.into(), _file: file })
    }

    /// Both families on one socket, or IPv4 alone where there is no IPv6.
    fn bind_everywhere(&self, port: u16, kind: Kind) -> io::Result<Socket> {
        match self.bind_one((Ipv6Addr::UNSPECIFIED, port).into(), kind, false) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
                self.bind_one((Ipv4Addr::UNSPECIFIED, port).into(), kind, false)
            }
            bound => bound,
        }
    }

    fn bind_one(&self, address: SocketAddr, kind: Kind, v6_only: bool) -> io::Result<Socket> {
        let (ty, protocol) = match kind {
            Kind::Tcp => (Type::STREAM, Protocol::TCP),
            Kind::Udp => (Type::DGRAM, Protocol::UDP),
        };
        let socket = Socket::new(Domain::for_address(address), ty, Some(protocol))?;
        if kind == Kind::Tcp {
            // What an earlier master left in TIME_WAIT does not count as in use.
            socket.set_reuse_address(true)?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(v6_only)?;
        }
        socket.bind(&address.into())?;
        if kind == Kind::Tcp {
            socket.listen(self.queue())?;
        }
        Ok(socket)
    }

    fn bind_unix(&self, path: &Path) -> io::Result<(Socket, SocketFile)> {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        if let Err(error) = socket.bind(&address) {
            if error.raw_os_error() != Some(libc::EADDRINUSE) || !is_stale(path, &address) {
                return Err(error);
            }
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        let file = SocketFile::at(path)?;
        if let Some(mode) = self.mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        socket.listen(self.queue())?;
        Ok((socket, file))
    }

    fn queue(&self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |about: &fs::Metadata| about.dev() == self.device && about.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(|about| is_ours(&about)) {
            // Best effort: a socket file that stays is replaced by whoever binds next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a socket file is left over from a process that is gone: nobody accepts there. Never waits: an owner whose
/// queue is full lives.
pub(crate) fn is_stale(path: &Path, address: &SockAddr) -> bool {
    // Connecting to a plain file is refused as well, and that one is not ours to remove.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = || {
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        probe.set_nonblocking(true)?;
        probe.connect(address)
    };
    is_socket && refused().is_err_and(|error| error.raw_os_error() == Some(libc::ECONNREFUSED))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn listen(text: &str) -> Listen {
        text.parse().unwrap()
    }

    #[test]
    fn names_and_options() {
        let it = listen("web=8080?backlog=7");
        assert_eq!((it.name(), it.backlog), (Some("web"), 7));
        assert_eq!(listen("unix:/a?mode=660").mode, Some(0o660));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| text.parse::<Listen>().unwrap_err().to_string();
        assert!(error("nowhere").starts_with("'nowhere' is no address: write 8080"));
        assert!(error("99999").starts_with("'99999' is no address"));
        assert!(error("unix:").starts_with("'unix:' is no address"));
        assert!(error("a:b=8080").starts_with("'a:b' is no name"));
        assert!(error("8080?mode=660").starts_with("there is no option 'mode=660'"));
        assert_eq!(error("8080?backlog=x"), "'x' is no value of backlog: a whole number");
        assert_eq!(error("unix:/a?mode=999"), "'999' is no value of mode: permissions in octal, such as 660");
    }

    #[test]
    fn a_port_of_the_kernels_choice_is_known() {
        let bound = listen("127.0.0.1:0").bind().unwrap();
        let Address::Tcp(address) = bound.address else { panic!("{bound:?}") };
        assert_ne!(address.port(), 0);
        TcpStream::connect(address).unwrap();
        let udp = listen("udp:127.0.0.1:0").bind().unwrap();
        let Address::Udp(address) = udp.address else { panic!("{udp:?}") };
        assert!(UdpSocket::bind(address).is_err());
    }

    #[test]
    fn everywhere_takes_both_families() {
        let bound = listen("0").bind().unwrap();
        let Address::Tcp(address) = bound.address else { panic!("{bound:?}") };
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
    }

    #[test]
    fn a_unix_socket_has_the_permissions_asked_for_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.sock");
        let it = listen(&format!("unix:{}?mode=600", path.display()));
        let bound = it.bind().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert!(it.bind().is_err(), "its owner lives");
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.sock");
        drop(UnixListener::bind(&path).unwrap());
        listen(&format!("unix:{}", path.display())).bind().unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(listen(&format!("unix:{}", path.display())).bind().is_err());
        assert!(path.exists());
    }
}
