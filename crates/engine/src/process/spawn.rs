//! Starting a worker's process: its command, its descriptors and its environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use recluster_core::{SpawnFailure, WorkerId};
use recluster_wire::env::{
    Activation, CLUSTER, COMPILE_CACHE, FIRST_FD, LISTEN_FDNAMES, LISTEN_FDS, LISTEN_PID, Links, NGINX,
    NodeChannel, NodeDrain, SERVER, WATCHDOG_PID, WorkerEnv, nginx_numbers,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Resource};

use crate::config::drain_signal::DrainSignal;
use crate::process::exit::{Watch, open_pidfds};
use crate::process::program::ResolvedProgram;
use crate::process::runtime::Runtime;
use crate::process::stderr::Tail;
use crate::process::target::Target;
use crate::process::{Process, preload, stdio};
use crate::report::worker::Worker;
use crate::socket::bind::{Bound, FIRST_LISTENER};
use crate::sys;

/// What [`spawn`] yields: the process, and our end of its channel.
pub(crate) struct Spawned {
    pub(crate) process: Process,
    pub(crate) channel: OwnedFd,
    pub(crate) watch: Watch,
    /// Our ends of its standard descriptors, where these are pipes.
    pub(crate) pipes: [Option<OwnedFd>; 3],
}

/// Everything about a new worker but its program.
pub(crate) struct SpawnOptions<'a> {
    pub(crate) worker: WorkerId,
    /// The number that people know it by.
    pub(crate) number: u64,
    pub(crate) slot: u32,
    pub(crate) generation: u64,
    /// How many slots there are.
    pub(crate) slots: u32,
    /// Its stderr is the master's own, where it would pass through the master.
    pub(crate) raw_stdio: bool,
    /// Its stdout passes through the master, where it would be the master's own.
    pub(crate) takes_stdout: bool,
    /// A program that is not Node is sent TERM when the master dies.
    pub(crate) end_with_master: bool,
    /// By what the next master knows it.
    pub(crate) cluster: Option<&'a OsStr>,
    /// Its soft limit on open files, if that is not the master's.
    pub(crate) open_files: Option<u64>,
    /// The file that a Node worker loads, and how the worker drains by it, if it does.
    pub(crate) preload: Option<(PathBuf, Option<NodeDrain>)>,
    /// Where a Node worker listens for a debugger, if that is not as its arguments say.
    pub(crate) inspect_port: Option<u16>,
    /// The sockets that the master has bound for its workers.
    pub(crate) sockets: Vec<&'a Bound>,
    /// The path of its `sd_notify` socket.
    pub(crate) notify: Option<PathBuf>,
    /// The longest time between two watchdog notifications.
    pub(crate) watchdog: Option<Duration>,
    /// The signal that begins its drain.
    pub(crate) drain_signal: DrainSignal,
}

/// Starts a worker's process.
pub(crate) fn spawn(program: &ResolvedProgram, options: &SpawnOptions<'_>) -> io::Result<Spawned> {
    let mut command = command(program, options);
    sys::forget_signals(&mut command);
    let user = program.privileges.user();
    let stdio::Ends { pipes, stdout, stderr } =
        stdio::attach(&mut command, &program.stdio, user, options.raw_stdio, options.takes_stdout)?;
    let (channel, theirs) = channel_pair()?;
    let environment = environment(program, options);
    if program.is_node() {
        give(&mut command, [theirs])?;
    } else {
        suit_nginx(&environment, &options.sockets)?;
        let sockets = options.sockets.iter().map(|bound| bound.socket.try_clone());
        give(&mut command, sockets.chain([Ok(theirs)]).collect::<io::Result<Vec<_>>>()?)?;
        // A Node worker sees from its channel that the master is gone. Other programs may not read theirs.
        if options.end_with_master {
            sys::term_when_parent_dies(&mut command);
        }
    }
    if let Some(limit) = options.open_files.filter(|_| !program.privileges.limits(Resource::Nofile)) {
        sys::limit_open_files(&mut command, limit);
    }
    command.env_clear().envs(&environment);
    if !program.is_node() {
        let binary = command.get_program().to_owned();
        let args = [program.name()].into_iter().chain(program.args.iter().map(OsString::as_os_str));
        let variables = environment.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        sys::exec_knowing_pid(&mut command, &binary, args, variables, &own_pid(options))?;
    }
    let mut child = command.spawn().map_err(|error| program.name_path(error))?;
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
    let pid_number = u32::try_from(pid.as_raw_nonzero().get()).ok();
    let about =
        Worker { id: options.number, slot: options.slot, generation: options.generation, pid: pid_number };
    let watch = Watch { worker: options.worker, about, pidfd: watched, stdout, stderr, tail: tail.clone() };
    let drain_signal = options.drain_signal;
    let target = Target::new(pid, pidfd, program.own_group);
    let process = Process { begun: Instant::now(), tail, told: false, sent: None, drain_signal, target };
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

/// The text of such an error.
pub(crate) fn spawn_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => {
            "it is no program for this machine; a script must begin with a line such as #!/bin/sh".to_owned()
        }
        Some(_) | None => error.to_string(),
    }
}

