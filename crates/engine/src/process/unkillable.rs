//! What keeps a process alive that was sent SIGKILL.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

use crate::process::stat::Stat;
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
}

impl Remnant {
    /// It is in nobody's queue for the CPU: it waits in the kernel, or for the one who traces it. One that runs is about to
    /// end, which takes its time on a busy machine.
    pub(crate) fn is_stuck(self) -> bool {
        self.state != 'R'
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
    }
}

/// The process of this number, if it has not ended.
pub(crate) fn of(pid: i32) -> Option<Remnant> {
    Stat::of(Pid::from_raw(pid)?).filter(|process| process.lives)?;
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let threads = threads.filter_map(|thread| parse(&read(&thread.path().join("status"))));
    // A thread that has ended keeps its process only if it is traced: then whoever traces it has to wait for it first.
    let (state, traced_by) =
        threads.min_by_key(|(state, traced_by)| (is_over(*state), traced_by.is_none()))?;
    Some(Remnant { pid, state, traced_by })
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
