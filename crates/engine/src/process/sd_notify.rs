//! What workers say by `sd_notify`: each worker has a datagram socket, on which other processes are ignored.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use recluster_core::WorkerId;
use recluster_wire::notify::{self, MAX_DATAGRAM};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Type};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::guard::{Part, guarded_task};
use crate::process::event::{Event, Words};
use crate::process::target::Kin;
use crate::sink::Sink;
use crate::socket::file::{SavedFile, SocketFile};
use crate::socket::holder::Holder;
use crate::socket::named::{self, Permissions};
use crate::socket::probe::{Probe, probe};
use crate::socket::{places, runtime_dir};
use crate::sys;
use crate::sys::Datagram;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// What people are told has panicked.
const PART: Part = Part::dispensable("what hears the notifications of a worker");
/// How the name of a socket ends.
const ENDING: &str = "notify";
/// How many datagrams of one worker may wait for the supervisor.
const UNHEARD: usize = 8;
/// The number of the next socket of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// One worker's socket, before the worker is there.
#[derive(Debug)]
pub(crate) struct Socket {
    bound: OwnedFd,
    /// Its path, or `@` and its name in the kernel.
    name: PathBuf,
    file: Option<SocketFile>,
}

/// The task that reads the socket. Dropping this ends it. The socket goes with the task: a worker that speaks where nobody listens is
/// not to wait.
#[derive(Debug)]
pub(crate) struct Listening {
    task: JoinHandle<()>,
    heard: Weak<Heard>,
    /// What `NOTIFY_SOCKET` says.
    pub(crate) name: PathBuf,
}

/// A socket that is heard, and its file.
#[derive(Debug)]
struct Heard {
    socket: AsyncFd<OwnedFd>,
    file: Option<SocketFile>,
}

/// A socket that another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    #[serde(with = "plain")]
    name: PathBuf,
    file: Option<SavedFile>,
}

/// The number of the next socket of this process, for another program: names of its own would be those of sockets that live.
pub(crate) fn next_number() -> u64 {
    NEXT.load(Ordering::Relaxed)
}

/// Goes on with the numbers of a program before.
pub(crate) fn go_on_from(number: u64) {
    NEXT.fetch_max(number, Ordering::Relaxed);
}

impl Left {
    /// Takes the socket over. It is heard from when it is started.
    pub(crate) fn adopt(self, purpose: &str, inheritance: &mut Inheritance) -> Result<Adopted, AdoptError> {
        let bound = inheritance.descriptor(purpose)?;
        let cannot = |source| AdoptError::Duplicate { purpose: purpose.to_owned(), source };
        let socket = sys::readable(bound).map_err(cannot)?;
        Ok(Adopted { heard: Heard { socket, file: self.file.map(SocketFile::inherit) }, name: self.name })
    }
}

/// A socket of a program before that is not heard yet.
#[derive(Debug)]
pub(crate) struct Adopted {
    heard: Heard,
    name: PathBuf,
}

impl Adopted {
    /// As [`Socket::start`]. The program before is not gone back to any more.
    pub(crate) fn start(self, worker: WorkerId, kin: Kin, events: Sink<Event>) -> Listening {
        let Self { heard, name } = self;
        if let Some(file) = &heard.file {
            file.keep();
        }
        listen(worker, kin, events, heard, name)
    }
}

impl Listening {
    /// Leaves the socket to another program. None where nobody hears it any more.
    pub(crate) fn save(&self, purpose: &str, saving: &mut Saving) -> Result<Option<Left>, SaveError> {
        let Some(heard) = self.heard.upgrade() else { return Ok(None) };
        saving.pass(heard.socket.get_ref(), purpose)?;
        Ok(Some(Left { name: self.name.clone(), file: heard.file.as_ref().map(SocketFile::save) }))
    }
}

impl Socket {
    pub(crate) fn open() -> io::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            for directory in places::of_workers() {
                remove_stale(&directory);
            }
        }
        let name = format!("{}-{number}.{ENDING}", std::process::id());
        // Without a place for a file it has a name in the kernel. Others may send there, too, and are not heard.
        places::for_workers(|directory| Self::open_in(directory, &name))
            .or_else(|_| Self::open_without_file())
    }

    fn open_in(directory: &Path, name: &str) -> io::Result<Self> {
        let path = directory.join(name);
        // An earlier process with the same pid may have left one.
        let _ = fs::remove_file(&path);
        // A worker may have become another user by then. Who sends is told by the kernel.
        let named = named::bind(&path, Type::DGRAM, Permissions::Exactly(0o666), false)?;
        let file = SocketFile::of(&path, &named);
        Self::of(named.socket, path, Some(file))
    }

    fn open_without_file() -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        let random = RandomState::new().build_hasher().finish();
        let name = format!("recluster-{}-{random:016x}", std::process::id());
        socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
        Self::of(socket, format!("@{name}").into(), None)
    }

    fn of(socket: socket2::Socket, name: PathBuf, file: Option<SocketFile>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        Ok(Self { bound: socket.into(), name, file })
    }

    /// What `NOTIFY_SOCKET` says.
    pub(crate) fn path(&self) -> &Path {
        &self.name
    }

    /// Reports the notifications of the worker and of those that speak for it.
    pub(crate) fn start(self, worker: WorkerId, kin: Kin, events: Sink<Event>) -> io::Result<Listening> {
        let Self { bound, file, name } = self;
        Ok(listen(worker, kin, events, Heard { socket: sys::readable(bound)?, file }, name))
    }
}

