//! The seeded simulator: fake processes and impatient people around a cluster, in virtual time, and after every step
//! all rules of the policy are asked. It knows the policy only by its public calls.
//!
//! `RECLUSTER_SIM_SEEDS` is how many seeds are run; `RECLUSTER_SIM_SEED` runs one alone and prints its whole trace.
//! A failure names the seed, the rule that was broken and the end of the trace; add such a seed to `tests/seeds.txt`.

#![expect(
    clippy::indexing_slicing,
    reason = "whatever it looks up by index, it has checked; and a test may stop"
)]

mod body;
mod check;
mod conclusion;
mod limiter;
mod model;
mod picture;
mod plan;
mod process;
mod record;
mod rng;
mod rule;
mod run;
mod size;
mod tally;
mod told;
mod trace;
mod watch;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use run::{Run, run};
use tally::Tally;

/// How many seeds are run unless somebody asks for another number.
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

/// What to tell of a run in which a rule was broken.
fn report(run: &Run) -> String {
    let Run { seed, world, held } = run;
    let Err(broken) = held else { return format!("seed {seed} broke nothing") };
    let (settings, trace) = (&world.plan.settings, world.trace.tail());
    format!("{settings:#?}\n\n{trace}\nseed {seed} broke {broken}\nRECLUSTER_SIM_SEED={seed} shows all of it")
}
