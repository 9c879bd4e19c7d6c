//! The stages of a run: trouble, calm, the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use recluster_core::{Phase, Surge, Time};

use crate::plan::Request;
use crate::rule::{Broken, DEADLINE, Held, LIVE, NO_PANIC, hold};
use crate::world::World;

/// A run that is over: the world as it was then, and whether every rule held.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) world: World,
    pub(crate) held: Held,
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64) -> Run {
    let mut world = World::new(seed);
    let held = catch_unwind(AssertUnwindSafe(|| world.live()))
        .unwrap_or_else(|_| Err(Broken { rule: NO_PANIC, detail: "it did; its words are above".into() }));
    Run { seed, world, held }
}

impl World {
    fn live(&mut self) -> Held {
        self.trouble()?;
        self.calm()?;
        self.end()
    }

    /// Requests come, processes misbehave.
    fn trouble(&mut self) -> Held {
        self.begin()?;
        let end = Time::after(self.plan.trouble);
        while self.advance(end)? {}
        self.now = self.now.max(end);
        Ok(())
    }

    /// No more faults, no more requests: everything must come to rest.
    fn calm(&mut self) -> Held {
        self.trace.stage("faults and requests cease");
        self.calm_down();
        if self.plan.settings.hold {
            // Somebody has mended the code.
            self.asked(Request::Reload { waits: false })?;
        }
        if self.model.phase == Phase::Released {
            self.processes_end();
        }
        self.comes_to("rest")
    }

    /// Something ends the cluster, unless that has happened already; afterwards it only tells callers that it is too late.
    fn end(&mut self) -> Held {
        if self.model.supervises() {
            self.trace.stage("the end");
            let end = self.plan.end;
            self.asked(end)?;
            if self.model.phase == Phase::Released {
                self.processes_end();
            }
            self.comes_to("an end")?;
        }
        for request in [Request::Reload { waits: true }, Request::Scale(3), Request::Stop, Request::Terminate]
        {
            self.asked(request)?;
        }
        hold(self.model.phase() == Phase::Over, LIVE, || "something is left".into())
    }

    /// Everything that is on its way happens, and then nothing more, within bounded time.
    fn comes_to(&mut self, rest: &str) -> Held {
        let latest = self.now + self.patience();
        while self.advance(latest)? {}
        let over = self.model.phase() == Phase::Over;
        let none_leaves = self.model.workers.values().all(|worker| !worker.leaving() || worker.given_up);
        let at_rest = over || ((self.model.settled() || self.model.waits_for_reload()) && none_leaves);
        hold(at_rest, LIVE, || {
            format!("no {rest} by {latest}: {:?}, {:?}", self.model.phase(), self.model.workers)
        })?;
        let next = self.next_deadline();
        hold(next.is_none(), DEADLINE, || format!("all is at rest, and something is due: {next:?}"))
    }

    /// More than everything that may have to happen one after the other.
    fn patience(&self) -> Duration {
        let settings = &self.model.settings;
        let slots = u32::try_from(self.model.seats.len()).expect("few slots");
        let spacing = settings.respawn.max(settings.backoff.unwrap_or_default()) + Duration::from_millis(500);
        let batches = match settings.surge {
            Surge::All => 2,
            Surge::AtMost(_) => slots + 2,
        };
        // Where only some may boot at a time, the slots come one after the other.
        let batches = if settings.boot_limit.is_some() { batches + slots } else { batches };
        let start = settings.bake + Duration::from_secs(11);
        let leave = settings.timeout.max(settings.stop_timeout)
            + settings.kill_timeout
            + settings.end_timeout
            + Duration::from_secs(42);
        // A storm of reloads has at most doubled the time between them beyond what has passed by now.
        4 * self.now.elapsed()
            + 2 * settings.ready_timeout
            + spacing * (3 * slots + 6)
            + start * batches * 2
            + leave
    }
}
