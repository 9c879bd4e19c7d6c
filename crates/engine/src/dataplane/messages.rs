//! What passes between the supervisor and the data plane: commands in, facts out, and which workers may be given what.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::env::Serialization;
use recluster_wire::node::{Farewell, Held, IdleGrace, Listening, Payload};
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::handle::Handle;
use super::inherited::{AllInherited, Inherited};
use crate::config::balance::{Balance, PeekLimits};
use crate::config::messages::Messages;
use crate::guard::Part;
use crate::report::counts::Flow;
use crate::report::error::SendError;
use crate::report::measured::{Counted, Said};
use crate::report::status::ListenerStatus;
use crate::report::worker::Address;
use crate::socket::bind::{Bound, FIRST_LISTENER};
use crate::socket::file::SocketFile;
use crate::socket::kept::{KeptName, Pool};
use crate::socket::lend::Lender;
use crate::upgrade::{SaveError, Saving};

/// The most connections that are pending for one worker: as many as the kernel's queue holds by Node's default.
const MOST_PENDING: usize = 512;

/// The longest time that the master waits for the first bytes of a connection.
const LONGEST_PEEK: Duration = Duration::from_secs(3600);

/// What a fact costs beside its texts, in bytes.
const FACT_COST: usize = 256;
/// What a descriptor costs that waits for a host program, in bytes: of one worker no more than 64 do, where 1 MiB may wait.
const HANDLE_COST: usize = 16 * 1024;

/// How the data plane works; it stays the same for its whole life.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) balance: Balance,
    /// Limits on looking at the first bytes of connections.
    pub(crate) peek: PeekLimits,
    /// Workers can accept from sockets of their own, where the balance is for it; those of Deno cannot.
    pub(crate) workers_accept: bool,
    /// There is a host program that gets the workers' messages and their descriptors; else these descriptors are closed.
    pub(crate) is_hosted: bool,
    /// Who hears the workers' messages.
    pub(crate) messages: Messages,
}

/// How many connections may be pending for one of so many workers. One more goes to any worker.
pub(super) fn pending_limit(workers: usize) -> usize {
    (share_of_descriptors() / workers.max(1)).clamp(1, MOST_PENDING)
}

/// How many servers all workers may have together, beside what the limit on descriptors says: each has a record here.
const MOST_SERVERS: usize = 4 * 1024;

/// How many servers each worker may have at least, as far as descriptors allow it: more than a server is likely to listen on.
const FEWEST_SERVERS_EACH: usize = 16;

/// How many servers one worker may have.
pub(super) const MOST_SERVERS_EACH: usize = 1024;

/// How many servers each of so many workers may have. One more fails as it would for want of descriptors.
pub(super) fn server_limit(workers: usize) -> usize {
    let workers = workers.max(1);
    let by_records = (MOST_SERVERS / workers).max(FEWEST_SERVERS_EACH);
    (share_of_descriptors() / workers).min(by_records).clamp(1, MOST_SERVERS_EACH)
}

/// How many descriptors the connections may have whose first bytes are awaited, and those that are pending, and the sockets that
/// workers have asked for: a quarter of all each. The last quarter is for workers, clients and what is accepted.
fn share_of_descriptors() -> usize {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most / 4).unwrap_or(usize::MAX)
}

/// What people are told has panicked.
pub(super) const PART: Part = Part::vital("the data plane");

/// What the data plane starts with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    /// Sockets that the master has bound before any worker asked.
    pub(crate) inherited: AllInherited,
    pub(crate) lender: Lender,
    /// The files of those that the master has bound.
    pub(crate) files: Vec<Arc<SocketFile>>,
    /// What a service manager has kept.
    pub(crate) pool: Pool,
    /// There is one that keeps sockets.
    pub(crate) keeps: bool,
    /// Workers of a master that was killed may have addresses for a moment longer.
    pub(crate) has_survivors: bool,
    /// Where the thread panics, its sockets stay for a master that begins anew.
    pub(crate) begins_anew: bool,
}

impl Setup {
    /// Workers know the sockets that the master has bound by numbers, from [`FIRST_LISTENER`] on.
    pub(crate) fn new(mut config: Config, bound: &[Bound], lender: Lender) -> io::Result<Self> {
        config.peek.connections = config.peek.connections.min(share_of_descriptors()).max(1);
        config.peek.timeout = config.peek.timeout.min(LONGEST_PEEK);
        let files = bound.iter().filter_map(|bound| bound.file.clone()).collect();
        let numbered = (FIRST_LISTENER..).zip(bound);
        let copies = numbered.map(|(number, bound)| {
            let (address, place) = (bound.address.clone(), bound.at());
            let (socket, others, kept) = (bound.socket.try_clone()?, Vec::new(), bound.kept);
            let (is_used, is_announced) = (false, false);
            Ok((number, Inherited { socket, address, place, kept, others, is_used, is_announced }))
        });
        let inherited = copies.collect::<io::Result<_>>()?;
        Ok(Self {
            config,
            inherited,
            lender,
            files,
            pool: Pool::default(),
            keeps: false,
            has_survivors: false,
            begins_anew: false,
        })
    }

