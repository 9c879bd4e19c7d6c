//! What is known of a cluster from its events and its actions, and from nothing else.

use std::collections::{BTreeMap, BTreeSet};

use recluster_core::{
    Caller, Cause, Change, Due, Event, Exit, Failure, Generation, Phase, Settings, Signal, SlotId,
};
use recluster_core::{Surge, Time, Verdict, WorkerId};

use crate::files::Files;
use crate::limiter::{Limiter, doubled};
use crate::worker::Worker;

/// One slot.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// What a respawn belongs to; none before the first generation began.
    pub(crate) generation: Option<Generation>,
    /// The next spawn is the first of its generation or of a new slot, and need not wait.
    pub(crate) fresh: bool,
    pub(crate) failures: u32,
    /// How many workers were started here to go on with code that has served.
    pub(crate) restarts: u64,
    pub(crate) renew: Option<Renewal>,
    /// The respawn that a notice has named.
    pub(crate) promised: Option<Promise>,
}

/// A respawn that was announced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    pub(crate) at: Time,
    pub(crate) said: Time,
}

/// One worker is to be replaced within its generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal {
    pub(crate) of: WorkerId,
    pub(crate) failures: u32,
}

/// A reload that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Reloading {
    pub(crate) generation: Generation,
    pub(crate) callers: Vec<Caller>,
    /// The workers that were wanted when it began, as soon as all that follows from its beginning is known.
    pub(crate) elders: Option<BTreeSet<WorkerId>>,
    /// The slots that its workers have taken over (bounded surge).
    pub(crate) replaced: BTreeSet<SlotId>,
    /// The settings that a rollback brings back.
    pub(crate) before: Settings,
    /// How many slots there were before and are to be afterwards, unless a request has changed the number since.
    pub(crate) slots: Option<(usize, usize)>,
}

/// Reloads that were asked for and wait to begin as one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) callers: Vec<Caller>,
    /// What was said last.
    pub(crate) settings: Option<Settings>,
    /// A request has changed the number of slots since.
    pub(crate) scaled: bool,
}

/// What happened since the last event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(crate) event: Option<Event>,
    /// Wanted workers of a generation on trial, or renewals, that failed.
    pub(crate) failures: Vec<(Generation, Failure)>,
    /// The workers that were let go, each as it was before; and whether it served.
    pub(crate) drained: Vec<(Worker, bool)>,
    /// The process that ended, until a notice says so.
    pub(crate) gone: Option<(Worker, Exit)>,
    /// How many slots there were and are, until a notice says so.
    pub(crate) scaled: Option<(usize, usize)>,
    /// The fewest slots that there were meanwhile, if the number changed: a slot that comes back is a new one.
    pub(crate) fewest: Option<usize>,
    pub(crate) ended: Option<(Reloading, Verdict)>,
    pub(crate) superseded: Option<Reloading>,
    /// The workers that left or ended by themselves, or were not ready in time.
    pub(crate) departed: Vec<(WorkerId, Cause)>,
    /// The failures of which there was a notice.
    pub(crate) reported: Vec<Failure>,
    /// The workers that a notice said to serve.
    pub(crate) served: Vec<WorkerId>,
    /// The latest notice of a worker whose patience ended.
    pub(crate) overdue: Option<(WorkerId, Due, Signal)>,
}

/// Everything that is known.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) settings: Settings,
    pub(crate) now: Time,
    pub(crate) phase: Phase,
    pub(crate) started: bool,
    pub(crate) seats: Vec<Seat>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    /// How many workers and generations were ever begun.
    pub(crate) born: u64,
    pub(crate) begun: u64,
    /// The generation that was proven last, or the first.
    pub(crate) proven: Option<Generation>,
    pub(crate) began: Time,
    pub(crate) reload: Option<Reloading>,
    pub(crate) pending: Option<Waiting>,
    /// Files that have changed.
    pub(crate) files: BTreeMap<Change, Files>,
    /// How many reloads in a row were superseded.
    pub(crate) superseded: u32,
    pub(crate) limiter: Limiter,
    /// When the cluster wants to be woken.
    pub(crate) wake: Option<Time>,
    pub(crate) step: Step,
}

impl Model {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            settings: *settings,
            now: Time::ZERO,
            phase: Phase::Starting,
            started: false,
            seats: (0..settings.workers).map(|_| Seat::new(None)).collect(),
            workers: BTreeMap::new(),
            born: 0,
            begun: 0,
            proven: None,
            began: Time::ZERO,
            reload: None,
            pending: None,
            files: BTreeMap::new(),
            superseded: 0,
            limiter: Limiter::new(settings),
            wake: None,
            step: Step::default(),
        }
    }
}

