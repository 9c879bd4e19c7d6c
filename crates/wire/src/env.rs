//! The environment variables of a worker: those that it gets, and those that it must not inherit.
//!
//! ```
//! use recluster_wire::env::{NodeChannel, Serialization, WorkerEnv, is_withheld};
//!
//! let serialization = Serialization::Json;
//! let channel = NodeChannel { fd: 3, unique_id: 9, serialization, drain: None, tells_stderr: false };
//! let worker = WorkerEnv { slot: 0, generation: 1, workers: 4, node: Some(channel) };
//! assert!(worker.variables().contains(&("WORKER_ID", "0".to_owned())));
//! assert!(is_withheld("NOTIFY_SOCKET".as_ref()));
//! ```

mod activation;
mod links;

use std::ffi::OsStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use activation::{
    Activation, BadSocketName, EINHORN_FD, EINHORN_FD_COUNT, FIRST_FD, Given, GivenAddress, LISTEN_FDNAMES,
    LISTEN_FDS, LISTEN_PID, MAX_NAME, NGINX, SERVER_STARTER_GENERATION, SERVER_STARTER_PORT, SocketName,
    nginx_numbers,
};
pub use links::{Links, NOTIFY_SOCKET, RECLUSTER_CHANNEL_FD, WATCHDOG_PID, WATCHDOG_USEC};

/// The worker's slot, from 0.
pub const WORKER_ID: &str = "WORKER_ID";
/// The worker's generation, from 1.
pub const GENERATION: &str = "RECLUSTER_GENERATION";
/// The number of slots.
pub const WORKERS: &str = "RECLUSTER_WORKERS";
/// The cluster that the worker belongs to: the path of its control socket. By it the next master knows the workers that one has left
/// which was killed.
pub const CLUSTER: &str = "RECLUSTER_CLUSTER";
/// The number of the channel's file descriptor in the worker.
pub const CHANNEL_FD: &str = "NODE_CHANNEL_FD";
/// How messages are written on the channel: a [`Serialization`].
pub const CHANNEL_SERIALIZATION_MODE: &str = "NODE_CHANNEL_SERIALIZATION_MODE";
/// Makes the process a cluster worker; its `cluster.worker.id`.
pub const UNIQUE_ID: &str = "NODE_UNIQUE_ID";

/// How messages are written on the channel of a worker that is a Node process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Serialization {
    /// Lines of JSON.
    #[default]
    Json,
    /// Values of V8, in frames: [`node::advanced`](crate::node::advanced).
    Advanced,
}

impl Serialization {
    /// Node's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Advanced => "advanced",
        }
    }
}

/// For our preload alone, which removes it: how a worker drains without a request from the master. See [`NodeDrain`].
pub const DRAIN: &str = "RECLUSTER_DRAIN";
/// For our preload alone, which removes it: the name by which the server file was given.
pub const SERVER: &str = "RECLUSTER_SERVER";
/// For our preload alone, which removes it: the directory of Node's compile cache.
pub const COMPILE_CACHE: &str = "RECLUSTER_COMPILE_CACHE";
/// For our preload alone, which removes it: the worker is to tell what it writes to stderr, which the master does not see.
pub const TELLS: &str = "RECLUSTER_TELLS";

/// The process that systemd has started, as it is told itself. It is another one where a program between has started the master.
pub const SYSTEMD_EXEC_PID: &str = "SYSTEMD_EXEC_PID";

/// How many descriptors systemd keeps for the master (from 254 on it says so).
pub const FDSTORE: &str = "FDSTORE";

/// The variables whose value is the pid of the worker itself. Only its own process knows that pid in time, so they
/// are set between fork and exec: the first with the sockets of an [`Activation`], the second with a watchdog. A child
/// of the worker inherits them, and sees by the pid that sockets and watchdog are not for it.
pub const OWN_PID: [&str; 2] = [LISTEN_PID, WATCHDOG_PID];

/// What a worker must never inherit from the master's own environment, because its values are about the master.
///
/// A master that is a child of Node would hand on its own channel; one that runs under a service manager
/// would hand on the manager's sockets, so that a worker takes them for its own, reports to the manager
/// that the whole service stops, or answers the watchdog in the place of a master that hangs.
pub const WITHHELD: [&str; 18] = [
    CLUSTER,
    CHANNEL_FD,
    CHANNEL_SERIALIZATION_MODE,
    UNIQUE_ID,
    LISTEN_FDS,
    LISTEN_FDNAMES,
    LISTEN_PID,
    "LISTEN_PIDFDID",
    NOTIFY_SOCKET,
    WATCHDOG_PID,
    WATCHDOG_USEC,
    FDSTORE,
    SYSTEMD_EXEC_PID,
    RECLUSTER_CHANNEL_FD,
    DRAIN,
    SERVER,
    COMPILE_CACHE,
    TELLS,
];

