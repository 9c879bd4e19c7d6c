//! Where the signals for a process go: to the process itself, by its pidfd, and to the group that was made for it. No other
//! group is ever signalled: it may be the master's own.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_send_signal, waitid,
};

use crate::process::awaited::{Awaited, Claim};
use crate::process::stat::{Stat, users_of};

/// How many generations of descendants are looked through.
const MOST_ANCESTORS: usize = 64;

/// A process that was started here and is not reaped yet, so that its number, and that of its group, are its own.
#[derive(Debug)]
pub(crate) struct Target {
    pub(super) pid: Pid,
    pidfd: OwnedFd,
    /// It was started as the leader of a group of its own, which has its number.
    has_group: bool,
    /// Nobody else reaps it.
    claim: Option<Claim>,
}

/// Which processes speak for another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kin {
    pid: Pid,
    has_group: bool,
}

impl Target {
    pub(super) fn new(pid: Pid, pidfd: OwnedFd, has_group: bool) -> Self {
        Self { pid, pidfd, has_group, claim: None }
    }

    /// From now on nobody else reaps it.
    pub(super) fn claimed(self, claim: Claim) -> Self {
        Self { claim: Some(claim), ..self }
    }

    /// As this, of a child that this thread has just started.
    pub(super) fn claim(&mut self, awaited: &Awaited) {
        self.claim = Some(awaited.claim(self.pid));
    }

    /// By what it is known.
    pub(super) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Whether it was given a group.
    pub(super) fn has_group(&self) -> bool {
        self.has_group
    }

    /// Sends a signal to the process and to its group. It fails only if there is nobody any more.
    pub(super) fn send(&self, signal: Signal) {
        // A process may leave its group (`setpgid`, a shell with job control). One that has not is to have the signal once:
        // the second TERM or INT ends many a server at once.
        let is_member = self.is_in_its_group();
        let reached = self.has_group && kill_process_group(self.pid, signal).is_ok();
        if !(is_member && reached) || signal == Signal::KILL {
            let _ = self.send_alone(signal);
        }
    }

    /// Sends a signal to the process and to no other.
    pub(super) fn send_alone(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// What waitid(2) says of it.
    pub(super) fn wait(&self, options: WaitIdOptions) -> rustix::io::Result<Option<WaitIdStatus>> {
        waitid(WaitId::PidFd(self.pidfd.as_fd()), options)
    }

    pub(super) fn kin(&self) -> Kin {
        Kin { pid: self.pid, has_group: self.has_group }
    }

    /// It leads the group that was made for it, and has not left it.
    pub(super) fn is_in_its_group(&self) -> bool {
        self.kin().leads()
    }
}

impl Kin {
    #[cfg(test)]
    pub(super) fn of_group(pid: Pid) -> Self {
        Self { pid, has_group: true }
    }

    fn leads(self) -> bool {
        self.has_group && self.is_group_of(self.pid).unwrap_or(true)
    }

    /// Whether a process is in the group of this number. None where there is no such process. (It may be in a group that has
    /// no number here, so getpgid(2) would not do.)
    fn is_group_of(self, member: Pid) -> Option<bool> {
        // One that is reaped while it is looked at is in no group at all.
        let stat = Stat::of(member).filter(|stat| stat.group >= 0)?;
        Some(stat.group == self.pid.as_raw_nonzero().get())
    }

    /// Whether a process that sent something as this user speaks for this one. Of one that has ended since, as a helper of a
    /// shell script does, no more is known than its user: whoever is that user could speak as the worker anyway.
    pub(super) fn is_spoken_for(self, sender: Pid, user: u32) -> bool {
        self.has(sender).unwrap_or_else(|| {
            user == rustix::process::geteuid().as_raw() || users_of(self.pid).contains(&user)
        })
    }

