//! The only loop of the control dataplane: perform what the policy wants, wait, name what happened, tell the policy.
//!
//! Tens of events a second pass here. Connections never do: they are the dataplane's.

mod actions;
pub(crate) mod audience;
mod callers;
pub(crate) mod child;
mod explain;
pub(crate) mod generations;
pub(crate) mod input;
mod leftovers;
mod notices;
mod readiness;
pub(crate) mod recycle;
mod requests;
mod routing;
pub(crate) mod spec;
mod status;
pub(crate) mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::{Generation, Phase, WorkerId};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};

use crate::config::balance::Balance;
use crate::config::ready::ReadyWhen;
use crate::dataplane::{Command, DataPlane, Fact, Setup};
use crate::process;
use crate::process::event::HandOver;
use crate::process::preload;
use crate::process::program::{NodeKind, ResolvedProgram};
use crate::process::stderr::Forwarder;
use crate::report::error::StartError;
use crate::report::event::Event;
use crate::report::worker::Worker;
use crate::sink::Sink;
use crate::socket::bind::Bound;
use crate::supervisor::audience::Audience;
use crate::supervisor::callers::Callers;
use crate::supervisor::child::{ChannelUse, Child, DeadWorker, Numbering};
use crate::supervisor::input::{Input, Progress};
use crate::supervisor::leftovers::Remains;
use crate::supervisor::routing::Routing;
use crate::supervisor::spec::{Reread, Spec};
use crate::supervisor::timers::{Timer, Timers};

/// How long after the end of a channel its worker's exit is waited for. A worker that dies closes its channel first, and
/// how it died is worth more to people than that it fell silent.
const EXIT_FOLLOWS: Duration = Duration::from_millis(100);
/// What stands for a moment that no clock can say: a year.
pub(crate) const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);
/// How many dead workers' last words are kept for verdicts.
const GRAVES: usize = 64;

/// What the supervisor is started with.
pub(crate) struct Shell {
    /// How it is run, until a reload says otherwise.
    pub(crate) spec: Spec,
    /// What the first generation runs, already resolved.
    pub(crate) first: ResolvedProgram,
    pub(crate) balance: Balance,
    pub(crate) raw_stdio: bool,
    pub(crate) end_with_master: bool,
    /// What the master has bound itself, in the order in which workers number it.
    pub(crate) bound: Vec<Bound>,
    /// Who says anew how it is run.
    pub(crate) reread: Option<Reread>,
    pub(crate) numbering: Numbering,
}

/// What a running supervisor is told by, and seen by.
pub(crate) struct Controls {
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) progress: watch::Receiver<Progress>,
}

/// Starts the dataplane and the supervisor.
pub(crate) fn start(shell: Shell, audience: Audience, setup: Setup) -> Result<Controls, StartError> {
    let (inputs, inbox) = mpsc::unbounded_channel();
    let system = |what| move |source| StartError::System { what, source };
    let dataplane =
        DataPlane::start(setup, sink(&inputs, Input::Fact)).map_err(system("start the data plane"))?;
    let forwarder = Forwarder::start().map_err(system("start the thread for stderr"))?;
    let (progress, seen) = watch::channel(Progress::default());
    let controls = Controls { inputs: inputs.clone(), progress: seen };
    let began = Instant::now();
    let supervisor = Supervisor {
        policy: core::Cluster::new(shell.spec.config, core::Time::ZERO),
        began,
        programs: BTreeMap::from([(Generation::FIRST, shell.first.clone())]),
        shell,
        dataplane,
        forwarder,
        inputs,
        progress,
        children: BTreeMap::new(),
        remains: Vec::new(),
        graves: VecDeque::new(),
        follow_ups: VecDeque::new(),
        audience,
        callers: Callers::default(),
        routing: Routing::default(),
        timers: Timers::default(),
        said: None,
        fallback: None,
        warned_of_preload: None,
    };
    if supervisor.shell.spec.preload.is_some() {
        let inputs = supervisor.inputs.downgrade();
        tokio::spawn(preload::keep(move || inputs.upgrade().is_some_and(|inputs| !inputs.is_closed())));
    }
    tokio::spawn(supervisor.run(inbox));
    Ok(controls)
}

