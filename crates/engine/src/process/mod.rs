//! A worker's process. Signals go to the process and, where it leads a group that was made for it, to that. Its end is seen
//! through a pidfd. Only the supervisor reaps it: until then the kernel gives its pid to no other process, so that a signal cannot
//! reach the wrong one.

pub(crate) mod advice;
pub(crate) mod after_panic;
pub(crate) mod awaited;
pub(crate) mod background;
pub(crate) mod binary;
pub(crate) mod compile_cache;
mod console;
pub(crate) mod control_groups;
pub(crate) mod event;
pub(crate) mod exception;
pub(crate) mod exit;
pub(crate) mod family;
pub(crate) mod first_thread;
mod forwarder;
pub(crate) mod groups;
pub(crate) mod guard;
pub(crate) mod hands;
pub(crate) mod health_check;
pub(crate) mod hook;
pub(crate) mod in_use;
pub(crate) mod inspector;
pub(crate) mod latest;
pub(crate) mod launch;
pub(crate) mod launcher;
mod lines;
pub(crate) mod memory_limit;
pub(crate) mod oom_kills;
pub(crate) mod outlets;
pub(crate) mod passage;
pub(crate) mod preload;
pub(crate) mod privileges;
pub(crate) mod program;
pub(crate) mod ring;
pub(crate) mod runtime;
pub(crate) mod sd_notify;
pub(crate) mod shebang;
pub(crate) mod shell_command;
pub(crate) mod slot_files;
pub(crate) mod source;
pub(crate) mod spawn;
pub(crate) mod stat;
pub(crate) mod stderr;
pub(crate) mod stdio;
pub(crate) mod successor;
pub(crate) mod survivors;
pub(crate) mod target;
#[cfg(test)]
mod tests;
pub(crate) mod unkillable;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use recluster_core as core;
use recluster_core::Exit;
use rustix::process::{Pid, Signal, WaitIdOptions};
use serde::{Deserialize, Serialize};

use crate::config::drain_signal::DrainSignal;
use crate::process::awaited::Awaited;
use crate::process::exit::{UNKNOWN_STATUS, exit_of};
use crate::process::stat::Stat;
use crate::process::stderr::Tail;
use crate::process::target::{Kin, Target};
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// A worker's process, from its start until it is reaped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) begun: Instant,
    pub(crate) tail: Tail,
    /// It was sent a signal that asks it to end or ends it.
    pub(crate) told: bool,
    /// The strongest of TERM and KILL that it was sent. A drain signal counts if it is TERM.
    pub(crate) sent: Option<core::Signal>,
    /// The signal that begins its drain, as configured when it was started.
    pub(crate) drain_signal: DrainSignal,
    target: Target,
}

/// A process that another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    pid: i32,
    has_group: bool,
    #[serde(with = "plain")]
    begun: Instant,
    #[serde(with = "plain")]
    tail: Vec<u8>,
    told: bool,
    sent: Option<core::Signal>,
    drain_signal: DrainSignal,
}

impl Left {
    /// Goes on with it: nobody else reaps it. Returns a second pidfd as well, to wait for its end.
    pub(crate) fn adopt(
        self,
        purpose: &str,
        awaited: &Awaited,
        inheritance: &mut Inheritance,
    ) -> Result<(Process, OwnedFd), AdoptError> {
        let Self { pid, has_group, begun, tail: said, told, sent, drain_signal } = self;
        let pid = Pid::from_raw(pid).filter(|pid| !pid.is_init());
        let pid = pid.ok_or_else(|| AdoptError::Contradiction("a worker has no process".to_owned()))?;
        let [pidfd, watched] = [inheritance.descriptor(purpose)?, inheritance.descriptor(purpose)?];
        let mut target = Target::new(pid, pidfd, has_group);
        target.claim(awaited);
        let tail = Tail::default();
        tail.push(&said);
        Ok((Process { begun, tail, told, sent, drain_signal, target }, watched))
    }
}