/// Questions.
impl Model {
    pub(crate) const fn supervises(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    /// It is not on its way out, and its slot exists.
    pub(crate) fn wants(&self, worker: &Worker) -> bool {
        self.supervises() && !worker.leaving() && index(worker.slot) < self.seats.len()
    }

    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values().filter(|worker| self.wants(worker))
    }

    /// The wanted workers that serve.
    pub(crate) fn serving(&self) -> impl Iterator<Item = &Worker> {
        self.wanted().filter(|worker| self.serves(worker))
    }

    pub(crate) fn is_wanted(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| self.wants(worker))
    }

    /// The wanted workers of a slot, the elder first.
    pub(crate) fn wanted_in(&self, slot: SlotId) -> impl Iterator<Item = &Worker> {
        self.wanted().filter(move |worker| worker.slot == slot)
    }

    pub(crate) fn serves(&self, worker: &Worker) -> bool {
        worker.serves(self.now, &self.settings)
    }

    /// The next signal that it earns by doing nothing. A released worker is left alone unless it was on its way out.
    pub(crate) fn sentence(&self, worker: &Worker) -> Option<(Time, Due, Signal)> {
        let left_alone = self.phase == Phase::Released && !worker.leaving();
        if left_alone { None } else { worker.sentence(&self.settings) }
    }

    /// The generation whose failures may end it: a reload's, or the first while no worker has ever served.
    pub(crate) fn on_trial(&self) -> Option<Generation> {
        let goes_on = self.settings.keep_trying || self.settings.hold;
        let first = self.phase == Phase::Starting && !goes_on;
        self.reloading().or(self.proven.filter(|_| first))
    }

    /// The generation of the running reload.
    pub(crate) fn reloading(&self) -> Option<Generation> {
        self.reload.as_ref().map(|reload| reload.generation)
    }

    /// In how many slots workers of this generation are to serve: in those that stay, if it is the reload's.
    pub(crate) fn slots_for(&self, generation: Generation) -> usize {
        let reload = self.reload.as_ref().filter(|reload| reload.generation == generation);
        let stay = reload.and_then(|reload| reload.slots).map(|(_, to)| to);
        stay.unwrap_or(self.seats.len())
    }

    /// In how many slots a worker of this generation serves; of any, if none is named.
    pub(crate) fn serving_slots(&self, generation: Option<Generation>) -> usize {
        let of = |worker: &&Worker| generation.is_none_or(|generation| worker.generation == generation);
        self.serving().filter(of).map(|worker| worker.slot).collect::<BTreeSet<_>>().len()
    }

    /// The generations that drain and have no wanted worker any more.
    pub(crate) fn old_generations(&self) -> BTreeSet<Generation> {
        let wanted: BTreeSet<Generation> = self.wanted().map(|worker| worker.generation).collect();
        let draining =
            self.workers.values().filter(|worker| worker.draining()).map(|worker| worker.generation);
        draining.filter(|generation| !wanted.contains(generation)).collect()
    }

    /// Some worker is to be renewed.
    pub(crate) fn renews(&self) -> bool {
        self.seats.iter().any(|seat| seat.renew.is_some())
    }

    /// How many workers beyond the slots may live now.
    pub(crate) fn allowance(&self) -> usize {
        let replacing = self.reload.is_some() || self.renews();
        match self.settings.surge {
            Surge::All if replacing => self.seats.len(),
            Surge::AtMost(extra) if replacing => extra.get() as usize,
            Surge::All | Surge::AtMost(_) => 0,
        }
    }

    /// When the next generation may begin: at once, or, where it supersedes a reload, so long after the beginning of that.
    pub(crate) fn reload_due(&self) -> Time {
        if self.reload.is_none() && self.step.superseded.is_none() {
            return self.began;
        }
        let least = self.settings.respawn;
        self.began + (0..self.superseded).fold(least, |spacing, _| doubled(spacing, least))
    }
}

impl Seat {
    pub(crate) const fn new(generation: Option<Generation>) -> Self {
        Self { generation, fresh: true, failures: 0, restarts: 0, renew: None, promised: None }
    }
}

/// Where a slot stands among the seats.
pub(crate) const fn index(slot: SlotId) -> usize {
    slot.get() as usize
}
