//! One arm for each thing that processes and the data plane report.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::WorkerId;
use recluster_wire::node::Listening;
use recluster_wire::notify::Word;
use tokio::time::sleep;

use crate::config::ready::{ReadyCheck, ReadyWhen};
use crate::dataplane::{Billed, Command, Fact};
use crate::process::background::Ended;
use crate::process::event::Event as Heard;
use crate::process::event::{HandOver, Words};
use crate::process::health_check::{self, Asked, Target};
use crate::process::oom_kills;
use crate::process::program::ResolvedProgram;
use crate::report::event::Event;
use crate::report::worker::Address;
use crate::socket::holder::Holder;
use crate::socket::kept::KeptName;
use crate::supervisor::Supervisor;
use crate::supervisor::background;
use crate::supervisor::caches::{self, Milestone};
use crate::supervisor::child::Child;
use crate::supervisor::explain;
use crate::supervisor::input::Input;
use crate::supervisor::readiness::{Next, status_after};
use crate::supervisor::taken::Cluster;
use crate::supervisor::timers::Timer;
use crate::supervisor::watchdog::Bite;

/// How long after the end of a channel its worker's exit is waited for, and how long again while the worker is seen to do something,
/// such as to end or to wait for the CPU. A worker that dies closes its channel first, and how it died is worth more to people than
/// that it fell silent.
const EXIT_FOLLOWS: Duration = Duration::from_millis(100);
/// How often that time is given. A worker that works on and on without a channel is told to have none.
const EXIT_LOOKS: u32 = 20;

impl Supervisor {
    /// The data plane reports.
    pub(super) fn note(&mut self, Billed { fact, receipt }: Billed) {
        match fact {
            Fact::Online(worker) => {
                if let Some(child) = self.workers.get_mut(worker) {
                    child.speaks();
                }
                self.online(worker);
            }
            Fact::Listening(worker, address, listening) => self.listens(worker, address, listening),
            Fact::FileRestored(path) => self.emit(Event::FileRestored { address: Address::Unix(path) }),
            Fact::FileLost(path, is_taken) => {
                self.emit(Event::FileLost { address: Address::Unix(path), is_taken });
            }
            Fact::ListensNoMore(worker) => self.listens_no_more(worker),
            Fact::Closed(address) => self.emit(Event::Closed { address }),
            Fact::SaidReady(worker) => self.did(worker, ReadyWhen::Ready),
            Fact::Retiring(worker) => {
                if let Some(about) = self.workers.about(worker) {
                    self.audience.retires(about);
                }
                self.tell(core::Event::Retiring(worker));
            }
            Fact::Message { worker, said, handle } => {
                if let Some(about) = self.workers.about(worker) {
                    self.audience.said(about, said, handle, receipt);
                }
            }
            Fact::Sent { worker, bytes } => {
                if let Some(about) = self.workers.about(worker) {
                    self.audience.message(about, bytes, None);
                }
            }
            Fact::Unheard { worker, kind } => {
                self.emit_about(worker, |worker| Event::MessageUnheard { worker, kind });
            }
            Fact::Skipped { worker, bytes, ended } => {
                self.emit_about(worker, |worker| Event::MessageSkipped { worker, bytes, ended });
            }
            Fact::Held(worker, held) => {
                if let Some(child) = self.workers.get_mut(worker) {
                    child.has(held);
                }
            }
            Fact::Farewell(worker, farewell) => {
                if let Some(child) = self.workers.get_mut(worker) {
                    child.says_farewell(farewell);
                }
            }
            Fact::Stderr(worker, text) => {
                if let Some(child) = self.workers.get(worker) {
                    child.process.tail.push(text.as_bytes());
                }
            }
            Fact::Keeps(worker, keep_alive) => self.keeps(worker, keep_alive),
            Fact::CacheOff(worker, reason) => {
                if self.caches.is_news(&reason) {
                    self.emit_about(worker, |worker| Event::CompileCacheOff { worker, reason });
                }
            }
            Fact::Keep(name, socket) => self.keep(name, socket),
            Fact::Forget(name) => self.herald.forget(name, Instant::now()),
            Fact::Caveat(caveat) => self.emit(Event::Caveat { caveat: caveat.into() }),
            Fact::InTheWay(worker, own) => self.is_in_the_way(worker, own),
            Fact::CutOff(worker, reason) => {
                self.emit_about(worker, |worker| Event::CutOff { worker, reason });
            }
            Fact::Disconnected { worker, finishing } => self.disconnected(worker, finishing),
            Fact::ChannelDrained(worker) => self.bury_or_look(worker),
        }
    }

