//! The signals to the master, and what each of them means.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, SigSet};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::{getppid, getsid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, Signal, pidfd_open};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep_until};

use crate::wishes::{Wish, Wishes};

/// Every signal that means something, and what.
const MEANINGS: [(Signal, &str, Wish); 8] = [
    (Signal::HUP, "SIGHUP", Wish::Reload),
    (Signal::USR2, "SIGUSR2", Wish::Reload),
    (Signal::TERM, "SIGTERM", Wish::Stop),
    (Signal::INT, "SIGINT", Wish::Stop),
    (Signal::QUIT, "SIGQUIT", Wish::Terminate),
    (Signal::TTIN, "SIGTTIN", Wish::MoreWorkers),
    (Signal::TTOU, "SIGTTOU", Wish::FewerWorkers),
    (Signal::USR1, "SIGUSR1", Wish::ReopenLog),
];

/// What the kernel itself sends those who use a terminal: from the background, or when it is closed.
const OF_TERMINALS: [signal::Signal; 3] =
    [signal::Signal::SIGHUP, signal::Signal::SIGTTIN, signal::Signal::SIGTTOU];

/// The stack of a thread that only takes signals.
const STACK_BYTES: usize = 64 * 1024;

/// How many of them may wait to be heard: one of each kind, as the kernel has it.
const WAITING: usize = MEANINGS.len();

/// How long it takes to look again where the kernel could not.
const AGAIN: Duration = Duration::from_millis(10);

/// A shell that goes tells its jobs before it does: one that is still there behind this time had another wish.
const SHELL_GOES: Duration = Duration::from_secs(2);

/// The terminal that a process belongs to, by whatever name it has.
const TERMINAL: &str = "/dev/tty";

/// Whether the signal of this name asks for a reload.
pub(crate) fn asks_for_reload(name: &str) -> bool {
    MEANINGS.iter().any(|(_, known, wish)| *known == name && *wish == Wish::Reload)
}

/// Every signal that the master hears waits from now on, in this thread and in those that it starts, for [`Signals::install`].
pub(crate) fn block() -> io::Result<()> {
    let mut heard = meant()?;
    heard.add(signal::Signal::SIGCHLD);
    Ok(heard.thread_set_mask()?)
}

/// What the master hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A signal, and what it comes to after those before it.
    Signal { name: &'static str, wish: Wish },
    /// The terminal that this process was started on was closed.
    HungUp,
    /// A stop was asked for a while ago: another signal would insist on it now.
    StopSettled,
    /// Some child has ended.
    ChildEnded,
}

/// The signals that the master listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(unix::Signal, &'static str, Wish)>,
    apart: Apart,
    terminal: Terminal,
    /// Who has started this process. It may have gone by the time at which its signal is looked at.
    parent: i32,
    wishes: Wishes,
    /// Sleeps until the next deadline of the wishes. It is kept: the runtime lets a sleep end only after it has looked for
    /// signals, but one that begins too late ends at once.
    clock: Option<Pin<Box<Sleep>>>,
    /// It is of use even if nobody listens: a process can be started with SIGCHLD ignored. The kernel then reaps the
    /// workers, and their exit statuses are lost. Installing a handler undoes that.
    children: unix::Signal,
}

/// Signals with who has sent them, as a thread reads them that does nothing else but to run the handlers of all other signals.
#[derive(Debug)]
struct Apart {
    told: mpsc::Receiver<Told>,
    waiting: Waiting,
    gate: Gate,
}

/// The kinds of signals that wait to be heard, a bit for each.
type Waiting = Arc<AtomicU64>;

/// By which signals are held: those that come then wait in the kernel, also for another program that this process becomes. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Mutex<Reader>>);

/// The thread that reads them, while they are not held.
#[derive(Debug)]
struct Reader {
    tell: mpsc::Sender<Told>,
    waiting: Waiting,
    parent: i32,
    /// The thread ends when this is closed.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// What that thread tells.
#[derive(Debug)]
enum Told {
    Signal(Box<siginfo>),
    /// The shell has gone, right after it had sent HUP.
    ShellGone,
}

/// Whoever has this process for a job, and has just sent HUP.
struct Shell {
    process: OwnedFd,
    until: Instant,
}

/// What there is to know of the terminal that this process was started on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Terminal {
    /// There never was one.
    Missing,
    Open,
    /// It is closed, or is to be outlived (`nohup`).
    DoesNotMatter,
}

