//! A directory that one run calls its own, what its servers write there, and the processes that belong to it. Nothing
//! of it outlives the run. Uses /proc and pidfds.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::Endpoint;

/// The variable by which the processes of a run are recognised: all inherit it.
const MARK: &str = "LOSS_HOME";
/// How the names of variables begin that, inherited from the caller, could make the contenders unequal.
const FOREIGN: [&str; 7] = ["NODE_", "RECLUSTER_", "LOSS_", "PM2_", "pm_", "WEB_CONCURRENCY", "WORKER_ID"];
/// How often processes are looked for that have to be ended, and how long that is apart: a master may be starting
/// another worker while it is looked at.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The directory of a run.
#[derive(Debug)]
pub(crate) struct Home {
    directory: TempDir,
}

/// What a server or a master reports.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Report {
    /// A worker listens.
    Listens { pid: u32, endpoint: Endpoint },
    /// The reference has reloaded.
    Reloaded { reloaded: bool },
}

/// What was reported so far.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// Who listens where, each pair once, in the order of the reports.
    pub(crate) listening: Vec<(u32, Endpoint)>,
    /// How many reloads the reference has declared done.
    pub(crate) reloaded: usize,
}

/// A line of the journal: a worker has accepted a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Accepted {
    /// The worker.
    pub(crate) pid: u32,
    /// The client's port; a client of a unix socket has none.
    pub(crate) port: Option<u16>,
    /// When, in milliseconds since 1970.
    pub(crate) unix_ms: u64,
}

impl Home {
    pub(crate) fn new() -> Result<Self> {
        // The name is short: those of unix sockets have little room.
        let directory = tempfile::Builder::new().prefix("loss-").tempdir_in("/tmp");
        let home = Self { directory: directory.context("failed to make a directory in /tmp")? };
        for name in ["events", "journal", "output"] {
            File::create(home.join(name)).context("failed to write into the directory of the run")?;
        }
        Ok(home)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A command that belongs to the run. What it says goes into a file that is shown when something fails.
    pub(crate) fn command(&self, program: &Path) -> Result<Command> {
        let output = File::options().append(true).open(self.join("output"))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if FOREIGN.iter().any(|foreign| name.to_string_lossy().starts_with(foreign)) {
                command.env_remove(name);
            }
        }
        command
            .env(MARK, self.path())
            .env("LOSS_EVENTS", self.join("events"))
            .env("LOSS_SOCKET", self.join("socket"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // ^C is the meter's: it ends the others itself.
            .process_group(0);
        Ok(command)
    }

    /// What was reported. A line that is still being written is left for the next time.
    pub(crate) fn reports(&self) -> Result<Reports> {
        let mut reports = Reports::default();
        for report in self.lines::<Report>("events")? {
            match report {
                Report::Listens { pid, endpoint } if reports.listening.contains(&(pid, endpoint.clone())) => {
                }
                Report::Listens { pid, endpoint } => reports.listening.push((pid, endpoint)),
                Report::Reloaded { reloaded } => reports.reloaded += usize::from(reloaded),
            }
        }
        Ok(reports)
    }

    /// Which connections were accepted by whom, in the order of time.
    pub(crate) fn journal(&self) -> Result<Vec<Accepted>> {
        self.lines("journal")
    }

    fn lines<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Vec<T>> {
        let text = fs::read_to_string(self.join(name))?;
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("in {name}: {line}")))
            .collect()
    }

    /// The last of what the run's processes said.
    pub(crate) fn tail(&self) -> String {
        let text = fs::read(self.join("output")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Whether a process runs and belongs to the run: the number of one that has ended may be another's by now.
    pub(crate) fn has(&self, pid: u32) -> bool {
        lives(pid) && is_marked(pid, &self.mark())
    }

    fn mark(&self) -> Vec<u8> {
        [MARK.as_bytes(), b"=", self.path().as_os_str().as_encoded_bytes()].concat()
    }

    /// Kills everything that belongs to the run and still lives.
    fn kill_all(&self) {
        let mark = self.mark();
        for _ in 0..LOOKS {
            let left: Vec<u32> = processes().into_iter().filter(|pid| is_marked(*pid, &mark)).collect();
            if left.is_empty() {
                return;
            }
            for pid in left {
                kill_if_marked(pid, &mark);
            }
            thread::sleep(BETWEEN_LOOKS);
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// Whether a process runs.
fn lives(pid: u32) -> bool {
    handle(pid).is_some_and(|handle| !has_ended(&handle))
}

/// Whether the process that a handle stands for has ended.
pub(crate) fn has_ended(handle: &OwnedFd) -> bool {
    // Its handle can be read from then on.
    let mut polled = [PollFd::new(handle, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())) == Ok(1)
}

/// A handle to a process, if it is there.
pub(crate) fn handle(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::NONBLOCK).ok()
}

/// Kills a process. One that has ended already is no error.
pub(crate) fn kill(pid: u32) {
    if let Some(handle) = handle(pid) {
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
}

fn processes() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether the environment of a process holds the mark. One that has ended has none.
fn is_marked(pid: u32, mark: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark)
}

/// The handle makes sure that the process killed is the one that was looked at.
fn kill_if_marked(pid: u32, mark: &[u8]) {
    if let Some(handle) = handle(pid)
        && is_marked(pid, mark)
    {
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
}
