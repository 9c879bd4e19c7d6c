//! The guard: a process that watches over a master which becomes another program. Once the `exec` is done nobody inside can help a program
//! that aborts before it serves, or that hangs. Whoever watches then has the listening sockets, ends what hangs, and becomes the program
//! before, started anew with these sockets, so that clients wait and are not refused.
//!
//! It holds nothing else: a channel or a connection that it held would not close.
//!
//! A master of which a part has panicked may become the same itself: it ends as a program, and begins anew as the same process.

use std::env;
use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use recluster_core::Exit;
use recluster_wire::env::{FIRST_FD, LISTEN_FDNAMES, LISTEN_FDS, LISTEN_PID};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use rustix::thread::set_name;
use serde::{Deserialize, Serialize};

use crate::process::binary::OWN;
use crate::report::signal::signal_name;
use crate::socket::kept::KeptName;
use crate::sys;
use crate::upgrade::exec::{self, Exec, Guard};
use crate::upgrade::inheritance::GUARD;
use crate::upgrade::saving::{Arrival, Role};
use crate::upgrade::{Saving, memory};

/// How a guard is started: by words that nobody else says.
pub const COMMAND: &str = "upgrade";
/// The same: the option that names the memory with its orders.
pub const OPTION: &str = "--guard=";

/// Tells a master that it begins anew, and why: since the program that was to take over has failed, or since this one has panicked.
const ANEW: &str = "RECLUSTER_UPGRADE_FAILED";
const PANICKED: &str = "RECLUSTER_PANICKED";

/// How long the new program may take until it serves.
const LIMIT: Duration = Duration::from_secs(10);
/// A program that knows of no guard closes the pipe when it serves, and so does the kernel when it ends: then its end follows.
const ENDS: Duration = Duration::from_secs(1);

/// What a guard is started with.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    task: Task,
    /// Listening sockets by the names that the next master knows them by, those first that this one was started with.
    sockets: Vec<(RawFd, String)>,
    /// The limit on open files that this one was started with, if it is another now.
    open_files: Option<u64>,
}

/// What it is there for.
#[derive(Debug, Serialize, Deserialize)]
enum Task {
    /// To watch over a master.
    Watch(Watch),
    /// To begin anew at once: this process was a master, and why it is none any more.
    Replace { reason: String },
}

/// A master that becomes another program.
#[derive(Debug, Serialize, Deserialize)]
struct Watch {
    /// Where it is told that the program serves.
    pipe: RawFd,
    /// The master: its pidfd and its pid.
    master: RawFd,
    pid: i32,
    /// Somebody else starts the master again: it is only ended if it hangs.
    is_restarted: bool,
}

/// Why a master begins anew.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Anew {
    /// In words.
    pub reason: String,
    /// It has panicked. Otherwise a program that was to take over has failed.
    pub has_panicked: bool,
}

/// What has become of the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Serves,
    Ended,
    Hangs,
}

/// A guard for a process that was started with these words, and has saved all that passes. The pipe by which it is told that the program
/// serves passes as well. Where somebody else starts a master again that has ended, it only ends one that hangs.
pub(crate) fn guard(
    words: &[OsString],
    open_files: Option<u64>,
    is_restarted: bool,
    saving: &mut Saving,
) -> io::Result<Guard> {
    let (pipe, told) = pipe_with(PipeFlags::CLOEXEC)?;
    saving.pass(&told, GUARD).map_err(io::Error::other)?;
    let own = getpid();
    let master = pidfd_open(own, PidfdFlags::empty())?;
    let (pid, [pipe_at, master_at]) = (own.as_raw_nonzero().get(), [&pipe, &master].map(OwnedFd::as_raw_fd));
    let orders = Orders {
        task: Task::Watch(Watch { pipe: pipe_at, master: master_at, pid, is_restarted }),
        sockets: if is_restarted { Vec::new() } else { names(saving.arrivals()) },
        open_files,
    };
    let (memory, words) = orders.written(words)?;
    let (name, words) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(OWN);
    command.arg0(name).args(words);
    let sockets = orders.sockets.iter().map(|(number, _)| *number);
    let passed = sockets.chain([&pipe, &master, &memory].map(OwnedFd::as_raw_fd)).collect();
    sys::inherit_nothing(&mut command);
    sys::pass(&mut command, passed);
    Ok(Guard::new(command, vec![pipe, told, master, memory]))
}

