//! [`ClusterBuilder`]: everything that can be said about a cluster before it starts.

use std::ffi::{OsStr, OsString};
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recluster_core::Surge;
use tokio::sync::broadcast;

use crate::config::balance::{Balance, PeekLimits};
use crate::config::compile_cache::CompileCache;
use crate::config::drain_signal::DrainSignal;
use crate::config::hook::Hook;
use crate::config::limits::MemoryLimit;
use crate::config::listen::Listen;
use crate::config::messages::Messages;
use crate::config::output::Output;
use crate::config::ready::{ReadyCheck, ReadyWhen};
use crate::config::service_manager::ServiceManager;
use crate::config::variable::InstanceEnv;
use crate::config::watched::Watched;
use crate::config::worker_metrics::WorkerMetrics;
use crate::process::after_panic::AfterPanic;
use crate::process::first_thread::Seat;
use crate::process::latest::Latest;
use crate::process::program::ResolvedProgram;
use crate::process::successor::Successor;
use crate::report::error::StartError;
use crate::report::event::{EVENT_BACKLOG, Event};
use crate::report::events::Events;
use crate::socket::bind::Bound;
use crate::socket::kept::Pool;
use crate::socket::lend::Lender;
use crate::supervisor::audience::Host;
use crate::supervisor::child::Numbering;
use crate::supervisor::spec::{Draft, Look, Reread, Spec};
use crate::upgrade::Inheritance;

/// What workers know their own listener by, unless it has another name.
const CHECK_LISTENER: &str = "check";

/// Says what a cluster runs and how; [`ClusterBuilder::start`] starts it.
#[derive(Debug)]
pub struct ClusterBuilder {
    /// What a reload may change.
    pub(crate) draft: Draft,
    pub(crate) balance: Balance,
    pub(crate) peek: PeekLimits,
    pub(crate) messages: Messages,
    pub(crate) raw_stdio: bool,
    pub(crate) output: Output,
    pub(crate) end_with_master: bool,
    pub(crate) seat: Option<Seat>,
    pub(crate) successor: Option<Arc<Successor>>,
    pub(crate) after_panic: Option<Arc<AfterPanic>>,
    pub(crate) inheritance: Option<Inheritance>,
    pub(crate) cluster: Option<Arc<OsStr>>,
    pub(crate) open_files: Option<u64>,
    pub(crate) adopted: Vec<Bound>,
    pub(crate) kept: Pool,
    pub(crate) lender: Lender,
    pub(crate) listens: Vec<Listen>,
    pub(crate) name: Option<String>,
    pub(crate) manager: Option<ServiceManager>,
    pub(crate) host: Option<Host>,
    pub(crate) numbering: Numbering,
    pub(crate) latest: Option<Latest>,
    pub(crate) reread: Option<Reread>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) own: Vec<PathBuf>,
    pub(crate) look: Option<Look>,
    pub(crate) events: broadcast::Sender<Arc<Event>>,
}

impl ClusterBuilder {
    pub(crate) fn new(server: PathBuf) -> Self {
        Self {
            draft: Draft::new(server),
            balance: Balance::default(),
            peek: PeekLimits::default(),
            messages: Messages::default(),
            raw_stdio: false,
            output: Output::default(),
            end_with_master: false,
            seat: None,
            successor: None,
            after_panic: None,
            inheritance: None,
            cluster: None,
            open_files: None,
            adopted: Vec::new(),
            kept: Pool::default(),
            lender: Lender::default(),
            listens: Vec::new(),
            name: None,
            manager: None,
            host: None,
            numbering: Numbering::default(),
            latest: None,
            reread: None,
            watched: Vec::new(),
            own: Vec::new(),
            look: None,
            events: broadcast::Sender::new(EVENT_BACKLOG),
        }
    }

    /// How the cluster is to be run, checked; and what its program was resolved to for the check.
    pub(crate) fn spec(self) -> Result<(Spec, ResolvedProgram), StartError> {
        self.draft.check(&self.balance)
    }

    /// Arguments for the server. Default none.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.draft.program.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// The node binary: a path, or a name to be looked up in `PATH`. Default: that of the server file's first line
    /// (`#!/usr/bin/env node`), else `node`. If one is named, it runs every text file whose first line names no other
    /// interpreter.
    #[must_use]
    pub fn node(mut self, node: impl Into<PathBuf>) -> Self {
        self.draft.program.node = Some(node.into());
        self
    }

