//! A worker's process: begun in a group of its own, watched by pidfd, signalled as a group, and reaped by the driver
//! alone, so that a pid is never signalled after it was given to somebody else.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use recluster_core::{Exit, Generation, SlotId, SpawnFailure, WorkerId};
use recluster_wire::env::{NodeChannel, NodeDrain, WorkerEnv};
use recluster_wire::node::Held;
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::driver::Input;
use crate::output::{Forwarder, Tail};
use crate::preload;
use crate::program::{Launch, Runtime};
use crate::sys;

/// The number of the channel in the worker. Node hands a number above 15 on to the worker's own children, and then
/// the channel would not end with the worker.
const CHANNEL_FD: i32 = 3;
/// What is reported of a process that somebody else has reaped.
const UNKNOWN_STATUS: i32 = 255;
/// How much of a worker's stderr is read at a time.
const STDERR_CHUNK: usize = 8 * 1024;
/// How many chunks of last words are read: more than fits a pipe.
const LAST_CHUNKS: usize = 16;
/// How often people are told of lines that were lost.
const TELL_OF_LOSS: Duration = Duration::from_secs(1);

/// A worker's process, as the driver holds it until it is reaped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) slot: SlotId,
    pub(crate) generation: Generation,
    pub(crate) pid: Pid,
    pub(crate) begun: Instant,
    pub(crate) tail: Tail,
    /// It is a Node process, with a channel.
    pub(crate) is_node: bool,
    pub(crate) seen: Seen,
    /// It was sent TERM: a program without a channel is told to drain by it.
    pub(crate) termed: bool,
    /// It has loaded the preload.
    pub(crate) has_preload: bool,
    /// What it still had when it last told, in its drain.
    pub(crate) held: Option<Held>,
    pidfd: OwnedFd,
}

/// What was seen of a worker so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Its first word.
    pub(crate) online: bool,
    /// A server that listens.
    pub(crate) listening: bool,
    /// Whatever makes it ready.
    pub(crate) ready: bool,
}

/// What [`begin`] yields: the process, and our end of its channel.
pub(crate) struct Begun {
    pub(crate) process: Process,
    pub(crate) channel: Option<OwnedFd>,
    pub(crate) watch: Watch,
}

/// What is needed to watch a process.
pub(crate) struct Watch {
    worker: WorkerId,
    pidfd: OwnedFd,
    stderr: Option<OwnedFd>,
    tail: Tail,
}

/// What kind of worker is begun.
pub(crate) struct Seat {
    pub(crate) worker: WorkerId,
    pub(crate) slot: SlotId,
    pub(crate) generation: Generation,
    /// How many slots there are.
    pub(crate) slots: u32,
    /// Its stderr goes where the master's does.
    pub(crate) raw_stdio: bool,
    /// A program that is not Node is sent TERM when the master dies.
    pub(crate) end_with_master: bool,
    /// A Node worker loads this file, and is told this.
    pub(crate) preload: Option<(PathBuf, NodeDrain)>,
}

