//! The cluster: all facts, the questions about them, and the calls by which a shell drives it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::changes::Changes;
use crate::reload::{Pending, Reload};
use crate::slot::{Slot, count};
use crate::worker::{Worker, Workers};
use crate::{Action, Config, Due, Event, Generation, Notice, Settings, SlotId, Time, WorkerId};

/// What the cluster as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "every front end words each of them")]
pub enum Phase {
    /// The first start: no slot has served yet.
    Starting,
    /// Some slot has served.
    Running,
    /// Everything drains, on request or because the first start failed.
    Stopping,
    /// Everything is being killed.
    Terminating,
    /// No longer supervised.
    Released,
    /// After stop, terminate or release: no worker is left, but for those that cannot be killed. Nothing will be done any more.
    Over,
}

/// The whole policy as one value: it takes events and answers with actions. The crate's page says how to drive it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(try_from = "crate::saved::Saved"))]
pub struct Cluster {
    pub(crate) settings: Settings,
    /// The time of the last event.
    pub(crate) now: Time,
    /// The phase as of the last event. Never [`Phase::Over`], which is derived: see [`Cluster::phase`].
    pub(crate) phase: Phase,
    pub(crate) slots: Vec<Slot>,
    pub(crate) workers: Workers,
    /// The last generation that was proven, or the first.
    pub(crate) generation: Generation,
    /// The last generation that was begun.
    pub(crate) newest: Generation,
    /// When it was begun.
    pub(crate) began: Time,
    /// All slots have served at the same time, once.
    pub(crate) started: bool,
    /// The reload that is running.
    pub(crate) reload: Option<Reload>,
    /// The reload that was asked for and has not begun.
    pub(crate) pending: Option<Pending>,
    /// Files that have changed, and are to become a reload.
    pub(crate) changes: Changes,
    /// The least time between the beginnings of two generations. It grows while each supersedes the one before.
    pub(crate) generation_spacing: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) actions: VecDeque<Action>,
}

impl Cluster {
    /// Begins a cluster. Its first workers are to be started at once: their actions are ready to be polled.
    pub fn new(config: Config, now: Time) -> Self {
        let settings = config.into_settings();
        let generation = Generation::FIRST;
        let mut cluster = Self {
            now,
            phase: Phase::Starting,
            slots: (0..settings.workers).map(|id| Slot::new(SlotId(id), generation)).collect(),
            workers: Workers::default(),
            generation,
            newest: generation,
            began: now,
            started: false,
            reload: None,
            pending: None,
            changes: Changes::default(),
            generation_spacing: settings.respawn,
            backoff: Backoff::new(settings.respawn, settings.backoff, now),
            actions: VecDeque::new(),
            settings,
        };
        cluster.notify(Notice::GenerationBegan { generation });
        cluster.reconcile();
        cluster
    }

    /// Records one fact and decides what follows. Never fails; a time before the last one counts as the last one.
    ///
    /// Drain [`Cluster::poll_action`] before the next call.
    pub fn handle(&mut self, event: Event, now: Time) {
        self.now = self.now.max(now);
        self.record(event);
        self.reconcile();
    }

    /// The next thing to do, in the order in which things are to be done.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due, and why. It lies after the last event; there is none where only an event can
    /// change anything.
    pub fn next_deadline(&self) -> Option<(Time, Due)> {
        let respawn = self.next_respawn().map(|_| (self.backoff.next(), Due::Respawn));
        let reload = self.pending.as_ref().map(|_| (self.reload_due(), Due::Reload));
        let changes = self.changes.due().map(|at| (at, Due::Changes));
        self.worker_deadlines().chain(respawn).chain(reload).chain(changes).min()
    }

    /// How many slots there are.
    pub fn slots(&self) -> u32 {
        self.size()
    }

    /// In how many slots the workers of this generation are to serve: a running reload may be about to change the number.
    pub fn slots_for(&self, generation: Generation) -> u32 {
        self.size_for(generation)
    }

    /// What the cluster as a whole is doing.
    pub fn phase(&self) -> Phase {
        if !self.supervises() && self.workers.have_ended() { Phase::Over } else { self.phase }
    }

    /// Whether workers that are missing are started.
    pub(crate) fn supervises(&self) -> bool {
        match self.phase {
            Phase::Starting | Phase::Running => true,
            Phase::Stopping | Phase::Terminating | Phase::Released | Phase::Over => false,
        }
    }

    /// The generation that the running reload starts.
    pub(crate) fn reloading(&self) -> Option<Generation> {
        self.reload.as_ref().map(|reload| reload.generation)
    }

    /// The generation that fails as a whole when one of its slots fails too often: a reload's, or the first one
    /// until some slot has served.
    pub(crate) fn on_trial(&self) -> Option<Generation> {
        let goes_on = self.settings.keep_trying || self.settings.hold;
        let first_start = self.phase == Phase::Starting && !goes_on;
        self.reloading().or(first_start.then_some(self.generation))
    }

    /// The deadlines of each worker. Only wanted workers have one for readiness and for the bake time, and those of a
    /// released cluster have none for readiness.
    pub(crate) fn worker_deadlines(&self) -> impl Iterator<Item = (Time, Due)> {
        let bound = |id, worker: &Worker| !worker.stays() || self.wants(id, worker);
        let workers = self.workers.iter().filter(move |(id, worker)| bound(*id, worker));
        let deadlines = workers.filter_map(|(id, worker)| worker.deadline(id, &self.settings));
        deadlines.filter(|(_, due)| self.phase != Phase::Released || !matches!(due, Due::Ready(_)))
    }

    /// When a reload that waits may supersede the one that is running.
    pub(crate) fn reload_due(&self) -> Time {
        self.began + self.generation_spacing
    }

    /// Whether this worker holds its slot or is to take it over.
    pub(crate) fn wants(&self, id: WorkerId, worker: &Worker) -> bool {
        self.slots.get(worker.slot.index()).is_some_and(|slot| slot.wants(id))
    }

    /// The slot's wanted workers of this generation: two while one of them renews the other.
    pub(crate) fn of_generation(&self, slot: &Slot, generation: Generation) -> impl Iterator<Item = &Worker> {
        let wanted = [slot.holder, slot.candidate].into_iter().flatten();
        let workers = wanted.filter_map(|id| self.workers.get(id));
        workers.filter(move |worker| worker.generation == generation)
    }

    /// How many slots have a serving worker of this generation. A slot counts once, however many ports it opens.
    pub(crate) fn serving_slots(&self, generation: Generation) -> u32 {
        let serves = |slot: &&Slot| self.of_generation(slot, generation).any(Worker::serves);
        count(self.slots.iter().filter(serves))
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn notify(&mut self, notice: Notice) {
        self.act(Action::Notify(notice));
    }
}
