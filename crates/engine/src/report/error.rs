//! What can go wrong, as types. Each message completes "failed to …" or stands alone; none ends in a full stop.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::report::variable::{EnvFileError, VariableError};
use crate::report::verdict::Failure;
use crate::report::verdict::Verdict;
use crate::upgrade::AdoptError;

/// Why a cluster could not be started. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The program, the node binary or the working directory is not usable.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] recluster_core::ConfigError),
    /// An address that the master was to bind cannot be had.
    #[error("cannot listen on {address}: {source}{}", advice(source, holder.as_deref()))]
    Listen {
        /// The address, as it was given.
        address: String,
        /// Who has it, where that can be seen.
        holder: Option<String>,
        /// Why not.
        source: io::Error,
    },
    /// What is at the path of a unix socket is none, and is left alone.
    #[error("cannot listen on {address}: {what}")]
    NotASocket {
        /// The address, as it was given.
        address: String,
        /// What is there, and what to do.
        what: String,
    },
    /// The same address was given twice.
    #[error("cannot listen on {address} twice: name it once{}", other_name(address, other))]
    ListenTwice {
        /// The address, as it was given.
        address: String,
        /// What has it, as that was given.
        other: String,
    },
    /// An HTTP check of a program that is not Node goes to a socket that all workers share.
    #[error(
        "an http check of a program that is not Node could be answered by any of its neighbours, which share its sockets: \
         give each worker a listener of its own (--check-listen 127.0.0.1:0), or check by a command (exec:…)"
    )]
    CheckReachesNeighbours,
    /// Checks would do nothing but start processes.
    #[error("the check interval is {interval:?}: the time between two checks cannot be shorter than 10ms")]
    CheckInterval {
        /// What was asked for.
        interval: Duration,
    },
    /// Deno never accepts on a socket that it shares with others.
    #[error("Deno does not accept connections on a shared socket: use --balance round-robin")]
    DenoTakesNoSocket,
    /// A program that is not Node accepts connections by itself, so the master cannot choose the worker.
    #[error(
        "--balance sticky needs a server that runs under Node: other programs accept connections by themselves, and the \
         kernel picks (use --balance shared)"
    )]
    StickyWithoutNode,
    /// The listener for checks could not be each worker's own.
    #[error("--check-listen {address}: {reason}")]
    CheckListen {
        /// The address, as it was given.
        address: String,
        /// Why not.
        reason: &'static str,
    },
    /// SIGCHLD is ignored in this process, so that the exit status of workers would be lost.
    #[error("SIGCHLD is ignored in this process: the exits of workers could not be seen (give it a handler)")]
    ChildrenIgnored,
    /// The files for what workers write cannot be opened.
    #[error("cannot write the worker log in {}: {source}", directory.display())]
    WorkerLog {
        /// Where they are to be.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What a program before has left to this one contradicts itself, or what there is now.
    #[error("what the program before has left cannot be taken over: {0}")]
    Inherited(String),
    /// The machine refused something that every cluster needs.
    #[error("cannot {what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl From<AdoptError> for StartError {
    fn from(error: AdoptError) -> Self {
        Self::Inherited(error.to_string())
    }
}

/// By what other name an address was given before.
fn other_name(address: &str, other: &str) -> String {
    if address == other { String::new() } else { format!(" ({other} has it already)") }
}

/// What to do about an address that cannot be had.
fn advice(error: &io::Error, holder: Option<&str>) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => match holder {
            Some(holder) => format!(" ({holder})"),
            None => " (by whom cannot be seen from here: root sees it by `ss -lnp`)".to_owned(),
        },
        Some(libc::EACCES) => {
            " (a port below 1024 needs root or CAP_NET_BIND_SERVICE; a unix socket a directory that may be written)"
                .to_owned()
        }
        Some(libc::EADDRNOTAVAIL) => " (no interface of this machine has that address)".to_owned(),
        Some(_) | None => String::new(),
    }
}