impl Process {
    /// Leaves it to another program.
    pub(crate) fn save(&self, purpose: &str, saving: &mut Saving) -> Result<Left, SaveError> {
        saving.pass(self.target.pidfd(), purpose)?;
        Ok(Left {
            pid: self.pid().as_raw_nonzero().get(),
            has_group: self.target.has_group(),
            begun: self.begun,
            tail: self.tail.bytes(),
            told: self.told,
            sent: self.sent,
            drain_signal: self.drain_signal,
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.target.pid
    }

    /// Nobody else reaps it from now on.
    fn claim(&mut self, awaited: &Awaited) {
        self.target.claim(awaited);
    }

    /// Who speaks for it.
    pub(crate) fn kin(&self) -> Kin {
        self.target.kin()
    }

    /// Sends a signal to the worker, and to all processes of its group.
    pub(crate) fn signal(&mut self, signal: core::Signal) {
        (self.told, self.sent) = (true, self.sent.max(Some(signal)));
        self.target.send(match signal {
            core::Signal::Term => Signal::TERM,
            core::Signal::Kill => Signal::KILL,
        });
    }

    /// Sends a signal to the worker's own process.
    pub(crate) fn signal_alone(&self, signal: Signal) -> io::Result<()> {
        self.target.send_alone(signal)
    }

    /// Sends SIGABRT, so that the worker dumps core where the system allows it.
    pub(crate) fn abort(&self) {
        self.target.send(Signal::ABORT);
    }

    /// Sends the drain signal to a program that is not Node, and to its group.
    pub(crate) fn let_go(&mut self) {
        self.told = true;
        if self.drain_signal == DrainSignal::Term {
            self.sent = self.sent.max(Some(core::Signal::Term));
        }
        self.target.send(match self.drain_signal {
            DrainSignal::Term => Signal::TERM,
            DrainSignal::Int => Signal::INT,
            DrainSignal::Quit => Signal::QUIT,
            DrainSignal::Hup => Signal::HUP,
            DrainSignal::Usr1 => Signal::USR1,
            DrainSignal::Usr2 => Signal::USR2,
            DrainSignal::Winch => Signal::WINCH,
        });
    }

    /// Kills a process that cannot be watched, and waits for its end. It was just started, so this does not take long.
    pub(crate) fn kill_and_reap(&mut self) {
        self.signal(core::Signal::Kill);
        let _ = self.target.wait(WaitIdOptions::EXITED);
    }

    /// How the process ended. Must be called before [`reap`](Self::reap).
    pub(crate) fn exit(&self) -> Exit {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match self.target.wait(options) {
            Ok(Some(status)) => exit_of(&status),
            Ok(None) | Err(_) => Exit::Code(UNKNOWN_STATUS),
        }
    }

    /// Whether it has ended, and was not reaped.
    pub(crate) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(self.target.wait(options), Ok(Some(_)))
    }

    /// Reaps the process, which has ended. From now on the kernel may give its pid to another process.
    pub(crate) fn reap(self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // This fails only if another part of this program has reaped it.
        let _ = self.target.wait(options);
    }

    /// Resident memory in bytes: of its group, where it leads one, by the sizes of all groups; else its own.
    pub(crate) fn memory(&self, groups: &BTreeMap<i32, u64>) -> u64 {
        let group = self.target.is_in_its_group().then(|| self.pid().as_raw_nonzero().get());
        let of_group = group.map(|group| groups.get(&group).copied());
        of_group.unwrap_or_else(|| self.usage().map(|usage| usage.memory)).unwrap_or(0)
    }

    /// Whether it does something at this moment: it runs, waits for the CPU or for a disk, or the kernel is about to end it.
    pub(crate) fn is_busy(&self) -> bool {
        Stat::of(self.pid()).is_none_or(|stat| stat.is_busy)
    }

    /// Resident memory in bytes, and CPU time in seconds.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let stat = Stat::of(self.pid())?;
        Some(Usage { memory: stat.memory, cpu_seconds: stat.cpu_seconds(), is_stopped: stat.is_stopped })
    }
}

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// Resident, in bytes.
    pub(crate) memory: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) is_stopped: bool,
}

/// Whether SIGCHLD is ignored in this process. If so, the kernel reaps its children, and their exit status is lost.
pub(crate) fn ignores_ended_children() -> bool {
    // The name of this process is in it, which may be no UTF-8.
    let status = fs::read("/proc/self/status").unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    ignored & (1 << (libc::SIGCHLD - 1)) != 0
}
