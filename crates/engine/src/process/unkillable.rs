//! What keeps a process alive that was sent SIGKILL.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::process::stat::{Stat, users_of};
use crate::report::event::Event;
use crate::report::worker::Worker;

/// A process that lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remnant {
    /// Its number.
    pub(crate) pid: i32,
    /// The state of the thread that keeps it.
    pub(crate) state: char,
    /// Who traces that thread.
    pub(crate) traced_by: Option<u32>,
    /// The effective user that it runs as, if this process may not send it signals.
    pub(crate) of_user: Option<u32>,
}

impl Remnant {
    /// It is in nobody's queue for the CPU: it waits in the kernel, or for the one who traces it; or it was never sent a signal. One that
    /// runs is about to end, which takes its time on a busy machine.
    pub(crate) fn is_stuck(self) -> bool {
        self.state != 'R' || self.of_user.is_some()
    }
}

/// One thread: its state, and who traces it.
type Thread = (char, Option<u32>);

/// What people are told of a worker that lives on, or of which this does.
pub(crate) fn told(worker: Worker, remnant: Option<Remnant>) -> Event {
    Event::Unkillable {
        worker,
        process: remnant.map(|remnant| remnant.pid.unsigned_abs()),
        state: remnant.map(|remnant| remnant.state),
        traced_by: remnant.and_then(|remnant| remnant.traced_by),
        of_user: remnant.and_then(|remnant| remnant.of_user),
    }
}

/// The process of this number, if it has not ended.
pub(crate) fn of(pid: i32) -> Option<Remnant> {
    let number = Pid::from_raw(pid)?;
    Stat::of(number).filter(|process| process.lives)?;
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let threads = threads.filter_map(|thread| parse(&read(&thread.path().join("status"))));
    // A thread that has ended keeps its process only if it is traced: then whoever traces it has to wait for it first.
    let (state, traced_by) =
        threads.min_by_key(|(state, traced_by)| (is_over(*state), traced_by.is_none()))?;
    let is_refused = test_kill_process(number) == Err(Errno::PERM);
    let of_user = if is_refused { users_of(number).get(1).copied() } else { None };
    Some(Remnant { pid, state, traced_by, of_user })
}

/// The first process of a group that has not ended.
pub(crate) fn in_group(group: i32) -> Option<Remnant> {
    Stat::all().filter(|process| process.group == group && process.lives).find_map(|process| of(process.pid))
}

fn is_over(state: char) -> bool {
    matches!(state, 'Z' | 'X')
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn parse(status: &str) -> Option<Thread> {
    let field = |name: &str| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let tracer = field("TracerPid:").and_then(|pid| pid.parse().ok()).filter(|pid| *pid > 0);
    Some((field("State:")?.chars().next()?, tracer))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_thread_has_a_state_and_perhaps_a_tracer() {
        let status = |state: &str, tracer: &str| {
            format!("Name:\tState:\nState:\t{state}\nTgid:\t7\nTracerPid:\t{tracer}\n")
        };
        assert_eq!(parse(&status("D (disk sleep)", "0")), Some(('D', None)));
        assert_eq!(parse(&status("Z (zombie)", "42")), Some(('Z', Some(42))));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn one_that_runs_is_about_to_end_unless_it_was_never_sent_a_signal() {
        let stuck = |state, of_user| Remnant { pid: 7, state, traced_by: None, of_user }.is_stuck();
        assert_eq!([stuck('R', None), stuck('D', None), stuck('R', Some(0))], [false, true, true]);
    }

    #[test]
    fn whose_a_process_is_that_we_may_not_signal_is_known() {
        let init = of(1);
        if rustix::process::geteuid().is_root() {
            assert_eq!(init.and_then(|remnant| remnant.of_user), None);
        } else if test_kill_process(Pid::INIT) == Err(Errno::PERM) {
            assert_eq!(init.and_then(|remnant| remnant.of_user), Some(0));
        }
    }

    #[test]
    fn one_that_lives_is_found_by_its_number_and_by_its_group() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id().cast_signed();
        assert_eq!(of(pid).map(|remnant| (remnant.pid, remnant.traced_by)), Some((pid, None)));
        let own = rustix::process::getpgrp().as_raw_nonzero().get();
        assert!(in_group(own).is_some());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!((of(pid), in_group(pid)), (None, None));
    }
}
