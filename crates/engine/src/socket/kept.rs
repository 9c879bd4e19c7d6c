//! Sockets that a service manager keeps while no master lives: under which names, and what comes back at the next start.
//!
//! The sockets of one listener have one number, and each its place: the kernel knows the sockets of a group by their order. A name
//! says which of those that came back belong together; where they are and what they are the kernel is asked.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use recluster_wire::notify::Word;
use rustix::fs::fstat;
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_reuseport, socket_type};
use rustix::process::geteuid;
use socket2::SockRef;

use crate::config::address::{BindAddress, Kind};
use crate::report::worker::Address;
use crate::socket::file::SocketFile;
use crate::socket::local::address_of;
use crate::socket::manager::ManagerSocket;

/// How a name of ours begins.
const OURS: &str = "recluster";

/// The name of a socket that is kept: `recluster.NUMBER.PLACE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeptName {
    /// The number of its listener.
    pub(crate) number: u32,
    /// Its place among the sockets of that.
    pub(crate) place: u32,
}

impl fmt::Display for KeptName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OURS}.{}.{}", self.number, self.place)
    }
}

impl KeptName {
    /// What tells a manager to keep it no longer.
    pub(crate) fn removal(self) -> String {
        format!("{}\nFDNAME={self}\n", Word::FdStoreRemove)
    }

    /// What tells a manager to keep the socket that comes with it.
    pub(crate) fn addition(self, socket: &OwnedFd) -> String {
        // One for datagrams may have an error that passes, for which the manager would give it up.
        let is_datagram = socket_type(socket).is_ok_and(|kind| kind == SocketType::DGRAM);
        let unpolled = if is_datagram { "FDPOLL=0\n" } else { "" };
        format!("{}\nFDNAME={self}\n{unpolled}", Word::FdStore)
    }
}

/// The text is no [`KeptName`].
#[derive(Debug)]
pub(crate) struct NotOurs;

impl FromStr for KeptName {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let numbers = text.strip_prefix(OURS).and_then(|rest| rest.strip_prefix('.')).ok_or(NotOurs)?;
        let (number, place) = numbers.split_once('.').ok_or(NotOurs)?;
        let name =
            Self { number: number.parse().map_err(|_| NotOurs)?, place: place.parse().map_err(|_| NotOurs)? };
        // In no other words, or the manager would not know what to remove.
        if name.to_string() == text { Ok(name) } else { Err(NotOurs) }
    }
}

/// One that came back.
#[derive(Debug)]
struct Kept {
    name: KeptName,
    at: BindAddress,
    address: Address,
    socket: OwnedFd,
    /// That of a unix socket.
    file: Option<Arc<SocketFile>>,
}

/// A socket of a group, beside the first.
pub(crate) type Other = (KeptName, OwnedFd);

/// All that came back and that nobody has asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    sockets: Vec<Kept>,
    /// What came back and is of no use.
    useless: Vec<KeptName>,
    /// The next number that no listener has had.
    next: u32,
    /// The manager.
    manager: Option<ManagerSocket>,
}

/// The sockets of one listener, in the order of their places.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) number: u32,
    pub(crate) address: Address,
    pub(crate) first: OwnedFd,
    pub(crate) file: Option<Arc<SocketFile>>,
    /// Those behind it, where it was a group.
    pub(crate) others: Vec<Other>,
    /// All of a group are there, each at the place that the kernel knows it by, and others may join them.
    pub(crate) is_whole_group: bool,
}

impl Pool {
    /// Has the manager told at once of what stands in the way.
    pub(crate) fn tells(&mut self, manager: Option<ManagerSocket>) {
        self.manager = manager;
    }

    /// One more socket.
    pub(crate) fn add(&mut self, name: KeptName, socket: OwnedFd) {
        self.next = self.next.max(name.number.saturating_add(1));
        match place_of(&socket) {
            Ok((at, address, file)) => {
                self.sockets.push(Kept { name, at, address, socket, file: file.map(Arc::new) });
            }
            // It is closed.
            Err(_) => self.useless.push(name),
        }
    }

