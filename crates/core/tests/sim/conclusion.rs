//! The rules of every step's end: how generations end, and which notices that takes.

use std::collections::BTreeSet;

use recluster_core::{Cause, Failure, Generation, Phase, SpawnFailure, Surge, Verdict};

use crate::model::{Model, Reloading, Step, index};
use crate::rule::{DONE, Held, ONCE, ROLLBACK, TRIAL, TRUTH, VERDICT, hold};
use crate::worker::Worker;

impl Model {
    /// 5, 9: what can be concluded is concluded at once.
    pub(crate) fn conclusions_came(&self) -> Held {
        if !self.supervises() {
            return Ok(());
        }
        if let Some(generation) = self.reloading() {
            let (serving, of) = (self.serving_slots(Some(generation)), self.slots_for(generation));
            hold(serving < of, DONE, || format!("all {of} slots serve, and {generation} is not done"))?;
        }
        let due = self.pending.is_some() && self.reload_due() <= self.now;
        hold(!due, VERDICT, || format!("a reload waits since it was due at {}", self.reload_due()))?;
        let late = self.serving().find(|worker| !worker.served);
        hold(late.is_none(), TRUTH, || format!("{late:?} serves, and no notice says so"))?;
        hold(self.started || !self.is_complete(), TRUTH, || "all slots serve, and it is not said".into())
    }

    /// Every slot is held by a worker that serves; one of a reload that takes all over at once holds none before its end.
    fn is_complete(&self) -> bool {
        let all_at_once = self.reload.as_ref().filter(|_| self.settings.surge == Surge::All);
        let unproven = all_at_once.map(|reload| reload.generation);
        let holders = self.serving().filter(|worker| Some(worker.generation) != unproven);
        let held: BTreeSet<_> = holders.map(|worker| worker.slot).collect();
        held.len() == self.seats.len()
    }

    /// 15: what is on trial ends by its failures, and is ended by them.
    pub(crate) fn trial_ended_rightly(&self) -> Held {
        if let Some((reload, Verdict::RolledBack(failure) | Verdict::StoppedPartWay { failure, .. })) =
            &self.step.ended
        {
            hold(self.may_end(failure), TRIAL, || format!("{} fails by {failure:?}", reload.generation))?;
        }
        let trial = self.on_trial();
        let goes_on = |of: Generation, slot| {
            let renews = self.seats.get(index(slot)).is_some_and(|seat| seat.renew.is_some());
            trial == Some(of) || renews
        };
        let mut finals = self.step.failures.iter().filter(|(_, failure)| self.may_end(failure));
        let ignored = finals.find(|(of, failure)| goes_on(*of, failure.slot));
        hold(ignored.is_none(), TRIAL, || format!("it goes on after {ignored:?}"))
    }

    /// A failure of this step that uses up the attempts of its slot, or that no further attempt can mend.
    pub(crate) fn may_end(&self, failure: &Failure) -> bool {
        let hopeless = match failure.cause {
            Cause::ReadyTimeout | Cause::SpawnFailed(SpawnFailure::Hopeless) => true,
            Cause::SpawnFailed(SpawnFailure::Temporary) | Cause::Exited(_) | Cause::Retired => false,
        };
        let known = self.step.failures.iter().any(|(_, known)| known == failure);
        known && (hopeless || failure.failures >= self.settings.attempts)
    }

    /// 11: after a failed reload the elders are all there that did not leave by themselves or were replaced in turn.
    pub(crate) fn only_the_failed_generation_fell(&self) -> Held {
        let Some((reload, verdict)) = &self.step.ended else { return Ok(()) };
        match *verdict {
            Verdict::Done | Verdict::Abandoned => return Ok(()),
            Verdict::RolledBack(_) => {
                hold(self.replaced(reload) == 0, ROLLBACK, || {
                    format!("{:?} were replaced", reload.replaced)
                })?;
            }
            Verdict::StoppedPartWay { replaced, .. } => {
                let so = self.replaced(reload);
                hold(so == replaced as usize && replaced > 0, ROLLBACK, || {
                    format!("{replaced} are said to be replaced, so it is {so}")
                })?;
            }
        }
        let fell = |worker: &Worker| !worker.leaving() && !self.lost_its_slot(worker);
        let drained =
            self.step.drained.iter().filter(|(worker, _)| fell(worker)).map(|(worker, _)| worker.id);
        let mut fallen = drained.filter(|id| reload.elders.iter().flatten().any(|elder| elder == id));
        let fallen = fallen.next();
        hold(fallen.is_none(), ROLLBACK, || format!("worker {fallen:?} is of before, and went with it"))?;
        let kept = |worker: &&Worker| {
            worker.generation == reload.generation && !reload.replaced.contains(&worker.slot)
        };
        let left = self.wanted().find(kept);
        hold(left.is_none(), ROLLBACK, || format!("{left:?} is of the failed generation, and is kept"))
    }

    fn replaced(&self, reload: &Reloading) -> usize {
        reload.replaced.iter().filter(|slot| index(**slot) < self.seats.len()).count()
    }

    /// 13: there is a notice of everything that happened, and of no failure that did not.
    pub(crate) fn notices_are_complete(&self) -> Held {
        let Step { gone, scaled, .. } = &self.step;
        hold(gone.is_none() && scaled.is_none(), TRUTH, || format!("no notice of {gone:?}, {scaled:?}"))?;
        for (_, failure) in &self.step.failures {
            hold(self.step.reported.contains(failure), TRUTH, || format!("no notice of {failure:?}"))?;
        }
        for failure in &self.step.reported {
            let so = self.step.departed.contains(&(failure.worker, failure.cause));
            hold(so, TRUTH, || format!("a notice of {failure:?}, which did not happen"))?;
        }
        Ok(())
    }

    /// 3, 9: after an end no caller waits for a verdict, and every worker was asked to go.
    pub(crate) fn an_end_leaves_nothing_open(&self) -> Held {
        if self.supervises() {
            return Ok(());
        }
        let open = self.pending.is_some() || self.reload.is_some();
        hold(!open, VERDICT, || format!("callers wait for ever: {:?}, {:?}", self.pending, self.reload))?;
        let was_asked = |worker: &Worker| match self.phase {
            Phase::Stopping => worker.leaving() || worker.closed.is_some(),
            Phase::Terminating => worker.killed.is_some(),
            Phase::Starting | Phase::Running | Phase::Released | Phase::Over => true,
        };
        let left = self.workers.values().find(|worker| !was_asked(worker));
        hold(left.is_none(), ONCE, || format!("{left:?} was not asked to go, after {:?}", self.step.event))
    }
}