fn listen(worker: WorkerId, kin: Kin, events: Sink<Event>, heard: Heard, name: PathBuf) -> Listening {
    let tell = events.clone();
    let panicked = Sink::new(move |panic| tell.send(Event::Unheard(worker, panic)));
    let own = Arc::new(heard);
    let heard = Arc::downgrade(&own);
    let task = tokio::spawn(guarded_task(PART, panicked, async move {
        let socket = &own.socket;
        // What the supervisor has not handled yet waits in the kernel's queue, and then the sender blocks.
        let turns = Arc::new(Semaphore::new(UNHEARD));
        loop {
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
            let Ok(mut ready) = socket.readable().await else { return };
            match ready.try_io(|socket| receive(socket.get_ref().as_fd())) {
                Ok(Ok(datagram)) => {
                    let input = match words(datagram, kin) {
                        Ok(words) => Event::Notified(worker, Words { turn: Some(turn), ..words }),
                        Err(stranger) => {
                            let stranger = stranger
                                .map(|pid| Holder::by_name(pid.as_raw_nonzero().get().unsigned_abs()));
                            Event::NotifyIgnored(worker, stranger, turn)
                        }
                    };
                    // The supervisor is gone only when the cluster is over.
                    events.send(input);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => return,
                // There was nothing to read.
                Err(_) => {}
            }
        }
    }));
    Listening { task, heard, name }
}

/// Removes the sockets of processes that could not remove them: the process is gone, and no process listens there. The
/// second condition is for processes of other pid namespaces, whose pids mean nothing here. If the pid belongs to a new
/// process, the socket stays for now.
fn remove_stale(directory: &Path) {
    if runtime_dir::check(directory).is_err() {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_over = owner(&entry.file_name()).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
        if is_over && matches!(probe(&entry.path(), SocketType::DGRAM), Ok(Probe::Stale)) {
            // Best effort.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The process that has named a socket `PID-NUMBER.notify`.
fn owner(name: &OsStr) -> Option<Pid> {
    let (pid, number) = name.to_str()?.strip_suffix(ENDING)?.strip_suffix('.')?.split_once('-')?;
    number.parse::<u64>().ok()?;
    Pid::from_raw(pid.parse().ok().filter(|pid| *pid > 0)?)
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a datagram says, if it comes from one of these and makes sense. An error is the stranger that sent it, where it makes
/// sense. A sender whose pid is not visible in this pid namespace is a stranger without a number.
fn words(datagram: Datagram, kin: Kin) -> Result<Words, Option<Pid>> {
    let said = notify::parse(&datagram.bytes).ok().filter(|_| datagram.is_whole).ok_or(None)?;
    let (sender, user) = datagram.from.zip(datagram.user).ok_or(None)?;
    if !kin.is_spoken_for(sender, user) {
        return Err(Some(sender));
    }
    Ok(Words { said, _descriptors: datagram.descriptors, turn: None })
}

/// Receives one byte more than the limit, so that a datagram that is too long is recognised.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Datagram> {
    sys::receive(socket, MAX_DATAGRAM + 1)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use recluster_wire::notify::Word;
    use rustix::process::getpgrp;

    use super::*;
    use crate::socket::probe::tests::leave_stale;

    fn said(socket: &Socket, words: &[u8], group: Pid) -> Option<Vec<Word>> {
        let sender = UnixDatagram::unbound().unwrap();
        let name = socket.path().as_os_str().as_bytes();
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name).unwrap(),
            None => SocketAddr::from_pathname(socket.path()).unwrap(),
        };
        sender.send_to_addr(words, &address).unwrap();
        super::words(receive(socket.bound.as_fd()).unwrap(), Kin::of_group(group))
            .ok()
            .map(|words| words.said)
    }

    #[test]
    fn the_group_is_heard_and_a_stranger_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let ended = Pid::from_raw(past().cast_signed()).unwrap();
        let without_file = Socket::open_without_file().unwrap();
        assert_eq!(said(&without_file, b"READY=1\n", getpgrp()), Some(vec![Word::Ready]));
        assert_eq!(said(&without_file, b"READY=1\n", ended), None);
        let socket = Socket::open_in(directory.path(), "it.notify").unwrap();
        assert_eq!(said(&socket, b"READY=1\n", getpgrp()), Some(vec![Word::Ready]));
        assert_eq!(said(&socket, b"READY=1\n", ended), None);
        assert_eq!(said(&socket, b"READY=1\0\n", getpgrp()), None, "nonsense");
    }

    #[test]
    fn whoever_cannot_be_seen_is_a_stranger() {
        let (bytes, descriptors) = (b"READY=1".to_vec(), Vec::new());
        let datagram = Datagram { bytes, from: None, user: Some(0), descriptors, is_whole: true };
        assert!(super::words(datagram, Kin::of_group(getpgrp())).is_err());
    }

    /// What the supervisor has not handled yet waits in the kernel's queue.
    #[tokio::test]
    async fn a_flood_waits_outside() {
        let directory = tempfile::tempdir().unwrap();
        let socket = Socket::open_in(directory.path(), "it.notify").unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(socket.path()).unwrap();
        sender.set_nonblocking(true).unwrap();
        let (events, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        let events = Sink::new(move |event| events.send(event).unwrap());
        let _listening = socket.start(WorkerId::from_number(1), Kin::of_group(getpgrp()), events).unwrap();
        let mut heard = Vec::new();
        for _ in 0..UNHEARD {
            while sender.send(b"STATUS=talks").is_ok() {}
            heard.push(inbox.recv().await.unwrap());
        }
        // More often than the runtime needs to look at its sockets again.
        for _ in 0..1000 {
            while sender.send(b"STATUS=talks").is_ok() {}
            tokio::task::yield_now().await;
        }
        assert!(inbox.is_empty(), "nothing more was read");
        heard.pop();
        inbox.recv().await.unwrap();
    }

    #[tokio::test]
    async fn that_nobody_hears_the_worker_any_more_is_told_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let socket = Socket::open_in(directory.path(), "it.notify").unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(socket.path()).unwrap();
        let (events, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        let events = Sink::new(move |event| {
            assert!(!matches!(event, Event::Notified(..)), "out of order");
            events.send(event).unwrap();
        });
        let worker = WorkerId::from_number(7);
        let listening = socket.start(worker, Kin::of_group(getpgrp()), events).unwrap();
        sender.send(b"READY=1").unwrap();
        let Some(Event::Unheard(about, panicked)) = inbox.recv().await else { panic!("it is not told") };
        assert_eq!((about, panicked.part, &*panicked.reason), (worker, PART, "out of order"));
        assert!(!panicked.part.is_vital);
        tokio::task::yield_now().await;
        let refused = sender.send(b"READY=1").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "nobody is to wait for it");
        assert!(listening.save("notify", &mut Saving::new("it")).unwrap().is_none());
    }

    /// A process that has ended, and whose number is not given to another at once.
    fn past() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn sockets_of_processes_that_are_no_more_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: String| directory.path().join(name);
        let (past, own) = (past(), std::process::id());
        let stale = path(format!("{past}-0.notify"));
        leave_stale(&stale);
        let other = [format!("{own}-0.notify"), format!("{past}-1.sock"), "it.notify".to_owned()].map(path);
        for path in &other {
            leave_stale(path);
        }
        let file = path(format!("{past}-2.notify"));
        fs::write(&file, "").unwrap();
        let answers = path(format!("{past}-3.notify"));
        let _listener = UnixDatagram::bind(&answers).unwrap();
        remove_stale(directory.path());
        assert!(!stale.exists());
        assert!(answers.exists(), "somebody listens there");
        assert!(other.iter().all(|path| path.exists()), "their processes live, or they are none of ours");
        assert!(file.exists(), "it is no socket");
    }

    #[test]
    fn what_others_could_have_put_there_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let stale = directory.path().join(format!("{}-0.notify", past()));
        leave_stale(&stale);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        remove_stale(directory.path());
        assert!(stale.exists());
    }

    #[test]
    fn the_file_goes_with_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let socket = Socket::open_in(directory.path(), "it.notify").unwrap();
        let path = socket.path().to_owned();
        assert!(path.exists());
        drop(socket);
        assert!(!path.exists());
    }

    /// A worker goes on to speak by the name that it was given.
    #[tokio::test]
    async fn a_socket_goes_on_elsewhere() {
        let (socket, kin) = (Socket::open().unwrap(), Kin::of_group(getpgrp()));
        let name = socket.path().to_owned();
        let before = socket.start(WorkerId::from_number(1), kin, Sink::new(|_| {})).unwrap();
        before.task.abort();
        let mut saving = Saving::new("it");
        let left = before.save("notify", &mut saving).unwrap().unwrap();
        let text = serde_json::to_string(&left).unwrap();
        let adopted = left.adopt("notify", &mut crate::upgrade::fixtures::inherited(saving)).unwrap();
        let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let goes_on =
            adopted.start(WorkerId::from_number(1), kin, Sink::new(move |event| drop(sender.send(event))));
        let again = goes_on.save("notify", &mut Saving::new("it")).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        let sender = UnixDatagram::unbound().unwrap();
        match name.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(name) => sender.send_to_addr(b"READY=1", &SocketAddr::from_abstract_name(name).unwrap()),
            None => sender.send_to(b"READY=1", &name),
        }
        .unwrap();
        let Some(Event::Notified(_, words)) = heard.recv().await else { panic!() };
        assert_eq!(words.said, [Word::Ready]);
        let next = next_number();
        go_on_from(next + 5);
        assert!(next_number() >= next + 5, "names are not given twice");
    }
}
