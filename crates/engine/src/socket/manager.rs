//! The way to the socket of a service manager. Nobody waits for it: neither where nobody reads it nor where it is gone.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sendmsg_addr, socket_with,
};

/// A socket of our own, from which it is spoken to.
#[derive(Debug)]
pub(crate) struct ManagerSocket {
    own: OwnedFd,
    manager: SocketAddrUnix,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It has arrived, or never will: no manager is there, or it is not allowed to be asked.
    Done,
    /// There is no room for it now.
    Full,
}

impl ManagerSocket {
    pub(crate) fn open(manager: SocketAddrUnix) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let own = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(Self { own, manager })
    }

    /// Sends a datagram. The socket is looked for each time: a manager that starts anew may have made another.
    pub(crate) fn send(&self, datagram: &str) -> Sent {
        self.send_with(datagram, None)
    }

    /// Sends a datagram, and a descriptor with it.
    pub(crate) fn send_with(&self, datagram: &str, descriptor: Option<BorrowedFd<'_>>) -> Sent {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if let Some(descriptor) = descriptor.as_ref() {
            control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
        }
        let parts = [IoSlice::new(datagram.as_bytes())];
        match sendmsg_addr(&self.own, &self.manager, &parts, &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR | Errno::TOOMANYREFS) => Sent::Full,
            Ok(_) | Err(_) => Sent::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_manager_that_does_not_read_is_full_and_one_that_is_gone_is_done_with() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = ManagerSocket::open(SocketAddrUnix::new(&path).unwrap()).unwrap();
        let sent = (0..100_000).take_while(|number| socket.send(&number.to_string()) == Sent::Done).count();
        assert!(sent < 100_000, "nothing else reads them");
        let mut bytes = [0; 16];
        for number in 0..sent {
            let length = manager.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], number.to_string().as_bytes());
        }
        assert_eq!(socket.send("there is room"), Sent::Done);
        drop(manager);
        assert_eq!(socket.send("nobody listens"), Sent::Done);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(socket.send("nothing is there"), Sent::Done);
        let manager = UnixDatagram::bind(&path).unwrap();
        socket.send("again");
        let length = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"again");
    }
}
