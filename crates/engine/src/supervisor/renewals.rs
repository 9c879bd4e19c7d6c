//! Those who wait until one worker is replaced within its generation, and what they are told.
//!
//! The policy renews a worker or gives that up; what became of it is seen by who holds the slot.

use recluster_core::{Phase, SlotId, Status, WorkerId};
use tokio::sync::oneshot;

use crate::config::which::Which;
use crate::report::error::ReplaceError;
use crate::report::verdict::{Failure, Replaced};
use crate::report::worker::Worker;

/// What whoever waits is told.
pub(crate) type Outcome = Result<Replaced, ReplaceError>;

/// Everyone who waits.
#[derive(Debug, Default)]
pub(crate) struct Renewals(Vec<Renewal>);

#[derive(Debug)]
struct Renewal {
    old: WorkerId,
    slot: SlotId,
    about: Worker,
    reply: oneshot::Sender<Outcome>,
}

/// The worker that is meant, if it can be replaced now.
pub(crate) fn find(
    which: Which,
    status: &Status,
    pid: impl Fn(WorkerId) -> Option<u32>,
) -> Result<(SlotId, WorkerId), ReplaceError> {
    let refuse = |reason: String| Err(ReplaceError::Refused(reason));
    match status.phase {
        Phase::Running => {}
        Phase::Starting => return refuse("the first start is not complete yet".to_owned()),
        Phase::Stopping | Phase::Terminating | Phase::Over => {
            return refuse("the cluster is about to end".to_owned());
        }
        Phase::Released => return refuse("the cluster is not supervised now".to_owned()),
    }
    if status.reload.is_some() {
        return refuse("a reload is going on, which replaces every worker".to_owned());
    }
    let slot = match which {
        Which::Slot(number) => status.slots.iter().find(|slot| slot.slot.get() == number),
        Which::Pid(wanted) => {
            status.slots.iter().find(|slot| slot.active.and_then(&pid).is_some_and(|pid| pid == wanted))
        }
    };
    let Some(slot) = slot else { return refuse(missing(which, status.slots.len())) };
    let Some(active) = slot.active else {
        return refuse(format!("{which} has no active worker now"));
    };
    // Of two that the slot wants, the younger one is on its way to replace the other.
    let of_slot = status.workers.iter().filter(|worker| worker.slot == slot.slot && worker.wanted);
    match of_slot.map(|worker| worker.worker).min() {
        Some(holder) if holder == active => Ok((slot.slot, active)),
        _ => refuse(format!("the worker of {which} is being replaced already")),
    }
}

fn missing(which: Which, slots: usize) -> String {
    match which {
        Which::Slot(number) => {
            format!("there is no slot {number}; the last one is {}", slots.saturating_sub(1))
        }
        Which::Pid(pid) => format!("no active worker has the pid {pid}"),
    }
}

impl Renewals {
    /// One more waits for this worker to be replaced. Who has stopped to wait is forgotten.
    pub(crate) fn add(
        &mut self,
        (slot, old): (SlotId, WorkerId),
        about: Worker,
        reply: oneshot::Sender<Outcome>,
    ) {
        self.0.retain(|renewal| !renewal.reply.is_closed());
        self.0.push(Renewal { old, slot, about, reply });
    }

    /// Whether anybody waits.
    pub(crate) fn are_waited_for(&self) -> bool {
        self.0.iter().any(|renewal| !renewal.reply.is_closed())
    }

    /// It was given up in this slot.
    pub(crate) fn fail(&mut self, slot: SlotId, failure: &Failure) {
        self.answer(|renewal| {
            (renewal.slot == slot).then(|| Err(ReplaceError::Failed(Box::new(failure.clone()))))
        });
    }

    /// Tells those who wait in vain, or need not wait any more.
    pub(crate) fn settle(&mut self, status: &Status, about: impl Fn(WorkerId) -> Option<Worker>) {
        let refused = |reason: &str| Some(Err(ReplaceError::Refused(reason.to_owned())));
        self.answer(|renewal| {
            if status.phase != Phase::Running {
                return refused("the cluster is about to end, or is not supervised any more");
            }
            if status.reload.is_some() {
                return refused("a reload has begun, which replaces every worker");
            }
            let slot = status.slots.iter().find(|slot| slot.slot == renewal.slot);
            let Some(slot) = slot else { return refused("its slot is gone") };
            let new = slot.active.filter(|active| *active != renewal.old)?;
            let serves = status.workers.iter().any(|worker| worker.worker == new && worker.serves);
            let by = about(new).filter(|_| serves)?;
            Some(Ok(Replaced { worker: renewal.about, by }))
        });
    }