    /// A number for a listener.
    pub(crate) fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        number
    }

    /// The names of all that came back.
    pub(crate) fn names(&self) -> Vec<KeptName> {
        self.sockets.iter().map(|kept| kept.name).chain(self.useless.iter().copied()).collect()
    }

    /// Takes the sockets at exactly this place.
    pub(crate) fn take(&mut self, at: &BindAddress) -> Option<Returned> {
        let is_there = |kept: &Kept| match (&kept.at, at) {
            (BindAddress::Unix(_), BindAddress::Unix(_)) => kept.at.overlaps(at),
            (own, at) => own == at,
        };
        let number = self.sockets.iter().filter(|kept| is_there(kept)).map(|kept| kept.name.number).min()?;
        let mut taken: Vec<Kept> =
            self.sockets.extract_if(.., |kept| kept.name.number == number && is_there(kept)).collect();
        taken.sort_unstable_by_key(|kept| kept.name);
        let is_in_order = (0..).zip(&taken).all(|(place, kept)| kept.name.place == place);
        let is_whole_group = is_in_order && taken.iter().all(|kept| can_be_joined(&kept.socket));
        let mut taken = taken.into_iter();
        let Kept { address, socket: first, file, .. } = taken.next()?;
        let others = taken.map(|kept| (kept.name, kept.socket)).collect();
        Some(Returned { number, address, first, file, others, is_whole_group })
    }

    /// Closes what cannot be bound at the same time as a socket at this place. The manager, which has it as well, is told at once.
    pub(crate) fn make_room(&mut self, at: &BindAddress) {
        for kept in self.sockets.extract_if(.., |kept| kept.at.overlaps(at)) {
            if let Some(manager) = &self.manager {
                // Where there is no room for this now, whoever wants the address is told that it is in use.
                let _ = manager.send(&kept.name.removal());
            }
        }
    }

    /// Lets a socket be bound beside those that are in its way; whether there are such.
    pub(crate) fn share(&self, at: &BindAddress) -> bool {
        let mut rivals = self.sockets.iter().filter(|kept| kept.at.overlaps(at)).peekable();
        rivals.peek().is_some() && rivals.all(|kept| SockRef::from(&kept.socket).set_reuse_port(true).is_ok())
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.useless.is_empty()
    }

    /// Closes all that is left; where it was, and under which names the manager has it still.
    pub(crate) fn close(&mut self) -> (Vec<Address>, Vec<KeptName>) {
        let names = self.names();
        self.useless.clear();
        let mut sockets: Vec<Kept> = self.sockets.drain(..).collect();
        sockets.sort_unstable_by_key(|kept| kept.name);
        sockets.dedup_by_key(|kept| kept.name.number);
        (sockets.into_iter().map(|kept| kept.address).collect(), names)
    }
}

/// Where a socket is that workers can use.
fn place_of(socket: &OwnedFd) -> io::Result<(BindAddress, Address, Option<SocketFile>)> {
    let useless = || io::Error::from(io::ErrorKind::InvalidInput);
    let of = SockRef::from(socket);
    let address = address_of(&of.local_addr()?, of.r#type()?);
    let is_dual = || of.only_v6().is_ok_and(|only_v6| !only_v6);
    let listens = || socket_acceptconn(socket).unwrap_or(false);
    let at = match &address {
        Address::Tcp(at) if listens() => BindAddress::of(*at, Kind::Tcp, is_dual),
        Address::Udp(at) => BindAddress::of(*at, Kind::Udp, is_dual),
        Address::Unix(path) if listens() => BindAddress::Unix(path.clone()),
        Address::Tcp(_) | Address::Unix(_) | Address::Fd(_) => return Err(useless()),
    };
    let file = match &address {
        Address::Unix(path) if !path.as_os_str().as_bytes().starts_with(b"\0") => {
            let file = leads_to(path, socket)?.then(|| SocketFile::returned(path));
            Some(file.ok_or_else(useless)??)
        }
        Address::Unix(_) | Address::Tcp(_) | Address::Udp(_) | Address::Fd(_) => None,
    };
    // Who starts a program may have it otherwise.
    of.set_nonblocking(true)?;
    of.set_cloexec(true)?;
    Ok((at, address, file))
}

/// Whether a path that a socket was bound to leads to it still: no other one has been bound there.
fn leads_to(path: &Path, socket: &OwnedFd) -> io::Result<bool> {
    let all = fs::read("/proc/net/unix")?;
    let inode = fstat(socket)?.st_ino.to_string();
    // Seven fields, of which the last is the inode, and the path.
    let has_path = |line: &&[u8]| {
        line.strip_suffix(path.as_os_str().as_bytes()).is_some_and(|rest| rest.ends_with(b" "))
    };
    let mut there = all.split(|byte| *byte == b'\n').filter(has_path);
    let is_ours = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
        fields.nth(6) == Some(inode.as_bytes())
    };
    // A connection that waits, or that somebody has accepted there, has the same path and listens to nobody.
    let listens = |line: &[u8]| line.split(|byte| *byte == b' ').nth(3) == Some(b"00010000");
    let listening: Vec<&[u8]> = there.by_ref().filter(|line| listens(line)).collect();
    Ok(matches!(listening.as_slice(), [only] if is_ours(only)))
}

