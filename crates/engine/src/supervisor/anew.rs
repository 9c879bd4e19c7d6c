//! The master begins anew after a panic, where that is wanted (`process/after_panic`). Workers have what they have as after the death of any
//! master: those of Node see that their channel has ended, others are let go by their signal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use recluster_core::Phase;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::guard::{Panicked, Part, attempt};
use crate::process::after_panic::AfterPanic;
use crate::process::program::ResolvedProgram;
use crate::process::successor::Unable;
use crate::report::event::Event;
use crate::socket::bind;
use crate::supervisor::input::{Input, Request};
use crate::supervisor::timers::Timer;
use crate::supervisor::{AskedToEnd, Supervisor};

/// For how long it is tried, and how long others have their turn in between: the log is written meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
/// How long the data plane may take to rest.
const REST: Duration = Duration::from_millis(500);
const PART: Part = Part::vital("the master, while it begins anew");

impl Supervisor {
    /// Begins anew, if that is wanted. Where it cannot be it returns what came meanwhile, and the cluster is to end.
    pub(super) async fn begin_anew(
        &mut self,
        panic: &Panicked,
        inbox: &mut mpsc::UnboundedReceiver<Input>,
    ) -> Vec<Input> {
        let mut came = Vec::new();
        let Some(after) = self.after_panic.clone().filter(|after| !after.is_too_soon() && self.is_to_go_on())
        else {
            return came;
        };
        let told = self.told_with_state(panic.clone());
        if let Event::Panicked { part, reason, place, calls, phase, workers, ends, .. } = told {
            self.say(Event::Panicked { part, reason, place, calls, phase, workers, ends, begins_anew: true });
        }
        let reason = format!("{} had panicked: {}", panic.part.name, panic.reason);
        let until = Instant::now() + PATIENCE;
        let mut are_told = false;
        while Instant::now() < until {
            // Who listens has a turn.
            sleep(PAUSE).await;
            came.extend(std::iter::from_fn(|| inbox.try_recv().ok()));
            let is_end = |input: &Input| matches!(input, Input::Request(Request::Stop | Request::Terminate));
            if came.iter().any(is_end) {
                break;
            }
            // It does not return where it has begun.
            let _ = attempt(PART, || self.try_anew(&after, &reason, &mut are_told));
            self.dataplane.go_on();
        }
        came
    }

    /// Whether it was to go on. Without having served, or where it is about to end, there is nothing to begin anew for.
    fn is_to_go_on(&self) -> bool {
        let serves = attempt(PART, || self.policy.phase() == Phase::Running) == Ok(true);
        serves && self.asked_to_end == AskedToEnd::No && !self.timers.is_set(Timer::Stop)
    }

    fn try_anew(&mut self, after: &Arc<AfterPanic>, reason: &str, are_told: &mut bool) -> Unable {
        let saving = match self.dataplane.remains() {
            Some(saving) => Ok(saving),
            None => self.dataplane.rest(REST),
        };
        let mut saving = match saving {
            Ok(saving) => saving,
            Err(error) => return Unable::Now(error.to_string()),
        };
        bind::arrive_all(self.spawner.bound(), &mut saving);
        let Self { workers, generations, spawner, .. } = self;
        let is_node = |generation| generations.program(generation).is_some_and(ResolvedProgram::is_node);
        let let_go = || {
            if !std::mem::replace(are_told, true) {
                workers.let_go(|generation| !is_node(generation));
            }
        };
        after.begin(saving.arrivals(), reason, spawner.launcher(), let_go)
    }
}