    /// Gives those an answer for whom there is one.
    fn answer(&mut self, outcome: impl Fn(&Renewal) -> Option<Outcome>) {
        for renewal in std::mem::take(&mut self.0) {
            match outcome(&renewal) {
                // Whoever has asked may be gone.
                Some(outcome) => drop(renewal.reply.send(outcome)),
                None => self.0.push(renewal),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use recluster_core::{Event, Exit, Settings};

    use super::*;
    use crate::supervisor::fixtures;
    use crate::supervisor::policy::Policy;

    const OLD: WorkerId = WorkerId::from_number(1);
    const NEW: WorkerId = WorkerId::from_number(2);

    /// A policy of one worker that serves, and those who wait for another in its place.
    struct World {
        policy: Policy,
        began: Instant,
        renewals: Renewals,
    }

    fn pid(worker: WorkerId) -> Option<u32> {
        u32::try_from(worker.get() + 100).ok()
    }

    fn about(worker: WorkerId) -> Worker {
        Worker { id: worker.get(), slot: 0, generation: 1, pid: pid(worker) }
    }

    impl World {
        fn new() -> Self {
            let began = Instant::now();
            let at_once = Settings { bake: Duration::ZERO, respawn: Duration::ZERO, ..Settings::default() };
            let policy = fixtures::policy(Settings { workers: 1, ..at_once }, began);
            let mut world = Self { policy, began, renewals: Renewals::default() };
            world.happens(&[Event::Begun(OLD), Event::Online(OLD), Event::Ready(OLD)]);
            world
        }

        fn happens(&mut self, events: &[Event]) {
            for event in events {
                self.policy.tell(*event);
                while self.policy.next_action(self.began).is_some() {}
            }
            self.renewals.settle(&self.policy.status(), |worker| Some(about(worker)));
        }

        fn find(&self, which: Which) -> Result<(SlotId, WorkerId), ReplaceError> {
            find(which, &self.policy.status(), pid)
        }

        fn replace(&mut self) -> oneshot::Receiver<Outcome> {
            let (reply, answer) = oneshot::channel();
            let found = self.find(Which::Slot(0)).unwrap();
            self.happens(&[Event::Replace(found.1)]);
            self.renewals.add(found, about(OLD), reply);
            answer
        }
    }

    fn refusal<T: std::fmt::Debug>(outcome: Result<T, ReplaceError>) -> String {
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn whoever_waits_hears_of_the_new_worker_when_it_serves() {
        let mut world = World::new();
        assert_eq!(world.find(Which::Pid(101)).unwrap(), world.find(Which::Slot(0)).unwrap());
        let mut answer = world.replace();
        world.happens(&[Event::Begun(NEW), Event::Online(NEW)]);
        assert!(answer.try_recv().is_err(), "it does not serve yet");
        world.happens(&[Event::Ready(NEW)]);
        let Replaced { worker, by } = answer.try_recv().unwrap().unwrap();
        assert_eq!((worker.id, by.id), (1, 2));
    }

    #[test]
    fn a_worker_that_dies_meanwhile_is_replaced_as_well() {
        let mut world = World::new();
        let mut answer = world.replace();
        world.happens(&[Event::Exited(OLD, Exit::Code(1)), Event::Begun(NEW), Event::Online(NEW)]);
        assert!(answer.try_recv().is_err());
        world.happens(&[Event::Ready(NEW)]);
        assert_eq!(answer.try_recv().unwrap().unwrap().by.id, 2);
    }

    #[test]
    fn a_failure_and_what_takes_its_place_end_the_wait() {
        let mut world = World::new();
        let mut failed = world.replace();
        let reason = "exited with status 1 before it served".to_owned();
        let worker = about(NEW);
        let failure = Failure { worker, reason, failures: 3, stderr: Vec::new(), hint: None };
        let slot = world.find(Which::Slot(0)).unwrap().0;
        world.renewals.fail(slot, &failure);
        assert!(matches!(failed.try_recv().unwrap(), Err(ReplaceError::Failed(told)) if told.failures == 3));
        for (event, reason) in [
            (Event::Reload { caller: None, config: None }, "a reload has begun, which replaces every worker"),
            (Event::Stop, "the cluster is about to end, or is not supervised any more"),
        ] {
            let mut world = World::new();
            let mut answer = world.replace();
            world.happens(&[event]);
            assert_eq!(refusal(answer.try_recv().unwrap()), reason);
        }
    }

    #[test]
    fn what_cannot_be_replaced_now_is_refused() {
        let mut world = World::new();
        assert_eq!(refusal(world.find(Which::Slot(1))), "there is no slot 1; the last one is 0");
        assert_eq!(refusal(world.find(Which::Pid(7))), "no active worker has the pid 7");
        world.happens(&[Event::Exited(OLD, Exit::Code(1))]);
        assert_eq!(refusal(world.find(Which::Slot(0))), "slot 0 has no active worker now");
        let mut world = World::new();
        world.happens(&[Event::Reload { caller: None, config: None }]);
        assert!(refusal(world.find(Which::Slot(0))).starts_with("a reload is going on"));
        world.happens(&[Event::Stop]);
        assert!(refusal(world.find(Which::Slot(0))).starts_with("the cluster is about to end"));
        let began = Instant::now();
        let starting = fixtures::policy(Settings::default(), began).status();
        assert!(refusal(find(Which::Slot(0), &starting, pid)).starts_with("the first start"));
    }
}