pub(super) fn command(program: &ResolvedProgram, options: &SpawnOptions<'_>) -> Command {
    let mut command = match &program.runtime {
        Runtime::Node { binary, name, args, .. } => {
            let mut command = Command::new(binary);
            command.arg0(name);
            if let Some((preload, _)) = &options.preload {
                let options = program.env.get(OsStr::new("NODE_OPTIONS")).map(OsString::as_os_str);
                command.args(preload::arguments(preload, args, options));
            }
            command.args(args);
            // The last word counts, and the host of those before it.
            command.args(options.inspect_port.map(|port| format!("--inspect-port={port}")));
            command.arg(&program.server);
            command
        }
        Runtime::Executable { name, .. } => {
            let mut command = Command::new(&program.server);
            command.arg0(name);
            command
        }
    };
    command.args(&program.args).current_dir(&program.directory);
    if program.own_group {
        command.process_group(0);
    }
    program.privileges.give(&mut command);
    command
}

/// The generation's environment, and on top of it the variables of this worker.
pub(super) fn environment(
    program: &ResolvedProgram,
    options: &SpawnOptions<'_>,
) -> BTreeMap<OsString, OsString> {
    let mut variables = program.env_of(options.slot);
    variables.insert("PWD".into(), program.directory.clone().into());
    let mut add = |name: &str, value: String| variables.insert(name.into(), value.into());
    let drain = options.preload.as_ref().and_then(|(_, drain)| *drain);
    let serialization = program.serialization();
    let tells_stderr = options.preload.is_some() && !stdio::passes_stderr(&program.stdio, options.raw_stdio);
    let channel = NodeChannel { fd: FIRST_FD, unique_id: options.number, serialization, drain, tells_stderr };
    let node = program.is_node().then_some(channel);
    let place =
        WorkerEnv { slot: options.slot, generation: options.generation, workers: options.slots, node };
    for (name, value) in place.variables() {
        add(name, value);
    }
    if program.said.under_node && options.preload.is_some() && program.named_server != program.server {
        variables.insert(SERVER.into(), program.named_server.clone().into());
    }
    if let (Some(cache), Some((_, Some(_)))) = (&program.compile_cache, &options.preload) {
        variables.insert(COMPILE_CACHE.into(), cache.directory.clone().into());
    }
    // A Node server sees nothing of it: what it loads first removes it.
    let is_unseen = !program.is_node() || options.preload.is_some();
    if let Some(cluster) = options.cluster.filter(|_| is_unseen) {
        variables.insert(CLUSTER.into(), cluster.into());
    }
    let mut add = |name: &str, value: String| variables.insert(name.into(), value.into());
    let sockets = options.sockets.iter().map(|bound| bound.given()).collect();
    let activation = Activation { sockets, generation: options.generation };
    for (name, value) in activation.variables() {
        // A Node worker asks for its sockets by number, over its channel.
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

/// The variables whose value is the worker's own pid.
fn own_pid(options: &SpawnOptions<'_>) -> Vec<&'static str> {
    let listen = (!options.sockets.is_empty()).then_some(LISTEN_PID);
    let watchdog = options.watchdog.map(|_| WATCHDOG_PID);
    listen.into_iter().chain(watchdog).collect()
}

/// nginx leaves a socket that it takes over as it is, since one of another nginx never blocks. A worker that waited in `accept`
/// because another one was faster would leave those whom it has accepted without an answer until somebody else connects.
fn suit_nginx(environment: &BTreeMap<OsString, OsString>, sockets: &[&Bound]) -> io::Result<()> {
    let named = environment.get(OsStr::new(NGINX)).and_then(|value| value.to_str()).unwrap_or_default();
    let named: Vec<u32> = nginx_numbers(named).collect();
    let mut sockets = (FIRST_FD..).zip(sockets).filter(|(number, _)| named.contains(number));
    sockets.try_for_each(|(_, bound)| stdio::set_nonblocking(&bound.socket))
}

/// The two ends of a worker's channel: ours, and the worker's.
fn channel_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    stdio::set_nonblocking(&ours)?;
    Ok((ours, theirs))
}

/// Makes these the worker's descriptors from 3 on.
fn give(command: &mut Command, descriptors: impl IntoIterator<Item = OwnedFd>) -> io::Result<()> {
    let mappings = (FIRST_LISTENER..).zip(descriptors);
    let mappings = mappings.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings).map(drop).map_err(io::Error::other)
}
