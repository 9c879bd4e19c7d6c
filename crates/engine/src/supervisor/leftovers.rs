//! What a program leaves behind: processes of its group that live on when the first one has ended.
//!
//! A server of several processes may well end its first one at once and let the others finish what they have. They get the
//! time that the whole worker had; then TERM, if nobody was sent that yet, and then KILL. What a released cluster's
//! workers leave is left alone, as the workers were.
//!
//! The first process is not reaped while any of the others lives: its number is the group's, and only a number that is taken
//! is sure to mean this group and none that came later.

use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::{Phase, State, WorkerId};

use crate::process::groups;
use crate::report::event::Event;
use crate::report::signal::name_of;
use crate::report::worker::Worker;
use crate::supervisor::Supervisor;
use crate::supervisor::child::Child;
use crate::supervisor::timers::Timer;

/// How often it is looked who has ended.
const LOOK: Duration = Duration::from_millis(500);
/// Whoever ends so soon after the first process, or after KILL, is no news.
const SOON: Duration = Duration::from_millis(50);
/// How long the end of those that were sent KILL is waited for. They may hold sockets until then.
const LAST: Duration = Duration::from_secs(2);

/// A worker whose first process has ended.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) worker: Worker,
    pub(crate) child: Child,
    /// When the first process ended.
    since: Instant,
    fate: Fate,
    /// People were told of them.
    pub(crate) is_known: bool,
}

/// What becomes of those who are left, if they have not ended by then.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// They are sent TERM.
    Term(Instant),
    /// They are sent KILL.
    Kill(Instant),
    /// They were sent KILL, and are waited for no longer.
    Forget(Instant),
}

impl Fate {
    /// No later than this.
    fn by(self, term: Instant, kill: Instant) -> Self {
        match self {
            Self::Term(at) => Self::Term(at.min(term)),
            Self::Kill(at) => Self::Kill(at.min(kill)),
            Self::Forget(_) => self,
        }
    }
}

impl Remains {
    /// When they are sent the next signal, if there is one.
    pub(crate) fn signal_due(&self) -> Option<Instant> {
        match self.fate {
            Fate::Term(at) | Fate::Kill(at) => Some(at),
            Fate::Forget(_) => None,
        }
    }

    /// When to look at them.
    fn look_due(&self) -> Instant {
        let next = if self.is_known { Instant::now() + LOOK } else { self.since + SOON };
        self.signal_due().map_or_else(|| Instant::now() + SOON, |at| at.min(next))
    }

    fn kill(&mut self) {
        if self.signal_due().is_some() {
            self.child.process.signal(core::Signal::Kill);
            self.fate = Fate::Forget(Instant::now() + LAST);
        }
    }
}

impl Supervisor {
    /// A program's first process has ended. It is reaped when it has left no others.
    pub(crate) fn leave_behind(&mut self, id: WorkerId, worker: Worker, mut child: Child) {
        (child.check, child.notify) = (None, None);
        let Some(fate) = self.fate_of_rest(id, &mut child) else { return child.process.reap() };
        self.remains.push(Remains { worker, child, since: Instant::now(), fate, is_known: false });
        self.look_again();
    }

    /// What is due to a worker is due to those it leaves. None where they are left alone.
    fn fate_of_rest(&self, id: WorkerId, child: &mut Child) -> Option<Fate> {
        if child.process.sent == Some(core::Signal::Kill) {
            return Some(Fate::Forget(Instant::now() + LAST));
        }
        let status = self.policy.status();
        let worker = status.workers.iter().find(|worker| worker.worker == id);
        let until = match worker.map(|worker| worker.state) {
            Some(State::Terminating { until }) => return Some(Fate::Kill(self.instant(until))),
            Some(State::Draining { until }) => until,
            Some(State::Starting { .. } | State::Ready { .. } | State::Killed) | None => {
                if status.phase == Phase::Released {
                    return None;
                }
                self.now() + self.patience()
            }
        };
        if !child.process.told {
            // They would go on accepting.
            child.process.let_go();
        }
        Some(match child.process.sent {
            None => Fate::Term(self.instant(until)),
            Some(_) => Fate::Kill(self.instant(until + self.shell.spec.settings().kill_timeout)),
        })
    }

    /// Whether nothing is left of any program that has ended.
    pub(crate) fn leaves_nothing(&mut self) -> bool {
        if !self.remains.is_empty() {
            self.look_at_remains();
        }
        self.remains.is_empty()
    }

    /// Reaps programs of which nothing is left, and ends what had its time.
    pub(crate) fn look_at_remains(&mut self) {
        let living = groups::living();
        for mut remains in std::mem::take(&mut self.remains) {
            let lives = living.contains(&remains.child.pid());
            if lives && self.waits_for(&mut remains) {
                self.remains.push(remains);
            } else {
                remains.child.process.reap();
            }
        }
        self.look_again();
    }

    /// Does what is due to those who are left; false where they are waited for no longer.
    fn waits_for(&self, remains: &mut Remains) -> bool {
        let now = Instant::now();
        match remains.fate {
            Fate::Forget(at) => return now < at,
            Fate::Term(at) | Fate::Kill(at) if now < at => self.make_known(remains, at - now),
            Fate::Term(_) => {
                self.overdue(remains, core::Signal::Term);
                remains.child.process.signal(core::Signal::Term);
                remains.fate = Fate::Kill(self.after(self.shell.spec.settings().kill_timeout));
            }
            Fate::Kill(_) => {
                self.overdue(remains, core::Signal::Kill);
                remains.kill();
            }
        }
        true
    }

    fn make_known(&self, remains: &mut Remains, timeout: Duration) {
        if !remains.is_known && remains.since.elapsed() >= SOON {
            remains.is_known = true;
            self.audience.emit(Event::LeftBehind { worker: remains.worker, timeout });
        }
    }

    fn overdue(&self, remains: &mut Remains, signal: core::Signal) {
        remains.is_known = true;
        let (worker, signal) = (remains.worker, name_of(signal));
        self.audience.emit(Event::Overdue { worker, due: "rest", signal, held: None });
    }

    /// A stop begins: nobody has more time than it gives.
    pub(crate) fn hurry_remains(&mut self) {
        let term = self.after(self.patience());
        let kill = self.after(self.patience().saturating_add(self.shell.spec.settings().kill_timeout));
        for remains in &mut self.remains {
            remains.fate = remains.fate.by(term, kill);
        }
        self.look_again();
    }

    /// Ends them all at once.
    pub(crate) fn kill_remains(&mut self) {
        self.remains.iter_mut().for_each(Remains::kill);
        self.look_again();
    }

    fn look_again(&mut self) {
        if let Some(at) = self.remains.iter().map(Remains::look_due).min() {
            self.timers.set_by(Timer::Remains, at);
        }
    }

    /// The drain timeout, as it is now.
    fn patience(&self) -> Duration {
        let settings = self.shell.spec.settings();
        match self.policy.phase() {
            Phase::Starting | Phase::Running | Phase::Released => settings.timeout,
            Phase::Stopping | Phase::Terminating | Phase::Over => settings.stop_timeout,
        }
    }
}
