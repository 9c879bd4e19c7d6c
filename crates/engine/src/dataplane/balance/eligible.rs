//! Which workers may be given a listener's connections, whether they have room or not.

use std::collections::BTreeMap;

use recluster_core::WorkerId;

use crate::dataplane::listener::Listener;
use crate::dataplane::messages::Standing;
use crate::dataplane::worker::{Worker, Workers};

/// The rule of one listener at this moment: never a worker that leaves, and one that does not serve yet only where none
/// serves. At a stop: any worker that was not yet told to disconnect.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) struct Eligible {
    is_stopping: bool,
    standing: Standing,
}

impl Eligible {
    pub(in crate::dataplane) fn of(listener: &Listener, workers: &Workers, is_stopping: bool) -> Self {
        let mut standings =
            listener.targets.iter().filter_map(|target| workers.get(&target.worker)?.standing);
        let one_serves = standings.any(|standing| standing == Standing::Serving);
        Self { is_stopping, standing: if one_serves { Standing::Serving } else { Standing::Standby } }
    }

    pub(in crate::dataplane) fn includes(self, worker: &Worker) -> bool {
        if self.is_stopping {
            worker.takes_leftovers()
        } else {
            !worker.is_on_its_way_out() && worker.standing == Some(self.standing)
        }
    }
}

/// The worker of each slot that may be given a listener's connections: the newest, where there are two.
pub(in crate::dataplane) fn by_slot(
    listener: &Listener,
    workers: &Workers,
    is_stopping: bool,
) -> BTreeMap<u32, WorkerId> {
    let eligible = Eligible::of(listener, workers, is_stopping);
    let all = listener.targets.iter().filter_map(|target| workers.get(&target.worker));
    let mut by_slot = BTreeMap::new();
    for worker in all.filter(|worker| eligible.includes(worker)) {
        let newest = by_slot.entry(worker.slot).or_insert(worker.id);
        *newest = worker.id.max(*newest);
    }
    by_slot
}
