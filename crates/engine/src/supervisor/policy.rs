//! The only holder of the policy ([`core::Cluster`]) and of its clock, and the only one who tells it anything.
//!
//! What the policy says after one event is done before it is told the next one: events wait here, and the next one is
//! handled when every action of the last one has been taken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use recluster_core as core;
use recluster_core::{Action, Config, Generation, Phase, State, Time, WorkerId};
use serde::{Deserialize, Serialize};

use crate::supervisor::timers::FAR_AWAY;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, plain};

/// The moments of the policy and those of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn starting(now: Instant) -> Self {
        Self { began: now }
    }

    /// How long the cluster has existed.
    pub(crate) fn uptime(self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// A moment of the machine, as the policy counts.
    pub(crate) fn time(self, now: Instant) -> Time {
        Time::after(self.uptime(now))
    }

    /// A moment of the policy, on the machine's clock; one that is too far away for that is a year after the beginning.
    pub(crate) fn instant(self, at: Time) -> Instant {
        self.began.checked_add(at.elapsed()).unwrap_or_else(|| self.began + FAR_AWAY)
    }
}

/// The policy, and what it is to be told next.
#[derive(Debug)]
pub(crate) struct Policy {
    cluster: core::Cluster,
    clock: Clock,
    waiting: VecDeque<core::Event>,
    /// How many events were handled.
    handled: u64,
}

/// What another program goes on with.
#[derive(Serialize, Deserialize)]
pub(super) struct Left {
    cluster: core::Cluster,
    #[serde(with = "plain")]
    began: Instant,
    handled: u64,
}

const PART: &str = "policy";

impl Policy {
    /// Leaves it to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        if !self.waiting.is_empty() {
            return Err(SaveError::Refused("something has just happened".to_owned()));
        }
        let Self { cluster, clock, waiting: _, handled } = self;
        saving.put(PART, &Left { cluster: cluster.clone(), began: clock.began, handled: *handled })
    }

    /// Goes on with what was left.
    pub(crate) fn adopt(inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let Left { cluster, began, handled } = inheritance.needed(PART)?;
        Ok(Self { cluster, clock: Clock { began }, waiting: VecDeque::new(), handled })
    }

    /// Begins a cluster. Its first actions can be taken at once.
    pub(crate) fn new(config: Config, clock: Clock) -> Self {
        Self { cluster: core::Cluster::new(config, Time::ZERO), clock, waiting: VecDeque::new(), handled: 0 }
    }

    /// Tells the policy this, behind everything that it was told before. [`Policy::next_action`] has what follows.
    pub(crate) fn tell(&mut self, event: core::Event) {
        self.waiting.push_back(event);
    }

    /// The next thing to do. None once everything that was told has been handled, and all that followed was taken.
    pub(crate) fn next_action(&mut self, now: Instant) -> Option<Action> {
        loop {
            if let Some(action) = self.cluster.poll_action() {
                return Some(action);
            }
            let event = self.waiting.pop_front()?;
            self.cluster.handle(event, self.clock.time(now));
            self.handled += 1;
        }
    }

    /// When the policy wants to be told that time has passed. A moment too far away for the clock is none.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (at, _due) = self.cluster.next_deadline()?;
        self.clock.began.checked_add(at.elapsed())
    }

    /// The workers that were sent KILL so long ago that they are given up now.
    pub(crate) fn overdue_to_end(&self, now: Instant) -> Vec<WorkerId> {
        let now = self.clock.time(now);
        if self.cluster.next_deadline().is_none_or(|(at, _)| at > now) {
            return Vec::new();
        }
        let is_due = |state| matches!(state, State::Killed { until } if until <= now);
        let workers = self.cluster.status().workers.into_iter();
        workers.filter(|worker| is_due(worker.state)).map(|worker| worker.worker).collect()
    }

    /// What the cluster is like, by the events that have been handled.
    pub(crate) fn status(&self) -> core::Status {
        self.cluster.status()
    }

    /// As [`Policy::status`], of the cluster as a whole.
    pub(crate) fn phase(&self) -> Phase {
        self.cluster.phase()
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> u32 {
        self.cluster.slots()
    }

    /// How many there are for the workers of a generation, as far as that is known.
    pub(crate) fn slots_for(&self, generation: Generation) -> u32 {
        self.cluster.slots_for(generation)
    }

    /// Grows with every event that is handled: while it is the same, so is the status.
    pub(crate) fn handled(&self) -> u64 {
        self.handled
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }
}