/// What becomes of this process where it begins anew by itself for this reason, with these sockets. It was started with these words.
pub(crate) fn anew(
    own: OwnedFd,
    words: &[OsString],
    open_files: Option<u64>,
    arrivals: &[Arrival],
    reason: &str,
) -> io::Result<Exec> {
    let orders =
        Orders { task: Task::Replace { reason: exec::short(reason) }, sockets: names(arrivals), open_files };
    let (memory, words) = orders.written(words)?;
    let numbers = orders.sockets.into_iter().map(|(number, _)| number).collect();
    Exec::by_words((own, memory), &words, numbers)
}

impl Orders {
    /// In a memory, and by which words they are carried out, the name of the program first; these are those of a master.
    fn written(&self, words: &[OsString]) -> io::Result<(OwnedFd, Vec<OsString>)> {
        let memory = memory::seal(&serde_json::to_vec(self)?)?;
        let (name, words) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let own = [COMMAND.into(), format!("{OPTION}{}", memory.as_raw_fd()).into(), "--".into()];
        let words = [name.clone()].into_iter().chain(own).chain(words.iter().cloned());
        let words = words.collect();
        Ok((memory, words))
    }
}

/// The sockets at which clients arrive, each once.
fn names(arrivals: &[Arrival]) -> Vec<(RawFd, String)> {
    let mut known = Vec::new();
    let mut listeners: Vec<&str> = Vec::new();
    let (mut given, mut own) = (Vec::new(), Vec::new());
    // A worker may listen on a socket that was bound before it asked: that is the same one, under another number.
    let (first, others): (Vec<_>, Vec<_>) = arrivals
        .iter()
        .partition(|arrival| matches!(arrival.role, Role::Given(_) | Role::Own { is_first: true, .. }));
    for Arrival { number, inode, role } in first.into_iter().chain(others) {
        if known.contains(inode) {
            continue;
        }
        known.push(*inode);
        match role {
            Role::Given(name) => given.push((*number, name.clone().unwrap_or_default())),
            Role::Own { listener, place, file, .. } => {
                let at = listeners.iter().position(|known| known == listener).unwrap_or_else(|| {
                    listeners.push(listener);
                    listeners.len() - 1
                });
                let Ok(at) = u32::try_from(at) else { continue };
                let name = KeptName { number: at, place: *place, file: *file };
                own.push((*number, name.to_string()));
            }
        }
    }
    given.append(&mut own);
    given
}

/// Watches over a master by the orders in the memory of this number; that was started with these words. Returns when that serves, or
/// where it does not and is not started anew: then the error says why. To be called by the only thread.
pub fn keep_watch(memory: &OsString, words: &[OsString]) -> Result<(), String> {
    let not_meant = |error: io::Error| format!("this is no guard of a master: {error}");
    let orders = orders(memory).map_err(not_meant)?;
    let taken = |number| sys::take_left(number).map_err(not_meant);
    let sockets = orders.sockets.into_iter().map(|(number, name)| Ok((taken(number)?, name)));
    let sockets = sockets.collect::<Result<Vec<_>, String>>()?;
    let watch = match orders.task {
        Task::Watch(watch) => watch,
        Task::Replace { reason } => {
            let error = begin_anew(words, sockets, orders.open_files, (PANICKED, &reason));
            return Err(format!("{reason}, and it cannot be started anew: {error}"));
        }
    };
    let (pipe, master) = (taken(watch.pipe)?, taken(watch.master)?);
    let failed = |error: io::Error| format!("it cannot be seen whether the new program serves: {error}");
    let fate = fate(&pipe, &master, LIMIT, ENDS).map_err(failed)?;
    let how = match fate {
        Fate::Serves => return Ok(()),
        Fate::Ended => format!("ended{} before it served", end_of(watch.pid)),
        Fate::Hangs => {
            let ended = pidfd_send_signal(&master, Signal::KILL);
            // It fails where it has ended by itself meanwhile.
            let _ = ended;
            wait(&mut [PollFd::new(&master, PollFlags::IN)], None).map_err(failed)?;
            format!("did not serve within {} s, and was sent SIGKILL", LIMIT.as_secs())
        }
    };
    drop((pipe, master));
    let reason = format!("the program that was to take over {how}");
    if watch.is_restarted {
        return Err(reason);
    }
    let error = begin_anew(words, sockets, orders.open_files, (ANEW, &reason));
    Err(format!("{reason}, and the version before cannot be started anew: {error}"))
}

