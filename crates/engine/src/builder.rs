//! [`ClusterBuilder`]: everything that can be said about a cluster before it starts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use recluster_core::{Config, Settings, Surge};
use tokio::sync::broadcast;

use crate::cluster::Cluster;
use crate::error::StartError;
use crate::event::{EVENT_BACKLOG, Event, Events};
use crate::preload::Preload;
use crate::program::Program;
use crate::{driver, plane, process};

/// When a worker counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadyWhen {
    /// Its first server listens (Node).
    Listening,
    /// Its process runs (Node: its first word).
    Started,
    /// It said so: `process.send({cmd: 'ready'})` or `process.send('ready')`.
    Ready,
}

/// How new connections reach workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// The master accepts and passes connections on, each to a worker with room.
    #[default]
    RoundRobin,
    /// Workers accept by themselves on one shared socket; the kernel picks.
    Shared,
}

/// How long an idle connection of a draining Node worker is spared: longer than the five seconds after which Node closes
/// one anyway, as it has announced to the client.
const IDLE_GRACE: Duration = Duration::from_secs(6);

/// Says what a cluster runs and how; [`ClusterBuilder::start`] starts it.
#[derive(Debug)]
pub struct ClusterBuilder {
    pub(crate) program: Program,
    pub(crate) settings: Settings,
    pub(crate) stop_timeout: Option<Duration>,
    pub(crate) ready_when: Option<ReadyWhen>,
    pub(crate) balance: Balance,
    pub(crate) raw_stdio: bool,
    pub(crate) end_with_master: bool,
    pub(crate) drain_http: bool,
    pub(crate) idle_grace: Duration,
    pub(crate) accept_after_stop: Duration,
    pub(crate) inherited: BTreeMap<i32, OwnedFd>,
    events: broadcast::Sender<Event>,
}

impl ClusterBuilder {
    pub(crate) fn new(server: PathBuf) -> Self {
        Self {
            program: Program::new(server),
            settings: Settings::default(),
            stop_timeout: None,
            ready_when: None,
            balance: Balance::default(),
            raw_stdio: false,
            end_with_master: false,
            drain_http: true,
            idle_grace: IDLE_GRACE,
            accept_after_stop: Duration::ZERO,
            inherited: BTreeMap::new(),
            events: broadcast::Sender::new(EVENT_BACKLOG),
        }
    }

    /// Arguments for the server. Default none.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.program.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// The node binary: a path, or a name to be looked up in `PATH`. Default `node`.
    #[must_use]
    pub fn node(mut self, node: impl Into<PathBuf>) -> Self {
        self.program.node = node.into();
        self
    }