    /// The same with what a service manager has kept and what it is to keep. What came back beside a socket that is bound already is
    /// emptied where workers use that.
    pub(crate) fn kept(mut self, pool: Pool, keeps: bool, bound: &mut [Bound]) -> Self {
        for (inherited, bound) in self.inherited.values_mut().zip(bound) {
            inherited.others = std::mem::take(&mut bound.others);
        }
        Self { pool, keeps, ..self }
    }
}

/// What a worker may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Connections.
    Serving,
    /// Connections of listeners on which no worker serves.
    Standby,
}

/// Which workers may be given what: published by the supervisor whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Routes {
    /// A worker that is not here is given nothing.
    pub(crate) standing: BTreeMap<WorkerId, Standing>,
    /// No reload, start or respawn is in progress: a listener that no worker in this table uses will not be wanted again.
    pub(crate) settled: bool,
}

/// A worker that begins.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) worker: WorkerId,
    pub(crate) slot: u32,
    pub(crate) generation: u64,
    pub(crate) pid: Option<u32>,
    /// Our end of its channel.
    pub(crate) channel: OwnedFd,
    /// One that is not Node accepts by itself, whatever the balance.
    pub(crate) is_node: bool,
    /// How it writes messages, and reads them.
    pub(crate) serialization: Serialization,
    /// It says how it does when it is asked.
    pub(crate) answers: bool,
}

/// Where what is saved goes.
pub(crate) type Resting = mpsc::Sender<Result<Saving, SaveError>>;

/// What the supervisor wants the data plane to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// A worker begins.
    Admit(Admission),
    /// Which workers may be given what, from now on.
    Route(Routes),
    /// Let this worker go; `until` then, when a signal ends it. If it has the preload, it keeps idle connections open for
    /// the grace.
    Drain { worker: WorkerId, until: Instant, grace: Option<IdleGrace> },
    /// Everything stops: take what waits in the queues of the kernel and close the sockets. Those that a service manager keeps for
    /// the next master are left as they are.
    CloseListeners { kept: BTreeSet<KeptName> },
    /// The worker's process has ended: read what it had still written, take back what it had not taken, and forget it.
    Ended(WorkerId),
    /// A host program lets this worker go: it is to disconnect, and its application is sent no message.
    Disconnect { worker: WorkerId, grace: Option<IdleGrace> },
    /// Send a message of the host program to this worker's application.
    Send {
        worker: WorkerId,
        said: Payload,
        handle: Option<Handle>,
        reply: oneshot::Sender<Result<(), SendError>>,
    },
    /// Have this worker write what its compile cache has gathered.
    FlushCache(WorkerId),
    /// Send a connection to this very worker; the answer says whether it could be sent.
    HandOver { worker: WorkerId, connection: OwnedFd, reply: oneshot::Sender<bool> },
    /// Report again what a service manager is to keep: it has room now for what it had none for.
    KeepAgain,
    /// Say when all earlier commands are carried out.
    Settle(mpsc::Sender<()>),
    /// Say what was bound for workers and none of them has asked for.
    NameUnused(mpsc::Sender<Vec<Address>>),
    /// Say what there is, for the status.
    Report(oneshot::Sender<Report>),
    /// Say what it would leave, without coming to rest.
    Preview(Resting),
    /// Come to rest, and say all that another program needs to go on. Where that cannot be said, it goes on by itself.
    Rest(Resting),
    /// Go on as if it had not rested.
    GoOn,
    /// The cluster is over.
    Finish,
}

