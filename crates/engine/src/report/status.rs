//! The status of a cluster, for people and programs.

use serde::{Deserialize, Serialize};

use crate::report::verdict::Verdict;
use crate::report::worker::Held;

/// The status of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// What the cluster is called, where it has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The master's process.
    pub pid: u32,
    /// The program that the master is.
    #[serde(default)]
    pub master: MasterStatus,
    /// `starting`, `running`, `stopping`, `terminating`, `released` or `over`. It is stopping from when a stop was asked for,
    /// also while it still accepts connections. It is over only when all processes that
    /// workers have left behind are gone.
    pub phase: String,
    /// The generation that serves, or is to.
    pub generation: u64,
    /// The reload in progress.
    pub reload: Option<ReloadStatus>,
    /// How the last reload ended.
    #[serde(default)]
    pub last_reload: Option<LastReload>,
    /// Seconds since the cluster was started.
    pub uptime_seconds: f64,
    /// How connections are to reach workers: `round-robin`, `shared`, `kernel` or `sticky`.
    pub balance: String,
    /// Under `sticky`: what makes connections one client's, such as `ip` or `cookie:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky_by: Option<String>,
    /// Under `kernel`: how many connections were handed to an idle worker because they waited for a busy one.
    #[serde(default)]
    pub stolen: u64,
    /// How often a connection was taken back from a worker that could not have it, to be given to another.
    #[serde(default)]
    pub requeued: u64,
    /// The server file that workers of this generation are started from, every symlink resolved.
    #[serde(default)]
    pub server: String,
    /// The server file as it was given, where a symlink leads from there to [`server`](Self::server).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_link: Option<String>,
    /// The names of the variables that workers of this generation are given beside the master's own, by env files, by the config
    /// file and at reloads. Never their values.
    #[serde(default)]
    pub env: Vec<String>,
    /// One entry a slot.
    pub slots: Vec<SlotStatus>,
    /// Every worker that lives, oldest first: active ones, those on their way in and those on their way out. Behind them
    /// those of which only other processes of their group are left.
    pub workers: Vec<WorkerStatus>,
    /// Where the master listens.
    pub listeners: Vec<ListenerStatus>,
}

/// The program that a master is. One of a version that does not say so has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MasterStatus {
    /// Its version.
    pub version: String,
    /// When it began: RFC 3339, UTC, with milliseconds. The cluster is older where another program has begun it.
    pub since: String,
    /// How often another program has taken the master's place since the cluster was started.
    pub upgrades: u32,
}

/// One address that the master listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListenerStatus {
    /// Where.
    pub address: String,
    /// How connections reach workers from there: what was asked for, or what is done in its place where that cannot be had
    /// (a unix socket, a program that accepts by itself, a kernel without the means).
    pub balance: String,
    /// Why it is not what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Under `kernel`: new connections are handed out to the worker with the fewest, since they may last.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handing_out: bool,
}

/// A reload in progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReloadStatus {
    /// The generation being started.
    pub generation: u64,
    /// How many slots have a serving worker of it.
    pub serving: u32,
    /// Of how many.
    pub of: u32,
}

/// A reload that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LastReload {
    /// The generation that was started; none where the reload never began.
    pub generation: Option<u64>,
    /// Seconds since it ended.
    pub seconds_ago: f64,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// One slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SlotStatus {
    /// Which, zero-based.
    pub slot: u32,
    /// The number of its active worker.
    pub active: Option<u64>,
    /// How often a worker of code that has served was started here again, since the one before ended or was renewed. The
    /// workers of a reload, and attempts of code that has not served, are none of these.
    pub restarts: u64,
    /// How many connections its workers have got, if that is known: where they accept by themselves they say it once a second,
    /// if they are Node and `--drain-http` is on.
    #[serde(default)]
    pub connections: Option<u64>,
    /// How many connections the master has accepted for it that its workers have not taken yet.
    #[serde(default)]
    pub in_flight: u64,
}

/// One worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Its number.
    pub id: u64,
    /// Its slot, zero-based.
    pub slot: u32,
    /// Its generation.
    pub generation: u64,
    /// Its process. That of a leftover has ended; its group has this number.
    pub pid: Option<u32>,
    /// `starting`, `ready`, `serving`, `draining`, `terminating`, `killed`, `unkillable` or `leftover`.
    pub state: String,
    /// Its process is stopped (by SIGSTOP, or because it used a terminal): until it is sent CONT it does nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Seconds until the next signal: the rest of its ready timeout, drain timeout, exit grace or kill timeout. A program
    /// that was let go by TERM is not sent it again: these are the seconds until KILL.
    pub seconds_left: Option<f64>,
    /// Seconds since it was started.
    pub uptime_seconds: f64,
    /// Resident memory of its process.
    pub memory_bytes: Option<u64>,
    /// CPU time of its process, user and system.
    pub cpu_seconds: Option<f64>,
    /// Its last `STATUS=` by `sd_notify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// How many notifications were ignored: they came from another process, or make no sense.
    #[serde(default)]
    pub notifications_ignored: u64,
    /// What it still has, as it reports in its drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Connections that it has got, as long as its channel is open; known as those of its slot.
    #[serde(default)]
    pub connections: Option<u64>,
    /// How it does, if it is Node and has said so: see `--worker-metrics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeStatus>,
    /// The requests that it has answered, if it counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpStatus>,
}

impl WorkerStatus {
    /// Its state in a word for people: that of one that is stopped is `stopped`.
    pub fn state_now(&self) -> &str {
        if self.stopped { "stopped" } else { &self.state }
    }
}

/// How a Node worker does, by its own words of a moment ago.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeStatus {
    /// How busy its event loop was since it said so before, from 0 to 1.
    pub loop_utilization: f64,
    /// How long it took to answer the master; if it has not answered yet, for how long it has not.
    pub loop_lag_seconds: f64,
    /// The heap of V8, as far as it is in use.
    pub heap_used_bytes: u64,
}

/// Requests of a Node worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HttpStatus {
    /// How many it has answered since it began.
    pub requests: u64,
    /// How many of these with a status from 500 to 599.
    pub errors: u64,
    /// Of those of the last seconds, how long all but one of a hundred took at most; none where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_seconds: Option<f64>,
}