/// Starts a worker's process.
pub(crate) fn begin(launch: &Launch, seat: &Seat) -> io::Result<Begun> {
    let mut command = command(launch, seat);
    command.args(&launch.args).current_dir(&launch.directory).stdin(Stdio::null()).process_group(0);
    set_environment(&mut command, launch, seat);
    let channel = if launch.is_node() {
        Some(attach_channel(&mut command)?)
    } else {
        // A Node worker learns from its channel that the master is gone; others learn nothing.
        if seat.end_with_master {
            sys::term_when_parent_dies(&mut command);
        }
        None
    };
    let stderr = if seat.raw_stdio { None } else { Some(attach_stderr(&mut command)?) };
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let (pidfd, watched) = match open_pidfds(pid) {
        Ok(pidfds) => pidfds,
        Err(error) => {
            // A process that cannot be watched must not live. It was just started, so this does not take long.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    let tail = Tail::default();
    let watch = Watch { worker: seat.worker, pidfd: watched, stderr, tail: tail.clone() };
    let process = Process {
        slot: seat.slot,
        generation: seat.generation,
        pid,
        begun: Instant::now(),
        tail,
        is_node: launch.is_node(),
        seen: Seen::default(),
        termed: false,
        has_preload: seat.preload.is_some(),
        held: None,
        pidfd,
    };
    Ok(Begun { process, channel, watch })
}

/// Whether trying again may help after such an error.
pub(crate) fn failure_of(error: &io::Error) -> SpawnFailure {
    let short = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EINTR, libc::ETXTBSY];
    if error.raw_os_error().is_some_and(|errno| short.contains(&errno)) {
        SpawnFailure::Temporary
    } else {
        SpawnFailure::Hopeless
    }
}

impl Process {
    /// Sends a signal to the worker and to whatever it has started in its group.
    pub(crate) fn signal(&self, signal: recluster_core::Signal) {
        let signal = match signal {
            recluster_core::Signal::Term => Signal::TERM,
            recluster_core::Signal::Kill => Signal::KILL,
        };
        // It fails only where the process has just ended; its end is on its way to the driver.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Ends a process that cannot be watched. It was just started, so this does not take long.
    pub(crate) fn kill_and_reap(&self) {
        self.signal(recluster_core::Signal::Kill);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }

    /// Reaps the process, which has ended.
    pub(crate) fn reap(&self) -> Exit {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Code(UNKNOWN_STATUS),
            },
            Ok(None) | Err(_) => Exit::Code(UNKNOWN_STATUS),
        }
    }

    /// Resident memory in bytes, and CPU time in seconds.
    pub(crate) fn usage(&self) -> (Option<u64>, Option<f64>) {
        let pid = self.pid.as_raw_nonzero();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        // Fields are counted behind the name, which may hold spaces: state is the first of them.
        let fields: Option<Vec<u64>> = stat
            .as_deref()
            .and_then(|stat| stat.rsplit_once(')'))
            .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect());
        let field = |index: usize| fields.as_ref().and_then(|fields| fields.get(index)).copied();
        let memory = field(21).map(|pages| pages * rustix::param::page_size() as u64);
        #[expect(
            clippy::cast_precision_loss,
            reason = "ticks of a CPU fit a float for a hundred million years"
        )]
        let cpu = field(11)
            .zip(field(12))
            .map(|(user, system)| (user + system) as f64 / rustix::param::clock_ticks_per_second() as f64);
        (memory, cpu)
    }
}

impl Watch {
    /// Passes the worker's stderr on until its process ends, and reports the end when its last words are in.
    pub(crate) fn start(self, forwarder: Forwarder, inputs: mpsc::UnboundedSender<Input>) -> io::Result<()> {
        let end = sys::readable(self.pidfd)?;
        let (worker, tail, told) = (self.worker, self.tail, Instant::now());
        let pipe = self.stderr.map(sys::readable).transpose()?;
        let mut stderr =
            pipe.map(|pipe| Stderr { worker, pipe, tail, lost: 0, told, forwarder, inputs: inputs.clone() });
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = end.readable() => break,
                    open = Stderr::pass_on(stderr.as_mut()) => if !open { stderr = None },
                }
            }
            if let Some(stderr) = &mut stderr {
                stderr.take_last_words();
            }
            // The driver is gone only when the cluster is over.
            let _ = inputs.send(Input::Ended(worker));
            // A child of the worker may hold the pipe and go on writing.
            while stderr.is_some() && Stderr::pass_on(stderr.as_mut()).await {}
        });
        Ok(())
    }
}

