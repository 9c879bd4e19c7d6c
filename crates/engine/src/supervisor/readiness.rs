//! What the supervisor makes of a worker's signs of life: its first word, its readiness, its checks, its notifications and its
//! silence.

use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::WorkerId;
use recluster_wire::notify::Word;

use crate::config::ready::ReadyCheck;
use crate::config::ready::ReadyWhen;
use crate::process::event::Words;
use crate::process::health_check::{Asked, Target};
use crate::report::event::Event;
use crate::supervisor::Supervisor;
use crate::supervisor::child::{CheckTask, WatchState};
use crate::supervisor::timers::Timer;

/// How long a silent worker is doubted before it counts as hung: all that is in the queues is read meanwhile.
const DOUBT: Duration = Duration::from_millis(100);
/// A master that wakes up later than this has not been able to listen: a worker then gets its whole patience again.
const LATE: Duration = Duration::from_millis(100);

impl Supervisor {
    /// The worker's first word; of a program that says none, that it runs.
    pub(crate) fn online(&mut self, worker: WorkerId) {
        let Some(child) = self.children.get_mut(&worker) else { return };
        if std::mem::replace(&mut child.seen.online, true) {
            return;
        }
        self.emit_about(worker, |worker| Event::Online { worker });
        self.follow_ups.push_back(core::Event::Online(worker));
        self.ready(worker, ReadyWhen::Started);
    }

    /// The worker did what may make it ready. Where there is a check, that decides.
    pub(crate) fn ready(&mut self, worker: WorkerId, by: ReadyWhen) {
        let events = self.process_events();
        let Some(child) = self.children.get_mut(&worker) else { return };
        if self.shell.spec.ready_when != by || child.seen.ready || child.leaving || child.check.is_some() {
            return;
        }
        let Some(checks) = self.shell.spec.checks.clone() else { return self.passed(worker) };
        let program = self.programs.get(&child.generation);
        let target = match (&checks.check, child.own_listener) {
            (ReadyCheck::Http(_), Some(address)) => Target::Own(address),
            (ReadyCheck::Http(_), None) => Target::HandOver,
            (ReadyCheck::Command(_), _) => Target::Process(Asked {
                pid: child.pid().unsigned_abs(),
                slot: child.slot.get(),
                directory: program.map(|program| program.directory.clone()).unwrap_or_default(),
                env: program.map(|program| program.env.clone()).unwrap_or_default(),
            }),
        };
        let watch = checks.watch(worker, target, events);
        child.check = Some(CheckTask::from(tokio::spawn(watch)));
    }

    /// The worker is ready.
    pub(crate) fn passed(&mut self, worker: WorkerId) {
        let Some(child) = self.children.get_mut(&worker) else { return };
        if !std::mem::replace(&mut child.seen.ready, true) {
            child.check_failure = None;
            self.emit_about(worker, |worker| Event::Ready { worker });
            self.follow_ups.push_back(core::Event::Ready(worker));
            self.heard_of(worker);
        }
    }

    /// Acts on what a worker said by `sd_notify`. What is not named here is for service managers that can do more.
    pub(crate) fn notified(&mut self, worker: WorkerId, words: &Words) {
        for word in &words.said {
            match word {
                Word::Ready => {
                    if let Some(child) = self.children.get_mut(&worker)
                        && child.status.as_deref() == Some("reloading")
                    {
                        child.status = None;
                    }
                    self.ready(worker, ReadyWhen::Notify);
                }
                Word::Status(text) => {
                    if let Some(child) = self.children.get_mut(&worker) {
                        child.status = Some(text.clone()).filter(|text| !text.is_empty());
                    }
                }
                Word::Stopping => self.tell(core::Event::Retiring(worker)),
                Word::WatchdogBeat => self.heard_of(worker),
                Word::WatchdogTrigger => self.gives_up(worker),
                Word::WatchdogTimeout(patience) => {
                    if let Some(child) = self.children.get_mut(&worker) {
                        child.watchdog = Some(*patience).filter(|patience| !patience.is_zero());
                    }
                    self.heard_of(worker);
                }
                Word::FdStore => self.emit_about(worker, |worker| Event::NotStored { worker }),
                Word::Reloading => {
                    if let Some(child) = self.children.get_mut(&worker) {
                        child.status = Some("reloading".to_owned());
                    }
                }
                Word::Monotonic(_)
                | Word::FdStoreRemove
                | Word::Barrier
                | Word::MainPid(_)
                | Word::Errno(_)
                | Word::ExtendTimeout(_) => {}
            }
        }
    }

    /// The worker lives. From when it is ready on it must say so again in time, if it has a watchdog.
    fn heard_of(&mut self, worker: WorkerId) {
        let Some(child) = self.children.get_mut(&worker) else { return };
        if child.hung || child.leaving || !child.seen.ready {
            return;
        }
        child.watch = WatchState::Trusted;
        match child.watchdog.and_then(|patience| Instant::now().checked_add(patience)) {
            Some(at) => self.timers.set(Timer::Watchdog(worker), at),
            None => self.timers.clear(Timer::Watchdog(worker)),
        }
    }

    /// The worker drains: from now on only its deadline counts.
    pub(crate) fn leaves(&mut self, worker: WorkerId) {
        let Some(child) = self.children.get_mut(&worker) else { return };
        child.leaving = true;
        child.check = None;
        // One that is being ended because it hangs still is.
        if !child.hung {
            self.timers.clear(Timer::Watchdog(worker));
        }
    }

    /// The worker itself says that it hangs.
    fn gives_up(&mut self, worker: WorkerId) {
        if self.children.get(&worker).is_some_and(|child| !child.hung && !child.leaving) {
            self.bite(worker);
        }
    }

    /// A worker has been silent for too long, as far as is known. Its word may lie in the queue still, all the more so where
    /// the master itself could not run: it is doubted first.
    pub(crate) fn silent(&mut self, worker: WorkerId, late: Duration) {
        let Some(child) = self.children.get_mut(&worker) else { return };
        if child.hung || child.watch == WatchState::Doubted {
            return self.bite(worker);
        }
        child.watch = WatchState::Doubted;
        let patience = child.watchdog.filter(|_| late > LATE).unwrap_or(DOUBT);
        if let Some(at) = Instant::now().checked_add(patience) {
            self.timers.set(Timer::Watchdog(worker), at);
        }
    }

    /// A worker that is silent for too long is hung. It is asked to leave a picture of itself, and then killed; whether
    /// it is replaced is the policy's business.
    pub(crate) fn bite(&mut self, worker: WorkerId) {
        let Some(child) = self.children.get_mut(&worker) else { return };
        if std::mem::replace(&mut child.hung, true) {
            return child.process.signal(core::Signal::Kill);
        }
        child.process.abort();
        let silent = child.watchdog.unwrap_or_default();
        self.emit_about(worker, |worker| Event::Hung { worker, silent });
        if let Some(at) = Instant::now().checked_add(self.shell.spec.settings().kill_timeout) {
            self.timers.set(Timer::Watchdog(worker), at);
        }
    }
}
