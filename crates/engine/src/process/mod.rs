//! A worker's process. It has a process group of its own, and signals go to the whole group. Its end is seen through a
//! pidfd. Only the supervisor reaps it: until then the kernel gives its pid to no other process, so that a signal cannot
//! reach the wrong one.

pub(crate) mod advice;
pub(crate) mod event;
pub(crate) mod exception;
pub(crate) mod exit;
pub(crate) mod forwarder;
pub(crate) mod groups;
pub(crate) mod hands;
pub(crate) mod health_check;
mod inspector;
pub(crate) mod latest;
pub(crate) mod launch;
pub(crate) mod launcher;
pub(crate) mod preload;
pub(crate) mod program;
pub(crate) mod runtime;
pub(crate) mod sd_notify;
pub(crate) mod shebang;
pub(crate) mod shell_command;
pub(crate) mod spawn;
mod stat;
pub(crate) mod stderr;
pub(crate) mod stdio;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use recluster_core as core;
use recluster_core::Exit;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_send_signal, waitid};

use crate::config::drain_signal::DrainSignal;
use crate::process::exit::{UNKNOWN_STATUS, exit_of};
use crate::process::stat::Stat;
use crate::process::stderr::Tail;

/// A worker's process, from its start until it is reaped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) begun: Instant,
    pub(crate) tail: Tail,
    /// Its group was sent a signal that asks it to end or ends it.
    pub(crate) told: bool,
    /// The strongest of TERM and KILL that its group was sent. A drain signal counts if it is TERM.
    pub(crate) sent: Option<core::Signal>,
    /// The signal that begins its drain, as configured when it was started.
    pub(crate) drain_signal: DrainSignal,
    pidfd: OwnedFd,
}

impl Process {
    /// Sends a signal to the worker and to all processes of its group.
    pub(crate) fn signal(&mut self, signal: core::Signal) {
        (self.told, self.sent) = (true, self.sent.max(Some(signal)));
        let signal = match signal {
            core::Signal::Term => Signal::TERM,
            core::Signal::Kill => Signal::KILL,
        };
        // This fails only if the process has just ended. The supervisor is about to see its end.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Sends a signal to the worker's own process.
    pub(crate) fn signal_alone(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Sends SIGABRT to the group, so that the worker dumps core where the system allows it.
    pub(crate) fn abort(&self) {
        // This fails only if the process has just ended.
        let _ = kill_process_group(self.pid, Signal::ABORT);
    }

    /// Sends the drain signal to a program that is not Node, and to its group.
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
        // This fails only if the process has just ended.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Kills a process that cannot be watched, and waits for its end. It was just started, so this does not take long.
    pub(crate) fn kill_and_reap(&mut self) {
        self.signal(core::Signal::Kill);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }

    /// How the process ended. Must be called before [`reap`](Self::reap).
    pub(crate) fn exit(&self) -> Exit {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => exit_of(&status),
            Ok(None) | Err(_) => Exit::Code(UNKNOWN_STATUS),
        }
    }

    /// Reaps the process, which has ended. From now on the kernel may give its pid to another process.
    pub(crate) fn reap(self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // This fails only if another part of this program has reaped it.
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
    }

    /// Resident memory in bytes, and CPU time in seconds.
    pub(crate) fn usage(&self) -> (Option<u64>, Option<f64>) {
        let stat = Stat::of(self.pid);
        (stat.as_ref().map(|stat| stat.memory), stat.as_ref().map(Stat::cpu_seconds))
    }
}

/// Whether SIGCHLD is ignored in this process. If so, the kernel reaps its children, and their exit status is lost.
pub(crate) fn ignores_ended_children() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    ignored & (1 << (libc::SIGCHLD - 1)) != 0
}