#[cfg(test)]
mod tests {
    use recluster_core::{Due, Event, Notice, Settings, Signal};

    use super::*;

    const WORKER: WorkerId = WorkerId::from_number(1);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A policy of one worker that is ready and about to serve, and the moment at which it began.
    fn one_ready_worker() -> (Policy, Instant) {
        let began = Instant::now();
        let settings = Settings { workers: 1, ..Settings::default() };
        let mut policy = Policy::new(Config::new(settings).unwrap(), Clock::starting(began));
        policy.tell(Event::Online(WORKER));
        policy.tell(Event::Ready(WORKER));
        while policy.next_action(began).is_some() {}
        (policy, began)
    }

    /// Every action that is left, and the phase in which each was handed out.
    fn drain(policy: &mut Policy, now: Instant) -> Vec<(Action, Phase)> {
        std::iter::from_fn(|| Some((policy.next_action(now)?, policy.phase()))).collect()
    }

    #[test]
    fn a_tick_is_drained_before_the_stop_that_was_told_right_after_it() {
        let (mut policy, began) = one_ready_worker();
        policy.tell(Event::Tick);
        policy.tell(Event::Stop);
        let actions = drain(&mut policy, began + seconds(2));
        let serving = |action: &Action| matches!(action, Action::Notify(Notice::Serving { .. }));
        let started = |action: &Action| matches!(action, Action::Notify(Notice::Started { .. }));
        let drains = |action: &Action| matches!(action, Action::Drain { .. });
        let of_tick: Vec<_> =
            actions.iter().filter(|(action, _)| serving(action) || started(action)).collect();
        assert_eq!(of_tick.len(), 2);
        assert!(
            of_tick.iter().all(|(_, phase)| *phase == Phase::Running),
            "the stop was not handled before they were taken: {actions:?}"
        );
        let (_, phase) = actions.iter().find(|(action, _)| drains(action)).unwrap();
        assert_eq!(*phase, Phase::Stopping);
    }

    #[test]
    fn a_worker_that_retires_twice_in_one_breath_is_handled_twice() {
        let (mut policy, began) = one_ready_worker();
        policy.tell(Event::Tick);
        drain(&mut policy, began + seconds(2));
        policy.tell(Event::Retiring(WORKER));
        policy.tell(Event::Retiring(WORKER));
        let mut actions = Vec::new();
        while let Some(action) = policy.next_action(began + seconds(3)) {
            assert_eq!(policy.waiting.len(), 1, "the second waits until all that follows the first is taken");
            actions.push(action);
        }
        assert!(policy.waiting.is_empty());
        let drained = actions.iter().filter(|action| matches!(action, Action::Drain { .. })).count();
        assert_eq!(drained, 1, "{actions:?}");
    }

    #[test]
    fn what_an_action_brings_about_is_told_behind_what_waits() {
        let (mut policy, began) = one_ready_worker();
        policy.tell(Event::Terminate);
        let kill = policy.next_action(began).unwrap();
        assert_eq!(kill, Action::Signal { worker: WORKER, signal: Signal::Kill });
        policy.tell(Event::Exited(WORKER, core::Exit::Signal(9)));
        assert_eq!(policy.phase(), Phase::Terminating);
        drain(&mut policy, began);
        assert_eq!(policy.phase(), Phase::Over);
        assert_eq!(policy.deadline(), None);
    }

    #[test]
    fn the_policy_s_moments_are_those_of_the_machine() {
        let (policy, began) = one_ready_worker();
        let clock = policy.clock();
        assert_eq!(policy.deadline(), Some(began + seconds(1)), "the bake time");
        assert_eq!(policy.cluster.next_deadline().unwrap().1, Due::Bake(WORKER));
        assert_eq!(clock.time(began + seconds(3)), Time::after(seconds(3)));
        assert_eq!(clock.instant(Time::after(seconds(3))), began + seconds(3));
        assert_eq!(clock.instant(Time::after(Duration::MAX)), began + FAR_AWAY);
    }

    #[test]
    fn it_says_how_many_slots_there_are_and_counts_what_it_was_told() {
        let now = Instant::now();
        let mut policy =
            crate::supervisor::fixtures::policy(Settings { workers: 3, ..Settings::default() }, now);
        assert_eq!((policy.slots(), policy.slots_for(Generation::FIRST), policy.handled()), (3, 3, 0));
        for handled in 1..4 {
            policy.tell(Event::Tick);
            drain(&mut policy, now);
            assert_eq!(policy.handled(), handled);
        }
    }
}
