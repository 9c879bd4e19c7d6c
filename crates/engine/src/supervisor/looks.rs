//! What the supervisor looks at from time to time: how large and old workers are, what the kernel has killed, what programs have left
//! behind, and whether connections wait that nobody takes.

use std::time::Instant;

use recluster_core as core;

use crate::process::groups;
use crate::process::memory_limit;
use crate::process::oom_kills;
use crate::process::program::ResolvedProgram;
use crate::report::event::Event;
use crate::socket::attention;
use crate::supervisor::Supervisor;
use crate::supervisor::ignored::{self, Finding};
use crate::supervisor::recycle::{self, Candidate};
use crate::supervisor::timers::Timer;

impl Supervisor {
    /// Goes on looking for workers that are beyond their limits, or begins to, where there are limits now.
    pub(super) fn watch_limits(&mut self) {
        recycle::schedule(self.generations.spec().limits, &mut self.timers, Instant::now());
    }

    /// Renews one worker that is beyond its limits, unless something else is going on: the next look comes soon.
    pub(super) fn recycle(&mut self) {
        self.watch_limits();
        let status = self.policy.status();
        if !status.settled {
            return;
        }
        let (limits, surge) = (self.spec().limits, self.spec().settings().surge);
        let slots = status.slots.len();
        let workers = slots.saturating_add(surge.limit(slots).min(slots));
        let bounds = limits.of_one(workers, memory_limit::of_this_process);
        let (sizes, now) = (bounds.memory.map(|_| groups::resident()).unwrap_or_default(), Instant::now());
        let serving = status.workers.iter().filter(|worker| worker.serves);
        let candidates = serving.filter_map(|worker| {
            let child = self.workers.get(worker.worker)?;
            let (pid, age) = (child.pid(), child.age(now));
            let bytes = if bounds.memory.is_some() { child.process.memory(&sizes) } else { 0 };
            Some(Candidate { worker: worker.worker, pid, age, bytes })
        });
        let Some((worker, excess)) = recycle::most_urgent(bounds, candidates) else { return };
        self.emit_about(worker, |worker| Event::Recycling { worker, excess });
        self.tell(core::Event::Replace(worker));
    }

    pub(super) fn look_at_kills(&mut self) {
        self.oom_kills.look();
        self.look_at_kills_again();
    }

    /// Sees to it that what the kernel kills is looked at, if it counts that.
    pub(super) fn look_at_kills_again(&mut self) {
        if self.oom_kills.are_counted() {
            self.timers.set_by(Timer::OomKills, Instant::now() + oom_kills::LOOK);
        }
    }

    pub(super) fn look_at_leftovers(&mut self) {
        let settings = self.generations.spec().settings();
        let events = self.leftovers.look(&groups::living(), settings, Instant::now());
        for event in events {
            self.emit(event);
        }
        self.look_again();
    }

    /// Looks from now on whether the program of this worker, which serves, takes connections.
    pub(super) fn looks_for_ignored(&mut self, worker: core::WorkerId) {
        let Some(generation) = self.workers.get(worker).map(|child| child.generation) else { return };
        // What Node workers listen on is known.
        let is_node = self.generations.program(generation).is_none_or(ResolvedProgram::is_node);
        if !is_node && self.ignored.serves(generation, self.spawner.bound().len()) {
            self.look_again_for_ignored();
        }
    }

    fn look_again_for_ignored(&mut self) {
        let due = self.ignored.look_due(Instant::now()).filter(|_| !self.spawner.bound().is_empty());
        if let Some(at) = due {
            self.timers.set(Timer::Ignored, at);
        }
    }

    /// Tells people of sockets at which nobody accepts. Where another generation has workers, it may be these that take connections.
    pub(super) fn look_for_ignored(&mut self) {
        let (living, bound) = (self.workers.living(), self.spawner.bound());
        let first = living.first().map(|worker| worker.generation);
        if living.iter().any(|worker| Some(worker.generation) != first) {
            self.look_again_for_ignored();
            return;
        }
        let waiting = bound.iter().map(|bound| attention::has_waiting(&bound.socket));
        let (mut addresses, mut why) = (Vec::new(), None);
        let given = self.workers.own_listeners();
        for (at, waited) in self.ignored.look(waiting, Instant::now()) {
            let Some(bound) = bound.get(at) else { continue };
            match ignored::find(bound, waited, &living, &given) {
                Finding::Unknown => {}
                Finding::Taken => self.ignored.settle(at),
                Finding::Ignored(reason) => {
                    addresses.push(bound.address.clone());
                    why = why.or(Some(reason));
                }
            }
        }
        if let Some(reason) = why {
            self.ignored.settle_all();
            self.emit(Event::ListenIgnored { addresses, reason });
        }
        self.look_again_for_ignored();
    }

    /// Sees to it that what programs have left behind is looked at when something is due.
    pub(super) fn look_again(&mut self) {
        if let Some(at) = self.leftovers.look_due(Instant::now()) {
            self.timers.set_by(Timer::Leftovers, at);
        }
    }
}
