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
    /// Its group was told to go, by whatever signal.
    pub(crate) told: bool,
    /// The strongest signal that its group was sent to end it; its drain signal is one of them where that is TERM.
    pub(crate) sent: Option<core::Signal>,
    /// What it is sent when it is to drain, as it was said when it was begun.
    pub(crate) drain_signal: DrainSignal,
    pidfd: OwnedFd,
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
        let stat = Stat::of(self.pid);
        (stat.as_ref().map(|stat| stat.memory), stat.as_ref().map(Stat::cpu_seconds))
    }
}

/// Whether SIGCHLD is ignored in this process, so that the kernel reaps its children and nobody learns how they ended.
pub(crate) fn ignores_ended_children() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    ignored & (1 << (libc::SIGCHLD - 1)) != 0
}
