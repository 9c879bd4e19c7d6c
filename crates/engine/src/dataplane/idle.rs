//! Whether the event loop of a Node worker has nothing to do, as the kernel tells it.
//!
//! `/proc/PID/syscall` says in which system call the main thread of a process sleeps (man page `proc_pid_syscall(5)`). A loop
//! that has nothing to do sleeps in `epoll_wait` on its own epoll. One that computes does not sleep, and what blocks sleeps in
//! another call (`Atomics.wait`) or on the epoll of a nested loop (`execSync`). The loop's own epoll is the one that watches the
//! socket from which the worker accepts. A process that is stopped (`SIGSTOP`, a debugger) seems to be where it was stopped, so its
//! state counts as well.
//!
//! A look costs the master about 5 µs, a second one where the loop sleeps, and the worker nothing. The kernel allows it for processes of the master's own user. A
//! worker that has changed its user has to be asked instead, and so has one whose first process is not the one that accepts.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// The beginning of a line that suffices: a name, and a state; or a number, its six arguments and two registers.
const LINE_BYTES: usize = 256;
/// How many looks the master may take in a second: some 1 % of a core.
const LOOKS_A_SECOND: u32 = 2000;
/// How many of them at once.
const MOST_AT_ONCE: u32 = 64;

/// How long after a first look in vain there is another one, and how long it is between two at most.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// What a look at a worker shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Idle,
    Busy,
    /// The worker has to be asked.
    Unknown,
}

/// The way to look at one worker's event loop.
#[derive(Debug, Default)]
pub(super) enum EventLoop {
    #[default]
    Unseen,
    Seen {
        /// It holds on to the process, whose number may belong to another one later.
        syscall: File,
        state: File,
        /// The number of the loop's own epoll, once that has been seen.
        epoll: Option<u64>,
    },
    /// The kernel does not allow it, or the process has ended.
    Hidden,
}

impl EventLoop {
    /// Looks at the loop of a worker that accepts from this socket.
    pub(super) fn look(&mut self, pid: u32, accepts_from: impl AsFd) -> Look {
        if matches!(self, Self::Unseen) {
            *self = match Self::open(pid) {
                Ok(seen) => seen,
                Err(error) if is_short(&error) => return Look::Unknown,
                Err(_) => Self::Hidden,
            };
        }
        let Self::Seen { syscall, state, epoll: own } = self else { return Look::Unknown };
        let Ok(waits_on) = read(syscall, |line| epoll_of_wait(&line)) else {
            *self = Self::Hidden;
            return Look::Unknown;
        };
        if own.is_none() {
            *own = waits_on.filter(|epoll| watches(pid, *epoll, accepts_from));
        }
        match *own {
            None => Look::Unknown,
            own if own == waits_on && read(state, |line| is_asleep(&line)).unwrap_or(false) => Look::Idle,
            Some(_) => Look::Busy,
        }
    }

    /// Whether it is known on what the loop waits, so that every look tells whether it is idle.
    pub(super) fn is_known(&self) -> bool {
        matches!(self, Self::Seen { epoll: Some(_), .. })
    }

    /// Whether a look may make it known.
    pub(super) fn may_become_known(&self) -> bool {
        !self.is_known() && !matches!(self, Self::Hidden)
    }

    fn open(pid: u32) -> io::Result<Self> {
        let syscall = File::open(format!("/proc/{pid}/syscall"))?;
        // Of its first thread alone: this is quicker than what the kernel would have to add up.
        let state = File::open(format!("/proc/{pid}/task/{pid}/stat"))?;
        Ok(Self::Seen { syscall, state, epoll: None })
    }
}

