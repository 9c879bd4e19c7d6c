//! The only loop of the control plane: do what the policy wants, wait, and let what happened have its consequences.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::Phase;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until};

use crate::config::hook::Moment;
use crate::dataplane::Command;
use crate::guard::{Part, at_work, attempt_task};
use crate::process::hook::LIMIT;
use crate::process::program::ResolvedProgram;
use crate::process::runtime::NodeKind;
use crate::process::unkillable;
use crate::report::event::Event;
use crate::report::worker::Worker;
use crate::socket::kept::KeptName;
use crate::supervisor::herald::{self, Seen};
use crate::supervisor::hooks::Failed;
use crate::supervisor::input::{Input, Request};
use crate::supervisor::status;
use crate::supervisor::timers::Timer;
use crate::supervisor::{AskedToEnd, Supervisor};
use crate::watch::seen::Sighting;

/// What people are told has panicked.
const PART: Part = Part::vital("the supervisor");
/// How many actions are done before others have their turn.
const AT_A_TIME: usize = 32;
/// A deadline that is seen so late says that this process did not run.
const STALL: Duration = Duration::from_secs(1);
/// How long hooks may go on when no worker is left: a little longer than one of them may take.
const HOOKS_END: Duration = Duration::from_secs(LIMIT.as_secs() + 2);
/// The same where the cluster was terminated.
const HOOKS_TERMINATED: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Input>) {
        let ended = attempt_task(PART, self.supervise(&mut inbox)).await;
        if let Some(panic) = ended.err().or_else(|| self.panicked.take()) {
            self.abandon(panic, &mut inbox).await;
        }
        if let Err(panic) = attempt_task(PART, self.finish(&mut inbox)).await {
            self.abandon(panic, &mut inbox).await;
            self.is_over(Vec::new());
        }
    }

    /// Has the service manager keep what the master has bound itself.
    fn keep_bound(&mut self) {
        let bound = self.spawner.bound().iter();
        let kept = bound.filter_map(|bound| Some((bound.kept?, bound.socket.try_clone().ok()?)));
        for (name, socket) in kept.collect::<Vec<_>>() {
            self.keep(name, socket);
        }
    }

    /// Until the cluster is over, or a part of it has panicked.
    async fn supervise(&mut self, inbox: &mut mpsc::UnboundedReceiver<Input>) {
        match self.goes_on.take() {
            Some(event) => {
                self.emit(event);
                self.hear_what_waits(inbox).await;
            }
            None => self.introduce(),
        }
        while self.panicked.is_none() {
            self.act().await;
            self.pursue_upgrade(inbox).await;
            if self.panicked.is_some() {
                return;
            }
            if self.policy.phase() == Phase::Over && self.has_left_nothing() {
                // What programs had left behind counted as a stop that goes on.
                self.told_manager = None;
                self.tell_manager();
                return;
            }
            let deadline = self.policy.deadline().into_iter().chain(self.timers.next()).min();
            let mut input = tokio::select! {
                biased;
                input = inbox.recv() => input,
                () = sleep_until_some(deadline) => None,
            };
            // The clock is asked, not the timer: a busy inbox must not keep a deadline waiting.
            if deadline.is_some_and(|at| at <= Instant::now()) {
                if deadline.is_some_and(|at| at + STALL <= Instant::now()) {
                    self.catch_up(input.take(), inbox).await;
                }
                self.spare_those_that_end();
                self.tell(core::Event::Tick);
                self.act().await;
            }
            while let Some((timer, late)) = self.timers.take_due(Instant::now()) {
                self.ring(timer, late);
                self.act().await;
            }
            if let Some(input) = input {
                self.handle(input);
            }
        }
    }

    /// What has come while this program took the place of another one came in time, too.
    async fn hear_what_waits(&mut self, inbox: &mut mpsc::UnboundedReceiver<Input>) {
        self.dataplane.settle();
        // The runtime looks at its sockets when nobody has anything to do.
        sleep(Duration::from_millis(1)).await;
        self.catch_up(None, inbox).await;
    }

    /// This process did not run for a while (its host has blocked the runtime, or it was stopped): what has come meanwhile came in
    /// time, and is handled before anybody is called late.
    async fn catch_up(&mut self, first: Option<Input>, inbox: &mut mpsc::UnboundedReceiver<Input>) {
        let waiting = inbox.len();
        for input in first.into_iter().chain(std::iter::from_fn(|| inbox.try_recv().ok()).take(waiting)) {
            self.handle(input);
            self.act().await;
        }
    }

    /// Of workers that were sent KILL only those are given up that nothing but the kernel keeps from ending.
    fn spare_those_that_end(&mut self) {
        let now = Instant::now();
        for worker in self.policy.overdue_to_end(now) {
            let child = self.workers.get(worker);
            if child
                .is_some_and(|child| unkillable::of(child.pid()).is_none_or(|remnant| !remnant.is_stuck()))
            {
                self.tell(core::Event::Ending(worker));
            }
        }
    }

    /// Tells people what they should know before the first worker is started.
    fn introduce(&mut self) {
        for bound in self.spawner.bound() {
            let name = bound.name.as_ref().map(ToString::to_string);
            self.emit(Event::Bound { name, address: bound.address.clone() });
        }
        self.keep_bound();
        let program = self.generations.program(core::Generation::FIRST);
        let kind = program.and_then(ResolvedProgram::node_kind);
        let own_user = rustix::process::geteuid().as_raw();
        let of_other_user =
            program.and_then(|program| program.privileges.uid).is_some_and(|uid| uid != own_user);
        let is_node = kind == Some(NodeKind::Node);
        let has_preload = is_node && self.spec().preload.is_some();
        if let Some(caveat) =
            self.balance.caveat_without_preload(is_node, of_other_user).filter(|_| !has_preload)
        {
            self.emit(Event::Caveat { caveat: caveat.into() });
        }
        self.watch_limits();
        self.look_at_kills_again();
    }

    /// Does everything that the policy wants, and what that brought about. Where that is a lot, others of this runtime have
    /// their turn meanwhile: who is told of every action could not keep up otherwise.
    pub(super) async fn act(&mut self) {
        for done in 1_usize.. {
            let Some(action) = self.policy.next_action(Instant::now()) else { break };
            self.close_listeners_when_stopping();
            self.perform(action);
            if done.is_multiple_of(AT_A_TIME) {
                yield_now().await;
            }
        }
        self.close_listeners_when_stopping();
        self.publish_routes();
        for reply in self.scaled.drain(..) {
            // Whoever has asked may be gone.
            let _ = reply.send(Ok(self.policy.slots()));
        }
        self.tell_manager();
    }

    pub(super) fn handle(&mut self, input: Input) {
        at_work(PART);
        match input {
            Input::Fact(fact) => self.note(fact),
            Input::Process(event) => self.hear(event),
            Input::Begun(worker) => self.begins_to_start(worker),
            Input::Launched(outcome) => self.launched(outcome),
            Input::LivesOn(worker, looks) => self.lives_on(worker, looks),
            Input::Left(generation, left) => self.has_left(generation, left.as_ref()),
            Input::Hook(failed) => self.hook_failed(failed),
            Input::Seen(Sighting::Changed { kind, files, more, look }) => {
                self.changes.has_looked(look);
                let change = self.changes.note(kind, files, more);
                self.tell(change);
            }
            Input::Seen(Sighting::Limited { reason }) => self.emit(Event::WatchLimited { reason }),
            Input::Upgrade(step) => self.upgrade_goes_on(step),
            Input::Panicked(panic) => self.has_panicked(panic),
            Input::Request(request) => self.answer(request),
        }
    }

    fn ring(&mut self, timer: Timer, late: Duration) {
        match timer {
            Timer::Stop => self.tell(core::Event::Stop),
            Timer::Recycle => self.recycle(),
            Timer::Leftovers => self.look_at_leftovers(),
            Timer::OomKills => self.look_at_kills(),
            Timer::Ignored => self.look_for_ignored(),
            Timer::Start(worker) => self.start_hangs(worker),
            Timer::Watchdog(worker) => self.is_silent(worker, late),
            // It is told, and tried again, whenever everything else is done.
            Timer::Manager | Timer::Upgrade => {}
        }
    }

    fn close_listeners_when_stopping(&mut self) {
        if self.routing.begins_to_stop(self.policy.phase()) {
            self.tell_of_stop();
            let kept = self.left_to_manager();
            self.spawner.close();
            let now = Instant::now();
            self.leftovers.hurry(self.generations.spec().settings(), self.policy.clock(), now);
            self.look_again();
            self.shorten_graces();
            self.dataplane.tell(Command::CloseListeners { kept });
        }
    }

    /// What the service manager goes on keeping: after a start that has failed, and a panic. Files of sockets stay with them.
    pub(super) fn left_to_manager(&self) -> BTreeSet<KeptName> {
        // Without having been asked to, it ends because the start has failed. Nobody has heard of that by now.
        let fails = self.asked_to_end == AskedToEnd::No || self.progress.borrow().panicked;
        let kept = if fails { self.herald.kept() } else { BTreeSet::new() };
        for bound in self.spawner.bound() {
            let stays = bound.kept.is_some_and(|name| kept.contains(&name));
            bound.file.iter().for_each(|file| file.set_stays(stays));
        }
        kept
    }

    /// Tells the service manager what is new, and what it is to hear from time to time.
    fn tell_manager(&mut self) {
        if self.herald.is_silent() {
            return;
        }
        let (now, as_of) =
            (Instant::now(), (self.policy.handled(), self.told.stop, self.callers.concluded()));
        if self.told_manager != Some(as_of) {
            self.told_manager = Some(as_of);
            let seen = self.seen(now);
            if seen.stops && self.progress.borrow().failed.is_none() {
                self.herald.forget_all(now);
            }
            self.herald.look(seen, now);
        }
        self.herald.pass(now);
        if self.herald.has_room_again() {
            self.keep_bound();
            self.dataplane.tell(Command::KeepAgain);
        }
        match self.herald.due() {
            Some(at) => self.timers.set(Timer::Manager, at),
            None => self.timers.clear(Timer::Manager),
        }
    }

    /// How the cluster is, for a service manager.
    fn seen(&self, now: Instant) -> Seen {
        let (status, progress) = (self.policy.status(), self.progress.borrow());
        let phase = status::phase(status.phase, &self.leftovers, self.timers.is_set(Timer::Stop));
        let failed = progress.failed.as_ref().map(|failure| format!("the start failed: {failure}"));
        let in_words =
            || herald::in_words(status::phase_name(phase), &status, self.callers.last_reload(now).as_ref());
        Seen {
            has_started: progress.started,
            reloads: status.reload.is_some(),
            stops: matches!(phase, Phase::Stopping | Phase::Terminating | Phase::Over),
            status: failed.unwrap_or_else(in_words),
        }
    }

    /// Has the data plane do what is decided before people hear of it.
    pub(super) fn settle_routes(&mut self) {
        self.publish_routes();
        if self.routing.is_to_be_waited_for() {
            self.dataplane.settle();
        }
    }

    /// Tells the data plane which workers may be given connections, where that has changed.
    fn publish_routes(&mut self) {
        if !self.routing.may_have_changed(self.policy.handled()) {
            return;
        }
        let status = self.policy.status();
        let active = status.slots.iter().filter_map(|slot| Some((slot.slot.get(), slot.active?)));
        self.audience.active(active, |worker| self.workers.about(worker));
        self.renewals.settle(&status, |worker| self.workers.about(worker));
        if let Some(routes) = self.routing.update(&status) {
            self.dataplane.tell(Command::Route(routes));
        }
    }

    /// Whether nothing is left of any program that has ended.
    fn has_left_nothing(&mut self) -> bool {
        if !(self.leftovers.is_empty() && self.leftovers.unkillable().is_empty()) {
            self.look_at_leftovers();
        }
        self.leftovers.is_empty()
    }

    /// The workers that live on, or what they have left behind.
    fn unkillable(&self) -> Vec<Worker> {
        let given_up = self.policy.status().workers.into_iter();
        let given_up = given_up.filter(|worker| worker.state == core::State::Unkillable);
        let about = |worker: core::WorkerStatus| {
            let place = || self.launches.place(worker.worker).map(|place| place.about(None));
            self.workers.about(worker.worker).or_else(place)
        };
        let left = self.leftovers.unkillable().iter().map(|leftover| leftover.worker);
        given_up.filter_map(about).chain(left).collect()
    }

    /// The cluster is over. Callers that still wait are told by the end of their channels.
    async fn finish(&mut self, inbox: &mut mpsc::UnboundedReceiver<Input>) {
        self.dataplane.finish();
        self.flush().await;
        self.end_hooks(inbox).await;
        let unkillable = self.unkillable();
        self.is_over(unkillable);
    }

    /// Has what workers wrote written, if that does not take too long.
    async fn flush(&mut self) {
        let mut flushing = std::pin::pin!(self.spawner.flush());
        loop {
            tokio::select! {
                biased;
                () = &mut flushing => return,
                // A watchdog does not know that nothing else is left to do.
                () = sleep_until_some(self.herald.due()) => self.herald.pass(Instant::now()),
            }
        }
    }

    fn is_over(&self, unkillable: Vec<Worker>) {
        self.emit(Event::Over);
        self.progress.send_modify(|progress| (progress.unkillable, progress.over) = (unkillable, true));
    }
}

