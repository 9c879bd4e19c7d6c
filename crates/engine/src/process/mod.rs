//! A worker's process: begun in a group of its own, watched by pidfd, signalled as a group, and reaped by the supervisor
//! alone, so that a pid is never signalled after it was given to somebody else.

pub(crate) mod event;
pub(crate) mod exit;
pub(crate) mod groups;
pub(crate) mod health_check;
pub(crate) mod preload;
pub(crate) mod program;
pub(crate) mod sd_notify;
pub(crate) mod shell_command;
pub(crate) mod stderr;
pub(crate) mod stdio;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use recluster_core as core;
use recluster_core::{Exit, Generation, SlotId, SpawnFailure, WorkerId};
use recluster_wire::env::{
    Activation, FIRST_FD, LISTEN_FDNAMES, LISTEN_FDS, LISTEN_PID, Links, NodeChannel, NodeDrain,
    WATCHDOG_PID, WorkerEnv,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use crate::config::drain_signal::DrainSignal;
use crate::process::exit::Watch;
use crate::process::program::{NodeKind, ResolvedProgram, Runtime};
use crate::process::stderr::Tail;
use crate::socket::bind::{Bound, FIRST_LISTENER};
use crate::sys;

/// What is reported of a process that somebody else has reaped.
pub(crate) const UNKNOWN_STATUS: i32 = 255;

/// A worker's process, from its start until it is reaped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) begun: Instant,
    pub(crate) tail: Tail,
    /// Its group was told to go, by whatever signal.
    pub(crate) told: bool,
    /// The strongest signal that its group was sent to end it; its drain signal is one of them where that is TERM.
    pub(crate) sent: Option<core::Signal>,
    /// What it is sent when it is to drain, as it was said when it was begun.
    pub(crate) drain_signal: DrainSignal,
    pidfd: OwnedFd,
}

/// What [`spawn`] yields: the process, and our end of its channel.
pub(crate) struct Spawned {
    pub(crate) process: Process,
    pub(crate) channel: OwnedFd,
    pub(crate) watch: Watch,
    /// Our ends of its standard descriptors, where these are pipes.
    pub(crate) pipes: [Option<OwnedFd>; 3],
}

/// What kind of worker is begun.
pub(crate) struct SpawnOptions<'a> {
    pub(crate) worker: WorkerId,
    /// What it is to be known by.
    pub(crate) number: u64,
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
    /// What the master has bound for its workers.
    pub(crate) sockets: Vec<&'a Bound>,
    /// Where the worker can notify us.
    pub(crate) notify: Option<PathBuf>,
    /// How long it may be silent.
    pub(crate) watchdog: Option<Duration>,
    /// What it is to be sent when it is to drain.
    pub(crate) drain_signal: DrainSignal,
}

/// Starts a worker's process.
pub(crate) fn spawn(program: &ResolvedProgram, options: &SpawnOptions<'_>) -> io::Result<Spawned> {
    let mut command = command(program, options);
    let stdio::Ends { pipes, tail: stderr } = stdio::attach(&mut command, &program.stdio, options.raw_stdio)?;
    let (channel, theirs) = channel_pair()?;
    let environment = environment(program, options);
    if program.is_node() {
        give(&mut command, [theirs])?;
    } else {
        let sockets = options.sockets.iter().map(|bound| bound.socket.try_clone());
        give(&mut command, sockets.chain([Ok(theirs)]).collect::<io::Result<Vec<_>>>()?)?;
        // A Node worker learns from its channel that the master is gone; others may not listen to theirs.
        if options.end_with_master {
            sys::term_when_parent_dies(&mut command);
        }
    }
    command.env_clear().envs(&environment);
    if !program.is_node() {
        let binary = command.get_program().to_owned();
        let args = [program.name()].into_iter().chain(program.args.iter().map(OsString::as_os_str));
        let variables = environment.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        sys::exec_knowing_pid(&mut command, &binary, args, variables, &own_pid(options))?;
    }
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
    let watch = Watch { worker: options.worker, pidfd: watched, stderr, tail: tail.clone() };
    let drain_signal = options.drain_signal;
    let process = Process { pid, begun: Instant::now(), tail, told: false, sent: None, drain_signal, pidfd };
    Ok(Spawned { process, channel, watch, pipes })
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

/// Such an error in words.
pub(crate) fn spawn_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => {
            "it is no program for this machine; a script must begin with a line such as #!/bin/sh".to_owned()
        }
        Some(_) | None => error.to_string(),
    }
}

