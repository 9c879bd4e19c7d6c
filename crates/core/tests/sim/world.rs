//! A cluster under test, its fake processes, the requests that it gets, and the time that passes.

use std::collections::BTreeMap;
use std::time::Duration;

use recluster_core::{
    Action, Caller, Cluster, Config, Due, Event, Exit, Generation, Settings, Signal, SlotId, Time, WorkerId,
};

use crate::model::Model;
use crate::plan::{Plan, Request};
use crate::process::{self, Temper, Word, Words};
use crate::rng::Rng;
#[cfg(feature = "serde")]
use crate::rule::SAVED;
use crate::rule::{Broken, Held, LIVE, QUIET, hold};
use crate::tally::Tally;
use crate::trace::Trace;

/// More actions in answer to one event than any honest policy has.
const MOST_ACTIONS: usize = 1_000;

/// More steps than any run needs; what goes on beyond does not end.
const MOST_STEPS: u32 = 20_000;

/// What is to happen at some moment.
#[derive(Clone, Copy, Debug)]
enum Coming {
    Asked(Request),
    /// Said by a process; `asked` if it does so because it was asked to go.
    Said {
        by: WorkerId,
        word: Word,
        asked: bool,
    },
}

/// One run.
pub(crate) struct World {
    rng: Rng,
    /// For what was added to the runs later.
    dice: Rng,
    /// For when the cluster is saved and loaded, which changes nothing else.
    #[cfg(feature = "serde")]
    upgrades: Rng,
    pub(crate) plan: Plan,
    cluster: Cluster,
    pub(crate) model: Model,
    pub(crate) now: Time,
    /// Ordered by time, and by chance within a moment.
    coming: BTreeMap<(Time, u64), Coming>,
    tempers: BTreeMap<Generation, Temper>,
    alive: Vec<WorkerId>,
    gone: Vec<WorkerId>,
    callers: u64,
    steps: u32,
    /// No process that is begun now is faulty.
    calm: bool,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut dice = Rng::new(!seed);
        let plan = Plan::draw(&mut rng).with_changes(&mut dice);
        let plan = plan.with_files(&mut Rng::new(seed.rotate_left(32)));
        let config = Config::new(plan.settings).expect("every plan is valid");
        let mut world = Self {
            cluster: Cluster::new(config, Time::ZERO),
            model: Model::new(&plan.settings),
            now: Time::ZERO,
            coming: BTreeMap::new(),
            tempers: BTreeMap::new(),
            alive: Vec::new(),
            gone: Vec::new(),
            callers: 0,
            steps: 0,
            calm: false,
            tally: Tally::default(),
            trace: Trace::default(),
            #[cfg(feature = "serde")]
            upgrades: Rng::new(seed.rotate_left(16)),
            plan,
            dice,
            rng,
        };
        for (after, request) in world.plan.script.clone() {
            world.comes(after, Coming::Asked(request));
        }
        world
    }

    /// The actions of the beginning.
    pub(crate) fn begin(&mut self) -> Held {
        self.perform_all()?;
        self.end_step()
    }

    /// Lets the next thing happen, unless it comes after `latest`; whether there was one.
    pub(crate) fn advance(&mut self, latest: Time) -> Result<bool, Broken> {
        let coming = self.coming.keys().next().copied();
        let wake = self.wake();
        let first = match (coming, wake) {
            (Some((at, _)), Some(wake)) => at < wake || (at == wake && self.rng.chance(50)),
            (coming, _) => coming.is_some(),
        };
        let at = if first { coming.map(|(at, _)| at) } else { wake };
        let Some(at) = at.filter(|at| *at <= latest) else { return Ok(false) };
        self.now = self.now.max(at);
        match coming.filter(|_| first).and_then(|key| self.coming.remove(&key)) {
            Some(Coming::Asked(request)) => self.asked(request)?,
            Some(Coming::Said { by, word, .. }) => self.said(by, word)?,
            None => self.step(Event::Tick)?,
        }
        Ok(true)
    }

    /// When the shell wakes by itself; it may be late.
    fn wake(&mut self) -> Option<Time> {
        let (at, due) = self.cluster.next_deadline()?;
        self.tally.due(due);
        let late = if self.rng.chance(self.plan.sloth) { self.rng.upto(2_000) } else { Duration::ZERO };
        Some(at + late)
    }

    pub(crate) fn next_deadline(&self) -> Option<(Time, Due)> {
        self.cluster.next_deadline()
    }

    /// Faults and requests cease; what goes on goes on.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.coming.retain(|_, coming| match coming {
            Coming::Asked(_) => false,
            Coming::Said { word, asked, .. } => *asked || !word.is_fault(),
        });
    }

    /// Released processes end by themselves.
    pub(crate) fn processes_end(&mut self) {
        for worker in self.alive.clone() {
            let at = self.rng.upto(3_000);
            let end = process::crash(&mut self.rng, at);
            self.says(worker, end, true);
        }
    }

    fn comes(&mut self, after: Duration, coming: Coming) {
        self.coming.insert((self.now + after, self.rng.word()), coming);
    }

    fn says(&mut self, by: WorkerId, words: Words, asked: bool) {
        for (after, word) in words {
            self.comes(after, Coming::Said { by, word, asked });
        }
    }

    fn said(&mut self, by: WorkerId, word: Word) -> Held {
        if !self.alive.contains(&by) {
            return Ok(());
        }
        if word.is_last() {
            self.alive.retain(|worker| *worker != by);
            self.gone.push(by);
        }
        self.step(word.of(by))
    }

    pub(crate) fn asked(&mut self, request: Request) -> Held {
        let event = match request {
            Request::Reload { waits } => {
                let caller = self.next_caller();
                Event::Reload { caller: waits.then_some(caller), config: None }
            }
            Request::Replace if self.alive.is_empty() => Event::Tick,
            Request::Replace => Event::Replace(self.rng.pick(&self.alive)),
            Request::Scale(slots) => Event::Scale(slots),
            Request::Reconfigure { patience, workers } => {
                let (timeout, stop_timeout, exit_grace) = (patience, patience, patience);
                let settings = Settings { timeout, stop_timeout, exit_grace, workers, ..self.plan.settings };
                let config = Some(Config::new(settings).expect("every plan is valid"));
                Event::Reload { caller: Some(self.next_caller()), config }
            }
            Request::Change(change) => Event::Changed(change),
            Request::Stop => Event::Stop,
            Request::Terminate => Event::Terminate,
            Request::Release => Event::Release,
            Request::Stray => self.stray(),
        };
        self.step(event)
    }

    fn next_caller(&mut self) -> Caller {
        self.callers += 1;
        Caller(self.callers)
    }

    /// News that comes too late, or none.
    fn stray(&mut self) -> Event {
        if self.gone.is_empty() {
            return Event::Tick;
        }
        let worker = self.rng.pick(&self.gone);
        match self.rng.below(7) {
            0 if self.dice.chance(50) => Event::Begun(worker),
            0 => Event::Online(worker),
            5 => Event::Unready(worker),
            1 => Event::Ready(worker),
            2 => Event::Retiring(worker),
            3 => Event::Disconnected(worker),
            4 => Event::Exited(worker, Exit::Code(3)),
            _ => Event::Replace(worker),
        }
    }

    /// Hands the cluster one event, performs its actions, and checks every rule.
    fn step(&mut self, event: Event) -> Held {
        self.steps += 1;
        hold(self.steps < MOST_STEPS, LIVE, || format!("{MOST_STEPS} steps by {}, and no end", self.now))?;
        // A clock that steps back must not matter.
        let back = if self.rng.chance(self.plan.sloth) { self.rng.upto(500) } else { Duration::ZERO };
        let time = Time::after(self.now.elapsed().saturating_sub(back));
        self.trace.event(time, event);
        self.tally.event(event);
        self.model.apply_event(event, time);
        self.cluster.handle(event, time);
        self.perform_all()?;
        self.end_step()
    }

    fn end_step(&mut self) -> Held {
        self.model.end_step()?;
        let status = self.cluster.status();
        self.tally.phase(status.phase);
        self.model.status_holds(&status)?;
        self.model.deadline_holds(self.cluster.next_deadline())?;
        self.second_tick_is_quiet()?;
        self.goes_on_as_another()
    }

    /// The cluster is saved, and what was loaded takes its place.
    fn goes_on_as_another(&mut self) -> Held {
        #[cfg(feature = "serde")]
        if self.upgrades.chance(3) {
            let loaded = serde_json::to_vec(&self.cluster).and_then(|data| serde_json::from_slice(&data));
            let loaded: Cluster =
                loaded.map_err(|error| Broken { rule: SAVED, detail: error.to_string() })?;
            hold(loaded == self.cluster, SAVED, || format!("{loaded:?} instead of {:?}", self.cluster))?;
            self.tally.saved();
            self.cluster = loaded;
        }
        Ok(())
    }

    fn second_tick_is_quiet(&mut self) -> Held {
        let before = self.cluster.clone();
        // The latest time that it was given: a clock that stepped back is behind the run's own.
        self.cluster.handle(Event::Tick, self.model.now);
        let action = self.cluster.poll_action();
        hold(action.is_none() && before == self.cluster, QUIET, || format!("it answers {action:?}"))
    }

    fn perform_all(&mut self) -> Held {
        for _ in 0..MOST_ACTIONS {
            let Some(action) = self.cluster.poll_action() else { return Ok(()) };
            self.trace.action(&action);
            self.tally.action(&action);
            self.model.apply_action(&action)?;
            self.perform(&action);
        }
        hold(false, LIVE, || format!("{MOST_ACTIONS} actions at {}, and no end", self.now))
    }

    fn perform(&mut self, action: &Action) {
        match *action {
            Action::Spawn { worker, slot, generation } => self.spawned(worker, slot, generation),
            Action::Drain { worker, .. } => {
                let words = process::farewell(&mut self.rng);
                self.says(worker, words, true);
            }
            Action::Signal { worker, signal } => {
                let words = match signal {
                    Signal::Term => process::on_term(&mut self.rng),
                    Signal::Kill => process::on_kill(&mut self.rng),
                };
                let undying = signal == Signal::Kill && self.dice.chance(self.plan.undying);
                if undying {
                    // Nothing that it was about to do happens any more.
                    self.coming
                        .retain(|_, coming| !matches!(coming, Coming::Said { by, .. } if *by == worker));
                }
                let words = if undying { process::outlives_kill(&mut self.dice) } else { words };
                self.says(worker, words, true);
            }
            Action::Reload(_) => {
                // The shell reads the settings anew, and asks.
                self.comes(Duration::ZERO, Coming::Asked(Request::Reload { waits: false }));
            }
            Action::Notify(_) => {}
        }
    }

    fn spawned(&mut self, worker: WorkerId, slot: SlotId, generation: Generation) {
        let (rng, rot) = (&mut self.rng, self.plan.rot);
        let temper = *self.tempers.entry(generation).or_insert_with(|| Temper::draw(rng, rot));
        let fault = if self.calm { None } else { temper.fault(rng, slot.get()) };
        let mut words = process::life(rng, fault);
        if !self.calm && fault.is_none() {
            process::mishap(rng, &mut words);
        }
        self.alive.push(worker);
        // The queue moves on in the end.
        let longest = if self.calm { self.plan.queue.min(process::BOOT) } else { self.plan.queue };
        let queues = self.dice.upto(longest);
        for (at, _) in &mut words {
            *at += queues;
        }
        let begun = Coming::Said { by: worker, word: Word::Begun, asked: false };
        self.coming.insert((self.now + queues, self.dice.word()), begun);
        self.says(worker, words, false);
    }
}