/// Why a generation cannot run at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// There is no such server file.
    #[error("server file not found: {}", path.display())]
    NotFound {
        /// The path that was looked for.
        path: PathBuf,
    },
    /// The server file is there, but cannot be run.
    #[error("server file cannot be run: {}: {source}", path.display())]
    NotRunnable {
        /// The server file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The node binary is not to be found.
    #[error("node binary not found: {} (is Node.js installed? --node PATH names another)", node.display())]
    NodeNotFound {
        /// What was looked for.
        node: PathBuf,
    },
    /// What was named as the node binary is there, but cannot be run.
    #[error("node binary cannot be run: {}: {source}", node.display())]
    NodeNotRunnable {
        /// What was named.
        node: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of variables for workers is not usable.
    #[error(transparent)]
    EnvFile(#[from] EnvFileError),
    /// A variable that was said for workers cannot be one.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// The working directory is gone.
    #[error("working directory not usable: {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Workers cannot run as the user, or in the group, that was said.
    #[error("workers cannot run as {}: {source}", whom(*uid, *gid))]
    User {
        /// The user, unless that is the master's.
        uid: Option<u32>,
        /// The group, unless that is the master's.
        gid: Option<u32>,
        /// Why not.
        source: io::Error,
    },
    /// The user has no account on this machine, and its group was not said.
    #[error("user {uid} has no account on this machine that says its group: say the group as well")]
    NoGroup {
        /// The user.
        uid: u32,
    },
    /// Workers cannot have a limit that was said.
    #[error("workers cannot have the limit {limit}: {source}")]
    Limit {
        /// The limit, as it is written.
        limit: String,
        /// Why not.
        source: io::Error,
    },
}

fn whom(uid: Option<u32>, gid: Option<u32>) -> String {
    let user = uid.map(|uid| format!("user {uid}"));
    let group = gid.map(|gid| format!("group {gid}"));
    user.into_iter().chain(group).collect::<Vec<_>>().join(", ")
}

/// Why a reload did not bring the new code into every slot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The new generation failed and was taken down; the old one serves on.
    #[error("rolled back: {0}")]
    RolledBack(Failure),
    /// The new generation failed after some slots were replaced; those keep the new code.
    #[error("stopped at {replaced} of {of}: {failure}")]
    StoppedPartWay {
        /// How many slots run the new generation.
        replaced: u32,
        /// Of how many.
        of: u32,
        /// Why.
        failure: Failure,
    },
    /// The cluster was stopped, terminated or released before the reload ended.
    #[error("the cluster was told to end before the reload was done")]
    Abandoned,
    /// The reload could not begin, and nothing was touched.
    #[error("refused: {0}")]
    Refused(String),
    /// The cluster is over.
    #[error(transparent)]
    Gone(#[from] Gone),
}

impl ReloadError {
    /// The verdict as the result of waiting for it.
    pub(crate) fn unless_done(verdict: Verdict) -> Result<(), Self> {
        match verdict {
            Verdict::Done => Ok(()),
            Verdict::RolledBack { failure } => Err(Self::RolledBack(failure)),
            Verdict::StoppedPartWay { replaced, of, failure } => {
                Err(Self::StoppedPartWay { replaced, of, failure })
            }
            Verdict::Abandoned => Err(Self::Abandoned),
            Verdict::Refused { reason } => Err(Self::Refused(reason)),
        }
    }
}

/// The cluster has ended and answers no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has ended")]
#[non_exhaustive]
pub struct Gone;

/// Why the number of workers was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScaleError {
    /// A stop or a termination was asked for.
    #[error("the cluster is about to end, and starts no worker any more")]
    Ending,
    /// A cluster may not have so many.
    #[error("{}", recluster_core::ConfigError::TooManyWorkers { workers: *workers })]
    TooMany {
        /// How many there would have been.
        workers: u32,
    },
    /// The cluster is over.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Why a worker was not replaced.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// There is no such worker, or something else is going on.
    #[error("{0}")]
    Refused(String),
    /// What was to replace it did not come to serve: the old one goes on.
    #[error("the old worker goes on: {0}")]
    Failed(Box<Failure>),
    /// The cluster is over.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Why a message did not go to a worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The cluster is over.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// No such worker lives, or it has no open channel.
    #[error("no worker {0} with an open channel")]
    NoWorker(u64),
    /// The message is not JSON.
    #[error("the message is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// The worker reads JSON, and the message is a value of V8.
    #[error("worker {0} reads JSON")]
    JsonOnly(u64),
    /// The worker does not read what it is sent.
    #[error("worker {0} does not read: its queue is full")]
    Full(u64),
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_address_that_cannot_be_had_comes_with_advice() {
        let message = |errno: i32| {
            let source = io::Error::from_raw_os_error(errno);
            let holder = (errno == libc::EADDRINUSE).then(|| "process 7 has it: nginx".to_owned());
            StartError::Listen { address: "127.0.0.1:80".to_owned(), holder, source }.to_string()
        };
        assert_eq!(
            message(libc::EADDRINUSE),
            "cannot listen on 127.0.0.1:80: Address already in use (os error 98) (process 7 has it: nginx)"
        );
        assert!(message(libc::EACCES).contains("needs root or CAP_NET_BIND_SERVICE"));
        assert!(message(libc::EADDRNOTAVAIL).ends_with("(no interface of this machine has that address)"));
        assert!(message(libc::EIO).ends_with("Input/output error (os error 5)"));
    }

    #[test]
    fn an_address_twice_is_named_by_both_names() {
        let twice = |address: &str, other: &str| {
            StartError::ListenTwice { address: address.to_owned(), other: other.to_owned() }.to_string()
        };
        assert_eq!(twice("8080", "8080"), "cannot listen on 8080 twice: name it once");
        assert_eq!(
            twice("*:8080", "8080"),
            "cannot listen on *:8080 twice: name it once (8080 has it already)"
        );
    }

    #[test]
    fn every_verdict_but_done_is_an_error() {
        let failure = || crate::report::verdict::tests::failure(1);
        assert!(ReloadError::unless_done(Verdict::Done).is_ok());
        let message = |verdict| ReloadError::unless_done(verdict).unwrap_err().to_string();
        assert_eq!(
            message(Verdict::RolledBack { failure: failure() }),
            "rolled back: worker 5 (slot 0, pid 7) exited with status 1"
        );
        assert_eq!(
            message(Verdict::StoppedPartWay { replaced: 1, of: 4, failure: failure() }),
            "stopped at 1 of 4: worker 5 (slot 0, pid 7) exited with status 1"
        );
        assert_eq!(message(Verdict::Abandoned), "the cluster was told to end before the reload was done");
        assert_eq!(message(Verdict::Refused { reason: "no".to_owned() }), "refused: no");
    }
}
