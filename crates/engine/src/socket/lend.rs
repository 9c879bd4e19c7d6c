//! Sockets of this process that workers may ask for by number: `listen({ fd })` and `bind({ fd })` in a Node worker mean a descriptor
//! of the master. Only sockets that are bound, and that the cluster has not opened itself, are lent.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FileType, fstat};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Type};

use crate::report::worker::Address;
use crate::socket::local::address_of;
use crate::sys;

/// Which descriptors of this process workers may ask for. Default none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lender(Which);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Which {
    #[default]
    None,
    /// Whatever is open when it is asked for.
    Any,
    /// These, each while it is still the same file.
    These(BTreeMap<u32, u64>),
}

/// What is lent: a descriptor of our own for a socket of somebody else.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) socket: OwnedFd,
    pub(crate) address: Address,
    /// Which socket it is.
    pub(crate) inode: u64,
}

impl Lender {
    /// Lends what the rest of the process has open when a worker asks.
    #[must_use]
    pub fn whole_process() -> Self {
        Self(Which::Any)
    }

    /// Lends what this process has open now: what it was started with, if nothing has been opened since.
    #[must_use]
    pub fn open_now() -> Self {
        let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let sockets = numbers.filter_map(|number| {
            let socket = sys::duplicate(number).ok()?;
            Some((number, inode_of_socket(&socket).ok()?))
        });
        Self(Which::These(sockets.collect()))
    }

    /// The socket of this number, of the kind that is wanted.
    pub(crate) fn lend(&self, number: u32, wants_datagrams: bool) -> io::Result<Lent> {
        let socket = match &self.0 {
            Which::Any => sys::duplicate(number),
            Which::These(these) if these.contains_key(&number) => sys::duplicate(number),
            Which::None | Which::These(_) => return Err(invalid()),
        };
        // As Node says of a number that is no open descriptor.
        let socket = socket.map_err(|error| if is_bad(&error) { invalid() } else { error })?;
        let inode = inode_of_socket(&socket)?;
        if matches!(&self.0, Which::These(these) if these.get(&number) != Some(&inode)) {
            return Err(invalid());
        }
        let address = usable_address(&socket, wants_datagrams)?;
        Ok(Lent { socket, address, inode })
    }
}

/// Which socket it is; an error if it is none.
pub(crate) fn inode_of_socket(fd: &OwnedFd) -> io::Result<u64> {
    let stat = fstat(fd.as_fd())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Socket { Ok(stat.st_ino) } else { Err(invalid()) }
}

/// Where it is bound, if a server can be there: a stream that is connected to nobody, or a socket for datagrams of IP.
fn usable_address(socket: &OwnedFd, wants_datagrams: bool) -> io::Result<Address> {
    let socket = SockRef::from(socket);
    let (kind, domain, local) = (socket.r#type()?, socket.domain()?, socket.local_addr()?);
    let is_ip = matches!(domain, Domain::IPV4 | Domain::IPV6);
    let is_kind = match kind {
        Type::DGRAM => wants_datagrams && is_ip,
        Type::STREAM => !wants_datagrams && (is_ip || domain == Domain::UNIX) && socket.peer_addr().is_err(),
        _ => false,
    };
    let is_bound = local.as_socket().map_or_else(|| !local.is_unnamed(), |local| local.port() != 0);
    if is_kind && is_bound { Ok(address_of(&local, kind)) } else { Err(invalid()) }
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

fn is_bad(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADF)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn lent(lender: &Lender, fd: &impl std::os::fd::AsRawFd, datagrams: bool) -> Option<Address> {
        lender.lend(fd.as_raw_fd().cast_unsigned(), datagrams).ok().map(|lent| lent.address)
    }

    #[test]
    fn a_server_can_be_where_a_socket_is_bound_and_nowhere_else() {
        let any = Lender::whole_process();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(directory.path().join("it")).unwrap();
        assert_eq!(lent(&any, &tcp, false), Some(Address::Tcp(tcp.local_addr().unwrap())));
        assert_eq!(lent(&any, &udp, true), Some(Address::Udp(udp.local_addr().unwrap())));
        assert_eq!(lent(&any, &unix, false), Some(Address::Unix(directory.path().join("it"))));
        assert_eq!((lent(&any, &tcp, true), lent(&any, &udp, false)), (None, None), "the other kind");

        let connection = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let accepted = tcp.accept().unwrap().0;
        let (one, other) = UnixStream::pair().unwrap();
        let datagram = UnixDatagram::bind(directory.path().join("datagrams")).unwrap();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let unbound = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        for datagrams in [false, true] {
            let all: [&dyn std::os::fd::AsRawFd; 7] =
                [&connection, &accepted, &one, &other, &datagram, &file, &unbound];
            for fd in all {
                let error = any.lend(fd.as_raw_fd().cast_unsigned(), datagrams).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{fd:?}", fd = fd.as_raw_fd());
            }
        }
        for number in [u32::MAX, 1_000_000] {
            assert_eq!(any.lend(number, false).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn only_what_was_open_is_lent_and_only_while_it_is_the_same() {
        let before = TcpListener::bind("127.0.0.1:0").unwrap();
        let lender = Lender::open_now();
        let after = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(lent(&lender, &before, false).is_some());
        assert_eq!(lent(&lender, &after, false), None);
        assert_eq!(lent(&Lender::default(), &before, false), None);
        // Another socket has the number now.
        let mut copy = OwnedFd::from(before.try_clone().unwrap());
        let lender = Lender::open_now();
        assert!(lent(&lender, &copy, false).is_some());
        rustix::io::dup2(&after, &mut copy).unwrap();
        assert_eq!(lent(&lender, &copy, false), None);
    }
}