    /// The worker could not listen because of an address of ours.
    fn is_in_the_way(&mut self, worker: WorkerId, own: Address) {
        if let Some(child) = self.workers.get_mut(worker) {
            child.in_the_way = Some(own);
        }
    }

    /// Has the service manager keep a socket.
    pub(super) fn keep(&mut self, name: KeptName, socket: OwnedFd) {
        if let Some(caveat) = self.herald.keep(name, socket, Instant::now()) {
            self.emit(Event::Caveat { caveat: caveat.into() });
        }
    }

    /// A server of the worker listens.
    fn listens(&mut self, worker: WorkerId, address: Address, listening: Listening) {
        if let Some(child) = self.workers.get_mut(worker) {
            child.readiness.listens();
        }
        if let Some(about) = self.workers.about(worker) {
            self.audience.listening(about, address, listening);
        }
        self.did(worker, ReadyWhen::Listening);
        self.write_cache(worker, Milestone::Listens);
    }

    /// A worker's process reports.
    pub(super) fn hear(&mut self, event: Heard) {
        match event {
            // It may have left words in its channel: the data plane reads them first.
            Heard::Ended(worker) => self.dataplane.tell(Command::Ended(worker)),
            Heard::Panicked(panic) => self.has_panicked(panic),
            Heard::Unheard(worker, panic) => {
                self.has_panicked(panic);
                // The next one has somebody who listens.
                self.tell(core::Event::Retiring(worker));
            }
            Heard::LinesLost(worker, stream, lines) => {
                self.emit_about(worker, |worker| Event::LinesLost { worker, stream, lines });
            }
            Heard::LogFailed { slot, path, failed, error } => {
                self.emit(Event::WorkerLogFailed { slot, path, failed, error });
            }
            Heard::LogLost(lines) => self.audience.lost(lines),
            Heard::LogResumed { slot, lines } => self.emit(Event::WorkerLogResumed { slot, lines }),
            Heard::Notified(worker, words) => self.notified(worker, &words),
            Heard::NotifyIgnored(worker, stranger, _turn) => {
                if let Some(child) = self.workers.get_mut(worker) {
                    child.notify_ignored += 1;
                    child.stranger = stranger.or_else(|| child.stranger.take());
                }
            }
            Heard::CheckFailed(worker, reason) => {
                if let Some(child) = self.workers.get_mut(worker) {
                    child.readiness.check_failed(reason);
                }
            }
            Heard::CheckPassed(worker) => self.becomes_ready(worker),
            Heard::NotChecked(worker, reason) => self.emit_about(worker, |worker| {
                let caveat =
                    format!("worker {} cannot be checked now, and goes on unchecked: {reason}", worker.id);
                Event::Caveat { caveat: caveat.into() }
            }),
            Heard::Unhealthy(worker, reason) => {
                self.emit_about(worker, |worker| Event::Unhealthy { worker, reason });
                self.tell(core::Event::Replace(worker));
            }
            Heard::HandOver(worker, HandOver { connection, reply }) => {
                self.dataplane.tell(Command::HandOver { worker, connection, reply });
            }
        }
    }

    /// The worker's first word; of a program that says none, that it runs.
    pub(super) fn online(&mut self, worker: WorkerId) {
        let Some(child) = self.workers.get_mut(worker) else { return };
        if child.readiness.said_first_word() {
            self.emit_about(worker, |worker| Event::Online { worker });
            self.tell(core::Event::Online(worker));
            self.did(worker, ReadyWhen::Started);
        }
    }

