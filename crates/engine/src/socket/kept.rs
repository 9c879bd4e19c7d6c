//! Sockets that a service manager keeps while no master lives: under which names, and what comes back at the next start.
//!
//! The sockets of one listener have one number, and each its place: the kernel knows the sockets of a group by their order. A name
//! says which of those that came back belong together; where they are and what they are the kernel is asked. Of a unix socket the
//! kernel says only by which path it was bound, which may have been a short one for a long path, or relative, or mean another file
//! in the mount namespace of the next process. So the name says which file it is. While the socket lives, no other file is that.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::str::FromStr;
use std::sync::Arc;

use recluster_wire::notify::Word;
use rustix::fs::fstat;
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_reuseport, socket_type};
use rustix::process::geteuid;
use socket2::SockRef;

use crate::config::address::{BindAddress, Kind};
use crate::report::worker::{Address, is_abstract};
use crate::socket::directory::Identity;
use crate::socket::file::{SocketFile, sockets_at};
use crate::socket::local::address_of;
use crate::socket::manager::{ManagerSocket, Sent};

/// How a name of ours begins.
const OURS: &str = "recluster";

/// The name of a socket that is kept: `recluster.NUMBER.PLACE`, and `.DEVICE.INODE` where it has a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeptName {
    /// The number of its listener.
    pub(crate) number: u32,
    /// Its place among the sockets of that.
    pub(crate) place: u32,
    /// The file of a unix socket.
    pub(crate) file: Option<Identity>,
}

impl fmt::Display for KeptName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OURS}.{}.{}", self.number, self.place)?;
        self.file.map_or(Ok(()), |(device, inode)| write!(f, ".{device}.{inode}"))
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
        let parts: Vec<&str> = numbers.split('.').collect();
        let small = |text: &str| text.parse::<u32>().map_err(|_| NotOurs);
        let large = |text: &str| text.parse::<u64>().map_err(|_| NotOurs);
        let name = match *parts.as_slice() {
            [number, place] => Self { number: small(number)?, place: small(place)?, file: None },
            [number, place, device, inode] => {
                let file = Some((large(device)?, large(inode)?));
                Self { number: small(number)?, place: small(place)?, file }
            }
            _ => return Err(NotOurs),
        };
        // In no other words, or the manager would not know what to remove.
        if name.to_string() == text { Ok(name) } else { Err(NotOurs) }
    }
}

/// Where one is that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spot {
    At(BindAddress),
    /// At the path that leads to this file.
    File(Identity),
}

/// One that came back.
#[derive(Debug)]
struct Kept {
    name: KeptName,
    at: Spot,
    address: Address,
    socket: OwnedFd,
    /// Others may be bound beside it at the same address.
    can_be_joined: bool,
}

/// A socket that came back beside another one.
pub(crate) type Other = (KeptName, OwnedFd);

/// All that came back and that nobody has asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    sockets: Vec<Kept>,
    /// What came back and is of no use.
    useless: Vec<KeptName>,
    /// What the manager was told already to keep no longer.
    given_up: Vec<KeptName>,
    /// The next number that no listener has had.
    next: u32,
    /// The manager.
    manager: Option<ManagerSocket>,
}

/// The sockets of one listener, in the order of their places.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) name: KeptName,
    pub(crate) address: Address,
    pub(crate) first: OwnedFd,
    pub(crate) file: Option<Arc<SocketFile>>,
    /// Those behind it, where it was a group.
    pub(crate) others: Vec<Other>,
    /// All of a group are there, each at the place that the kernel knows it by, and others may join them.
    pub(crate) is_whole_group: bool,
}

impl Pool {
    /// Has the manager told at once of what stands in the way, and of what is of no use: that is open there, and its address in use.
    pub(crate) fn tells(&mut self, manager: Option<ManagerSocket>) {
        self.manager = manager;
        for name in std::mem::take(&mut self.useless) {
            self.give_up(name);
        }
    }

