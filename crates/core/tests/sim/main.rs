//! The seeded simulator: a cluster, fake processes and random requests in virtual time, and a model that checks every rule
//! after every step. The model knows the policy by its public calls alone.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `run`, `world`, `plan` | the stages of a run; the cluster with its processes and its clock; what a seed draws beforehand |
//! | `process` | a fake process: the *words* that it says by itself, and in answer to a signal |
//! | `model`, `worker`, `limiter` | what follows from the events and actions so far |
//! | `events`, `actions`, `notices` | how each of them changes the model, and the rules that it must keep at once |
//! | `check`, `conclusion`, `size`, `files` | the rules at the end of a step |
//! | `status` | status and next deadline, compared with the model |
//! | `rule`, `tally`, `trace` | the rules by number; how often everything occurred; the log of one run |
//!
//! The model has words of its own:
//!
//! - *wanted*: a worker that holds a slot or is to take one over. *Leaving*: one that drains or was sent a signal.
//! - *seat*: what the model knows of one slot. *Elder*: the worker that had the slot before a reload or a renewal.
//! - *trial*: a generation whose failures may end it. *Renewal*: one worker is replaced within its generation.
//! - *promise*: the time of a respawn that a notice has named.
//! - *sentence*: the signal that a worker is sent next if it does nothing. *Patience*: the time until then.
//! - *temper*: what is wrong with the processes of one generation. *Calm*: the stage without faults and requests.
//!
//! `RECLUSTER_SIM_SEEDS` is how many seeds are run; `RECLUSTER_SIM_SEED` runs one alone and prints its whole trace.
//! A failure names the seed, the rule that was broken and the end of the trace; add such a seed to `tests/seeds.txt`.

#![expect(clippy::indexing_slicing, reason = "every index was checked before; and a test may stop")]

mod actions;
mod check;
mod conclusion;
mod events;
mod files;
mod limiter;
mod model;
mod notices;
mod plan;
mod process;
mod rng;
mod rule;
mod run;
mod size;
mod status;
mod tally;
mod trace;
mod worker;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use run::{Run, run};
use tally::Tally;

/// How many seeds are run by default.
const SEEDS: u64 = 20_000;

/// With fewer seeds it is no fault that something rare never occurred.
const SEEDS_FOR_ALL: u64 = 5_000;

/// Every seed that has ever failed.
const KNOWN: &str = include_str!("../seeds.txt");

#[test]
fn every_rule_holds_in_every_run() {
    if let Some(seed) = number("RECLUSTER_SIM_SEED") {
        let run = run(seed);
        println!("{:#?}\n{}", run.world.plan, run.world.trace);
        assert!(run.held.is_ok(), "{}", report(&run));
        return;
    }
    let seeds = number("RECLUSTER_SIM_SEEDS").unwrap_or(SEEDS);
    let mut found = Found::default();
    for seed in known_seeds() {
        found.add(run(seed));
    }
    if found.broken.is_none() {
        for more in campaign(seeds) {
            found.merge(more);
        }
    }
    assert!(found.broken.is_none(), "{}", found.broken.as_ref().map(report).unwrap_or_default());
    println!("{seeds} seeds and those of seeds.txt, all rules held. What occurred:\n{}", found.tally);
    let missing = found.tally.missing();
    assert!(seeds < SEEDS_FOR_ALL || missing.is_empty(), "these never occurred: {missing:?}");
}

/// What some runs brought to light.
#[derive(Default)]
struct Found {
    tally: Tally,
    /// The run with the lowest seed in which a rule was broken.
    broken: Option<Run>,
}

impl Found {
    fn add(&mut self, run: Run) {
        self.tally.add(&run.world.tally);
        self.keep(run);
    }

    fn merge(&mut self, other: Self) {
        self.tally.add(&other.tally);
        if let Some(run) = other.broken {
            self.keep(run);
        }
    }

    fn keep(&mut self, run: Run) {
        if run.held.is_err() && self.broken.as_ref().is_none_or(|first| run.seed < first.seed) {
            self.broken = Some(run);
        }
    }
}

/// What failed once comes first. A line is a seed and why it is there.
fn known_seeds() -> impl Iterator<Item = u64> {
    KNOWN.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let seed = line.split_whitespace().next().and_then(|seed| seed.parse().ok());
        seed.expect("every line of seeds.txt begins with a seed")
    })
}

/// Runs the seeds from zero on, on all processors, until one breaks a rule.
fn campaign(seeds: u64) -> Vec<Found> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut found = Found::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return found;
            }
            found.add(run(seed));
            if found.broken.is_some() {
                next.store(seeds, Ordering::Relaxed);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a run never panics")).collect()
    })
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().expect("RECLUSTER_SIM_SEED and RECLUSTER_SIM_SEEDS are numbers"))
}

/// The message about a run in which a rule was broken.
fn report(run: &Run) -> String {
    let Run { seed, world, held } = run;
    let Err(broken) = held else { return format!("seed {seed} broke nothing") };
    let (settings, trace) = (&world.plan.settings, world.trace.tail());
    format!("{settings:#?}\n\n{trace}\nseed {seed} broke {broken}\nRECLUSTER_SIM_SEED={seed} shows all of it")
}
