//! What a program leaves behind: processes of its group that live on when the first one has ended.
//!
//! A server of several processes may well end its first one at once and let the others finish what they have. They get the
//! time that the whole worker had; then TERM, if it was let go by another signal, and then KILL.
//!
//! The first process is not reaped while any of the others lives: its number is the group's, and only a number that is taken
//! is sure to mean this group and none that came later.

use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::Phase;

use crate::alarm::Alarm;
use crate::driver::Driver;
use crate::event::{Event, Worker};
use crate::group;
use crate::process::Process;
use crate::signal::name_of;

/// How often it is looked who has ended.
const LOOK: Duration = Duration::from_millis(500);

/// A worker whose first process has ended.
#[derive(Debug)]
pub(crate) struct Remains {
    worker: Worker,
    process: Process,
    /// Whoever is left has time until then.
    until: Instant,
}

impl Driver {
    /// Looks soon whether a program that has ended has left anything, and reaps it when it has not.
    pub(crate) fn leave_behind(&mut self, worker: Worker, mut process: Process) {
        (process.check, process.notify) = (None, None);
        if process.sent == Some(core::Signal::Kill) {
            // So were the others.
            process.reap();
            return;
        }
        let until = process.drains_until.unwrap_or_else(|| self.after(self.patience()));
        self.remains.push(Remains { worker, process, until });
        self.look_again();
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
        let living = group::living();
        for mut remains in std::mem::take(&mut self.remains) {
            let lives = living.contains(&remains.process.pid.as_raw_nonzero().get());
            if lives && self.may_go_on(&mut remains) {
                self.remains.push(remains);
            } else {
                remains.process.reap();
            }
        }
        self.look_again();
    }

    /// Sends a signal to those whose time is over; false if it was the last one.
    fn may_go_on(&self, remains: &mut Remains) -> bool {
        let (signal, due) = match remains.process.sent {
            None => (core::Signal::Term, Some(remains.until)),
            Some(core::Signal::Term | core::Signal::Kill) => {
                (core::Signal::Kill, remains.until.checked_add(self.shell.conduct.kill_timeout))
            }
        };
        if due.is_none_or(|due| Instant::now() < due) {
            return true;
        }
        let (worker, name) = (remains.worker, name_of(signal));
        self.emit(Event::Overdue { worker, due: "rest", signal: name, held: None });
        remains.process.sent = Some(signal);
        remains.process.signal(signal);
        signal != core::Signal::Kill
    }

    /// A stop begins: nobody has more time than it gives.
    pub(crate) fn hurry_remains(&mut self) {
        let latest = self.after(self.patience());
        for remains in &mut self.remains {
            remains.until = remains.until.min(latest);
        }
    }

    /// Ends them all at once.
    pub(crate) fn kill_remains(&mut self) {
        for remains in self.remains.drain(..) {
            remains.process.signal(core::Signal::Kill);
            remains.process.reap();
        }
    }

    fn look_again(&mut self) {
        if !self.remains.is_empty() && !self.alarms.is_set(Alarm::Remains) {
            self.alarms.set(Alarm::Remains, Instant::now() + LOOK);
        }
    }

    /// The drain timeout, as it is now.
    fn patience(&self) -> Duration {
        let settings = self.config.settings();
        match self.policy.phase() {
            Phase::Starting | Phase::Running | Phase::Released => settings.timeout,
            Phase::Stopping | Phase::Terminating | Phase::Over => settings.stop_timeout,
        }
    }
}