/// Variables that begin with one of these are withheld as well: each of these managers has several.
const WITHHELD_FAMILIES: [&str; 2] = ["EINHORN_", "SERVER_STARTER_"];

/// Whether a variable of the master must be removed from a worker's environment, before
/// [`WorkerEnv::variables`] are added.
pub fn is_withheld(name: &OsStr) -> bool {
    let family = |prefix: &&str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
    WITHHELD.iter().any(|withheld| name == *withheld) || WITHHELD_FAMILIES.iter().any(family)
}

/// Whether a variable belongs to the master: each worker gets its own value of it, or must have none. A user cannot choose it.
pub fn is_reserved(name: &OsStr) -> bool {
    is_withheld(name) || [WORKER_ID, GENERATION, WORKERS].iter().any(|own| name == *own)
}

/// The environment of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerEnv {
    /// The worker's slot, from 0.
    pub slot: u32,
    /// Its generation, from 1.
    pub generation: u64,
    /// The number of slots.
    pub workers: u32,
    /// Set where the worker is a Node process.
    pub node: Option<NodeChannel>,
}

/// The channel of a worker that is a Node process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeChannel {
    /// Its number in the worker. Up to 15: Node lets its own children inherit a greater one, and then
    /// the channel does not end with the worker.
    pub fd: u32,
    /// The worker's `cluster.worker.id`.
    pub unique_id: u64,
    /// How messages are written on it.
    pub serialization: Serialization,
    /// Set where the worker loads our preload, and drains by it.
    pub drain: Option<NodeDrain>,
    /// The worker loads our preload, and tells what it writes to stderr: [`FromWorker::Stderr`](crate::node::FromWorker::Stderr).
    pub tells_stderr: bool,
}

/// How a worker with our preload drains when it leaves by itself or its master dies, and what it reports before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDrain {
    /// How long an idle connection is spared.
    pub grace: IdleGrace,
    /// How long after the death of its master it ends, even with open connections.
    pub timeout: Duration,
    /// It reports how many connections it has got: [`FromWorker::Taken`](crate::node::FromWorker::Taken).
    pub counts: bool,
    /// Where it has a compile cache, it writes what it has compiled before its first server listens.
    pub writes: bool,
    /// What it says of itself when it is asked: [`FromWorker::Measures`](crate::node::FromWorker::Measures).
    pub metrics: NodeMetrics,
    /// Whether its stdout, and whether its stderr, is the master's own: what nobody reads there holds up its end for a second.
    pub inherits: [bool; 2],
}

/// What a worker with our preload says of itself when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeMetrics {
    /// Nothing.
    #[default]
    Off,
    /// How it does.
    Basic,
    /// The same, and which requests it has answered: it counts them from its beginning on.
    Http,
}

/// How long a draining worker spares idle connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleGrace {
    /// Any connection.
    pub least: Duration,
    /// One whose server keeps it longer than that, by its `keepAliveTimeout`: so long, and no longer than this.
    pub most: Duration,
}