    /// The worker did what may make it ready.
    fn did(&mut self, worker: WorkerId, what: ReadyWhen) {
        let Some(child) = self.workers.get(worker) else { return };
        let ready_when = self.generations.ready_when(child.generation);
        match child.readiness.did(what, ready_when, self.generations.spec().checks.as_ref()) {
            Next::Nothing => {}
            Next::Ready => self.becomes_ready(worker),
            Next::Check(checks) => self.begin_checks(worker, checks.unbegun()),
        }
    }

    /// Begins these checks of a worker, or goes on with those that a program before has begun.
    pub(super) fn begin_checks(&mut self, worker: WorkerId, left: health_check::Left) {
        let Some(child) = self.workers.get_mut(worker) else { return };
        let checks = left.checks();
        let program = self.generations.program(child.generation);
        let target = match (&checks.check, child.own_listener) {
            (ReadyCheck::Http(_), Some(address)) => Target::Own(address),
            (ReadyCheck::Http(_), None) => Target::HandOver,
            (ReadyCheck::Command(_), _) => Target::Process(Box::new(Asked {
                pid: child.pid().unsigned_abs(),
                slot: child.slot.get(),
                directory: program.map(|program| program.directory.clone()).unwrap_or_default(),
                env: program.map(|program| program.env_of(child.slot.get())).unwrap_or_default(),
                privileges: program.map(|program| program.privileges.clone()).unwrap_or_default(),
            })),
        };
        let checking = left.go_on(worker, target, self.spawner.events(), self.spawner.hands());
        child.readiness.is_checked_by(checking);
    }

    fn becomes_ready(&mut self, worker: WorkerId) {
        let Some(child) = self.workers.get_mut(worker) else { return };
        if child.readiness.becomes_ready() {
            self.oom_kills.note(worker, child.process.pid());
            self.look_at_kills_again();
            self.emit_about(worker, |worker| Event::Ready { worker });
            self.tell(core::Event::Ready(worker));
            self.is_alive(worker);
            self.write_cache(worker, Milestone::BecameReady);
        }
    }

    /// What was compiled to load the application is kept for the next worker, even if this one is killed. Where a server that
    /// listens makes it ready, that is done; else there may be more by now.
    fn write_cache(&mut self, worker: WorkerId, milestone: Milestone) {
        let Some(child) = self.workers.get(worker) else { return };
        let ready_when = self.generations.ready_when(child.generation);
        if caches::has_loaded(ready_when, milestone)
            && self.caches.has_loaded(worker)
            && matches!(ready_when, ReadyWhen::Ready | ReadyWhen::Notify)
        {
            self.dataplane.tell(Command::FlushCache(worker));
        }
    }

    /// The worker only tried to listen, or to serve while it starts: where that makes it ready, it is not ready yet.
    fn listens_no_more(&mut self, worker: WorkerId) {
        let Some(child) = self.workers.get_mut(worker) else { return };
        let awaits_listening = self.generations.ready_when(child.generation) == ReadyWhen::Listening;
        if child.readiness.listens_no_more() && awaits_listening {
            child.readiness.begins_again();
            self.tell(core::Event::Unready(worker));
        }
    }

    /// A worker said this by `sd_notify`. What is not named here is for service managers that can do more.
    fn notified(&mut self, worker: WorkerId, words: &Words) {
        for word in &words.said {
            if let Some(child) = self.workers.get_mut(worker) {
                child.status = status_after(child.status.take(), word);
            }
            match word {
                Word::Ready => self.did(worker, ReadyWhen::Notify),
                Word::Stopping => self.tell(core::Event::Retiring(worker)),
                Word::WatchdogBeat => self.is_alive(worker),
                Word::WatchdogTrigger => self.gives_up(worker),
                Word::WatchdogTimeout(patience) => {
                    if let Some(child) = self.workers.get_mut(worker) {
                        child.watchdog.set_patience(*patience);
                    }
                    self.is_alive(worker);
                }
                Word::FdStore => self.emit_about(worker, |worker| Event::NotStored { worker }),
                Word::Status(_)
                | Word::Reloading
                | Word::Monotonic(_)
                | Word::FdStoreRemove
                | Word::Barrier
                | Word::MainPid(_)
                | Word::Errno(_)
                | Word::ExtendTimeout(_) => {}
            }
        }
    }

