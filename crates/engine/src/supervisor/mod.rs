//! The control plane: one loop that does what the policy wants, waits, and tells the policy what happened.
//!
//! Tens of events a second pass here. Connections never do: they are the data plane's.
//!
//! [`Supervisor`] is twenty parts and the wiring between them. A part is a plain value: its methods take what they touch, say
//! what is to be done, and never name the supervisor. The wiring is one `match` for each kind of thing that comes in:
//! `actions` and `notices` of the policy, `requests` of those who hold a handle, `facts` that processes and the data
//! plane report. `run` is the loop.

mod abandon;
mod actions;
mod anew;
pub(crate) mod audience;
mod background;
pub(crate) mod beginning;
mod caches;
mod callers;
mod changes;
pub(crate) mod child;
mod configuration;
pub(crate) mod explain;
mod facts;
#[cfg(test)]
mod fixtures;
mod generations;
mod herald;
mod hooks;
mod ignored;
pub(crate) mod input;
mod launches;
mod leaving;
mod leftovers;
mod looks;
mod notices;
mod policy;
mod readiness;
mod recycle;
mod renewals;
mod requests;
mod routing;
mod run;
mod spawner;
pub(crate) mod spec;
pub(crate) mod status;
mod succession;
mod taken;
pub(crate) mod tally;
mod timers;
mod told;
mod upgrading;
mod watchdog;
mod workers;

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::WorkerId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::balance::Balance;
use crate::config::output::Output;
use crate::config::service_manager::ServiceManager;
use crate::config::watched::Watched;
use crate::dataplane::{self, DataPlane, Setup};
use crate::guard::Panicked;
use crate::process::after_panic::AfterPanic;
use crate::process::first_thread::Seat;
use crate::process::hook::Surroundings;
use crate::process::latest::Latest;
use crate::process::launcher::Launcher;
use crate::process::oom_kills::OomKills;
use crate::process::outlets::{self, Outlets};
use crate::process::preload::Keeper;
use crate::process::program::ResolvedProgram;
use crate::process::ring::Ring;
use crate::process::stdio;
use crate::process::successor::{self, Successor};
use crate::report::error::{ScaleError, StartError};
use crate::report::event::Event;
use crate::report::status::MasterStatus;
use crate::report::worker::Worker;
use crate::sink::Sink;
use crate::socket::bind::Bound;
use crate::socket::kept::KeptName;
use crate::supervisor::audience::Audience;
use crate::supervisor::beginning::Beginning;
use crate::supervisor::caches::Caches;
use crate::supervisor::callers::Callers;
use crate::supervisor::changes::Changes;
use crate::supervisor::child::Numbering;
use crate::supervisor::generations::Generations;
use crate::supervisor::herald::Herald;
use crate::supervisor::hooks::Hooks;
use crate::supervisor::ignored::Ignored;
use crate::supervisor::input::{Input, Progress};
use crate::supervisor::launches::Launches;
use crate::supervisor::leftovers::Leftovers;
use crate::supervisor::policy::Policy;
use crate::supervisor::renewals::Renewals;
use crate::supervisor::routing::Routing;
use crate::supervisor::spawner::{Habits, Spawner};
use crate::supervisor::spec::{Reread, Spec};
use crate::supervisor::succession::Succession;
use crate::supervisor::timers::Timers;
use crate::supervisor::told::Told;
use crate::supervisor::workers::Workers;
use crate::upgrade::Inheritance;

/// What the supervisor is started with.
pub(crate) struct Shell {
    /// How the cluster is run, until a reload says otherwise.
    pub(crate) spec: Spec,
    /// What the first generation runs, already resolved.
    pub(crate) first: ResolvedProgram,
    pub(crate) balance: Balance,
    pub(crate) raw_stdio: bool,
    /// What becomes of what workers write.
    pub(crate) output: Output,
    pub(crate) end_with_master: bool,
    /// The thread that starts processes, if it is not a new one.
    pub(crate) seat: Option<Seat>,
    /// What is needed to put another program in this one's place, if that can be.
    pub(crate) successor: Option<Arc<Successor>>,
    /// It begins anew after a panic.
    pub(crate) after_panic: Option<Arc<AfterPanic>>,
    /// By what the next master knows the workers.
    pub(crate) cluster: Option<Arc<OsStr>>,
    /// The soft limit on open files of every process that is started.
    pub(crate) open_files: Option<u64>,
    /// What the master has bound itself, in the order in which workers number it.
    pub(crate) bound: Vec<Bound>,
    /// Says anew at each reload how the cluster is to be run.
    pub(crate) reread: Option<Reread>,
    /// Files whose change is a reload, and those whose change is none.
    pub(crate) watched: Vec<Watched>,
    pub(crate) own: Vec<PathBuf>,
    pub(crate) numbering: Numbering,
    /// Says before each start what has changed since a generation began.
    pub(crate) latest: Option<Latest>,
    /// What the cluster is called.
    pub(crate) name: Option<String>,
    /// Who is told how the cluster does.
    pub(crate) manager: Option<ServiceManager>,
    /// What it has kept.
    pub(crate) returned: Vec<KeptName>,
}