    /// Whether this is the process itself, or one of the group that was made for it. Of a process that is in no such group,
    /// those that it has started count. None where there is no such process.
    fn has(self, sender: Pid) -> Option<bool> {
        if sender == self.pid {
            return Some(true);
        }
        let is_member = self.is_group_of(sender)? && self.has_group;
        let is_descendant = || ancestors(sender).take(MOST_ANCESTORS).any(|ancestor| ancestor == self.pid);
        Some(is_member || (!self.leads() && is_descendant()))
    }
}

fn ancestors(of: Pid) -> impl Iterator<Item = Pid> {
    std::iter::successors(Some(of), |child| Stat::of(*child)?.parent).skip(1)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::os::unix::process::CommandExt as _;
    use std::process::{ChildStdout, Command, Stdio};

    use recluster_core::Exit;
    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;
    use crate::process::exit::exit_of;
    use crate::process::groups;

    /// A shell that runs this, as the leader of a group or in that of the test, and what it says after its first line.
    #[expect(clippy::zombie_processes, reason = "the test reaps it through its target")]
    fn shell(script: &str, in_group: bool, has_group: bool) -> (Target, BufReader<ChildStdout>) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        if in_group {
            command.process_group(0);
        }
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_child(&child);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        (Target::new(pid, pidfd_open(pid, PidfdFlags::empty()).unwrap(), has_group), stdout)
    }

    fn end(target: &Target) -> Exit {
        exit_of(&target.wait(WaitIdOptions::EXITED).unwrap().unwrap())
    }

    /// It starts no process: dash misses a signal that comes meanwhile.
    const PATIENT: &str =
        "trap 'exit 7' TERM; echo there; i=0; while [ $((i += 1)) -lt 99999999 ]; do :; done";

    #[test]
    fn a_process_outside_its_group_is_reached() {
        // It looks like one that has left: there is no group of its number.
        let (target, _stdout) = shell(PATIENT, false, true);
        target.send(Signal::TERM);
        assert_eq!(end(&target), Exit::Code(7));
    }

    #[test]
    fn one_that_was_given_no_group_is_signalled_alone() {
        let script = "sh -c 'echo there; exec sleep 1000' & wait";
        for has_group in [false, true] {
            let (target, mut stdout) = shell(script, true, has_group);
            target.send(Signal::TERM);
            // Until it is reaped, it keeps the number of the group.
            target.wait(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
            if !has_group {
                assert!(groups::living().contains(&target.pid.as_raw_nonzero().get()), "its child goes on");
                kill_process_group(target.pid, Signal::KILL).unwrap();
            }
            assert_eq!(stdout.read(&mut [0]).unwrap(), 0, "its child is gone");
            assert_eq!(end(&target), Exit::Signal(libc::SIGTERM));
        }
    }

    #[test]
    fn the_group_speaks_for_a_process_and_without_one_what_it_has_started() {
        let script = "sh -c 'echo $$; exec sleep 1000' & wait";
        for (in_group, has_group) in [(true, true), (false, false), (false, true)] {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]).stdout(Stdio::piped());
            if in_group {
                command.process_group(0);
            }
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let (pid, grandchild) =
                (Pid::from_child(&child), Pid::from_raw(line.trim().parse().unwrap()).unwrap());
            let kin = Target::new(pid, pidfd_open(pid, PidfdFlags::empty()).unwrap(), has_group).kin();
            let own = rustix::process::geteuid().as_raw();
            let heard = |sender| kin.is_spoken_for(sender, own);
            assert!(heard(pid) && heard(grandchild), "{in_group} {has_group}");
            assert!(!heard(rustix::process::getpid()) && !heard(Pid::INIT), "{in_group} {has_group}");
            for pid in [pid, grandchild] {
                rustix::process::kill_process(pid, Signal::KILL).unwrap();
            }
            child.wait().unwrap();
        }
    }

    #[test]
    fn one_that_has_ended_is_known_by_its_user() {
        let mut past = Command::new("true").spawn().unwrap();
        let sender = Pid::from_child(&past);
        past.wait().unwrap();
        let kin = Kin::of_group(rustix::process::getpgrp());
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(kin.has(sender), None);
        assert!(kin.is_spoken_for(sender, own));
        assert!(!kin.is_spoken_for(sender, own + 4711));
        assert!(users_of(rustix::process::getpid()).contains(&own));
    }
}
