//! What a socket is asked and given.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::process::Pid;

/// Where `tcpi_bytes_received` stands in Linux's `struct tcp_info` (linux/tcp.h; since kernel 4.1).
const BYTES_RECEIVED_AT: usize = 128;
const TCP_INFO_LEN: usize = BYTES_RECEIVED_AT + mem::size_of::<u64>();

/// `TCP_CLOSE_WAIT` of the kernel's `enum` of states: the other side has said all that it had to say.
const CLOSE_WAIT: u8 = 8;

/// What a TCP connection has received in its life, read by anybody or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Bytes; the end of the stream is counted as one.
    pub(crate) bytes: u64,
    /// Whether the end of the stream is among them.
    pub(crate) ended: bool,
}

/// Asks the kernel for the beginning of a TCP socket's `struct tcp_info`.
fn tcp_info<const LEN: usize>(socket: BorrowedFd<'_>) -> io::Result<[u8; LEN]> {
    let mut info = [0_u8; LEN];
    let mut len = libc::socklen_t::try_from(LEN).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the duration of the call (it is borrowed), `info` is writable memory of
    // `len` bytes, and the kernel writes no more than `len` bytes and stores in `len` how many it wrote.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // An old kernel knows less.
    if (len as usize) < LEN { Err(io::ErrorKind::Unsupported.into()) } else { Ok(info) }
}

/// Asks the kernel what a TCP connection has received.
pub(crate) fn tcp_received(socket: BorrowedFd<'_>) -> io::Result<Received> {
    let info = tcp_info::<TCP_INFO_LEN>(socket)?;
    let [state, ..] = info;
    let (_, tail) = info.split_at(BYTES_RECEIVED_AT);
    let bytes = u64::from_ne_bytes(tail.try_into().map_err(io::Error::other)?);
    Ok(Received { bytes, ended: state == CLOSE_WAIT })
}

/// Where `tcpi_unacked` stands in `struct tcp_info`: of a listening socket, how many connections wait to be accepted.
const UNACKED_AT: usize = 24;

/// How many connections wait in the queue of a listening TCP socket.
pub(crate) fn accept_queue(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let info = tcp_info::<{ UNACKED_AT + mem::size_of::<u32>() }>(socket)?;
    let (_, unacked) = info.split_at(UNACKED_AT);
    Ok(u32::from_ne_bytes(unacked.try_into().map_err(io::Error::other)?))
}

/// How many connections may wait there at most, as `tcpi_sacked` says it, behind `tcpi_unacked`.
pub(crate) fn accept_limit(socket: BorrowedFd<'_>) -> io::Result<u32> {
    const SIZE: usize = mem::size_of::<u32>();
    let info = tcp_info::<{ UNACKED_AT + 2 * SIZE }>(socket)?;
    let (_, sacked) = info.split_at(UNACKED_AT + SIZE);
    Ok(u32::from_ne_bytes(sacked.try_into().map_err(io::Error::other)?))
}

/// What a program of classic BPF is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hook {
    /// For every new connection of a `SO_REUSEPORT` group it returns the place of a socket in the group. Any socket of the
    /// group can be named for it.
    Group,
    /// For every packet to a socket it returns how much of it is let through.
    Socket,
}