/// What a running supervisor is told by, and seen by.
pub(crate) struct Controls {
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) progress: watch::Receiver<Progress>,
    /// The last lines of workers.
    pub(crate) ring: Ring,
}

/// What somebody wants of the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum AskedToEnd {
    No,
    InOrder,
    /// All workers were to be killed: nobody wants to wait.
    AtOnce,
}

pub(crate) struct Supervisor {
    /// What the cluster is called.
    name: Option<String>,
    policy: Policy,
    generations: Generations,
    workers: Workers,
    launches: Launches,
    leftovers: Leftovers,
    oom_kills: OomKills,
    audience: Audience,
    /// None when the cluster is over.
    hooks: Option<Hooks>,
    told: Told,
    asked_to_end: AskedToEnd,
    callers: Callers,
    herald: Herald,
    /// What the service manager was last told is of this moment.
    told_manager: Option<(u64, bool, u64)>,
    renewals: Renewals,
    changes: Changes,
    routing: Routing,
    /// For how long a server keeps idle connections, and the drain timeout that is shorter, as people were last told.
    warned_of_keep_alive: Option<(Duration, Duration)>,
    caches: Caches,
    ignored: Ignored,
    timers: Timers,
    spawner: Spawner,
    dataplane: DataPlane,
    balance: Balance,
    /// Who wants to know how many slots there are when the policy has heard of another number.
    scaled: Vec<oneshot::Sender<Result<u32, ScaleError>>>,
    /// How many workers that have closed their channels are given time to end.
    exits_awaited: u32,
    succession: Succession,
    /// It goes on with what a program before has left, as people are to be told.
    goes_on: Option<Event>,
    reread: Option<Reread>,
    /// A part of the engine has panicked: the cluster is to end.
    panicked: Option<Panicked>,
    progress: watch::Sender<Progress>,
    inputs: mpsc::UnboundedSender<Input>,
    /// Keeps the file that Node workers load in its place.
    _keeper: Option<Keeper>,
    /// None where nothing can take this program's place.
    successor: Option<Arc<Successor>>,
    after_panic: Option<Arc<AfterPanic>>,
    /// The program that this is.
    master: MasterStatus,
}

/// What a running supervisor acts by.
struct Means {
    spawner: Spawner,
    hooks: Hooks,
    herald: Herald,
    changes: Changes,
    keeper: Option<Keeper>,
}

/// Starts the supervisor and the data plane, which go on with what was left if anything was. Until the last of what can fail, nothing that
/// was left is read, written or ended.
pub(crate) fn start(
    mut shell: Shell,
    mut audience: Audience,
    setup: Setup,
    mut inheritance: Option<&mut Inheritance>,
) -> Result<Controls, StartError> {
    let (inputs, inbox) = mpsc::unbounded_channel();
    let name = shell.name.clone();
    let Means { mut spawner, mut hooks, mut herald, mut changes, keeper } =
        start_means(&mut shell, &inputs, inheritance.as_deref_mut())?;
    let Shell { spec, first, balance, reread, numbering, successor, after_panic, .. } = shell;
    let mut left = None;
    let mut beginning = match &mut inheritance {
        Some(inheritance) => {
            let to = (spawner.outlets(), &spawner.events());
            let beginning = Beginning::adopt(spec, numbering, spawner.launcher().awaited(), to, inheritance)?;
            audience.go_on(inheritance)?;
            hooks.go_on(inheritance)?;
            herald.go_on(inheritance, Instant::now())?;
            changes.go_on(inheritance)?;
            spawner.go_on(inheritance)?;
            left = Some(dataplane::Left::take(inheritance)?);
            beginning
        }
        None => Beginning::new(spec, first, numbering),
    };
    let (reports, panicked) = (sink(&inputs, Input::Fact), sink(&inputs, Input::Panicked));
    let dataplane =
        DataPlane::start(setup, left, reports, panicked).map_err(system("start the data plane"))?;
    let adopted = beginning.adopted.take();
    let has_started = beginning.rest.has_started;
    let (progress, seen) = watch::channel(Progress { started: has_started, ..Progress::default() });
    let ring = spawner.outlets().ring().clone();
    let controls = Controls { inputs: inputs.clone(), progress: seen, ring };
    let mut supervisor = Supervisor::new(
        beginning,
        Means { spawner, hooks, herald, changes, keeper },
        (dataplane, audience),
        inputs,
        progress,
    );
    (supervisor.name, supervisor.balance, supervisor.reread) = (name, balance, reread);
    supervisor.master = successor::now(successor.as_deref());
    supervisor.successor = successor;
    supervisor.after_panic = after_panic;
    if let Some(adopted) = adopted {
        supervisor.go_on_with(adopted);
    }
    tokio::spawn(supervisor.run(inbox));
    Ok(controls)
}