impl Signals {
    /// Installs handlers for all of them: from now on they are queued, and have no other effect. They are heard also where
    /// whoever started this process has blocked them: one thread takes them, and whoever else has them blocked may have them so. What the
    /// program before knew of the terminal holds, where there was one: this one cannot see it any more. Then they are held until the
    /// [gate](Self::gate) is opened: the program before may have to go on with them.
    pub(crate) fn install(known: Option<Terminal>) -> io::Result<Self> {
        let (terminal, parent) = (known.unwrap_or_else(Terminal::of_process), getppid().as_raw());
        let listen = |(signal, name, wish): (Signal, _, _)| {
            let stream = unix::signal(SignalKind::from_raw(signal.as_raw()))?;
            Ok((stream, name, wish))
        };
        let streams = MEANINGS.into_iter().map(listen).collect::<io::Result<_>>()?;
        let wishes = Wishes::default();
        let children = unix::signal(SignalKind::child())?;
        // What has waited comes now, when there are handlers.
        let apart = Apart::listen(known.is_none(), parent)?;
        Ok(Self { streams, apart, terminal, parent, wishes, clock: None, children })
    }

    /// By which they are held.
    pub(crate) fn gate(&self) -> Gate {
        self.apart.gate.clone()
    }

    /// What is known of the terminal.
    pub(crate) fn terminal(&self) -> Terminal {
        self.terminal
    }

    /// The next signal. Several of one kind in quick succession may be heard as one. Nothing is lost if this is dropped.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            if self.clock.is_none() {
                self.clock = self.wishes.deadline().map(|at| Box::pin(sleep_until(at.into())));
            }
            tokio::select! {
                // Signals come before the clock, see `Wishes::pass`.
                biased;
                (name, wish) = arrival(&mut self.streams) => {
                    return Heard::Signal { name, wish: self.wishes.hear(wish, Instant::now()) };
                }
                told = self.apart.next() => {
                    let heard = match told {
                        Told::Signal(info) => {
                            let is_of_shell = is_of_shell(&info, self.parent, self.terminal);
                            self.judge(&info, is_of_shell)
                        }
                        Told::ShellGone => self.hang_up(),
                    };
                    if let Some(heard) = heard {
                        return heard;
                    }
                }
                () = elapsed(self.clock.as_mut()) => {
                    self.clock = None;
                    if self.wishes.pass(Instant::now()) {
                        return Heard::StopSettled;
                    }
                }
                _ = self.children.recv() => return Heard::ChildEnded,
            }
        }
    }

    /// What a signal means: nothing, if it is one of terminals and the kernel has sent it because a process of this one's group uses its
    /// terminal.
    /// A shell passes on to its jobs that the terminal is closed; without a terminal, whoever leads the session has a wish of its own.
    fn judge(&mut self, info: &siginfo, is_of_shell: bool) -> Option<Heard> {
        let number = info.ssi_signo.cast_signed();
        let (_, name, wish) = MEANINGS.into_iter().find(|(signal, ..)| signal.as_raw() == number)?;
        let is_of_terminals = OF_TERMINALS.iter().any(|signal| *signal as i32 == number);
        if !is_of_terminals {
            return Some(Heard::Signal { name, wish: self.wishes.hear(wish, Instant::now()) });
        }
        let is_sent = info.ssi_code <= 0;
        let is_passed_on = is_of_shell && self.terminal != Terminal::Missing;
        if wish == Wish::Reload && (!is_sent || is_passed_on) {
            return self.hang_up();
        }
        is_sent.then(|| Heard::Signal { name, wish: self.wishes.hear(wish, Instant::now()) })
    }

    /// The terminal is closed, or whoever leads the session has gone, and has told its jobs.
    fn hang_up(&mut self) -> Option<Heard> {
        let stop = self.terminal.closes().then(|| self.wishes.hear(Wish::Stop, Instant::now()));
        (stop == Some(Wish::Stop)).then_some(Heard::HungUp)
    }

    /// A reload has its verdict, which is known by now to whoever waits for it.
    pub(crate) fn reload_has_ended(&mut self) {
        self.wishes.reload_has_ended();
    }
}