    /// One more socket.
    pub(crate) fn add(&mut self, name: KeptName, socket: OwnedFd) {
        self.next = self.next.max(name.number.saturating_add(1));
        match place_of(name, &socket) {
            Ok((at, address)) => {
                let can_be_joined = can_be_joined(&socket);
                self.sockets.push(Kept { name, at, address, socket, can_be_joined });
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

    /// The names of all that came back and that nobody has asked for.
    pub(crate) fn names(&self) -> Vec<KeptName> {
        self.sockets.iter().map(|kept| kept.name).chain(self.useless.iter().copied()).collect()
    }

    /// What the manager was told meanwhile to keep no longer.
    pub(crate) fn given_up(&self) -> &[KeptName] {
        &self.given_up
    }

    /// Whether something is at exactly this place.
    pub(crate) fn has(&self, at: &BindAddress) -> bool {
        self.spot(at).is_some()
    }

    /// The spot at exactly this place, if something is there.
    fn spot(&self, at: &BindAddress) -> Option<Spot> {
        Spot::all_of(at).into_iter().find(|spot| self.sockets.iter().any(|kept| kept.at == *spot))
    }

    /// Takes the sockets at exactly this place.
    pub(crate) fn take(&mut self, at: &BindAddress) -> Option<Returned> {
        let spot = self.spot(at)?;
        let mut taken: Vec<Kept> = self.sockets.extract_if(.., |kept| kept.at == spot).collect();
        taken.sort_unstable_by_key(|kept| kept.name);
        let number = taken.first()?.name.number;
        let is_in_order =
            (0..).zip(&taken).all(|(place, Kept { name, .. })| *name == KeptName { number, place, ..*name });
        let is_whole_group = is_in_order && taken.iter().all(|kept| kept.can_be_joined);
        let mut taken = taken.into_iter();
        let Kept { name, address, socket: first, .. } = taken.next()?;
        let others = taken.map(|kept| (kept.name, kept.socket)).collect();
        let (address, file) = match at {
            // Without what belongs to its file it serves all the same.
            BindAddress::Unix(path) => (
                Address::Unix(path.clone()),
                name.file.and_then(|file| SocketFile::returned(path, file).ok()).map(Arc::new),
            ),
            BindAddress::Everywhere { .. } | BindAddress::One { .. } => (address, None),
        };
        Some(Returned { name, address, first, file, others, is_whole_group })
    }

    /// Closes what cannot be bound at the same time as a socket at this place. The manager, which has it as well, is told at once.
    pub(crate) fn make_room(&mut self, at: &BindAddress) {
        for (name, _) in self.take_rivals(at) {
            self.give_up(name);
        }
    }

    /// Has the manager keep one no longer. Where there is no room for this now, it is told later, and whoever wants the address
    /// may be told that it is in use.
    pub(crate) fn give_up(&mut self, name: KeptName) {
        let is_told = |manager: &ManagerSocket| manager.send(&name.removal()) == Sent::Done;
        let list =
            if self.manager.as_ref().is_some_and(is_told) { &mut self.given_up } else { &mut self.useless };
        list.push(name);
    }

    /// Lets a socket be bound beside those that are in its way; whether there are such.
    pub(crate) fn share(&self, at: &BindAddress) -> bool {
        let mut rivals = self.sockets.iter().filter(|kept| kept.at.overlaps(at)).peekable();
        rivals.peek().is_some() && rivals.all(|kept| SockRef::from(&kept.socket).set_reuse_port(true).is_ok())
    }

    /// Takes what is in the way of a socket at this place.
    pub(crate) fn take_rivals(&mut self, at: &BindAddress) -> Vec<Other> {
        let rivals = self.sockets.extract_if(.., |kept| kept.at.overlaps(at));
        rivals.map(|kept| (kept.name, kept.socket)).collect()
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.useless.is_empty()
    }

    /// Leaves to the manager what it keeps.
    pub(crate) fn leave(&mut self, kept: &BTreeSet<KeptName>) {
        self.sockets.retain(|own| !kept.contains(&own.name));
    }

    /// Closes all that is left; where it was, and under which names the manager has it still.
    pub(crate) fn close(&mut self) -> (Vec<Address>, Vec<KeptName>) {
        let names = self.names();
        self.useless.clear();
        let mut sockets: Vec<Kept> = self.sockets.drain(..).collect();
        sockets.sort_unstable_by_key(|kept| kept.name);
        sockets.dedup_by_key(|kept| kept.name.number);
        (sockets.into_iter().filter_map(Kept::closed_at).collect(), names)
    }
}

impl Kept {
    /// Where it was, if people know it by that; the file of a unix socket goes with it.
    fn closed_at(self) -> Option<Address> {
        let (Address::Unix(path), Some(file)) = (&self.address, self.name.file) else {
            return Some(self.address);
        };
        // It was bound by a path that may mean something else here.
        if path.is_absolute() && sockets_at(path).is_ok_and(|there| there.contains(&file)) {
            if let Ok(file) = SocketFile::returned(path, file) {
                file.set_stays(false);
            }
            return Some(self.address);
        }
        None
    }
}

impl Spot {
    /// Where a socket at this address may be; nowhere without a file.
    fn all_of(at: &BindAddress) -> Vec<Self> {
        if let BindAddress::Unix(path) = at
            && !is_abstract(path)
        {
            return sockets_at(path).unwrap_or_default().into_iter().map(Self::File).collect();
        }
        vec![Self::At(at.clone())]
    }

    /// Whether a socket here is in the way of one at this address.
    fn overlaps(&self, at: &BindAddress) -> bool {
        match self {
            Self::At(own) => own.overlaps(at),
            Self::File(_) => Self::all_of(at).contains(self),
        }
    }
}

/// Where a socket is that workers can use.
fn place_of(name: KeptName, socket: &OwnedFd) -> io::Result<(Spot, Address)> {
    let useless = || io::Error::from(io::ErrorKind::InvalidInput);
    let of = SockRef::from(socket);
    let address = address_of(&of.local_addr()?, of.r#type()?);
    let is_dual = || of.only_v6().is_ok_and(|only_v6| !only_v6);
    let listens = || socket_acceptconn(socket).unwrap_or(false);
    let at = match &address {
        Address::Tcp(at) if listens() => Spot::At(BindAddress::of(*at, Kind::Tcp, is_dual)),
        Address::Udp(at) => Spot::At(BindAddress::of(*at, Kind::Udp, is_dual)),
        Address::Unix(path) if listens() && is_abstract(path) => Spot::At(BindAddress::Unix(path.clone())),
        Address::Unix(_) if listens() => Spot::File(name.file.ok_or_else(useless)?),
        Address::Tcp(_) | Address::Unix(_) | Address::Fd(_) => return Err(useless()),
    };
    // Who starts a program may have it otherwise.
    of.set_nonblocking(true)?;
    of.set_cloexec(true)?;
    Ok((at, address))
}

/// Whether another socket of this process can be bound beside it.
fn can_be_joined(socket: &OwnedFd) -> bool {
    let is_own = fstat(socket.as_fd()).is_ok_and(|about| about.st_uid == geteuid().as_raw());
    is_own && socket_reuseport(socket).unwrap_or(false)
}

pub(crate) mod saved;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use rustix::net::SocketAddrUnix;

    use super::*;

    fn name(text: &str) -> Option<KeptName> {
        text.parse().ok()
    }

    fn at(address: &str) -> BindAddress {
        BindAddress::parse(address).unwrap()
    }

    #[test]
    fn a_name_of_ours_is_told_from_those_of_others() {
        assert_eq!(name("recluster.7.3"), Some(KeptName { number: 7, place: 3, file: None }));
        assert_eq!(KeptName { number: 7, place: 3, file: None }.to_string(), "recluster.7.3");
        let of_file = KeptName { number: 7, place: 0, file: Some((64769, u64::MAX)) };
        assert_eq!(name(&of_file.to_string()), Some(of_file));
        for other in [
            "",
            "recluster",
            "recluster.socket",
            "recluster.7",
            "recluster.+7.3",
            "recluster.07.3",
            "recluster.7.3.1",
            "recluster.7.3.1.2.3",
            "recluster.7.3.1.02",
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
        pool.add(KeptName { number: 4, place: 0, file: None }, tcp.into());
        pool.add(KeptName { number: 2, place: 0, file: None }, udp.into());
        assert_eq!(pool.number(), 5);
        assert!(pool.take(&at(&format!("udp:{tcp_at}"))).is_none());
        assert!(pool.take(&at(&format!("0.0.0.0:{}", tcp_at.port()))).is_none());
        let taken = pool.take(&at(&tcp_at.to_string())).unwrap();
        assert_eq!(
            (taken.name.number, taken.address, taken.is_whole_group),
            (4, Address::Tcp(tcp_at), false)
        );
        assert!(pool.take(&at(&format!("udp:{udp_at}"))).is_some());
        assert!(pool.is_empty());
    }

    #[test]
    fn what_is_of_no_use_is_forgotten_with_all_that_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connection = TcpStream::connect(address).unwrap();
        let mut pool = Pool::default();
        pool.add(KeptName { number: 0, place: 0, file: None }, connection.into());
        pool.add(KeptName { number: 1, place: 0, file: None }, listener.try_clone().unwrap().into());
        pool.add(KeptName { number: 1, place: 1, file: None }, listener.into());
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
                pool.add(KeptName { number: 1, place, file: None }, socket);
            }
            let taken = pool.take(&at(&address.to_string())).unwrap();
            assert_eq!(taken.is_whole_group, is_whole, "{missing:?}");
            assert_eq!(taken.others.len(), if missing.is_some() { 1 } else { 2 });
        }
    }

    #[test]
    fn a_unix_socket_is_found_by_its_file_and_not_by_its_path() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        let listener = UnixListener::bind(path("a.sock")).unwrap();
        fs::rename(path("a.sock"), path("b.sock")).unwrap();
        let _other = UnixListener::bind(path("a.sock")).unwrap();
        let about = fs::metadata(path("b.sock")).unwrap();
        let mut pool = Pool::default();
        pool.add(KeptName { number: 0, place: 0, file: None }, listener.try_clone().unwrap().into());
        assert_eq!(pool.close().0, [], "nobody knows where it is");
        let file = (about.dev(), about.ino());
        pool.add(KeptName { number: 1, place: 0, file: Some(file) }, listener.into());
        assert!(pool.take(&BindAddress::Unix(path("a.sock"))).is_none());
        let taken = pool.take(&BindAddress::Unix(path("b.sock"))).unwrap();
        assert_eq!(taken.address, Address::Unix(path("b.sock")));
        drop(taken);
        assert!(path("b.sock").exists(), "somebody else keeps the socket");
        SocketFile::returned(&path("b.sock"), file).unwrap().set_stays(false);
        assert!(path("a.sock").exists() && !path("b.sock").exists());
    }