/// What the data plane reports.
#[derive(Debug)]
pub(crate) enum Fact {
    Online(WorkerId),
    Listening(WorkerId, Address, Listening),
    /// The worker does not serve yet, and has closed all its servers.
    ListensNoMore(WorkerId),
    /// The file of a unix socket had been removed, and is there again.
    FileRestored(PathBuf),
    /// The path of a unix socket does not lead to it any more; whether something of others is there.
    FileLost(PathBuf, bool),
    /// A socket where workers listened is closed, and the cluster goes on.
    Closed(Address),
    /// The worker said that it is ready.
    SaidReady(WorkerId),
    /// The worker asks to be replaced, or has closed its servers.
    Retiring(WorkerId),
    Message {
        worker: WorkerId,
        said: Payload,
        handle: Option<Handle>,
    },
    /// A message of so many bytes, which nobody wants to read.
    Sent {
        worker: WorkerId,
        bytes: u64,
    },
    /// Nobody acts on messages of this kind. Said once for each.
    Unheard {
        worker: WorkerId,
        kind: String,
    },
    /// A message was too long to be kept: of so many bytes, or until now.
    Skipped {
        worker: WorkerId,
        bytes: u64,
        ended: bool,
    },
    /// What the worker still has, in its drain.
    Held(WorkerId, Held),
    /// The worker has no connection any more, in its drain.
    Farewell(WorkerId, Farewell),
    /// This was written to the worker's stderr, which does not pass through the master.
    Stderr(WorkerId, String),
    /// A server of the worker keeps idle connections for so long.
    Keeps(WorkerId, Duration),
    /// Why the worker has no compile cache.
    CacheOff(WorkerId, String),
    /// The worker could not listen, because the cluster itself listens here.
    InTheWay(WorkerId, Address),
    /// The worker broke a rule of its channel, and the channel was closed.
    CutOff(WorkerId, String),
    /// A service manager is to keep this socket.
    Keep(KeptName, OwnedFd),
    /// It is to keep it no longer.
    Forget(KeptName),
    /// Something that the cluster cannot do.
    Caveat(&'static str),
    /// The worker's channel is closed. `finishing`: it had closed its servers before it was told to disconnect, so it may
    /// still have connections, and has not said that it has none: its drain timeout alone says when it should be gone.
    Disconnected {
        worker: WorkerId,
        finishing: bool,
    },
    /// Answer to [`Command::Ended`]: all that the worker wrote has been read.
    ChannelDrained(WorkerId),
}

/// A fact, and what the worker pays for it whose message has led to it.
#[derive(Debug)]
pub(crate) struct Billed {
    pub(crate) fact: Fact,
    pub(crate) receipt: Receipt,
}

impl Fact {
    /// How many bytes of a worker's choosing it holds. Every variant is named: a new one is judged, too.
    fn bytes(&self) -> usize {
        match self {
            Self::Message { said, handle, .. } => said.len() + handle.as_ref().map_or(0, |_| HANDLE_COST),
            Self::Unheard { kind, .. } => kind.len(),
            Self::Stderr(_, text) => text.len(),
            // Both hold the path.
            Self::Listening(.., listening) => 2 * listening.address.as_ref().map_or(0, String::len),
            Self::Farewell(_, farewell) => farewell.alive.keys().map(|name| name.len() + FACT_COST).sum(),
            Self::FileRestored(path) | Self::FileLost(path, _) => path.as_os_str().len(),
            Self::CutOff(_, reason) | Self::CacheOff(_, reason) => reason.len(),
            Self::InTheWay(_, address) | Self::Closed(address) => match address {
                Address::Unix(path) => path.as_os_str().len(),
                Address::Tcp(_) | Address::Udp(_) | Address::Fd(_) => 0,
            },
            Self::Online(_)
            | Self::ListensNoMore(_)
            | Self::SaidReady(_)
            | Self::Retiring(_)
            | Self::Sent { .. }
            | Self::Skipped { .. }
            | Self::Held(..)
            | Self::Keeps(..)
            | Self::Keep(..)
            | Self::Forget(_)
            | Self::Caveat(_)
            | Self::Disconnected { .. }
            | Self::ChannelDrained(_) => 0,
        }
    }
}

/// What the data plane has: for the status.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) listeners: Vec<ListenerStatus>,
    /// How many connections each worker has got, if that is known.
    pub(crate) taken: BTreeMap<WorkerId, Option<u64>>,
    /// What workers have said of themselves.
    pub(crate) said: BTreeMap<WorkerId, Said>,
    pub(crate) tally: Tally,
    pub(crate) flow: Flow,
}

/// What the data plane counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// How many connections were sent to an idle worker because another was busy.
    pub(crate) stolen: u64,
    /// How many connections were taken back from a worker's socket, channel or pending queue, to be given to another.
    pub(crate) requeued: u64,
    /// How many connections the former workers of each slot got, where that is known of all of them.
    pub(crate) past: BTreeMap<u32, Option<u64>>,
    /// What the former workers of each slot have counted; in a [`Report`], all of them.
    pub(crate) counted: BTreeMap<u32, Counted>,
}

/// How many bytes of what one worker's messages have led to wait for the supervisor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog(Arc<AtomicUsize>);

/// Stands for a message, or what followed from one, that waits for its receiver; it is dropped when the receiver has dealt with it.
#[derive(Debug, Default)]
pub struct Receipt {
    backlog: Backlog,
    cost: usize,
}

impl Backlog {
    /// Counts a fact until the receipt is dropped.
    pub(crate) fn note(&self, fact: &Fact) -> Receipt {
        let cost = fact.bytes().saturating_add(FACT_COST);
        self.0.fetch_add(cost, Ordering::Relaxed);
        Receipt { backlog: self.clone(), cost }
    }

    /// Whether so many bytes wait, or more.
    pub(super) fn has(&self, bytes: usize) -> bool {
        self.0.load(Ordering::Relaxed) >= bytes
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.backlog.0.fetch_sub(self.cost, Ordering::Relaxed);
    }
}