impl Terminal {
    /// Whoever starts a process by `nohup` has it ignore the signal of a terminal that closes.
    fn of_process() -> Self {
        match (has_terminal(), ignores_hangup()) {
            (false, _) => Self::Missing,
            (true, false) => Self::Open,
            (true, true) => Self::DoesNotMatter,
        }
    }

    /// It is closed. Returns whether that means something.
    fn closes(&mut self) -> bool {
        let was_open = *self == Self::Open;
        if was_open {
            *self = Self::DoesNotMatter;
        }
        was_open
    }
}

fn has_terminal() -> bool {
    open(TERMINAL, OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .is_ok()
}

/// Whether the sender is a shell that has this process for a job, and there is no terminal any more. What is to outlive its terminal
/// may have a parent that sends what it means.
fn is_of_shell(info: &siginfo, parent: i32, terminal: Terminal) -> bool {
    let shell = shell(info, parent);
    shell.is_some_and(|shell| shell.leads || terminal == Terminal::Open) && !has_terminal()
}

/// A shell that has jobs: it leads the session, or has started this process.
struct Sender {
    pid: i32,
    leads: bool,
}

/// The shell that has sent this. A process of an outer PID namespace has no number here: 0 says neither who leads nor who has sent a
/// signal.
fn shell(info: &siginfo, parent: i32) -> Option<Sender> {
    let pid = info.ssi_pid.cast_signed();
    let leads = getsid(None).is_ok_and(|leader| leader.as_raw() == pid);
    (pid > 0 && (leads || parent == pid)).then_some(Sender { pid, leads })
}

/// A shell that has just sent HUP.
enum Sent {
    ByShell(Shell),
    /// It has gone, before anybody has read that.
    ByOneThatHasGone,
    /// The signal is another one, or of somebody else, or it cannot be known who that is.
    Otherwise,
}

impl Sent {
    fn of(info: &siginfo, parent: i32) -> Self {
        let is_hangup = info.ssi_signo.cast_signed() == Signal::HUP.as_raw() && info.ssi_code <= 0;
        let sender = shell(info, parent).filter(|_| is_hangup);
        let Some(pid) = sender.and_then(|sender| rustix::process::Pid::from_raw(sender.pid)) else {
            return Self::Otherwise;
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => Self::ByShell(Shell { process, until: Instant::now() + SHELL_GOES }),
            Err(Errno::SRCH) => Self::ByOneThatHasGone,
            Err(_) => Self::Otherwise,
        }
    }
}

/// Whether this process was started with SIGHUP ignored.
fn ignores_hangup() -> bool {
    // The name of this process is in it, which may be no UTF-8.
    let status = fs::read("/proc/self/status").unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 << (Signal::HUP.as_raw() - 1) != 0)
}

impl Apart {
    /// This thread blocks them, and so do those that it starts: one that writes to a terminal in the background would be sent some of them
    /// by the kernel (`stty tostop`), and would never have written. With them blocked it writes.
    fn listen(begins: bool, parent: i32) -> io::Result<Self> {
        meant()?.thread_block()?;
        let (tell, told) = mpsc::channel(WAITING);
        let waiting = Waiting::default();
        let mut reader = Reader { tell, waiting: Arc::clone(&waiting), parent, stop: None, thread: None };
        if begins {
            reader.begin()?;
        }
        Ok(Self { told, waiting, gate: Gate(Arc::new(Mutex::new(reader))) })
    }