    /// Arguments for node itself. Default none.
    #[must_use]
    pub fn node_args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.draft.program.node_args = args.into_iter().map(Into::into).collect();
        self
    }

    /// One more variable for the workers' environment, beside what the master's own holds. A name that recluster itself sets for
    /// each worker is refused at the start.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.draft.program.env.insert(name.into(), value.into());
        self
    }

    /// Has each worker find the number of its slot in this variable as well as in `WORKER_ID`, whatever value it has
    /// otherwise. Default none.
    #[must_use]
    pub fn instance_env(mut self, variable: InstanceEnv) -> Self {
        self.draft.program.instance_env = Some(variable);
        self
    }

    /// Gives workers the variables of one more file, in the syntax that `node --env-file` reads. The file is read when the
    /// cluster starts and at each reload, by its name, symlinks and all; a relative one begins where the server's does. What is
    /// said last comes before what is said first: the master's own environment, the files in their order, [`env`](Self::env),
    /// and what [`Cluster::reload_with`](crate::Cluster::reload_with) sets. Default none.
    #[must_use]
    pub fn env_file(mut self, file: impl AsRef<Path>) -> Self {
        self.draft.program.add_env_file(file.as_ref());
        self
    }

    /// Has Node workers keep compiled code for each other and for those that come after them: module.enableCompileCache, which
    /// Node has from 22.8 on. Only with [`drain_http`](Self::drain_http). Default off.
    #[must_use]
    pub fn compile_cache(mut self, cache: CompileCache) -> Self {
        self.draft.program.compile_cache = Some(cache);
        self
    }

    /// How much compiled code is kept, in bytes: what was used least lately goes, after the start and after each reload.
    /// Default 256 MiB.
    #[must_use]
    pub fn compile_cache_size(mut self, bytes: u64) -> Self {
        self.draft.program.compile_cache_size = bytes;
        self
    }

    /// How many slots. Default 1.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.draft.settings.workers = workers;
        self
    }

    /// When a worker counts as ready. Default `Listening` for Node, else `Started`.
    #[must_use]
    pub fn ready_when(mut self, ready_when: ReadyWhen) -> Self {
        self.draft.ready_when = Some(ready_when);
        self
    }

    /// A worker that is not ready after this has failed. Default 60 s.
    #[must_use]
    pub fn ready_timeout(mut self, span: Duration) -> Self {
        self.draft.settings.ready_timeout = span;
        self
    }

    /// How many failures of one slot end a generation. Default 3.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.draft.settings.attempts = attempts;
        self
    }

    /// A first start is never given up. Default off.
    #[must_use]
    pub fn keep_trying(mut self, keep_trying: bool) -> Self {
        self.draft.settings.keep_trying = keep_trying;
        self
    }

    /// How long a ready worker must live before it serves. Default 1 s.
    #[must_use]
    pub fn bake(mut self, span: Duration) -> Self {
        self.draft.settings.bake = span;
        self
    }

    /// How long a worker may go on after it was replaced. Default 30 s; zero: it is sent TERM at once.
    #[must_use]
    pub fn timeout(mut self, span: Duration) -> Self {
        self.draft.settings.timeout = span;
        self
    }

    /// The same at a stop. Default 25 s, or [`timeout`](Self::timeout) if that is shorter.
    #[must_use]
    pub fn stop_timeout(mut self, span: Duration) -> Self {
        self.draft.stop_timeout = Some(span);
        self
    }

    /// Whether Node workers drain without losing a request: they load a small file before the application, which
    /// answers what is on its way with `Connection: close`. Default on; off leaves it to Node, which resets idle
    /// connections.
    #[must_use]
    pub fn drain_http(mut self, on: bool) -> Self {
        self.draft.drain_http = on;
        self
    }

    /// What Node workers say of themselves, in the status and in metrics. Only with [`drain_http`](Self::drain_http). Default
    /// [`Basic`](WorkerMetrics::Basic).
    #[must_use]
    pub fn worker_metrics(mut self, metrics: WorkerMetrics) -> Self {
        self.draft.worker_metrics = metrics;
        self
    }

    /// How long an idle connection of a draining Node worker is spared before it is closed. Default 6 s, and always
    /// less than the drain lasts.
    #[must_use]
    pub fn idle_grace(mut self, span: Duration) -> Self {
        self.draft.idle_grace = span;
        self
    }

    /// How long a stop goes on accepting and serving before it begins to drain, for a load balancer that sends traffic a
    /// little longer than it should. Default zero.
    #[must_use]
    pub fn accept_after_stop(mut self, span: Duration) -> Self {
        self.draft.accept_after_stop = span;
        self
    }

    /// From a closed channel to TERM. Default 5 s.
    #[must_use]
    pub fn exit_grace(mut self, span: Duration) -> Self {
        self.draft.settings.exit_grace = span;
        self
    }

    /// From TERM to KILL. Default 5 s.
    #[must_use]
    pub fn kill_timeout(mut self, span: Duration) -> Self {
        self.draft.settings.kill_timeout = span;
        self
    }

    /// How many draining generations are kept at once. Default no cap.
    #[must_use]
    pub fn max_draining(mut self, generations: NonZeroU32) -> Self {
        self.draft.settings.max_draining = Some(generations);
        self
    }

    /// The least time between two respawns in the whole cluster. Default 1 s.
    #[must_use]
    pub fn respawn(mut self, span: Duration) -> Self {
        self.draft.settings.respawn = span;
        self
    }

    /// The most time between respawns: the spacing doubles with each one up to this. Default off.
    #[must_use]
    pub fn backoff(mut self, span: Duration) -> Self {
        self.draft.settings.backoff = Some(span);
        self
    }

    /// How many extra workers a reload may run at once. Default all.
    #[must_use]
    pub fn surge(mut self, surge: Surge) -> Self {
        self.draft.settings.surge = surge;
        self
    }

    /// How many workers may boot at a time. The others of a start or a reload are started when those are ready. Default no limit.
    #[must_use]
    pub fn boot_limit(mut self, workers: NonZeroU32) -> Self {
        self.draft.settings.boot_limit = Some(workers);
        self
    }

    /// How new connections reach workers. Default [`Balance::Kernel`].
    #[must_use]
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// Limits of looking at what connections begin with, for a balance that goes by it. Default 16 KiB, 2 s, 10,000.
    #[must_use]
    pub fn peek_limits(mut self, limits: PeekLimits) -> Self {
        self.peek = limits;
        self
    }

    /// Hands the master's own stderr to workers as it is. Verdicts then have of it what Node workers tell. Default off.
    #[must_use]
    pub fn raw_stdio(mut self, raw: bool) -> Self {
        self.raw_stdio = raw;
        self
    }

    /// The soft limit on open files for all processes that the cluster starts (`RLIMIT_NOFILE`), for a master that has raised its
    /// own. Default: the master's.
    #[must_use]
    pub fn open_files(mut self, limit: u64) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Has the kernel send TERM to programs that are not Node when the master dies, or the runtime that the cluster runs
    /// on ends; Node workers learn it from their channel in any case. Default off.
    #[must_use]
    pub fn end_with_master(mut self, end: bool) -> Self {
        self.end_with_master = end;
        self
    }

    /// Gives the cluster a socket that the master was started with, listening or bound, as if it were the next
    /// [`listen`](Self::listen). One that a [`ServiceManager`] has kept, which its name tells, is used for what is bound to its address.
    ///
    /// # Errors
    ///
    /// When the kernel does not say what it is. A name that cannot be passed on is left out.
    pub fn adopt(mut self, socket: OwnedFd, name: Option<&str>) -> io::Result<Self> {
        match name.and_then(|name| name.parse().ok()) {
            Some(kept) => self.kept.add(kept, socket),
            None => self.adopted.push(Bound::adopt(socket, name.and_then(|name| name.parse().ok()))?),
        }
        Ok(self)
    }

    /// One more address that the master binds before the first worker, and hands to every worker: a program that is not
    /// Node finds the sockets from descriptor 3 on (`LISTEN_FDS`), adopted ones first; in a Node worker
    /// `listen({fd: 3})` means the first of them. Default none.
    #[must_use]
    pub fn listen(mut self, address: Listen) -> Self {
        self.listens.push(address);
        self
    }

    /// What a program that is not Node is sent at the beginning of its drain. TERM follows at the drain timeout, if it
    /// was not TERM. Default TERM.
    #[must_use]
    pub fn drain_signal(mut self, signal: DrainSignal) -> Self {
        self.draft.drain_signal = signal;
        self
    }

    /// Renews a worker, new first, when it and what it started use more resident memory than this: a number is bytes. Looked
    /// at every five seconds; one worker at a time. Default no limit.
    #[must_use]
    pub fn max_memory(mut self, limit: impl Into<MemoryLimit>) -> Self {
        self.draft.limits.memory = Some(limit.into());
        self
    }

    /// Renews a worker, new first, when it has lived this long, or up to a tenth less, so that not all are due together.
    /// Default no limit.
    #[must_use]
    pub fn max_lifetime(mut self, span: Duration) -> Self {
        self.draft.limits.lifetime = Some(span);
        self
    }

    /// A worker serves only once it passes this check, and is renewed, new first, when it fails it three times in a row
    /// later. Default none.
    #[must_use]
    pub fn ready_check(mut self, check: ReadyCheck) -> Self {
        self.draft.ready_check = Some(check);
        self
    }

    /// How long after a check a serving worker is checked again. Default 10 s.
    #[must_use]
    pub fn check_interval(mut self, span: Duration) -> Self {
        self.draft.check_interval = span;
        self
    }

    /// A check that takes longer has failed. Default 5 s.
    #[must_use]
    pub fn check_timeout(mut self, span: Duration) -> Self {
        self.draft.check_timeout = span;
        self
    }

    /// Gives each worker a listener of its own at such an address (port 0, so that the kernel chooses), behind all others:
    /// there a program that is not Node can be checked by HTTP. It is named `check`, if it has no name. Default none.
    #[must_use]
    pub fn check_listen(mut self, address: Listen) -> Self {
        self.draft.check_listen = Some(address.named(CHECK_LISTENER));
        self
    }

    /// A worker that is ready and then does not say `WATCHDOG=1` by `sd_notify` for this long is hung: it is ended and
    /// replaced. Default off.
    #[must_use]
    pub fn watchdog(mut self, span: Duration) -> Self {
        self.draft.watchdog = Some(span).filter(|span| !span.is_zero());
        self
    }

    /// One more thing to be done when something happens. A command runs as the workers do, in their directory and with their
    /// environment; it may take ten seconds. Default none.
    #[must_use]
    pub fn hook(mut self, hook: Hook) -> Self {
        self.draft.hooks.push(hook);
        self
    }

    /// What the cluster is called: in its status, and by hooks. Default nothing.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A service manager that is told how the cluster does. Of several clusters of one process one alone may tell it. Default
    /// none.
    #[must_use]
    pub fn service_manager(mut self, manager: ServiceManager) -> Self {
        self.manager = Some(manager);
        self
    }

    /// Who hears the messages of workers' applications. A [host](crate::host) hears them all. Default [`Messages::Heard`].
    #[must_use]
    pub fn messages(mut self, messages: Messages) -> Self {
        self.messages = messages;
        self
    }

    /// When a reload is asked for, asks anew how the cluster is to be run: a config file may have changed. Whatever the new
    /// builder says holds from the beginning of that reload, except for the addresses to listen on, the balance,
    /// `messages`, `stderr`, `raw_stdio`, `open_files`, the name, the service manager and `end_with_master`; after a rollback it is as it was before. Where it names another number of
    /// workers than the last one did, more slots come at once and fewer when the reload is done; a [`Cluster::scale`](crate::Cluster::scale)
    /// made meanwhile stands. An error refuses the reload, and nothing is touched. Must not block.
    #[must_use]
    pub fn reread(
        mut self,
        mut say: impl FnMut() -> Result<ClusterBuilder, String> + Send + 'static,
    ) -> Self {
        let say = move || say()?.spec().map(|(spec, _)| spec).map_err(|error| error.to_string());
        self.reread = Some(Reread::new(say));
        self
    }

    /// The drain timeout of a program that runs under node, in the place of [`timeout`](Self::timeout). Default none.
    #[must_use]
    pub fn node_timeout(mut self, span: Duration) -> Self {
        self.draft.node_timeout = Some(span);
        self
    }

    /// Listens before the start, so that no event is missed.
    pub fn subscribe(&self) -> Events {
        Events(self.events.subscribe())
    }
}