/// Whether it is the master that has too little of something, for a moment.
fn is_short(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// Reads a file of the kernel from its beginning.
fn read<T>(file: &File, parse: impl FnOnce(Cow<'_, str>) -> T) -> io::Result<T> {
    let mut bytes = [0; LINE_BYTES];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(parse(String::from_utf8_lossy(bytes.get(..length).unwrap_or_default())))
}

/// Whether a thread sleeps, by its state behind its name, which may hold any brackets (man page `proc_pid_stat(5)`).
fn is_asleep(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

/// The epoll on which a process sleeps, by what the kernel says of it.
fn epoll_of_wait(line: &str) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let number: libc::c_long = fields.next()?.parse().ok()?;
    let argument = u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
    is_epoll_wait(number).then_some(argument)
}

fn is_epoll_wait(number: libc::c_long) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_epoll_wait {
        return true;
    }
    number == libc::SYS_epoll_pwait || number == libc::SYS_epoll_pwait2
}

/// Whether an epoll of a process watches a socket that we have as well.
fn watches(pid: u32, epoll: u64, socket: impl AsFd) -> bool {
    let Ok(inode) = rustix::fs::fstat(socket).map(|stat| stat.st_ino) else { return false };
    let Ok(info) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{epoll}")) else { return false };
    let wanted = format!("ino:{inode:x}");
    info.lines()
        .filter(|line| line.starts_with("tfd:"))
        .any(|line| line.split_ascii_whitespace().any(|field| field == wanted))
}

/// When a loop is looked at that is not known yet: first at once, then later and later, since it may never be.
#[derive(Debug, Default)]
pub(super) struct Pace {
    not_before: Option<Instant>,
    span: Duration,
}

impl Pace {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// Puts the next look off; returns when it is due. None where the worker has to say something before.
    pub(super) fn put_off(&mut self, now: Instant) -> Option<Instant> {
        self.span = (self.span * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        self.not_before = Some(now + self.span);
        self.not_before.filter(|_| self.span < LAST_PAUSE)
    }
}

/// How many looks may be taken: so many a second.
#[derive(Debug)]
pub(super) struct Looks {
    left: u32,
    filled_at: Instant,
}

impl Looks {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: MOST_AT_ONCE, filled_at: now }
    }

    /// Takes one, if there is one left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / LOOKS_A_SECOND;
        let since = now.saturating_duration_since(self.filled_at);
        let new = u32::try_from(since.as_nanos() / each.as_nanos()).unwrap_or(MOST_AT_ONCE).min(MOST_AT_ONCE);
        if new > 0 {
            self.left = (self.left + new).min(MOST_AT_ONCE);
            self.filled_at = if new == MOST_AT_ONCE { now } else { self.filled_at + each * new };
        }
        let has = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::super::fixtures::Waiting;
    use super::*;

    #[test]
    fn a_loop_waits_in_the_calls_of_epoll_alone() {
        let wait = libc::SYS_epoll_pwait;
        assert_eq!(
            epoll_of_wait(&format!("{wait} 0xd 0x7ffd30c57710 0x400 0x3e2 0x0 0x8 0x7 0x9\n")),
            Some(13)
        );
        assert_eq!(epoll_of_wait(&format!("{} 0xd 0x1 0x1 0x1 0x0 0x8 0x7 0x9\n", libc::SYS_futex)), None);
        for other in ["running\n", "-1 0x7ffd 0x7f\n", "", "281", "281 d", "281 0x", "x 0xd"] {
            assert_eq!(epoll_of_wait(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_state_stands_behind_the_name() {
        for (stat, expected) in [
            ("7 (node) S 1 7", true),
            ("7 (a) R) S 1 7", true),
            ("7 (node) T 1 7", false),
            ("7 (S) R 1 7", false),
            ("7 (node) ", false),
            ("", false),
        ] {
            assert_eq!(is_asleep(stat), expected, "{stat:?}");
        }
    }

    #[test]
    fn a_loop_that_stays_unknown_is_looked_at_less_and_less_often() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        let mut spans = Vec::new();
        while let Some(at) = pace.put_off(now) {
            assert!(!pace.is_due(now) && pace.is_due(at));
            spans.push((at - now).as_millis());
            now = at;
        }
        assert_eq!(spans, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        assert!(!pace.is_due(now) && pace.is_due(now + LAST_PAUSE));
    }

    #[test]
    fn looks_are_limited_in_a_second_and_at_once() {
        let begin = Instant::now();
        let mut looks = Looks::new(begin);
        let mut count = |from: u64, to: u64| {
            (from..to).map(|micros| u32::from(looks.take(begin + Duration::from_micros(micros)))).sum::<u32>()
        };
        assert_eq!(count(0, 1), 1);
        assert_eq!((0..200).filter(|_| count(0, 1) == 1).count(), MOST_AT_ONCE as usize - 1);
        let second = count(0, 1_000_000);
        assert!((LOOKS_A_SECOND - 1..=LOOKS_A_SECOND).contains(&second), "{second}");
        assert_eq!((0..200).filter(|_| count(60_000_000, 60_000_001) == 1).count(), MOST_AT_ONCE as usize);
    }

    /// Looks until there is that to see.
    fn seen(process: &Waiting, event_loop: &mut EventLoop, socket: &TcpListener, wanted: Look) {
        while event_loop.look(process.id(), socket) != wanted {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_loop_that_waits_for_connections_is_idle_and_one_in_a_nested_loop_is_not() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let then = "own.poll()\nnested = select.epoll()\nprint('nested', flush=True)\nnested.poll()";
        let mut process = Waiting::new(&socket, then);
        let mut event_loop = EventLoop::default();
        seen(&process, &mut event_loop, &socket, Look::Idle);
        let _client = TcpStream::connect(address).unwrap();
        assert_eq!(process.says(), "nested\n");
        seen(&process, &mut event_loop, &socket, Look::Busy);
        for _ in 0..100 {
            assert_eq!(event_loop.look(process.id(), &socket), Look::Busy);
        }
    }

    #[test]
    fn a_process_that_is_stopped_is_not_idle() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let process = Waiting::new(&socket, "own.poll()");
        let mut event_loop = EventLoop::default();
        seen(&process, &mut event_loop, &socket, Look::Idle);
        let pid = rustix::process::Pid::from_raw(process.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        seen(&process, &mut event_loop, &socket, Look::Busy);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        seen(&process, &mut event_loop, &socket, Look::Idle);
    }

    #[test]
    fn a_process_that_waits_for_something_else_has_to_be_asked() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let process = Waiting::new(&other, "own.poll()");
        let mut event_loop = EventLoop::default();
        seen(&process, &mut EventLoop::default(), &other, Look::Idle);
        assert_eq!(event_loop.look(process.id(), &socket), Look::Unknown);
    }

    #[test]
    fn a_process_that_has_ended_is_unknown() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let process = Waiting::new(&socket, "own.poll()");
        let id = process.id();
        let mut event_loop = EventLoop::default();
        seen(&process, &mut event_loop, &socket, Look::Idle);
        drop(process);
        assert_eq!(event_loop.look(id, &socket), Look::Unknown);
        assert_eq!(EventLoop::default().look(id, &socket), Look::Unknown);
    }
}