impl WorkerEnv {
    /// The variables to set, as names and values.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            (WORKER_ID, self.slot.to_string()),
            (GENERATION, self.generation.to_string()),
            (WORKERS, self.workers.to_string()),
        ];
        if let Some(channel) = self.node {
            variables.extend([
                (CHANNEL_FD, channel.fd.to_string()),
                (CHANNEL_SERIALIZATION_MODE, channel.serialization.as_str().to_owned()),
                (UNIQUE_ID, channel.unique_id.to_string()),
            ]);
            let drain =
                channel.drain.map(|NodeDrain { grace, timeout, counts, writes, metrics, inherits }| {
                    let count = if counts { ",count" } else { "" };
                    let write = if writes { ",write" } else { "" };
                    let measure = match metrics {
                        NodeMetrics::Off => "",
                        NodeMetrics::Basic => ",measure",
                        NodeMetrics::Http => ",measure,requests",
                    };
                    let [stdout, stderr] = inherits;
                    let stdout = if stdout { ",stdout" } else { "" };
                    let stderr = if stderr { ",stderr" } else { "" };
                    let IdleGrace { least, most } = grace;
                    let [least, most, timeout] = [least, most, timeout].map(|span| span.as_millis());
                    (DRAIN, format!("{least},{most},{timeout}{count}{write}{measure}{stdout}{stderr}"))
                });
            variables.extend(drain);
            variables.extend(channel.tells_stderr.then(|| (TELLS, "stderr".to_owned())));
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: WorkerEnv = WorkerEnv { slot: 2, generation: 5, workers: 8, node: None };

    fn own(variables: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        variables.iter().map(|&(name, value)| (name, value.to_owned())).collect()
    }

    #[test]
    fn every_worker_knows_its_place() {
        let expected = own(&[("WORKER_ID", "2"), ("RECLUSTER_GENERATION", "5"), ("RECLUSTER_WORKERS", "8")]);
        assert_eq!(PLAIN.variables(), expected);
    }

    #[test]
    fn a_node_worker_knows_its_channel_too() {
        let node = WorkerEnv {
            node: Some(NodeChannel {
                fd: 3,
                unique_id: 77,
                serialization: Serialization::Json,
                drain: None,
                tells_stderr: false,
            }),
            ..PLAIN
        };
        let expected = own(&[
            ("NODE_CHANNEL_FD", "3"),
            ("NODE_CHANNEL_SERIALIZATION_MODE", "json"),
            ("NODE_UNIQUE_ID", "77"),
        ]);
        assert_eq!(node.variables().split_off(3), expected);
    }

    #[test]
    fn a_worker_with_the_preload_is_told_its_patience_in_milliseconds() {
        for (counts, writes, metrics, inherits, expected) in [
            (false, false, NodeMetrics::Off, [false; 2], "6000,29500,30500"),
            (true, false, NodeMetrics::Off, [false, true], "6000,29500,30500,count,stderr"),
            (false, true, NodeMetrics::Basic, [true, false], "6000,29500,30500,write,measure,stdout"),
            (
                true,
                true,
                NodeMetrics::Http,
                [true; 2],
                "6000,29500,30500,count,write,measure,requests,stdout,stderr",
            ),
        ] {
            let grace = IdleGrace { least: Duration::from_secs(6), most: Duration::from_millis(29_500) };
            let timeout = Duration::from_millis(30_500);
            let drain = NodeDrain { grace, timeout, counts, writes, metrics, inherits };
            let channel = NodeChannel {
                fd: 3,
                unique_id: 77,
                serialization: Serialization::Json,
                drain: Some(drain),
                tells_stderr: false,
            };
            let variables = WorkerEnv { node: Some(channel), ..PLAIN }.variables();
            assert_eq!(variables.last(), Some(&("RECLUSTER_DRAIN", expected.to_owned())));
        }
    }

    #[test]
    fn a_worker_whose_stderr_is_not_seen_is_told_to_tell() {
        let serialization = Serialization::Json;
        let channel = NodeChannel { fd: 3, unique_id: 77, serialization, drain: None, tells_stderr: true };
        let variables = WorkerEnv { node: Some(channel), ..PLAIN }.variables();
        assert_eq!(variables.last(), Some(&("RECLUSTER_TELLS", "stderr".to_owned())));
    }

    #[test]
    fn what_speaks_of_the_master_is_withheld_and_nothing_else() {
        for name in [
            "NODE_CHANNEL_FD",
            "LISTEN_PID",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "EINHORN_FD_12",
            "SERVER_STARTER_PORT",
        ] {
            assert!(is_withheld(name.as_ref()), "{name}");
        }
        for name in ["PATH", "NODE_OPTIONS", "NODE_ENV", "NODE_APP_INSTANCE", "notify_socket", "EINHORN", ""]
        {
            assert!(!is_withheld(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn what_each_worker_gets_is_no_users_to_choose() {
        let node = NodeChannel {
            fd: 3,
            unique_id: 77,
            serialization: Serialization::Json,
            drain: None,
            tells_stderr: false,
        };
        for (name, _) in (WorkerEnv { node: Some(node), ..PLAIN }).variables() {
            assert!(is_reserved(name.as_ref()), "{name}");
        }
        assert!(is_reserved("LISTEN_FDS".as_ref()) && is_reserved("EINHORN_FD_0".as_ref()));
        assert!(!is_reserved("NODE_APP_INSTANCE".as_ref()) && !is_reserved("RECLUSTER_CONTROL".as_ref()));
    }
}
