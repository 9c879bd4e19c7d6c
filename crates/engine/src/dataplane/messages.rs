//! What passes between the data plane and its owner: commands in, facts out, and who may be given what.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::Json;
use recluster_wire::node::{HandleKind, Held, Listening};
use rustix::process::{Resource, getrlimit};
use tokio::sync::oneshot;

use crate::config::balance::{Balance, PeekLimits};
use crate::report::error::SendError;
use crate::report::status::ListenerStatus;
use crate::report::worker::Address;
use crate::socket::bind::{Bound, FIRST_LISTENER};

/// How many bytes of one worker's messages may wait for the supervisor before that worker's channel is no longer read.
const WAITING_BYTES: usize = 1024 * 1024;

/// The most connections that wait for one worker: as many as the kernel has room for by Node's default.
const PENDING: usize = 512;

/// The longest time that connections are looked at.
const LONGEST_PEEK: Duration = Duration::from_secs(3600);

/// What a message costs beside its text.
const MESSAGE_COST: usize = 256;

/// How the dataplane works, from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) balance: Balance,
    /// Limits of looking at what connections begin with.
    pub(crate) peek: PeekLimits,
    /// Workers under Node accept on sockets that they are given; else they are given connections.
    pub(crate) workers_accept: bool,
    /// Messages are shown to somebody, and the descriptors that come with them are somebody's; else these are closed.
    pub(crate) is_hosted: bool,
}

/// How many connections wait for one of so many workers. What is more goes to any worker.
pub(super) fn pending_limit(workers: usize) -> usize {
    (share_of_descriptors() / workers.max(1)).clamp(1, PENDING)
}

/// How many descriptors connections may have that are looked at, and those that wait for their worker: a quarter each.
fn share_of_descriptors() -> usize {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most / 4).unwrap_or(usize::MAX)
}

/// What the dataplane is told at the beginning.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    /// Sockets that the master was started with, by the number that workers know them by.
    pub(crate) inherited: BTreeMap<i32, OwnedFd>,
}

impl Setup {
    /// Workers number what the master has bound from the first descriptor on that they may be given.
    pub(crate) fn new(mut config: Config, bound: &[Bound]) -> io::Result<Self> {
        config.peek.connections = config.peek.connections.min(share_of_descriptors()).max(1);
        config.peek.timeout = config.peek.timeout.min(LONGEST_PEEK);
        let numbered = (FIRST_LISTENER..).zip(bound);
        let copies = numbered.map(|(number, bound)| Ok((number, bound.socket.try_clone()?)));
        Ok(Self { config, inherited: copies.collect::<io::Result<_>>()? })
    }
}

/// What a worker may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Connections.
    Serving,
    /// Connections of listeners on which nobody serves.
    Standby,
}

/// Who may be given what: published by the supervisor whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    /// Workers that are not here are given nothing.
    pub(crate) standing: BTreeMap<WorkerId, Standing>,
    /// Nothing is pending: a listener that no worker in this table uses will not be wanted again.
    pub(crate) settled: bool,
}

/// A worker that begins.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) worker: WorkerId,
    pub(crate) slot: u32,
    /// Our end of its channel.
    pub(crate) channel: OwnedFd,
    /// One that is not Node is given sockets, never connections.
    pub(crate) is_node: bool,
}

/// What the supervisor tells the dataplane.
#[derive(Debug)]
pub(crate) enum Command {
    /// A worker begins.
    Admit(Admission),
    /// Who may be given what, from now on.
    Route(Routes),
    /// Let this worker go. It will be told so by a signal then. Where it has the preload, it is to spare idle connections
    /// for the grace.
    Drain { worker: WorkerId, until: Instant, grace: Option<Duration> },
    /// Everything stops: take what waits in the queues of the kernel and close the sockets.
    CloseListeners,
    /// The worker's process has ended: hear its last words, take back what it had not taken, forget it.
    Ended(WorkerId),
    /// The worker's user lets it go: it is to disconnect, and nothing more.
    Disconnect { worker: WorkerId, grace: Option<Duration> },
    /// Send a message of the host program to this worker's application.
    Send {
        worker: WorkerId,
        json: Json,
        handle: Option<Handle>,
        reply: oneshot::Sender<Result<(), SendError>>,
    },
    /// Hand a connection to this very worker; the answer says whether it could be.
    HandOver { worker: WorkerId, connection: OwnedFd, reply: oneshot::Sender<bool> },
    /// Say when all that was told before is done.
    Settle(mpsc::Sender<()>),
    /// Tell what you have.
    Report(oneshot::Sender<Report>),
    /// The cluster is over.
    Finish,
}

/// What the dataplane reports.
#[derive(Debug)]
pub(crate) enum Fact {
    Online(WorkerId),
    Listening(WorkerId, Address, Listening),
    /// It said that it is ready.
    SaidReady(WorkerId),
    /// It asks to be replaced, or closes its servers.
    Retiring(WorkerId),
    Message {
        worker: WorkerId,
        json: Json,
        handle: Option<Handle>,
        receipt: Receipt,
    },
    /// What it still has, in its drain.
    Held(WorkerId, Held),
    /// It broke a rule and was cut off.
    CutOff(WorkerId, String),
    /// Something that the cluster cannot do.
    Caveat(&'static str),
    /// Its channel is closed. It may still have connections if it closed its servers before it was told to disconnect:
    /// then nothing but its drain timeout says when it should be gone.
    Disconnected {
        worker: WorkerId,
        finishing: bool,
    },
    /// Answer to [`Command::Ended`]: all its words have been heard.
    ChannelDrained(WorkerId),
}

/// What the dataplane has: for the status.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) listeners: Vec<ListenerStatus>,
    /// How many connections each worker has got.
    pub(crate) taken: BTreeMap<WorkerId, u64>,
    pub(crate) tally: Tally,
}

/// What the dataplane counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// How many connections were handed to an idle worker because another was busy.
    pub(crate) stolen: u64,
    /// How many connections were taken back from a worker's socket, its channel or its desk, to be given to another.
    pub(crate) requeued: u64,
    /// How many connections the former workers of each slot got.
    pub(crate) past: BTreeMap<u32, u64>,
}

/// How much of one worker's messages waits for the supervisor, in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog(Arc<AtomicUsize>);

/// A descriptor that travels with a message.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "the two things that are sent")]
pub struct Handle {
    /// What it becomes at its receiver.
    pub kind: HandleKind,
    /// The descriptor.
    pub fd: OwnedFd,
}

/// A message that waits for the supervisor; when this is dropped, the supervisor has dealt with it.
#[derive(Debug)]
pub struct Receipt {
    backlog: Backlog,
    cost: usize,
}

impl Backlog {
    pub(crate) fn note(&self, text: &Json) -> Receipt {
        let cost = text.as_str().len() + MESSAGE_COST;
        self.0.fetch_add(cost, Ordering::Relaxed);
        Receipt { backlog: self.clone(), cost }
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= WAITING_BYTES
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.backlog.0.fetch_sub(self.cost, Ordering::Relaxed);
    }
}
