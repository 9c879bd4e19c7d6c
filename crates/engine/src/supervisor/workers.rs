//! The workers of a cluster: those that live, and the last of those that have died; and the numbers that people know them
//! by.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use recluster_core as core;
use recluster_core::{Signal, SlotId, WorkerId};
use serde::{Deserialize, Serialize};

use crate::process::awaited::Awaited;
use crate::report::worker::Worker;
use crate::supervisor::child::{self, Adopted, Child, DeadWorker, Numbering};
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving};

/// How many dead workers are remembered for verdicts.
const GRAVES: usize = 64;

/// All workers, dead and alive.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    living: BTreeMap<WorkerId, Child>,
    /// The last that died, oldest first.
    graves: VecDeque<(WorkerId, DeadWorker)>,
    numbering: Numbering,
}

/// What another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    living: Vec<(WorkerId, child::Left)>,
    graves: Vec<(WorkerId, DeadWorker)>,
}

const PART: &str = "workers";

impl Workers {
    /// Leaves all of them to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        let living = self.living.iter().map(|(worker, child)| Ok((*worker, child.save(saving)?)));
        let living = living.collect::<Result<_, SaveError>>()?;
        saving.put(PART, &Left { living, graves: self.graves.iter().cloned().collect() })
    }

    /// Whether what was left can be read.
    pub(crate) fn read(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
        inheritance.needed::<Left>(PART).map(drop)
    }

    /// Goes on with those that were left, the living of which are to be [inserted](Self::insert).
    pub(crate) fn adopt(
        numbering: Numbering,
        awaited: &Awaited,
        inheritance: &mut Inheritance,
    ) -> Result<(Self, Vec<(WorkerId, Adopted)>), AdoptError> {
        let Left { living, graves } = inheritance.needed(PART)?;
        let living = living.into_iter().map(|(worker, left)| Ok((worker, left.adopt(awaited, inheritance)?)));
        let living = living.collect::<Result<_, AdoptError>>()?;
        Ok((Self { graves: graves.into(), numbering, ..Self::default() }, living))
    }

    pub(crate) fn new(numbering: Numbering) -> Self {
        Self { numbering, ..Self::default() }
    }

    /// The number of a worker that is to be started.
    pub(crate) fn next_number(&self, worker: WorkerId) -> u64 {
        self.numbering.next(worker)
    }

    /// Which worker has this number.
    pub(crate) fn numbered(&self, number: u64) -> WorkerId {
        let known = self.living.iter().find(|(_, child)| child.number == number);
        known.map_or(WorkerId::from_number(number), |(&worker, _)| worker)
    }

    /// The number of a worker, dead or alive.
    pub(crate) fn number_of(&self, worker: WorkerId) -> u64 {
        self.about(worker).map_or(worker.get(), |worker| worker.id)
    }

    pub(crate) fn insert(&mut self, worker: WorkerId, child: Child) {
        self.living.insert(worker, child);
    }

    pub(crate) fn get(&self, worker: WorkerId) -> Option<&Child> {
        self.living.get(&worker)
    }

    pub(crate) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Child> {
        self.living.get_mut(&worker)
    }

    /// The worker lives no more, and is remembered.
    pub(crate) fn bury(&mut self, worker: WorkerId) -> Option<Child> {
        let child = self.living.remove(&worker)?;
        self.remember(worker, DeadWorker::of(&child));
        Some(child)
    }

    /// The worker could not be started.
    pub(crate) fn still_born(&mut self, worker: WorkerId, about: Worker, error: String) {
        self.remember(worker, DeadWorker { spawn_error: Some(error), ..DeadWorker::unknown(about) });
    }

    fn remember(&mut self, worker: WorkerId, grave: DeadWorker) {
        self.graves.push_back((worker, grave));
        if self.graves.len() > GRAVES {
            self.graves.pop_front();
        }
    }

    /// A worker that has died.
    pub(crate) fn grave(&self, worker: WorkerId) -> Option<&DeadWorker> {
        self.graves.iter().find(|(id, _)| *id == worker).map(|(_, grave)| grave)
    }

    /// What people are told of a worker, dead or alive.
    pub(crate) fn about(&self, worker: WorkerId) -> Option<Worker> {
        let alive = self.get(worker).map(Child::about);
        alive.or_else(|| self.grave(worker).map(|grave| grave.worker))
    }

    /// What is known of the worker that a failure names. It may live still, or be about to in this place.
    pub(crate) fn about_failed(&self, failure: core::Failure, place: Option<Worker>) -> DeadWorker {
        let grave = self.grave(failure.worker).cloned();
        grave.or_else(|| self.get(failure.worker).map(DeadWorker::of)).unwrap_or_else(|| {
            DeadWorker::unknown(place.unwrap_or_else(|| nameless(failure.worker, failure.slot)))
        })
    }

    /// Every living worker, in the order in which they were started.
    pub(crate) fn living(&self) -> Vec<Worker> {
        self.living.values().map(Child::about).collect()
    }

    /// Sends their drain signal to those of these generations.
    pub(crate) fn let_go(&mut self, which: impl Fn(core::Generation) -> bool) {
        self.living
            .values_mut()
            .filter(|child| which(child.generation))
            .for_each(|child| child.process.let_go());
    }

    /// What living workers were given to listen on alone, for their checks.
    pub(crate) fn own_listeners(&self) -> Vec<SocketAddr> {
        self.living.values().filter_map(|child| child.own_listener).collect()
    }

    /// Who has the address that a worker did not get.
    pub(crate) fn is_known_to_miss(&mut self, worker: WorkerId, taken: Option<String>) {
        if let Some((_, grave)) = self.graves.iter_mut().find(|(id, _)| *id == worker) {
            grave.taken = taken;
        }
    }

    /// What it has left in the background.
    pub(crate) fn is_known_to_leave(&mut self, worker: WorkerId, left: Option<String>) {
        if let Some((_, grave)) = self.graves.iter_mut().find(|(id, _)| *id == worker) {
            grave.left = left;
        }
    }

    /// The kernel has killed it for want of memory.
    pub(crate) fn is_known_to_want_memory(&mut self, worker: WorkerId) {
        if let Some((_, grave)) = self.graves.iter_mut().find(|(id, _)| *id == worker) {
            grave.oom_killed = true;
        }
    }

    /// The last that have died, but for this one.
    pub(crate) fn ended(&self, but: WorkerId) -> Vec<Worker> {
        self.graves.iter().filter(|(worker, _)| *worker != but).map(|(_, grave)| grave.worker).collect()
    }

    /// Those that have ended, and were not buried.
    pub(crate) fn unburied(&self) -> Vec<WorkerId> {
        let ended = self.living.iter().filter(|(_, child)| child.process.has_ended());
        ended.map(|(worker, _)| *worker).collect()
    }

    /// Sends all of them this signal, but those that were sent it, or a stronger one.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.signal_some(signal, |_| true);
    }

    /// The same for those of these generations.
    pub(crate) fn signal_some(&mut self, signal: Signal, which: impl Fn(core::Generation) -> bool) {
        for child in self.living.values_mut().filter(|child| child.process.sent < Some(signal)) {
            if which(child.generation) {
                child.process.signal(signal);
            }
        }
    }

    /// Whether a worker was sent this signal already, or a stronger one.
    pub(crate) fn was_sent(&self, worker: WorkerId, signal: Signal) -> bool {
        self.get(worker).is_some_and(|child| child.process.sent >= Some(signal))
    }
}

