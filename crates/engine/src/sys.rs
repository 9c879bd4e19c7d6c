//! Every `unsafe` block of this crate. Each is a thin door to one system call that has no safe binding in the
//! crates we use.
#![expect(unsafe_code, reason = "this module is the one place for it")]

use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_uint};
use std::io::{self, Write as _};
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;

use rustix::fs::Mode;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
    umask,
};
use rustix::thread::{
    Gid, Uid, UnshareFlags, clear_ambient_capability_set, set_thread_gid, set_thread_groups, set_thread_uid,
    unshare_unsafe,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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

/// Gives the calling thread a working directory, a root directory and a umask of its own, for the rest of its life.
pub(crate) fn leave_working_context() -> io::Result<()> {
    // SAFETY: only `CLONE_FILES` can make descriptors of other threads invalid in this one, and it is not asked for.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
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

/// A descriptor of our own for what this number means now. It stays whose it was.
pub(crate) fn duplicate(number: u32) -> io::Result<OwnedFd> {
    let number = c_int::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the number is not negative, and is used for nothing but this one call. Were it no open descriptor, or closed
    // meanwhile, the kernel would refuse.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    borrowed.try_clone_to_owned()
}

/// Takes the descriptor that the program which this process was before has left under this number.
pub(crate) fn take_left(number: c_int) -> OwnedFd {
    // SAFETY: that program has named it as one that is to pass, and has kept it open; it is taken once, by the table that names it, before
    // anything else is opened, so that nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(number) }
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

/// Has the runtime watch a descriptor for something to read.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` answers `as_raw_fd` with the same open descriptor for as long as it lives, and the
    // `AsyncFd`, which owns it from here on, deregisters it before it is closed.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
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

/// Has the kernel send TERM to the command's process when the thread that starts it ends, which is at the latest when
/// the master's process does.
pub(crate) fn term_when_parent_dies(command: &mut Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are three plain
    // system calls, and nothing is allocated: an error is made from a number.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            if getppid() == Some(parent) {
                Ok(())
            } else {
                // The master died before the kernel was asked to watch.
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        });
    }
}

/// Has the process begin as this user, with this group, and with these beside it. It keeps none of its starter's: libuv does
/// the same. Before anything else that is to be done in the process, because the kernel forgets its parent-death signal here.
pub(crate) fn become_other(command: &mut Command, uid: Option<u32>, gid: Option<u32>, groups: &[u32]) {
    if uid.is_none() && gid.is_none() {
        return;
    }
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let change = move || {
        match set_thread_groups(&groups) {
            // Who may not do this has no privileges that the groups could be worth.
            Err(_) if groups.is_empty() => {}
            result => result?,
        }
        if let Some(gid) = gid {
            set_thread_gid(Gid::from_raw(valid(gid)?))?;
        }
        if let Some(uid) = uid {
            set_thread_uid(Uid::from_raw(valid(uid)?))?;
        }
        // What a service manager has given a master that is not root would outlive the change. An old kernel has no such set.
        let _ = clear_ambient_capability_set();
        Ok(())
    };
    // SAFETY: it runs in the child between fork and exec, where it makes a few system calls, which are all that the
    // child's one thread needs, and does nothing else: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(change) };
}

/// The highest number stands for no user and no group.
fn valid(id: u32) -> io::Result<u32> {
    if id == u32::MAX { Err(io::Error::from_raw_os_error(libc::EINVAL)) } else { Ok(id) }
}

/// Has the process begin with this umask and these limits.
pub(crate) fn restrain(command: &mut Command, mask: Option<u32>, limits: Vec<(Resource, Rlimit)>) {
    let change = move || {
        if let Some(mask) = mask {
            umask(Mode::from_raw_mode(mask));
        }
        limits.iter().try_for_each(|(resource, limit)| Ok(setrlimit(*resource, *limit)?))
    };
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are plain system calls, and
    // nothing is allocated: a limit is two numbers.
    unsafe { command.pre_exec(change) };
}

/// Whether a process could begin as this command has it. It ends before it runs anything.
pub(crate) fn begins(mut command: Command) -> io::Result<()> {
    let stop = || Err(io::Error::from_raw_os_error(libc::ECANCELED));
    // SAFETY: it makes no call at all, and an error that is a number alone allocates nothing.
    unsafe { command.pre_exec(stop) };
    match command.spawn() {
        Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("the command was run")),
    }
}

/// Gives the command's process this soft limit on open files, as far as the hard one allows.
pub(crate) fn limit_open_files(command: &mut Command, limit: u64) {
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are two plain system calls,
    // and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
            let current = Some(maximum.map_or(limit, |maximum| limit.min(maximum)));
            Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
        });
    }
}

/// Has the command's process begin with no signal blocked and none ignored: what its starter was started with is not its
/// concern, and would keep it from hearing what it is told.
pub(crate) fn forget_signals(command: &mut Command) {
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are plain system calls on
    // a set that lives on the stack, and nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            for signal in 1..=libc::SIGRTMAX() {
                // It fails for those that cannot be ignored either.
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none = mem::MaybeUninit::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            match libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        });
    }
}