    async fn next(&mut self) -> Told {
        match self.told.recv().await {
            Some(told) => {
                if let Told::Signal(info) = &told {
                    // The next one of its kind is another one.
                    self.waiting.fetch_and(!bit(info), Ordering::AcqRel);
                }
                told
            }
            // Nothing can be read any more.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.gate.lock().end();
    }
}

impl Gate {
    /// From now on none is taken. One that was taken and that nobody has heard of is an error, and then they are taken as before.
    pub(crate) fn hold(&self) -> Result<(), String> {
        let mut reader = self.lock();
        reader.end();
        if reader.tell.capacity() == reader.tell.max_capacity() {
            return Ok(());
        }
        reader.begin().map_err(|error| error.to_string())?;
        Err("a signal has come, and is obeyed first".to_owned())
    }

    /// They are taken again.
    pub(crate) fn release(&self) {
        // Without a thread none is heard: this process has as many as before, and had this one.
        let _ = self.lock().begin();
    }

    fn lock(&self) -> MutexGuard<'_, Reader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn begin(&mut self) -> io::Result<()> {
        if self.thread.is_some() {
            return Ok(());
        }
        let fd = SignalFd::with_flags(&meant()?, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let (ends, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let builder = thread::Builder::new().name("recluster-signal".to_owned()).stack_size(STACK_BYTES);
        let mut others = SigSet::all();
        for signal in &meant()? {
            others.remove(signal);
        }
        let (tell, waiting, parent) = (self.tell.clone(), Arc::clone(&self.waiting), self.parent);
        self.thread = Some(builder.spawn(move || {
            // An error would say that there is no such thing as a mask.
            let _ = others.thread_unblock();
            take(&fd, &ends, &tell, &waiting, parent);
        })?);
        self.stop = Some(stop);
        Ok(())
    }

    fn end(&mut self) {
        drop(self.stop.take());
        // An error says that it has panicked, and ended.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// All that mean something, but for SIGCHLD.
fn meant() -> io::Result<SigSet> {
    let mut meant = SigSet::empty();
    for (number, ..) in MEANINGS {
        meant.add(signal::Signal::try_from(number.as_raw())?);
    }
    Ok(meant)
}

/// Reads signals until the other end of a pipe is closed.
fn take(fd: &SignalFd, ends: &OwnedFd, tell: &mpsc::Sender<Told>, waiting: &Waiting, parent: i32) {
    let mut shell: Option<Shell> = None;
    loop {
        let wait = shell.as_ref().map(|shell| shell.until.saturating_duration_since(Instant::now()));
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut ready = vec![PollFd::new(fd, PollFlags::IN), PollFd::new(ends, PollFlags::IN)];
        ready.extend(shell.as_ref().map(|shell| PollFd::new(&shell.process, PollFlags::IN)));
        match poll(&mut ready, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // The machine is short of something.
            Err(_) => thread::sleep(AGAIN),
        }
        let is_ready = |at: usize| ready.get(at).is_some_and(|one| !one.revents().is_empty());
        if is_ready(1) {
            return;
        }
        let mut has_gone = is_ready(2);
        drop(ready);
        shell = shell.filter(|shell| !has_gone && shell.until > Instant::now());
        // One that comes while another of its kind waits is one with that, as the kernel has it.
        while let Ok(Some(info)) = fd.read_signal() {
            match Sent::of(&info, parent) {
                Sent::ByShell(sender) => shell = Some(sender),
                Sent::ByOneThatHasGone => has_gone = true,
                Sent::Otherwise => {}
            }
            if waiting.fetch_or(bit(&info), Ordering::AcqRel) & bit(&info) == 0 {
                let _ = tell.try_send(Told::Signal(Box::new(info)));
            }
        }
        if has_gone {
            let _ = tell.try_send(Told::ShellGone);
        }
    }
}

fn bit(info: &siginfo) -> u64 {
    1_u64.checked_shl(info.ssi_signo).unwrap_or_default()
}

/// The next of these signals: its name, and what it asks for by itself.
async fn arrival(streams: &mut [(unix::Signal, &'static str, Wish)]) -> (&'static str, Wish) {
    poll_fn(|context| {
        let ready = streams
            .iter_mut()
            .find_map(|(stream, name, wish)| stream.poll_recv(context).is_ready().then_some((*name, *wish)));
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

async fn elapsed(clock: Option<&mut Pin<Box<Sleep>>>) {
    match clock {
        Some(clock) => clock.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