/// Whether another socket of this process can be bound beside it.
fn can_be_joined(socket: &OwnedFd) -> bool {
    let is_own = fstat(socket.as_fd()).is_ok_and(|about| about.st_uid == geteuid().as_raw());
    is_own && socket_reuseport(socket).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn name(text: &str) -> Option<KeptName> {
        text.parse().ok()
    }

    fn at(address: &str) -> BindAddress {
        BindAddress::parse(address).unwrap()
    }

    #[test]
    fn a_name_of_ours_is_told_from_those_of_others() {
        assert_eq!(name("recluster.7.3"), Some(KeptName { number: 7, place: 3 }));
        assert_eq!(KeptName { number: 7, place: 3 }.to_string(), "recluster.7.3");
        for other in [
            "",
            "recluster",
            "recluster.socket",
            "recluster.7",
            "recluster.+7.3",
            "recluster.07.3",
            "recluster.7.3.1",
            "web.7.3",
            "recluster.7.x",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn a_socket_is_found_by_its_address_and_kind() {
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (tcp_at, udp_at) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        let mut pool = Pool::default();
        pool.add(KeptName { number: 4, place: 0 }, tcp.into());
        pool.add(KeptName { number: 2, place: 0 }, udp.into());
        assert_eq!(pool.number(), 5);
        assert!(pool.take(&at(&format!("udp:{tcp_at}"))).is_none());
        assert!(pool.take(&at(&format!("0.0.0.0:{}", tcp_at.port()))).is_none());
        let taken = pool.take(&at(&tcp_at.to_string())).unwrap();
        assert_eq!((taken.number, taken.address, taken.is_whole_group), (4, Address::Tcp(tcp_at), false));
        assert!(pool.take(&at(&format!("udp:{udp_at}"))).is_some());
        assert!(pool.is_empty());
    }

    #[test]
    fn what_is_of_no_use_is_forgotten_with_all_that_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connection = TcpStream::connect(address).unwrap();
        let mut pool = Pool::default();
        pool.add(KeptName { number: 0, place: 0 }, connection.into());
        pool.add(KeptName { number: 1, place: 0 }, listener.try_clone().unwrap().into());
        pool.add(KeptName { number: 1, place: 1 }, listener.into());
        let (addresses, names) = pool.close();
        assert_eq!((addresses.as_slice(), names.len()), ([Address::Tcp(address)].as_slice(), 3));
        assert!(pool.is_empty() && TcpListener::bind(address).is_ok());
    }

    #[test]
    fn a_group_is_whole_where_every_place_is_there() {
        let group = || {
            let all: Vec<OwnedFd> = Vec::new();
            (0..3).fold((all, "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()), |(mut all, at), _| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.set_reuse_port(true).unwrap();
                socket.bind(&at.into()).unwrap();
                socket.listen(8).unwrap();
                let at = socket.local_addr().unwrap().as_socket().unwrap();
                all.push(socket.into());
                (all, at)
            })
        };
        for (missing, is_whole) in [(None, true), (Some(2), true), (Some(1), false), (Some(0), false)] {
            let (sockets, address) = group();
            let mut pool = Pool::default();
            for (place, socket) in (0..).zip(sockets).filter(|(place, _)| Some(*place) != missing) {
                pool.add(KeptName { number: 1, place }, socket);
            }
            let taken = pool.take(&at(&address.to_string())).unwrap();
            assert_eq!(taken.is_whole_group, is_whole, "{missing:?}");
            assert_eq!(taken.others.len(), if missing.is_some() { 1 } else { 2 });
        }
    }

    #[test]
    fn room_is_made_for_an_address_that_overlaps() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut pool = Pool::default();
        let kept = KeptName { number: 1, place: 0 };
        pool.add(kept, listener.into());
        assert!(pool.share(&at(&port.to_string())) && !pool.share(&at(&(port ^ 1).to_string())));
        pool.make_room(&at(&port.to_string()));
        assert!(pool.is_empty());
    }
}
