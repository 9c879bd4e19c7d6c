//! Whether anybody takes connections from a socket that listens: what `/proc` tells of those who have it open.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::report::worker::{Address, written};
use crate::socket::holder::{self, Sockets};

/// How many descriptors of a process, and how many of its threads, are looked at.
const MOST: usize = 1024;
/// The events of one descriptor in a set of epoll are a line; so much of a set is read.
const MOST_BYTES: u64 = 1 << 20;

/// Whether a connection waits at this socket to be accepted.
pub(crate) fn has_waiting(socket: &OwnedFd) -> bool {
    let listens = rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false);
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    listens && poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Whether somebody has a connection that was accepted at this address. One that still waits has no inode. None where that cannot be
/// said: there are too many connections to look at all of them.
pub(crate) fn has_accepted(address: &Address) -> Option<bool> {
    match address {
        Address::Tcp(address) => holder::is_connected_at(address.ip(), address.port()),
        Address::Unix(path) => holder::is_connected_to(&written(path)),
        // Nothing is known of such an address, and will not be.
        Address::Udp(_) | Address::Fd(_) => Some(true),
    }
}

/// What some processes make of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attention {
    /// One of them waits for its connections, or works, is stopped, or cannot be seen: it may come to take them.
    Possible,
    /// All of them sleep, and one has it open.
    Open,
    /// All of them sleep, and none has it open.
    Closed,
}

/// What these processes make of the socket with this inode.
pub(crate) fn of(inode: u64, pids: &[u32]) -> Attention {
    let mut is_open = false;
    for pid in pids {
        match look(inode, *pid) {
            Ok((false, has_it)) => is_open |= has_it,
            // What has ended meanwhile has nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok((true, _)) | Err(_) => return Attention::Possible,
        }
    }
    if is_open { Attention::Open } else { Attention::Closed }
}

/// Whether any process but this one has the socket open, as far as can be seen.
pub(crate) fn is_open_elsewhere(inode: u64) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let sockets = Sockets::of([inode]);
    pids.filter(|pid| *pid != std::process::id()).any(|pid| sockets.holder_among(&[pid]).is_some())
}

/// Whether a process may come to take a connection of its own accord, and whether it has the socket open.
fn look(inode: u64, pid: u32) -> io::Result<(bool, bool)> {
    let of_socket = format!("socket:[{inode}]");
    let mut is_open = false;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.take(MOST) {
        let entry = entry?;
        // It may be closed by now.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        is_open |= target.as_os_str() == of_socket.as_str();
        if target.as_os_str() == "anon_inode:[eventpoll]"
            && has_member(&format!("/proc/{pid}/fdinfo/{}", entry.file_name().display()), inode)
        {
            return Ok((true, true));
        }
    }
    Ok((!sleeps(pid)?, is_open))
}

/// Whether a set of epoll has this socket.
fn has_member(set: &str, inode: u64) -> bool {
    let member = format!("ino:{inode:x}");
    read(set).lines().any(|line| line.split_whitespace().any(|word| word == member))
}

/// Whether every thread of a process waits for something that happens: none runs, waits for a disk, is stopped or traced.
fn sleeps(pid: u32) -> io::Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.take(MOST) {
        let stat = read(&thread?.path().join("stat").to_string_lossy());
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        if !matches!(state, None | Some('S' | 'I' | 'Z' | 'X')) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read(path: &str) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    // What cannot be read tells nothing.
    let _ = fs::File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Child, Command, Stdio};

    use rustix::event::epoll;
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

    use super::*;

    /// A process that does nothing, and has these as its stdin and stdout.
    struct Sleeper(Child);

    impl Sleeper {
        fn with(stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Self {
            let mut command = Command::new("/bin/sleep");
            let child = command.arg("1000000").stdin(stdin).stdout(stdout).spawn().unwrap();
            let sleeper = Self(child);
            while !sleeps(sleeper.0.id()).unwrap() {
                std::thread::yield_now();
            }
            sleeper
        }

        fn attention(&self, inode: u64) -> Attention {
            of(inode, &[self.0.id()])
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn inode(socket: impl std::os::fd::AsFd) -> u64 {
        rustix::fs::fstat(socket).unwrap().st_ino
    }

    #[test]
    fn one_that_has_it_and_sleeps_is_told_from_one_that_does_not_have_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = inode(&listener);
        let (with, without) = (
            Sleeper::with(OwnedFd::from(listener.try_clone().unwrap()), Stdio::null()),
            Sleeper::with(Stdio::null(), Stdio::null()),
        );
        assert_eq!((with.attention(inode), without.attention(inode)), (Attention::Open, Attention::Closed));
        assert!(is_open_elsewhere(inode));
        drop(with);
        assert!(!is_open_elsewhere(inode), "this process has it, and no other");
        assert_eq!(of(inode, &[u32::MAX]), Attention::Closed, "one that has ended has nothing");
    }

    /// A server whose loop hangs does not sleep for want of clients.
    #[test]
    fn one_that_waits_for_connections_may_take_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        epoll::add(&set, &listener, epoll::EventData::new_u64(0), epoll::EventFlags::IN).unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let (inode, of_other) = (inode(&listener), inode(&other));
        let server = Sleeper::with(set, OwnedFd::from(listener));
        assert_eq!(
            [inode, of_other].map(|inode| server.attention(inode)),
            [Attention::Possible, Attention::Closed]
        );
    }

    #[test]
    fn one_that_works_or_is_stopped_may_take_them_later() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = inode(&listener);
        let sleeper = Sleeper::with(OwnedFd::from(listener), Stdio::null());
        let pid = Pid::from_child(&sleeper.0);
        kill_process(pid, Signal::STOP).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED).unwrap();
        assert_eq!(sleeper.attention(inode), Attention::Possible);
        let busy = Sleeper(Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
        while sleeps(busy.0.id()).unwrap() {
            std::thread::yield_now();
        }
        assert_eq!(busy.attention(inode), Attention::Possible);
    }

    #[test]
    fn what_waits_is_told_from_what_was_accepted_at_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let socket = listener.as_fd().try_clone_to_owned().unwrap();
        assert!(!has_waiting(&socket));
        let _client = std::net::TcpStream::connect(local).unwrap();
        assert!(has_waiting(&socket) && has_accepted(&Address::Tcp(local)) != Some(true));
        let _accepted = listener.accept().unwrap();
        assert!(!has_waiting(&socket) && has_accepted(&Address::Tcp(local)) != Some(false));
    }

    #[test]
    fn what_waits_is_told_from_what_was_accepted_at_a_path() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a b.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let socket = listener.as_fd().try_clone_to_owned().unwrap();
        assert!(!has_waiting(&socket));
        let _client = UnixStream::connect(&path).unwrap();
        assert!(has_waiting(&socket) && has_accepted(&Address::Unix(path.clone())) == Some(false));
        let _accepted = listener.accept().unwrap();
        assert!(!has_waiting(&socket) && has_accepted(&Address::Unix(path)) == Some(true));
    }

    #[test]
    fn what_takes_no_connections_has_none_that_waits() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.send_to(b"x", udp.local_addr().unwrap()).unwrap();
        assert!(!has_waiting(&udp.into()));
        assert_eq!(has_accepted(&Address::Fd(3)), Some(true), "nothing is known of it");
    }
}
