//! Workers whose process is being started: what is to be done when it runs, and who waits for that.

use std::collections::BTreeMap;
use std::time::Duration;

use recluster_core::{Signal, Time, WorkerId};
use tokio::sync::oneshot;

use crate::report::worker::Worker;
use crate::supervisor::child::{ChannelUse, Place};

/// A worker whose process is being started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) place: Place,
    pub(crate) channel_use: ChannelUse,
    pub(crate) is_node: bool,
    /// It is being started: what queues behind it waits for it.
    pub(crate) under_way: bool,
    /// How long it may be silent, if it has a watchdog.
    pub(crate) patience: Option<Duration>,
    /// It is to be let go as soon as it runs.
    pub(crate) leaves: Option<Time>,
    /// The strongest signal that it is to be sent as soon as it runs.
    pub(crate) signal: Option<Signal>,
}

impl Begun {
    pub(crate) fn new(
        place: Place,
        channel_use: ChannelUse,
        is_node: bool,
        patience: Option<Duration>,
    ) -> Self {
        Self { place, channel_use, is_node, under_way: false, patience, leaves: None, signal: None }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Launches {
    begun: BTreeMap<WorkerId, Begun>,
    /// Who wants to know all living workers, and the youngest that must have been started by then.
    waiting: Vec<(WorkerId, oneshot::Sender<Vec<Worker>>)>,
}

impl Launches {
    /// The process of a worker is to be started.
    pub(crate) fn begin(&mut self, begun: Begun) {
        self.begun.insert(begun.place.worker, begun);
    }

    pub(crate) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Begun> {
        self.begun.get_mut(&worker)
    }

    /// The turn of a worker has come.
    pub(crate) fn is_under_way(&mut self, worker: WorkerId) {
        if let Some(begun) = self.begun.get_mut(&worker) {
            begun.under_way = true;
        }
    }

    /// Why a worker has no process yet, if it is still to be started.
    pub(crate) fn held_up(&self, worker: WorkerId) -> Option<String> {
        let begun = self.begun.get(&worker)?;
        if begun.under_way {
            return Some("its process is still being started, and its program does not run yet".to_owned());
        }
        let before = self.begun.values().find(|begun| begun.under_way).map(|begun| begun.place);
        Some(match before {
            Some(Place { number, slot, .. }) => format!(
                "its turn to be started has not come, because worker {number} (slot {slot}) is still being started, and its \
                 program does not run yet"
            ),
            None => "its turn to be started has not come, because another command of the cluster is still being started"
                .to_owned(),
        })
    }

    /// All that are still to be started or are being started.
    pub(crate) fn all(&self) -> Vec<WorkerId> {
        self.begun.keys().copied().collect()
    }

    /// Whether nothing is being started, and nobody waits for that.
    pub(crate) fn are_over(&self) -> bool {
        self.begun.is_empty() && self.waiting.is_empty()
    }

    /// Where a worker will be, if it is being started.
    pub(crate) fn place(&self, worker: WorkerId) -> Option<Place> {
        self.begun.get(&worker).map(|begun| begun.place)
    }

    /// The start of a worker is over, or will not come.
    pub(crate) fn end(&mut self, worker: WorkerId) -> Option<Begun> {
        self.begun.remove(&worker)
    }

    /// Answers when all that are being started now have been.
    pub(crate) fn wait(&mut self, reply: oneshot::Sender<Vec<Worker>>) {
        let youngest = self.begun.last_key_value().map_or(WorkerId::from_number(0), |(worker, _)| *worker);
        self.waiting.push((youngest, reply));
    }

    /// Those who have waited for long enough.
    pub(crate) fn served(&mut self) -> Vec<oneshot::Sender<Vec<Worker>>> {
        let oldest = self.begun.first_key_value().map(|(worker, _)| *worker);
        let is_over = |(youngest, _): &mut (WorkerId, _)| oldest.is_none_or(|oldest| *youngest < oldest);
        self.waiting.extract_if(.., is_over).map(|(_, reply)| reply).collect()
    }
}

#[cfg(test)]
mod tests {
    use recluster_core::Generation;

    use super::*;
    use crate::supervisor::fixtures;

    fn begin(launches: &mut Launches, number: u64) -> WorkerId {
        let worker = WorkerId::from_number(number);
        let place = Place { worker, number, slot: fixtures::slot(), generation: Generation::FIRST };
        launches.begin(Begun::new(place, ChannelUse::Unproven, false, None));
        worker
    }

    #[test]
    fn whoever_asks_for_all_workers_waits_for_those_that_were_begun_before() {
        let mut launches = Launches::default();
        let ask = |launches: &mut Launches| {
            let (reply, answer) = oneshot::channel();
            launches.wait(reply);
            answer
        };
        let _asked = ask(&mut launches);
        assert_eq!(launches.served().len(), 1, "nothing was begun");
        let (one, two) = (begin(&mut launches, 1), begin(&mut launches, 2));
        let mut first = ask(&mut launches);
        let three = begin(&mut launches, 3);
        let mut second = ask(&mut launches);
        launches.end(two);
        assert!(launches.served().is_empty(), "the first is on its way");
        launches.end(one);
        for reply in launches.served() {
            reply.send(Vec::new()).unwrap();
        }
        assert!(first.try_recv().is_ok() && second.try_recv().is_err(), "the third is on its way");
        launches.end(three);
        assert_eq!(launches.served().len(), 1);
    }

    #[test]
    fn a_worker_that_has_no_process_yet_is_held_up_by_the_one_that_is_being_started() {
        let mut launches = Launches::default();
        let (one, two) = (begin(&mut launches, 1), begin(&mut launches, 2));
        let why = |launches: &Launches, worker| launches.held_up(worker).unwrap();
        assert!(why(&launches, two).contains("another command"), "{}", why(&launches, two));
        launches.is_under_way(one);
        assert!(why(&launches, one).starts_with("its process is still being started"));
        assert!(why(&launches, two).contains("because worker 1 (slot 0) is"), "{}", why(&launches, two));
        launches.end(one);
        launches.is_under_way(one);
        assert_eq!(launches.held_up(one), None);
    }

    #[test]
    fn what_comes_too_early_for_a_process_is_kept() {
        let mut launches = Launches::default();
        let worker = begin(&mut launches, 1);
        let begun = launches.get_mut(worker).unwrap();
        (begun.leaves, begun.signal) = (Some(Time::ZERO), Some(Signal::Kill));
        assert_eq!(launches.place(worker).unwrap().number, 1);
        let begun = launches.end(worker).unwrap();
        assert_eq!((begun.leaves, begun.signal), (Some(Time::ZERO), Some(Signal::Kill)));
        assert!(launches.end(worker).is_none() && launches.get_mut(worker).is_none());
    }
}