fn start_means(
    shell: &mut Shell,
    inputs: &mpsc::UnboundedSender<Input>,
    mut inheritance: Option<&mut Inheritance>,
) -> Result<Means, StartError> {
    let (spec, raw_stdio) = (&shell.spec, shell.raw_stdio);
    let (output, events) = (std::mem::take(&mut shell.output), sink(inputs, Input::Process));
    let passes_stderr = stdio::passes_stderr(&spec.program.stdio, raw_stdio);
    let (takes_stdout, end_with_master) = (output.takes_stdout(), shell.end_with_master);
    let habits = Habits { raw_stdio, takes_stdout, end_with_master, cluster: shell.cluster.take() };
    let left = inheritance.as_deref_mut().map(|left| outlets::Left::of(&output, left)).transpose()?;
    let outlets = Outlets::start(output, spec.settings().workers, passes_stderr, left, events.clone())?;
    let launcher = start_launcher(shell.seat.take(), shell.open_files, inputs)
        .map_err(system("start the thread that starts workers"))?;
    let hooks = Hooks::new(&spec.hooks, shell.name.take(), launcher.hands(), sink(inputs, Input::Hook));
    let (manager, returned) = (shell.manager.take(), std::mem::take(&mut shell.returned));
    let herald = start_herald(manager, returned).map_err(system("make a socket for the service manager"))?;
    let (watched, panicked) = (std::mem::take(&mut shell.watched), sink(inputs, Input::Panicked));
    let seen = sink(inputs, Input::Seen);
    let changes = Changes::watch(watched, &shell.own, inheritance.as_deref(), seen, panicked)?;
    let (bound, latest) = (std::mem::take(&mut shell.bound), shell.latest.take());
    let spawner = Spawner::new(habits, bound, latest, (launcher, outlets), events);
    let keeper = (spec.preload.is_some() || !passes_stderr).then(Keeper::start);
    Ok(Means { spawner, hooks, herald, changes, keeper })
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

impl Supervisor {
    fn new(
        beginning: Beginning,
        means: Means,
        (dataplane, audience): (DataPlane, Audience),
        inputs: mpsc::UnboundedSender<Input>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        let Beginning {
            policy,
            generations,
            workers,
            leftovers,
            oom_kills,
            callers,
            caches,
            timers,
            rest,
            adopted: _,
        } = beginning;
        let Means { spawner, hooks, herald, changes, keeper } = means;
        Self {
            name: None,
            policy,
            generations,
            workers,
            launches: Launches::default(),
            leftovers,
            oom_kills,
            audience,
            hooks: Some(hooks),
            told: rest.told,
            asked_to_end: AskedToEnd::No,
            panicked: None,
            progress,
            callers,
            herald,
            told_manager: None,
            renewals: Renewals::default(),
            changes,
            routing: Routing::default(),
            warned_of_keep_alive: rest.warned_of_keep_alive,
            caches,
            ignored: rest.ignored,
            timers,
            spawner,
            dataplane,
            balance: Balance::default(),
            scaled: Vec::new(),
            exits_awaited: 0,
            succession: Succession::default(),
            goes_on: None,
            reread: None,
            inputs,
            _keeper: keeper,
            successor: None,
            after_panic: None,
            master: MasterStatus::default(),
        }
    }

    /// Tells the policy. What follows is done when everything that it was told before is done.
    fn tell(&mut self, event: core::Event) {
        self.policy.tell(event);
    }

    /// Tells people.
    fn emit(&self, event: Event) {
        if let Some(hooks) = &self.hooks {
            hooks.hear(&event, || self.surroundings());
        }
        self.audience.emit(event);
    }

    /// Tells people of a worker, dead or alive, if it is known.
    fn emit_about(&self, worker: WorkerId, event: impl FnOnce(Worker) -> Event) {
        if let Some(about) = self.workers.about(worker) {
            self.emit(event(about));
        }
    }

    /// Where and as whom hooks run.
    fn surroundings(&self) -> Surroundings {
        let program = self.generations.latest_program(self.policy.status().generation);
        program.map(Surroundings::of).unwrap_or_default()
    }

    fn spec(&self) -> &Spec {
        self.generations.spec()
    }
}

fn start_herald(manager: Option<ServiceManager>, returned: Vec<KeptName>) -> io::Result<Herald> {
    let mut herald = Herald::new(manager, Instant::now())?;
    herald.has_kept(returned);
    Ok(herald)
}

fn start_launcher(
    seat: Option<Seat>,
    open_files: Option<u64>,
    inputs: &mpsc::UnboundedSender<Input>,
) -> io::Result<Launcher> {
    let (begun, launched) = (sink(inputs, Input::Begun), sink(inputs, Input::Launched));
    Launcher::start(seat, open_files, begun, launched, sink(inputs, Input::Panicked))
}

/// A sink into the inbox.
fn sink<T: 'static>(inputs: &mpsc::UnboundedSender<Input>, wrap: fn(T) -> Input) -> Sink<T> {
    let inputs = inputs.clone();
    // The supervisor is gone only when the cluster is over, and then no report is needed.
    Sink::new(move |report| drop(inputs.send(wrap(report))))
}