fn orders(number: &OsString) -> io::Result<Orders> {
    Ok(serde_json::from_slice(&memory::left_as(number)?.1)?)
}

/// What becomes of a master within this time.
fn fate(pipe: &OwnedFd, master: &OwnedFd, limit: Duration, ends: Duration) -> io::Result<Fate> {
    let until = Instant::now() + limit;
    let mut both = [PollFd::new(pipe, PollFlags::IN), PollFd::new(master, PollFlags::IN)];
    wait(&mut both, Some(until))?;
    let [told, ended] = both.map(|descriptor| !descriptor.revents().is_empty());
    if told {
        if rustix::io::read(pipe, &mut [0; 1])? > 0 {
            return Ok(Fate::Serves);
        }
        let mut end = [PollFd::new(master, PollFlags::IN)];
        wait(&mut end, Some(Instant::now() + ends))?;
        let [end] = end;
        return Ok(if end.revents().is_empty() { Fate::Serves } else { Fate::Ended });
    }
    Ok(if ended { Fate::Ended } else { Fate::Hangs })
}

/// Waits until something is said there, or for so long.
fn wait(descriptors: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match poll(descriptors, left.as_ref()) {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome.map(drop)?),
        }
    }
}

/// How a process has ended that nobody has reaped yet.
fn end_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    exit_in(&text).map_or(String::new(), |exit| format!(" {}", in_words(exit)))
}

/// The last field of `/proc/PID/stat`, which is 0 where others may not know.
fn exit_in(text: &str) -> Option<Exit> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let has_ended = fields.next() == Some("Z");
    let status: i32 = fields.next_back()?.parse().ok().filter(|status| has_ended && *status != 0)?;
    let (code, signal) = (status >> 8, status & 0x7f);
    Some(if signal == 0 { Exit::Code(code) } else { Exit::Signal(signal) })
}

/// How something has ended, behind "ended".
pub(super) fn in_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("with status {code}"),
        Exit::Signal(signal) => format!("by {}", signal_name(signal)),
    }
}

/// Becomes the program before, as it was started, with these sockets. Returns only where that cannot be, and why.
fn begin_anew(
    words: &[OsString],
    sockets: Vec<(OwnedFd, String)>,
    open_files: Option<u64>,
    (variable, reason): (&str, &str),
) -> io::Error {
    let Some((name, words)) = words.split_first() else { return io::ErrorKind::InvalidInput.into() };
    let mut command = Command::new(OWN);
    command.arg0(name).args(words).env(variable, reason);
    let (sockets, names): (Vec<OwnedFd>, Vec<String>) = sockets.into_iter().unzip();
    for (variable, value) in [
        (LISTEN_PID, getpid().as_raw_nonzero().to_string()),
        (LISTEN_FDS, sockets.len().to_string()),
        (LISTEN_FDNAMES, names.join(":")),
    ] {
        command.env(variable, value);
    }
    let mappings = (0..).zip(sockets).map(|(index, parent_fd)| {
        let child_fd = RawFd::try_from(FIRST_FD).unwrap_or(RawFd::MAX).saturating_add(index);
        FdMapping { parent_fd, child_fd }
    });
    if let Err(error) = command.fd_mappings(mappings.collect()) {
        return io::Error::other(error);
    }
    if let Some(limit) = open_files {
        sys::limit_open_files(&mut command, limit);
    }
    command.exec()
}

/// Why this master begins anew, if it does. To be called by the first thread before there is another one.
pub fn begins_anew() -> Option<Anew> {
    let said = |variable| env::var_os(variable).inspect(|_| sys::forget_variable(variable));
    let (failed, panicked) = (said(ANEW), said(PANICKED));
    let has_panicked = panicked.is_some();
    let reason = panicked.or(failed)?.to_string_lossy().into_owned();
    keep_name();
    Some(Anew { reason, has_panicked })
}

/// Has people see this process by the name of its program: the kernel has called it by the descriptor that it was executed by. To be
/// called by the first thread.
pub fn keep_name() {
    let name = env::args_os().next();
    let name = name.as_deref().and_then(|name| Path::new(name).file_name()).map(OsStrExt::as_bytes);
    if let Some(name) = name.and_then(|name| CString::new(name).ok()) {
        // It goes by the other name.
        let _ = set_name(&name);
    }
}

#[cfg(test)]
mod tests;