/// Has the kernel run this program, instead of the one before.
pub(crate) fn attach(
    socket: BorrowedFd<'_>,
    hook: Hook,
    program: &mut [libc::sock_filter],
) -> io::Result<()> {
    let option = match hook {
        Hook::Group => libc::SO_ATTACH_REUSEPORT_CBPF,
        Hook::Socket => libc::SO_ATTACH_FILTER,
    };
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let size = libc::socklen_t::try_from(mem::size_of_val(&program)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the duration of the call, and the kernel copies the program, which is `len`
    // instructions long and outlives the call, and checks it before it returns.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const program).cast(), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Room for what comes beside a datagram: the sender's credentials and a handful of descriptors; the kernel closes what is
/// more. In words, so that it is aligned for the headers in it.
const ANCILLARY_WORDS: usize = 12;

/// A length in the type in which the C library counts it, glibc in another one than musl.
fn length<T, Counted: TryFrom<T>>(length: T) -> Option<Counted> {
    length.try_into().ok()
}

/// A datagram, and what the kernel says of it.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) bytes: Vec<u8>,
    /// Which process sent it, where the socket was told to ask (`SO_PASSCRED`). One that lives in a PID namespace outside of ours cannot
    /// be seen from here.
    pub(crate) from: Option<Pid>,
    /// What came with it.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The user that the sender was then.
    pub(crate) user: Option<u32>,
    /// Nothing of it was cut off.
    pub(crate) is_whole: bool,
}

/// Receives a datagram of at most so many bytes. (rustix has this too, but takes a sender's pid for a number that is never
/// zero, which is undefined behaviour where it is.)
pub(crate) fn receive(socket: BorrowedFd<'_>, most: usize) -> io::Result<Datagram> {
    let mut bytes = vec![0_u8; most];
    let mut space = [0_u64; ANCILLARY_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a `msghdr` is integers and pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = space.as_mut_ptr().cast();
    header.msg_controllen = length(mem::size_of_val(&space)).unwrap_or_default();
    // SAFETY: the descriptor is borrowed, so it is open; all that the header points to is writable, as long as it says, and
    // outlives the call.
    let received = unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT)
    };
    bytes.truncate(usize::try_from(received).map_err(|_| io::Error::last_os_error())?);
    let is_whole = header.msg_flags & libc::MSG_TRUNC == 0;
    let mut datagram = Datagram { bytes, from: None, user: None, descriptors: Vec::new(), is_whole };
    // SAFETY: the kernel has filled the header and the space that it points to, and both live on.
    unsafe { datagram.take_ancillary(&header) };
    Ok(datagram)
}

impl Datagram {
    /// Takes what came beside the bytes.
    ///
    /// # Safety
    ///
    /// The header must be as `recvmsg` left it, and its control messages must not have been taken before: the descriptors in
    /// them belong to whoever takes them.
    unsafe fn take_ancillary(&mut self, header: &libc::msghdr) {
        // SAFETY: these macros of C walk from one message to the next within what the kernel has written, and say where its
        // data begin; each is read as what its type says it is, and no further than its length. A descriptor that the
        // kernel has just installed is owned by nobody else.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(header);
            while let Some(message) = next.as_ref() {
                let data = libc::CMSG_DATA(next);
                let head = libc::CMSG_LEN(0) as usize;
                let length = length(message.cmsg_len).map_or(0, |whole: usize| whole.saturating_sub(head));
                match (message.cmsg_level, message.cmsg_type) {
                    (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= mem::size_of::<libc::ucred>() => {
                        let sender = data.cast::<libc::ucred>().read_unaligned();
                        (self.from, self.user) = (Pid::from_raw(sender.pid), Some(sender.uid));
                    }
                    (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                        for index in 0..length / mem::size_of::<c_int>() {
                            let number =
                                data.add(index * mem::size_of::<c_int>()).cast::<c_int>().read_unaligned();
                            self.descriptors.push(OwnedFd::from_raw_fd(number));
                        }
                    }
                    _ => {}
                }
                next = libc::CMSG_NXTHDR(header, next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use rustix::process::getpid;

    use super::*;

    #[test]
    fn a_datagram_comes_with_its_sender_and_its_descriptors() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        rustix::net::sockopt::set_socket_passcred(&ours, true).unwrap();
        let (kept, given) = UnixStream::pair().unwrap();
        let given = [given.as_fd(), given.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&given));
        sendmsg(&theirs, &[IoSlice::new(b"12345678")], &mut ancillary, SendFlags::empty()).unwrap();
        let datagram = receive(ours.as_fd(), 8).unwrap();
        assert_eq!((&datagram.bytes[..], datagram.is_whole), (&b"12345678"[..], true));
        assert_eq!(datagram.from, Some(getpid()));
        let peers = |fd: &OwnedFd| rustix::net::getpeername(fd).is_ok();
        assert_eq!(datagram.descriptors.iter().filter(|fd| peers(fd)).count(), 2);
        drop(kept);
        theirs.send(b"123456789").unwrap();
        let datagram = receive(ours.as_fd(), 8).unwrap();
        assert!(!datagram.is_whole && datagram.descriptors.is_empty());
        assert_eq!(receive(ours.as_fd(), 8).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