/// A worker's stderr on its way to the master's.
struct Stderr {
    worker: WorkerId,
    pipe: AsyncFd<OwnedFd>,
    tail: Tail,
    /// Lines that were not passed on, and not told of yet.
    lost: u64,
    told: Instant,
    forwarder: Forwarder,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Stderr {
    /// Waits for words and passes them on; false at their end. Without a pipe it waits for ever.
    async fn pass_on(stderr: Option<&mut Self>) -> bool {
        let Some(stderr) = stderr else { return std::future::pending().await };
        let mut chunk = [0_u8; STDERR_CHUNK];
        let read = match stderr.pipe.readable().await {
            Ok(mut ready) => ready.try_io(|pipe| Ok(rustix::io::read(pipe.get_ref(), &mut chunk)?)),
            Err(_) => return false,
        };
        match read {
            Ok(Ok(0)) => {
                stderr.tell_of_loss();
                false
            }
            Ok(Ok(count)) => {
                stderr.take(chunk.get(..count).unwrap_or_default());
                true
            }
            Ok(Err(error)) => error.kind() == io::ErrorKind::Interrupted,
            // Nothing there, after all.
            Err(_) => true,
        }
    }

    /// Takes what is in the pipe now: the last words of a worker, unless somebody else goes on writing.
    fn take_last_words(&mut self) {
        let mut chunk = [0_u8; STDERR_CHUNK];
        for _ in 0..LAST_CHUNKS {
            match rustix::io::read(self.pipe.get_ref(), &mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(count) => self.take(chunk.get(..count).unwrap_or_default()),
            }
        }
        self.tell_of_loss();
    }

    fn take(&mut self, words: &[u8]) {
        self.tail.push(words);
        self.lost += self.forwarder.forward(words);
        if self.told.elapsed() >= TELL_OF_LOSS {
            self.tell_of_loss();
        }
    }

    fn tell_of_loss(&mut self) {
        self.told = Instant::now();
        if self.lost > 0 {
            // The driver is gone only when the cluster is over.
            let _ = self.inputs.send(Input::LinesLost(self.worker, std::mem::take(&mut self.lost)));
        }
    }
}

/// Whether SIGCHLD is ignored in this process, so that the kernel reaps its children and nobody learns how they ended.
pub(crate) fn ignores_ended_children() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    ignored & (1 << (libc::SIGCHLD - 1)) != 0
}

/// One for the driver, which signals and reaps, and one for the task that waits.
fn open_pidfds(pid: Pid) -> io::Result<(OwnedFd, OwnedFd)> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let watched = pidfd.try_clone()?;
    Ok((pidfd, watched))
}

fn command(launch: &Launch, seat: &Seat) -> Command {
    match &launch.runtime {
        Runtime::Node { binary, name, args } => {
            let mut command = Command::new(binary);
            command.arg0(name);
            if let Some((preload, _)) = &seat.preload {
                let options = launch.env.get(OsStr::new("NODE_OPTIONS")).map(OsString::as_os_str);
                command.args(preload::arguments(preload, args, options));
            }
            command.args(args).arg(&launch.server);
            command
        }
        Runtime::Executable { name } => {
            let mut command = Command::new(&launch.server);
            command.arg0(name);
            command
        }
    }
}

/// What the generation's environment is, then what we say.
fn set_environment(command: &mut Command, launch: &Launch, seat: &Seat) {
    let mut variables = launch.env.clone();
    variables.insert("PWD".into(), launch.directory.clone().into());
    let drain = seat.preload.as_ref().map(|(_, drain)| *drain);
    let channel = NodeChannel { fd: CHANNEL_FD.unsigned_abs(), unique_id: seat.worker.get(), drain };
    let node = launch.is_node().then_some(channel);
    let ours =
        WorkerEnv { slot: seat.slot.get(), generation: seat.generation.get(), workers: seat.slots, node };
    variables.extend(ours.variables().into_iter().map(|(name, value)| (name.into(), value.into())));
    command.env_clear().envs(variables);
}

/// Gives the worker one end of a socket pair; returns the other.
fn attach_channel(command: &mut Command) -> io::Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_nonblocking(&ours)?;
    command
        .fd_mappings(vec![FdMapping { parent_fd: theirs, child_fd: CHANNEL_FD }])
        .map_err(io::Error::other)?;
    Ok(ours)
}

/// Gives the worker the writing end of a pipe as its stderr; returns the reading end.
fn attach_stderr(command: &mut Command) -> io::Result<OwnedFd> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    // The worker's end stays blocking: that is what a stderr is.
    set_nonblocking(&ours)?;
    command.stderr(theirs);
    Ok(ours)
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}
