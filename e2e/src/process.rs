//! Other processes, held by pidfd: what is signalled is the process that was meant, never one that inherited its
//! number.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use crate::DEADLINE;

/// A process that may be another's child.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// Takes hold of a process that lives.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn open(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. A process that has ended already is not an error: the test waits for the consequences.
    pub fn signal(&self, signal: Signal) {
        // ESRCH is the only error that a signal to one's own user's process can have.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Whether it still runs.
    pub fn lives(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    /// Waits until it has ended, for [`DEADLINE`] at most.
    pub fn wait_end(&self) {
        assert!(self.ends_within(DEADLINE), "process {} still lives after {DEADLINE:?}", self.pid);
    }

    /// The value of a line of `/proc/PID/status`, such as `VmRSS`.
    pub fn status_line(&self, name: &str) -> String {
        let path = format!("/proc/{}/status", self.pid);
        let text = std::fs::read_to_string(&path).expect("the process should live");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.expect("the line should be there").trim().to_owned()
    }

    /// How often its threads have given way so far: each time that one wakes up.
    pub fn switches(&self) -> u64 {
        let counts = self.threads("status").into_iter().flat_map(|status| {
            // One that has just ended is counted no more: then it is looked again.
            let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
            lines.filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect::<Vec<u64>>()
        });
        counts.sum()
    }

    /// Whether all its threads wait for something at this moment.
    pub fn sleeps(&self) -> bool {
        let states = self.threads("status");
        states.iter().all(|status| status.contains("State:\tS"))
    }

    /// How often it has written to something, by the system call of that name, whether that went well or not.
    pub fn writes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid)).expect("the process should live");
        let count = io.lines().find_map(|line| line.strip_prefix("syscw: ")?.parse().ok());
        count.expect("the kernel tells it")
    }

    /// What the kernel says of each of its threads, in the file of this name.
    fn threads(&self, file: &str) -> Vec<String> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).expect("the process should live");
        let texts =
            threads.map(|thread| std::fs::read_to_string(thread.expect("a thread").path().join(file)));
        texts.map(Result::unwrap_or_default).collect()
    }

    /// How many descriptors it has open.
    pub fn open_files(&self) -> usize {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.pid));
        entries.expect("the process should live").count()
    }

    /// The names of the variables that it was started with.
    pub fn variables(&self) -> BTreeSet<String> {
        let environ = std::fs::read(format!("/proc/{}/environ", self.pid)).expect("the process should live");
        let names = environ
            .split(|byte| *byte == 0)
            .filter_map(|variable| variable.split(|byte| *byte == b'=').next());
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// What one of its descriptors refers to, such as `pipe:[4711]`.
    pub fn descriptor(&self, number: u32) -> PathBuf {
        let link = std::fs::read_link(format!("/proc/{}/fd/{number}", self.pid));
        link.expect("the process should live and have this descriptor")
    }

    /// Its process group.
    pub fn group(&self) -> u32 {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("the process should live");
        // Behind the name, which is in brackets: state, parent, group.
        let group = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(2)?.parse().ok());
        group.expect("the kernel tells the group")
    }

    fn ends_within(&self, span: Duration) -> bool {
        let limit = Timespec::try_from(span).expect("a deadline fits a timespec");
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        // The wait is not interrupted in practice: the harness handles no signal.
        matches!(poll(&mut polled, Some(&limit)), Ok(1))
    }
}

/// What this thread starts from now on lacks these capabilities: what makes root different from others.
pub fn renounce(capabilities: &[CapabilitySet]) {
    for capability in capabilities {
        // Whoever is not root lacks it anyway.
        let _ = remove_capability_from_bounding_set(*capability);
    }
}