    #[test]
    fn a_unix_socket_whose_file_was_removed_is_found_by_its_second_name_and_has_the_first_again() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a.sock");
        for is_taken in [true, false] {
            let listener = UnixListener::bind(&path).unwrap();
            let about = fs::metadata(&path).unwrap();
            fs::rename(&path, base.path().join(".a.sock.kept-1")).unwrap();
            let mut pool = Pool::default();
            let file = Some((about.dev(), about.ino()));
            pool.add(KeptName { number: 0, place: 0, file }, listener.into());
            if is_taken {
                let taken = pool.take(&BindAddress::Unix(path.clone())).unwrap();
                UnixStream::connect(&path).unwrap();
                taken.file.unwrap().set_stays(false);
            } else {
                assert_eq!(pool.close().0, [Address::Unix(path.clone())]);
            }
            assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_is_of_no_use_is_given_up_at_once_where_the_manager_reads() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut pool = Pool::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let name = KeptName { number: 0, place: 0, file: None };
        pool.add(name, connection.into());
        pool.tells(ManagerSocket::open(SocketAddrUnix::new(&path).unwrap()).ok());
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], name.removal().as_bytes());
        assert!(pool.is_empty() && pool.given_up() == [name]);
    }

    #[test]
    fn room_is_made_for_an_address_that_overlaps() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut pool = Pool::default();
        let kept = KeptName { number: 1, place: 0, file: None };
        pool.add(kept, listener.into());
        assert!(pool.share(&at(&port.to_string())) && !pool.share(&at(&(port ^ 1).to_string())));
        pool.make_room(&at(&port.to_string()));
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
        assert_eq!(pool.close(), (Vec::new(), vec![kept]), "nobody has told the manager");
    }
}