pub(crate) struct Supervisor {
    pub(crate) policy: core::Cluster,
    began: Instant,
    pub(crate) shell: Shell,
    pub(crate) dataplane: DataPlane,
    pub(crate) forwarder: Forwarder,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) children: BTreeMap<WorkerId, Child>,
    /// Programs that have ended and may have left something.
    pub(crate) remains: Vec<Remains>,
    /// The last of them that died, oldest first.
    pub(crate) graves: VecDeque<(WorkerId, DeadWorker)>,
    /// What generations run, resolved when each began.
    pub(crate) programs: BTreeMap<Generation, ResolvedProgram>,
    /// What performing an action made known: told to the policy when all actions are performed.
    pub(crate) follow_ups: VecDeque<core::Event>,
    pub(crate) audience: Audience,
    pub(crate) callers: Callers,
    routing: Routing,
    pub(crate) timers: Timers,
    /// How it is to be run by the reload that waits to begin.
    pub(crate) said: Option<Spec>,
    /// How it was run before the reload that is going on.
    pub(crate) fallback: Option<Spec>,
    /// The last generation of which people were told that its workers have no preload.
    pub(crate) warned_of_preload: Option<Generation>,
}

impl Supervisor {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Input>) {
        for bound in &self.shell.bound {
            let name = bound.name.as_ref().map(ToString::to_string);
            self.audience.emit(Event::Bound { name, address: bound.address.clone() });
        }
        if let Some(caveat) = self.shell.first.node_kind().and_then(NodeKind::caveat) {
            self.audience.emit(Event::Caveat { caveat });
        }
        let is_node = self.shell.first.node_kind() == Some(NodeKind::Node);
        if !is_node || self.shell.spec.preload.is_none() {
            let caveat = self.shell.balance.caveat_without_preload(is_node);
            if let Some(caveat) = caveat {
                self.audience.emit(Event::Caveat { caveat });
            }
        }
        self.watch_limits();
        loop {
            self.act();
            if self.policy.phase() == Phase::Over && self.leaves_nothing() {
                return self.finish();
            }
            // A moment too far away to be said is none.
            let due = self.policy.next_deadline().and_then(|(at, _due)| self.began.checked_add(at.elapsed()));
            let deadline = due.into_iter().chain(self.timers.next()).min();
            let input = tokio::select! {
                biased;
                input = inbox.recv() => input,
                () = sleep_until_some(deadline) => None,
            };
            // The clock is asked, not the timer: a busy inbox must not keep a deadline waiting.
            if deadline.is_some_and(|at| at <= Instant::now()) {
                self.tell(core::Event::Tick);
            }
            while let Some((timer, late)) = self.timers.take_due(Instant::now()) {
                self.ring(timer, late);
            }
            if let Some(input) = input {
                // The policy wants what it said performed before it is told anything else.
                self.act();
                self.handle(input);
            }
        }
    }

    /// Performs every action, and what performing them brought about.
    fn act(&mut self) {
        loop {
            self.close_listeners_when_stopping();
            while let Some(action) = self.policy.poll_action() {
                self.perform(action);
            }
            match self.follow_ups.pop_front() {
                Some(event) => self.tell(event),
                None => break,
            }
        }
        self.publish_routes();
    }

    fn ring(&mut self, timer: Timer, late: Duration) {
        match timer {
            Timer::Stop => self.tell(core::Event::Stop),
            Timer::Recycle => self.recycle(),
            Timer::Remains => self.look_at_remains(),
            Timer::Watchdog(worker) => self.silent(worker, late),
        }
    }

    pub(crate) fn tell(&mut self, event: core::Event) {
        let now = core::Time::after(self.began.elapsed());
        self.policy.handle(event, now);
    }

    pub(crate) fn now(&self) -> core::Time {
        core::Time::after(self.began.elapsed())
    }

    /// A moment of the policy's, on the clock.
    pub(crate) fn instant(&self, at: core::Time) -> Instant {
        self.began.checked_add(at.elapsed()).unwrap_or_else(|| self.began + FAR_AWAY)
    }

    /// A moment from now.
    pub(crate) fn after(&self, span: Duration) -> Instant {
        self.instant(self.now() + span)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// The sockets close before the first worker is told to go, so that what waits in their queues is served.
    fn close_listeners_when_stopping(&mut self) {
        // It is over at once where no worker lives, but what earlier ones have left may.
        if self.routing.begins_to_stop(self.policy.phase()) {
            // No worker is started any more. What only draining workers hold, they can close.
            self.shell.bound.clear();
            self.hurry_remains();
            self.dataplane.tell(Command::CloseListeners);
        }
    }

    /// Has the dataplane do what is decided before anybody hears of it.
    pub(crate) fn settle_routes(&mut self) {
        if self.publish_routes() {
            self.dataplane.settle();
        }
    }

    /// Tells the data plane who may be given what, where that has changed; whether it has.
    fn publish_routes(&mut self) -> bool {
        let status = self.policy.status();
        let active = status.slots.iter().filter_map(|slot| Some((slot.slot.get(), slot.active?)));
        let (children, dead) = (&self.children, &self.graves);
        self.audience.active(active, |worker| about(children, dead, worker));
        match self.routing.update(&status) {
            Some(routes) => {
                self.dataplane.tell(Command::Route(routes));
                true
            }
            None => false,
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Fact(fact) => self.note(fact),
            Input::Process(event) => self.hear(event),
            Input::LivesOn(worker) => self.tell(core::Event::Disconnected(worker)),
            Input::Request(request) => self.answer(request),
        }
    }

    /// Where children report.
    fn process_events(&self) -> Sink<process::event::Event> {
        sink(&self.inputs, Input::Process)
    }

    fn hear(&mut self, event: process::event::Event) {
        use process::event::Event as Heard;
        match event {
            // It may have left words in its channel: the dataplane reads them first.
            Heard::Ended(worker) => self.dataplane.tell(Command::Ended(worker)),
            Heard::LinesLost(worker, lines) => {
                self.emit_about(worker, |worker| Event::LinesLost { worker, lines });
            }
            Heard::Notified(worker, words) => self.notified(worker, &words),
            Heard::NotifyIgnored(worker, _turn) => {
                if let Some(child) = self.children.get_mut(&worker) {
                    child.notify_ignored += 1;
                }
            }
            Heard::CheckFailed(worker, reason) => {
                if let Some(child) = self.children.get_mut(&worker) {
                    child.check_failure = Some(reason);
                }
            }
            Heard::CheckPassed(worker) => self.passed(worker),
            Heard::Unhealthy(worker, reason) => {
                self.emit_about(worker, |worker| Event::Unhealthy { worker, reason });
                self.tell(core::Event::Replace(worker));
            }
            Heard::HandOver(worker, HandOver { connection, reply }) => {
                self.dataplane.tell(Command::HandOver { worker, connection, reply });
            }
        }
    }

    fn note(&mut self, fact: Fact) {
        match fact {
            Fact::Online(worker) => {
                if let Some(child) = self.children.get_mut(&worker)
                    && child.channel_use == ChannelUse::Unproven
                {
                    child.channel_use = ChannelUse::Full;
                }
                self.online(worker);
            }
            Fact::Listening(worker, address, listening) => {
                if let Some(child) = self.children.get_mut(&worker) {
                    child.seen.listening = true;
                }
                if let Some(worker) = self.about(worker) {
                    self.audience.listening(worker, address, listening);
                }
                self.ready(worker, ReadyWhen::Listening);
            }
            Fact::SaidReady(worker) => self.ready(worker, ReadyWhen::Ready),
            Fact::Retiring(worker) => self.tell(core::Event::Retiring(worker)),
            Fact::Message { worker, json, handle, receipt } => {
                if let Some(worker) = self.about(worker) {
                    self.audience.message(worker, &json, handle, receipt);
                }
            }
            Fact::Held(worker, held) => {
                if let Some(child) = self.children.get_mut(&worker) {
                    child.held = Some(held);
                }
            }
            Fact::Caveat(caveat) => self.audience.emit(Event::Caveat { caveat }),
            Fact::CutOff(worker, reason) => {
                self.emit_about(worker, |worker| Event::CutOff { worker, reason });
            }
            Fact::Disconnected { worker, finishing } => {
                // A program that does not know of its channel may close it like any other descriptor.
                let knows = |child: &Child| child.channel_use != ChannelUse::Unproven;
                if !self.children.get(&worker).is_some_and(knows) {
                    return;
                }
                self.emit_about(worker, |worker| Event::Disconnect { worker });
                if finishing {
                    return;
                }
                let inputs = self.inputs.clone();
                tokio::spawn(async move {
                    sleep(EXIT_FOLLOWS).await;
                    let _ = inputs.send(Input::LivesOn(worker));
                });
            }
            Fact::ChannelDrained(worker) => self.bury(worker),
        }
    }

    /// The worker's process has ended and everything that it said has been heard.
    fn bury(&mut self, worker: WorkerId) {
        let Some(about) = self.about(worker) else { return };
        let Some(mut child) = self.children.remove(&worker) else { return };
        self.timers.clear(Timer::Watchdog(worker));
        let (stderr, seen) = (child.process.tail.lines(), child.seen);
        let check_failure = child.check_failure.take();
        self.remember(worker, DeadWorker { worker: about, stderr, seen, spawn_error: None, check_failure });
        let exit = child.process.exit();
        // A Node worker's children are its application's business.
        if self.programs.get(&child.generation).is_some_and(|program| !program.is_node()) {
            self.leave_behind(worker, about, child);
        } else {
            child.process.reap();
        }
        self.tell(core::Event::Exited(worker, exit));
    }

    pub(crate) fn remember(&mut self, worker: WorkerId, grave: DeadWorker) {
        self.graves.push_back((worker, grave));
        if self.graves.len() > GRAVES {
            self.graves.pop_front();
        }
    }

    pub(crate) fn grave(&self, worker: WorkerId) -> Option<&DeadWorker> {
        self.graves.iter().find(|(id, _)| *id == worker).map(|(_, grave)| grave)
    }

    /// The cluster is over: whoever still waits is told by the end of the channels.
    fn finish(self) {
        self.dataplane.tell(Command::Finish);
        self.audience.emit(Event::Over);
        self.progress.send_modify(|progress| progress.over = true);
    }

    /// Emits an event about a worker that is known.
    pub(crate) fn emit_about(&self, worker: WorkerId, event: impl FnOnce(Worker) -> Event) {
        if let Some(about) = self.about(worker) {
            self.audience.emit(event(about));
        }
    }

    /// What people are told of a worker, dead or alive.
    pub(crate) fn about(&self, worker: WorkerId) -> Option<Worker> {
        about(&self.children, &self.graves, worker)
    }
}

fn about(
    children: &BTreeMap<WorkerId, Child>,
    dead: &VecDeque<(WorkerId, DeadWorker)>,
    worker: WorkerId,
) -> Option<Worker> {
    let alive = children.get(&worker).map(Child::about);
    alive.or_else(|| dead.iter().find(|(id, _)| *id == worker).map(|(_, dead)| dead.worker))
}

/// A sink into the inbox.
fn sink<T: 'static>(inputs: &mpsc::UnboundedSender<Input>, wrap: fn(T) -> Input) -> Sink<T> {
    let inputs = inputs.clone();
    // The supervisor is gone only when the cluster is over, and then no report is needed.
    Sink::new(move |report| drop(inputs.send(wrap(report))))
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