    /// Arguments for node itself. Default none.
    #[must_use]
    pub fn node_args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.program.node_args = args.into_iter().map(Into::into).collect();
        self
    }

    /// One more variable for the workers' environment, beside what the master's own holds.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.program.env.insert(name.into(), value.into());
        self
    }

    /// How many slots. Default 1.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.settings.workers = workers;
        self
    }

    /// When a worker counts as ready. Default `Listening` for Node, else `Started`.
    #[must_use]
    pub fn ready_when(mut self, ready_when: ReadyWhen) -> Self {
        self.ready_when = Some(ready_when);
        self
    }

    /// A worker that is not ready after this has failed. Default 60 s.
    #[must_use]
    pub fn ready_timeout(mut self, span: Duration) -> Self {
        self.settings.ready_timeout = span;
        self
    }

    /// How many failures of one slot end a generation. Default 3.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.settings.attempts = attempts;
        self
    }

    /// A first start is never given up. Default off.
    #[must_use]
    pub fn keep_trying(mut self, keep_trying: bool) -> Self {
        self.settings.keep_trying = keep_trying;
        self
    }

    /// How long a ready worker must live before it serves. Default 1 s.
    #[must_use]
    pub fn bake(mut self, span: Duration) -> Self {
        self.settings.bake = span;
        self
    }

    /// How long a worker may go on after it was replaced. Default 30 s; zero: it is sent TERM at once.
    #[must_use]
    pub fn timeout(mut self, span: Duration) -> Self {
        self.settings.timeout = span;
        self
    }

    /// The same at a stop. Default 25 s, or [`timeout`](Self::timeout) if that is shorter.
    #[must_use]
    pub fn stop_timeout(mut self, span: Duration) -> Self {
        self.stop_timeout = Some(span);
        self
    }

    /// Whether Node workers drain without losing a request: they load a small file before the application, which
    /// answers what is on its way with `Connection: close`. Default on; off leaves it to Node, which resets idle
    /// connections.
    #[must_use]
    pub fn drain_http(mut self, on: bool) -> Self {
        self.drain_http = on;
        self
    }

    /// How long an idle connection of a draining Node worker is spared before it is closed. Default 6 s, and always
    /// less than the drain lasts.
    #[must_use]
    pub fn idle_grace(mut self, span: Duration) -> Self {
        self.idle_grace = span;
        self
    }

    /// How long a stop goes on accepting and serving before it begins to drain, for a load balancer that sends traffic a
    /// little longer than it should. Default zero.
    #[must_use]
    pub fn accept_after_stop(mut self, span: Duration) -> Self {
        self.accept_after_stop = span;
        self
    }

    /// From a closed channel to TERM. Default 5 s.
    #[must_use]
    pub fn exit_grace(mut self, span: Duration) -> Self {
        self.settings.exit_grace = span;
        self
    }

    /// From TERM to KILL. Default 5 s.
    #[must_use]
    pub fn kill_timeout(mut self, span: Duration) -> Self {
        self.settings.kill_timeout = span;
        self
    }

    /// How many draining generations are kept at once. Default no cap.
    #[must_use]
    pub fn max_draining(mut self, generations: NonZeroU32) -> Self {
        self.settings.max_draining = Some(generations);
        self
    }

    /// The least time between two respawns in the whole cluster. Default 1 s.
    #[must_use]
    pub fn respawn(mut self, span: Duration) -> Self {
        self.settings.respawn = span;
        self
    }

    /// The most time between respawns: the spacing doubles with each one up to this. Default off.
    #[must_use]
    pub fn backoff(mut self, span: Duration) -> Self {
        self.settings.backoff = Some(span);
        self
    }

    /// How many extra workers a reload may run at once. Default all.
    #[must_use]
    pub fn surge(mut self, surge: Surge) -> Self {
        self.settings.surge = surge;
        self
    }

    /// How new connections reach workers. Default round-robin.
    #[must_use]
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// Hands the master's own stderr to workers as it is. Verdicts then have no tail of it. Default off.
    #[must_use]
    pub fn raw_stdio(mut self, raw: bool) -> Self {
        self.raw_stdio = raw;
        self
    }

    /// Has the kernel send TERM to programs that are not Node when the master dies; Node workers learn it from their
    /// channel in any case. The kernel goes by the thread that starts a worker, not by the process: turn it on only where
    /// the cluster runs on a runtime whose thread lives as long as the process, such as a current-thread runtime on
    /// the main thread. Default off.
    #[must_use]
    pub fn end_with_master(mut self, end: bool) -> Self {
        self.end_with_master = end;
        self
    }

    /// Gives the master a socket that it was started with: a worker's `listen({fd: number})` means this one.
    #[must_use]
    pub fn inherit(mut self, number: i32, socket: OwnedFd) -> Self {
        self.inherited.insert(number, socket);
        self
    }

    /// Whether the server is a file that runs under node, by its ending.
    pub fn runs_under_node(&self) -> bool {
        self.program.runs_under_node()
    }

    /// Listens before the start, so that no event is missed.
    pub fn subscribe(&self) -> Events {
        Events(self.events.subscribe())
    }

    /// Starts the cluster: checks everything, then starts the workers. Returns before they are ready;
    /// [`Cluster::started`] waits for that. Must be called in a tokio runtime with IO and time enabled.
    ///
    /// # Errors
    ///
    /// When the server or node cannot be run, the settings contradict each other, or the machine refuses a
    /// thread or a descriptor. Nothing has been started then.
    #[expect(
        clippy::unused_async,
        reason = "a start may come to wait for the machine; callers must not notice"
    )]
    pub async fn start(self) -> Result<Cluster, StartError> {
        let mut settings = self.settings;
        settings.stop_timeout = self.stop_timeout.unwrap_or(settings.stop_timeout.min(settings.timeout));
        let ready_timeout = settings.ready_timeout;
        let preload = Preload { idle_grace: self.idle_grace, timeout: settings.timeout };
        let config = Config::new(settings)?;
        let launch = self.program.resolve()?;
        let ready_when = self.ready_when.unwrap_or_else(|| launch.default_ready_when());
        if ready_when != ReadyWhen::Started && !launch.is_node() {
            return Err(StartError::NoChannel { path: launch.server });
        }
        if process::ignores_ended_children() {
            return Err(StartError::ChildrenIgnored);
        }
        let shell = driver::Shell {
            program: self.program,
            first: launch,
            ready_when,
            ready_timeout,
            balance: self.balance,
            raw_stdio: self.raw_stdio,
            end_with_master: self.end_with_master,
            preload: self.drain_http.then_some(preload),
            accept_after_stop: self.accept_after_stop,
            events: self.events,
        };
        driver::start(config, shell, plane::Setup { balance: self.balance, inherited: self.inherited })
    }
}