/// A worker of which nothing but its name and slot is known.
fn nameless(worker: WorkerId, slot: SlotId) -> Worker {
    Worker { id: worker.get(), slot: slot.get(), generation: 0, pid: None }
}

#[cfg(test)]
mod tests {
    use recluster_core::Cause;

    use super::*;
    use crate::supervisor::fixtures;

    const ONE: WorkerId = WorkerId::from_number(1);
    const TWO: WorkerId = WorkerId::from_number(2);

    #[test]
    fn a_worker_is_found_by_its_number_and_keeps_it_when_it_is_dead() {
        let mut workers = Workers::default();
        workers.insert(ONE, fixtures::child(7));
        assert_eq!(workers.numbered(7), ONE);
        assert_eq!(workers.numbered(2), TWO, "a number that is not known is a name");
        assert_eq!(workers.living().iter().map(|worker| worker.id).collect::<Vec<_>>(), [7]);
        let about = workers.about(ONE).unwrap();
        workers.bury(ONE).unwrap();
        assert!(workers.living().is_empty());
        assert!(workers.get(ONE).is_none() && workers.bury(ONE).is_none());
        assert_eq!(workers.about(ONE), Some(about));
        assert_eq!((workers.number_of(ONE), workers.number_of(TWO)), (7, 2));
    }