/// How many descriptors are looked at where the kernel does not know how to do it at once (before 5.11).
const DESCRIPTORS: c_int = 4096;

/// Has the command's process keep its standard descriptors and none of those that its starter was itself given to pass on.
pub(crate) fn inherit_nothing(command: &mut Command) {
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are plain system calls on
    // numbers, nothing is allocated, and nothing is closed before the exec: until then std reports errors by a descriptor.
    unsafe {
        command.pre_exec(|| {
            let all = libc::syscall(libc::SYS_close_range, 3, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if all != 0 {
                for fd in 3..DESCRIPTORS {
                    libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
                }
            }
            Ok(())
        });
    }
}

/// Room for a process id in digits, and for what ends a text of C.
const PID_ROOM: usize = 12;

/// What a process is to become, laid out in memory before the fork: behind it nothing may be allocated.
struct Image {
    program: CString,
    /// Owns what `argv` and `envp` point into.
    _texts: Vec<CString>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// `NAME=` and room for a number, and where the number begins; for each variable.
    own_pid: Vec<(Box<[u8]>, usize)>,
}

// SAFETY: the pointers lead only to memory that the same value owns on the heap, which does not move with it.
unsafe impl Send for Image {}
// SAFETY: as above; nothing is changed but by the forked process, in its own copy of the memory.
unsafe impl Sync for Image {}

/// Has the command's process be told its own process id by these variables: some protocols prove by it that other
/// variables are meant for this very process and not for one of its ancestors. Only the forked process knows it, so it
/// performs the last step itself, with exactly this program (a path), these arguments (the first is its name) and this
/// environment. To be called when all else about the command is said.
pub(crate) fn exec_knowing_pid<'a>(
    command: &mut Command,
    program: &OsStr,
    words: impl Iterator<Item = &'a OsStr>,
    env: impl Iterator<Item = (&'a OsStr, &'a OsStr)>,
    variables: &[&str],
) -> io::Result<()> {
    let words: Vec<CString> = words.map(text_of).collect::<io::Result<_>>()?;
    let pair = |(name, value): (&OsStr, &OsStr)| {
        let mut pair = OsString::from(name);
        pair.push("=");
        pair.push(value);
        CString::new(pair.into_vec()).map_err(io::Error::from)
    };
    let env: Vec<CString> = env.map(pair).collect::<io::Result<_>>()?;
    let room = |variable: &&str| {
        let mut text = format!("{variable}=").into_bytes();
        let digits_at = text.len();
        text.resize(digits_at + PID_ROOM, 0);
        (text.into_boxed_slice(), digits_at)
    };
    let own_pid: Vec<_> = variables.iter().map(room).collect();
    let argv = words.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
    // The first places are filled in at the last moment.
    let unknown = own_pid.iter().map(|_| ptr::null());
    let envp = unknown.chain(env.iter().map(|text| text.as_ptr())).chain([ptr::null()]).collect();
    let texts = words.into_iter().chain(env).collect();
    let mut image = Image { program: text_of(program)?, _texts: texts, argv, envp, own_pid };
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made: a number is written into
    // memory that is there already, and the process becomes another. Both arrays end in a null pointer, and all they
    // point to is owned by the image, which lives as long as the closure.
    unsafe {
        command.pre_exec(move || {
            let image = &mut image;
            for (place, (text, digits_at)) in image.envp.iter_mut().zip(&mut image.own_pid) {
                let digits = text.get_mut(*digits_at..).unwrap_or_default();
                write!(&mut *digits, "{}", getpid().as_raw_nonzero())?;
                *place = text.as_ptr().cast();
            }
            // Of its kin this is the only one that is safe here: the others look a program up, or run a script that does
            // not say by what by a shell.
            libc::execve(image.program.as_ptr(), image.argv.as_ptr(), image.envp.as_ptr());
            Err(io::Error::last_os_error())
        });
    }
    Ok(())
}

fn text_of(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    #[test]
    fn a_process_is_told_its_own_id() {
        let mut command = Command::new("/nowhere");
        command.stdout(std::process::Stdio::piped());
        let args = ["sh", "-c", "echo $WHO $WHO2 $$ $OTHER"].map(OsStr::new);
        let env = [("OTHER", "yes")].map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
        exec_knowing_pid(
            &mut command,
            OsStr::new("/bin/sh"),
            args.into_iter(),
            env.into_iter(),
            &["WHO", "WHO2"],
        )
        .unwrap();
        let child = command.spawn().unwrap();
        let id = child.id();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{id} {id} {id} yes\n"));
    }

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

    #[test]
    fn what_cannot_be_run_is_said() {
        let mut command = Command::new("/bin/sh");
        let none = || std::iter::empty();
        let args = [OsStr::new("x")].into_iter();
        exec_knowing_pid(&mut command, OsStr::new("/nowhere"), args, none(), &[]).unwrap();
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