    /// The worker is alive. From when it is ready on until it drains it must say so again in time, if it has a watchdog.
    fn is_alive(&mut self, worker: WorkerId) {
        let Some(child) = self.workers.get_mut(worker) else { return };
        if child.readiness.seen().ready && !child.readiness.is_leaving() {
            child.watchdog.heard(&mut self.timers, Instant::now());
        }
    }

    /// The worker itself says that it hangs.
    fn gives_up(&mut self, worker: WorkerId) {
        let settings = *self.spec().settings();
        let Some(child) = self.workers.get_mut(worker) else { return };
        if !child.readiness.is_leaving() {
            let bite = child.watchdog.gives_up(&settings, &mut self.timers, Instant::now());
            self.bite(worker, bite);
        }
    }

    /// The worker has not said in time that it is alive.
    pub(super) fn is_silent(&mut self, worker: WorkerId, late: Duration) {
        let settings = *self.spec().settings();
        let Some(child) = self.workers.get_mut(worker) else { return };
        let bite = child.watchdog.due(late, &settings, &mut self.timers, Instant::now());
        self.bite(worker, bite);
    }

    fn bite(&mut self, worker: WorkerId, bite: Option<Bite>) {
        let Some(child) = self.workers.get_mut(worker) else { return };
        match bite {
            None => {}
            Some(Bite::Kill) => child.process.signal(core::Signal::Kill),
            Some(Bite::LetGo) => self.tell(core::Event::Retiring(worker)),
            Some(Bite::Abort { patience: silent }) => {
                child.process.abort();
                self.emit_about(worker, |worker| Event::Hung { worker, silent });
            }
        }
    }

    /// The worker's channel is closed. Its exit may follow, and is told in the place of this.
    fn disconnected(&mut self, worker: WorkerId, finishing: bool) {
        // A program that does not know of its channel may close it like any other descriptor.
        if !self.workers.get(worker).is_some_and(|child| child.channel_use.may_hear_a_drain()) {
            return;
        }
        self.emit_about(worker, |worker| Event::Disconnect { worker });
        if !finishing {
            self.await_exit(worker, EXIT_LOOKS);
        }
    }

