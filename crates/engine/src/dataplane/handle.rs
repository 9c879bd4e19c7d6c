//! Descriptors that travel with messages between a host program and its workers.

use std::os::fd::OwnedFd;

use recluster_wire::node::{DatagramKind, HandleKind};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType, getpeername};

/// A descriptor that travels with a message.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "the two things that are sent")]
pub struct Handle {
    /// What it becomes at its receiver. A worker may say what it likes: see [`Handle::check`].
    pub kind: HandleKind,
    /// The descriptor.
    pub fd: OwnedFd,
}

/// Why a descriptor cannot become what its sender says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::exhaustive_enums, reason = "it cannot be used, or can no longer")]
pub enum Misfit {
    /// It is something else: a file, a pipe, a socket of another kind.
    #[error("it is something else")]
    OfAnotherKind,
    /// It is a stream socket that is not connected, or is no longer: its client may just have gone.
    #[error("it is not connected")]
    NotConnected,
}

impl Handle {
    /// Asks the kernel whether the descriptor is what its sender says that it is.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn check(&self) -> Result<(), Misfit> {
        let kind = socket_type(&self.fd).map_err(|_| Misfit::OfAnotherKind)?;
        let family = socket_domain(&self.fd).map_err(|_| Misfit::OfAnotherKind)?;
        let is_inet = [AddressFamily::INET, AddressFamily::INET6].contains(&family);
        let is_stream = kind == SocketType::STREAM && (is_inet || family == AddressFamily::UNIX);
        let listens = socket_acceptconn(&self.fd).unwrap_or(false);
        let is_datagram = |expected| kind == SocketType::DGRAM && family == expected;
        let fits = match self.kind {
            HandleKind::NetNative => is_stream,
            HandleKind::NetServer => is_stream && listens,
            HandleKind::NetSocket | HandleKind::NetBoundSocket => is_stream && !listens,
            HandleKind::DatagramNative => kind == SocketType::DGRAM && is_inet,
            HandleKind::DatagramSocket(DatagramKind::Udp4) => is_datagram(AddressFamily::INET),
            HandleKind::DatagramSocket(DatagramKind::Udp6) => is_datagram(AddressFamily::INET6),
        };
        if !fits {
            return Err(Misfit::OfAnotherKind);
        }
        if self.kind == HandleKind::NetSocket && getpeername(&self.fd).is_err() {
            return Err(Misfit::NotConnected);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use rustix::event::epoll;
    use rustix::net::socket;

    use super::*;

    /// The kinds for which a descriptor is taken.
    fn kinds(fd: impl Into<OwnedFd>) -> Vec<&'static str> {
        let mut handle = Handle { kind: HandleKind::NetNative, fd: fd.into() };
        let all = [
            HandleKind::NetNative,
            HandleKind::NetSocket,
            HandleKind::NetServer,
            HandleKind::NetBoundSocket,
            HandleKind::DatagramNative,
            HandleKind::DatagramSocket(DatagramKind::Udp4),
            HandleKind::DatagramSocket(DatagramKind::Udp6),
        ];
        let mut kinds = Vec::new();
        for kind in all {
            handle.kind = kind;
            match (handle.check(), kind) {
                (Ok(()), HandleKind::DatagramSocket(family)) => kinds.push(family.as_str()),
                (Ok(()), _) => kinds.push(kind.as_str()),
                (Err(Misfit::NotConnected), _) => kinds.push("unconnected"),
                (Err(Misfit::OfAnotherKind), _) => {}
            }
        }
        kinds
    }

    #[test]
    fn a_socket_is_taken_for_what_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (end, _other) = UnixStream::pair().unwrap();
        let abstract_address = std::os::unix::net::SocketAddr::from_pathname("").unwrap();
        let connected = ["net.Native", "net.Socket", "net.BoundSocket"];
        assert_eq!(kinds(connection), connected);
        assert_eq!(kinds(end), connected);
        assert_eq!(kinds(listener), ["net.Native", "net.Server"]);
        assert_eq!(kinds(UnixListener::bind_addr(&abstract_address).unwrap()), ["net.Native", "net.Server"]);
        assert_eq!(kinds(UdpSocket::bind("127.0.0.1:0").unwrap()), ["dgram.Native", "udp4"]);
        let udp6 = socket(AddressFamily::INET6, SocketType::DGRAM, None).unwrap();
        assert_eq!(kinds(udp6), ["dgram.Native", "udp6"]);
    }

    #[test]
    fn what_was_never_connected_is_no_connection() {
        let unconnected = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        assert_eq!(kinds(unconnected), ["net.Native", "unconnected", "net.BoundSocket"]);
    }

    #[test]
    fn anything_else_is_taken_for_nothing() {
        let none = Vec::<&str>::new();
        assert_eq!(kinds(File::open("/dev/null").unwrap()), none);
        assert_eq!(kinds(File::open("/").unwrap()), none);
        assert_eq!(kinds(rustix::pipe::pipe().unwrap().0), none);
        assert_eq!(kinds(epoll::create(epoll::CreateFlags::empty()).unwrap()), none);
        assert_eq!(kinds(UnixDatagram::unbound().unwrap()), none);
        let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
        assert_eq!(kinds(netlink), none);
    }
}