impl Supervisor {
    /// Tells people once that everything stops.
    pub(super) fn tell_of_stop(&mut self) {
        if !std::mem::replace(&mut self.told.stop, true) {
            self.emit(Event::Stopping);
        }
    }

    /// Lets hooks do what they still have to do, the end included. They have some time; a termination takes it from them, be it
    /// before or while they run.
    async fn end_hooks(&mut self, inbox: &mut mpsc::UnboundedReceiver<Input>) {
        let surroundings = self.surroundings();
        let Some(hooks) = self.hooks.take() else { return };
        let mut ending = std::pin::pin!(hooks.end(surroundings));
        let mut limit = std::pin::pin!(sleep(if self.asked_to_end == AskedToEnd::AtOnce {
            HOOKS_TERMINATED
        } else {
            HOOKS_END
        }));
        let are_done = loop {
            tokio::select! {
                biased;
                () = &mut ending => break true,
                () = &mut limit => break false,
                () = sleep_until_some(self.herald.due()) => self.herald.pass(Instant::now()),
                input = inbox.recv() => match input {
                    Some(Input::Hook(failed)) => self.hook_failed(failed),
                    Some(Input::Request(Request::Terminate)) | None => break false,
                    Some(_) => {}
                },
            }
        };
        while let Ok(input) = inbox.try_recv() {
            if let Input::Hook(failed) = input {
                self.hook_failed(failed);
            }
        }
        if !are_done {
            let reason = "it was not done when the cluster had ended, and is ended".to_owned();
            self.emit(Event::HookFailed {
                on: Moment::Stopped.name(),
                hook: "what still ran".to_owned(),
                reason,
            });
        }
    }

    fn hook_failed(&self, Failed { on, hook, reason }: Failed) {
        self.emit(Event::HookFailed { on: on.name(), hook, reason });
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