    fn await_exit(&mut self, worker: WorkerId, looks: u32) {
        self.exits_awaited += 1;
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            sleep(EXIT_FOLLOWS).await;
            // It fails when the cluster is over.
            let _ = inputs.send(Input::LivesOn(worker, looks.saturating_sub(1)));
        });
    }

    /// The worker has not exited yet.
    pub(super) fn lives_on(&mut self, worker: WorkerId, looks: u32) {
        self.exits_awaited = self.exits_awaited.saturating_sub(1);
        let Some(child) = self.workers.get(worker) else { return };
        if looks > 0 && child.process.is_busy() {
            self.await_exit(worker, looks);
        } else {
            self.tell(core::Event::Disconnected(worker));
        }
    }

    /// A server of the worker keeps idle connections for so long. A drain may end before.
    fn keeps(&mut self, worker: WorkerId, keep_alive: Duration) {
        let (timeout, is_written) = (self.spec().settings().timeout, self.spec().settings().hold);
        // Where somebody writes the server that is as it is meant.
        if keep_alive > timeout
            && !is_written
            && self.warned_of_keep_alive.replace((keep_alive, timeout)) != Some((keep_alive, timeout))
        {
            self.emit_about(worker, |worker| Event::KeepAliveTooLong { worker, keep_alive, timeout });
        }
    }

    /// The worker's process has ended, and everything that it said has been heard.
    pub(super) fn bury(&mut self, worker: WorkerId) {
        let Some(child) = self.workers.bury(worker) else { return };
        self.timers.clear(Timer::Watchdog(worker));
        self.look_who_has_its_address(worker, &child);
        let exit = child.process.exit();
        let left = self.told.left.of(child.generation.get()).filter(|_| self.may_have_left(&child));
        self.workers.is_known_to_leave(worker, left);
        let by_others = oom_kills::may_be_one(exit) && child.process.sent != Some(core::Signal::Kill);
        if self.oom_kills.ends(worker, by_others) {
            self.workers.is_known_to_want_memory(worker);
        }
        // A Node worker's children are its application's business.
        if self.generations.program(child.generation).is_some_and(|program| !program.is_node()) {
            let status = self.policy.status();
            let known = status.workers.iter().find(|known| known.worker == worker);
            let state = (known.map(|known| known.state), status.phase);
            let times = (self.policy.clock(), Instant::now());
            self.leftovers.take(child, state, self.generations.spec().settings(), times);
            self.look_again();
        } else {
            child.process.reap();
        }
        self.tell(core::Event::Exited(worker, exit));
    }

    /// Whom a worker found at the address that it wanted. That is looked for before the policy hears of the worker's end, at which the
    /// cluster may begin to stop; and only where somebody is told.
    fn look_who_has_its_address(&mut self, worker: WorkerId, child: &Child) {
        let Some(said) = self.workers.grave(worker).and_then(|grave| grave.in_use.as_ref()) else { return };
        let status = self.policy.status();
        let is_on_trial = status.phase == core::Phase::Starting || status.reload.is_some();
        let was_told = self.told.address == Some(child.generation.get());
        if child.process.sent.is_some() || was_told && !is_on_trial {
            return;
        }
        let cluster = Cluster {
            living: self.workers.living(),
            ended: self.workers.ended(worker),
            kind: self.generations.program(child.generation).and_then(ResolvedProgram::node_kind),
            slots: self.policy.slots(),
            bound: self.spawner.bound().iter().map(|bound| bound.address.clone()).collect(),
            given: self.workers.own_listeners(),
        };
        let taken = cluster.who_has(said);
        self.workers.is_known_to_miss(worker, taken);
    }

    /// The worker's process has ended, and everything that it said has been heard.
    pub(super) fn bury_or_look(&mut self, worker: WorkerId) {
        let Some(child) = self.workers.get(worker) else { return };
        let generation = child.generation.get();
        if !self.may_have_left(child) {
            self.bury(worker);
            return;
        }
        let ended = self.ended(child);
        let next = self.told.left.ends(generation, worker);
        if next == background::Next::Bury {
            self.bury(worker);
            return;
        }
        self.timers.clear(Timer::Watchdog(worker));
        if let Some(child) = self.workers.get_mut(worker) {
            child.ends();
        }
        // It does not come to serve meanwhile.
        self.tell(core::Event::Unready(worker));
        if next == background::Next::Look {
            let inputs = self.inputs.clone();
            tokio::spawn(async move {
                let left = ended.server().await;
                // It fails when the cluster is over.
                let _ = inputs.send(Input::Left(generation, left));
            });
        }
    }

    /// It was looked for what workers of this generation have left.
    pub(super) fn has_left(&mut self, generation: u64, left: Option<&Holder>) {
        for worker in self.told.left.finds(generation, left.map(explain::in_background)) {
            self.bury(worker);
        }
    }

    /// Whether it has ended by itself soon after its start, and as if all was well.
    pub(super) fn may_have_left(&self, child: &Child) -> bool {
        let is_node = self.generations.program(child.generation).is_none_or(ResolvedProgram::is_node);
        let of_itself = child.process.sent.is_none() && child.process.exit() == core::Exit::Code(0);
        !is_node && of_itself && child.age(Instant::now()) <= background::SOON
    }

    fn ended(&self, child: &Child) -> Ended {
        let bound = self.spawner.bound().iter();
        let inodes = bound.filter_map(|bound| Some(rustix::fs::fstat(&bound.socket).ok()?.st_ino));
        let notify = child.notify.as_ref().map(|notify| notify.name.as_path());
        Ended::new(child.pid(), notify, inodes, self.workers.own_listeners())
    }
}