    #[test]
    fn its_number_comes_from_where_numbers_are_given() {
        let workers = Workers::new(Numbering::shared(std::sync::Arc::new(4.into())));
        assert_eq!([ONE, ONE].map(|worker| workers.next_number(worker)), [5, 6]);
    }

    #[test]
    fn the_dead_but_for_one_are_asked_who_has_its_address() {
        let mut workers = Workers::default();
        for worker in [ONE, TWO] {
            workers.still_born(worker, nameless(worker, fixtures::slot()), String::new());
        }
        assert_eq!(workers.ended(TWO).iter().map(|worker| worker.id).collect::<Vec<_>>(), [1]);
        workers.is_known_to_miss(TWO, Some("port 80".to_owned()));
        let taken = |worker| workers.grave(worker).unwrap().taken.as_deref();
        assert_eq!([ONE, TWO].map(taken), [None, Some("port 80")]);
    }

    #[test]
    fn a_grave_says_that_memory_was_wanting() {
        let mut workers = Workers::default();
        workers.insert(ONE, fixtures::child(1));
        workers.bury(ONE).unwrap();
        assert!(!workers.grave(ONE).unwrap().oom_killed);
        workers.is_known_to_want_memory(TWO);
        workers.is_known_to_want_memory(ONE);
        assert!(workers.grave(ONE).unwrap().oom_killed);
    }

    #[test]
    fn graves_are_few_and_the_oldest_go_first() {
        let mut workers = Workers::default();
        let graves = u64::try_from(GRAVES).unwrap();
        for number in 1..=graves + 1 {
            let worker = WorkerId::from_number(number);
            workers.still_born(worker, nameless(worker, fixtures::slot()), "no memory".to_owned());
        }
        assert_eq!(workers.graves.len(), GRAVES);
        assert_eq!(workers.about(ONE), None);
        assert_eq!(workers.about(WorkerId::from_number(graves + 1)).unwrap().id, graves + 1);
    }

    #[test]
    fn what_is_known_of_a_failed_worker_is_its_grave_or_itself() {
        let mut workers = Workers::default();
        let about = |workers: &Workers, worker| {
            let cause = Cause::Retired;
            let slot = fixtures::slot();
            workers.about_failed(core::Failure { worker, slot, cause, failures: 1 }, None)
        };
        assert_eq!(about(&workers, ONE).worker, nameless(ONE, fixtures::slot()));
        let mut child = fixtures::child(7);
        child.process.tail.push(b"one\ntwo\n");
        child.readiness.check_failed("answered 500".to_owned());
        workers.insert(ONE, child);
        for _ in ["alive", "dead"] {
            let known = about(&workers, ONE);
            assert_eq!((known.worker.id, known.stderr), (7, vec!["one".to_owned(), "two".to_owned()]));
            assert_eq!(known.check_failure.as_deref(), Some("answered 500"));
            workers.bury(ONE);
        }
        workers.still_born(TWO, nameless(TWO, fixtures::slot()), "no memory".to_owned());
        assert_eq!(about(&workers, TWO).spawn_error.as_deref(), Some("no memory"));
    }

    #[test]
    fn a_signal_counts_as_sent_where_a_stronger_one_was() {
        let mut workers = Workers::default();
        workers.insert(ONE, fixtures::child(1));
        assert!(!workers.was_sent(ONE, Signal::Term));
        workers.get_mut(ONE).unwrap().process.signal(Signal::Term);
        assert!(workers.was_sent(ONE, Signal::Term) && !workers.was_sent(ONE, Signal::Kill));
        workers.get_mut(ONE).unwrap().process.signal(Signal::Kill);
        assert!(workers.was_sent(ONE, Signal::Term));
        assert!(!workers.was_sent(TWO, Signal::Term));
    }
}