impl Process {
    /// Sends a signal to the worker and to whatever it has started in its group.
    pub(crate) fn signal(&mut self, signal: core::Signal) {
        (self.told, self.sent) = (true, self.sent.max(Some(signal)));
        let signal = match signal {
            core::Signal::Term => Signal::TERM,
            core::Signal::Kill => Signal::KILL,
        };
        // It fails only where the process has just ended; its end is on its way to the supervisor.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Sends a signal to the worker's own process.
    pub(crate) fn signal_alone(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Has the worker end itself and leave a picture of what it was doing, where the system keeps such pictures.
    pub(crate) fn abort(&self) {
        // As above.
        let _ = kill_process_group(self.pid, Signal::ABORT);
    }

    /// Tells a program that is not Node, and its group, that it is to drain.
    pub(crate) fn let_go(&mut self) {
        self.told = true;
        if self.drain_signal == DrainSignal::Term {
            self.sent = self.sent.max(Some(core::Signal::Term));
        }
        let signal = match self.drain_signal {
            DrainSignal::Term => Signal::TERM,
            DrainSignal::Int => Signal::INT,
            DrainSignal::Quit => Signal::QUIT,
            DrainSignal::Hup => Signal::HUP,
            DrainSignal::Usr1 => Signal::USR1,
            DrainSignal::Usr2 => Signal::USR2,
            DrainSignal::Winch => Signal::WINCH,
        };
        // As above.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Ends a process that cannot be watched. It was just started, so this does not take long.
    pub(crate) fn kill_and_reap(&mut self) {
        self.signal(core::Signal::Kill);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }

    /// How the process ended, which is not reaped yet.
    pub(crate) fn exit(&self) -> Exit {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => exit_of(&status),
            Ok(None) | Err(_) => Exit::Code(UNKNOWN_STATUS),
        }
    }

    /// Reaps the process, which has ended: from now on its number may be given to another.
    pub(crate) fn reap(self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // It fails only where somebody else has reaped it.
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
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

/// How a process ended that was reaped.
pub(crate) fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(UNKNOWN_STATUS),
    }
}

/// Whether SIGCHLD is ignored in this process, so that the kernel reaps its children and nobody learns how they ended.
pub(crate) fn ignores_ended_children() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    ignored & (1 << (libc::SIGCHLD - 1)) != 0
}

/// One for whoever signals and reaps, and one for the task that waits.
pub(crate) fn open_pidfds(pid: Pid) -> io::Result<(OwnedFd, OwnedFd)> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let watched = pidfd.try_clone()?;
    Ok((pidfd, watched))
}

fn command(program: &ResolvedProgram, options: &SpawnOptions<'_>) -> Command {
    let mut command = match &program.runtime {
        Runtime::Node { kind, binary, name, args } => {
            let mut command = Command::new(binary);
            command.arg0(name);
            if *kind == NodeKind::Deno {
                // All permissions, as node has them; more arguments may take some away.
                command.args(["run", "-A"]);
            }
            if let Some((preload, _)) = &options.preload {
                let options = program.env.get(OsStr::new("NODE_OPTIONS")).map(OsString::as_os_str);
                command.args(preload::arguments(preload, args, options));
            }
            command.args(args).arg(&program.server);
            command
        }
        Runtime::Executable { name } => {
            let mut command = Command::new(&program.server);
            command.arg0(name);
            command
        }
    };
    command.args(&program.args).current_dir(&program.directory).process_group(0);
    if let Some(gid) = program.gid {
        command.gid(gid);
    }
    if let Some(uid) = program.uid {
        command.uid(uid);
    }
    command
}

/// What the generation's environment is, then what we say.
fn environment(program: &ResolvedProgram, options: &SpawnOptions<'_>) -> BTreeMap<OsString, OsString> {
    let mut variables = program.env.clone();
    variables.insert("PWD".into(), program.directory.clone().into());
    let mut add = |name: &str, value: String| variables.insert(name.into(), value.into());
    let drain = options.preload.as_ref().map(|(_, drain)| *drain);
    let channel = NodeChannel { fd: FIRST_FD, unique_id: options.number, drain };
    let node = program.is_node().then_some(channel);
    let place = WorkerEnv {
        slot: options.slot.get(),
        generation: options.generation.get(),
        workers: options.slots,
        node,
    };
    for (name, value) in place.variables() {
        add(name, value);
    }
    let sockets = options.sockets.iter().map(|bound| bound.given()).collect();
    let activation = Activation { sockets, generation: options.generation.get() };
    for (name, value) in activation.variables() {
        // A Node worker gets its sockets by asking for them by number.
        if !program.is_node() || [LISTEN_FDS, LISTEN_FDNAMES].contains(&name.as_str()) {
            add(&name, value);
        }
    }
    let channel_fd =
        (!program.is_node()).then(|| FIRST_FD + u32::try_from(options.sockets.len()).unwrap_or(0));
    let notify_socket = options.notify.as_deref().and_then(Path::to_str);
    for (name, value) in (Links { channel_fd, notify_socket, watchdog: options.watchdog }).variables() {
        add(name, value);
    }
    variables
}

/// The variables that are to name the worker's own process.
fn own_pid(options: &SpawnOptions<'_>) -> Vec<&'static str> {
    let listen = (!options.sockets.is_empty()).then_some(LISTEN_PID);
    let watchdog = options.watchdog.map(|_| WATCHDOG_PID);
    listen.into_iter().chain(watchdog).collect()
}

/// The two ends of a worker's channel: ours, and the worker's.
fn channel_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    stdio::set_nonblocking(&ours)?;
    Ok((ours, theirs))
}

/// Gives the worker these descriptors, from 3 on.
fn give(command: &mut Command, descriptors: impl IntoIterator<Item = OwnedFd>) -> io::Result<()> {
    let mappings = (FIRST_LISTENER..).zip(descriptors);
    let mappings = mappings.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings).map(drop).map_err(io::Error::other)
}
