//! The proof that the simulator sees anything: known-wrong versions of the policy, each of which it must catch.
//!
//! A mutant is a few textual replacements in a copy of the crate's source. The copy and the simulator are compiled
//! beside the real ones, and the simulator must break one of its rules by number; a compile error, a panic or a
//! mutant that is never caught fails this test.

mod build;
mod conclusions;
mod settings;
mod workers;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fmt, thread};

use build::Workshop;

/// The simulator runs this many seeds before a mutant counts as not caught.
const SEEDS: u32 = 1_500;

/// One place where a mutant differs.
struct Edit {
    /// The file below `src`.
    file: &'static str,
    /// What must occur there exactly once.
    old: &'static str,
    new: &'static str,
}

/// A policy that is known to be wrong.
struct Mutant {
    /// What it does.
    name: &'static str,
    edits: &'static [Edit],
}

/// What became of a mutant.
enum Outcome {
    /// The simulator's words: which seed broke which rule.
    Caught(String),
    Survived,
    /// The texts that do not occur exactly once any more.
    NoLongerApplies(String),
    /// The compiler's words.
    DoesNotCompile(String),
    /// The simulator failed without naming a rule.
    Broke(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught(words) => f.write_str(words),
            Self::Survived => write!(f, "NOT CAUGHT by {SEEDS} seeds"),
            Self::NoLongerApplies(text) => write!(f, "NO LONGER APPLIES, update it: {text}"),
            Self::DoesNotCompile(words) => write!(f, "DOES NOT COMPILE, update it:\n{words}"),
            Self::Broke(words) => write!(f, "BROKE without naming a rule:\n{words}"),
        }
    }
}

/// What is not mutated at all must survive, or the rest proves nothing.
#[test]
fn the_simulator_finds_nothing_wrong_with_an_exact_copy() {
    let copy = Mutant { name: "an exact copy", edits: &[] };
    let outcome = Workshop::open("copy").try_out(&copy, SEEDS / 10);
    assert!(matches!(outcome, Outcome::Survived), "{outcome}");
}

#[test]
fn the_simulator_catches_every_mutant() {
    let mutants: Vec<&Mutant> =
        workers::MUTANTS.iter().chain(conclusions::MUTANTS).chain(settings::MUTANTS).collect();
    let outcomes = try_all(&mutants);
    let mut missed = Vec::new();
    for (mutant, outcome) in mutants.iter().zip(&outcomes) {
        println!("{}: {outcome}", mutant.name);
        if !matches!(outcome, Outcome::Caught(_)) {
            missed.push(format!("{}: {outcome}", mutant.name));
        }
    }
    assert!(missed.is_empty(), "{} of {} mutants:\n{}", missed.len(), mutants.len(), missed.join("\n"));
}

/// Tries all of them, as many at a time as there are processors.
fn try_all(mutants: &[&Mutant]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let work = &|thread: usize| {
        let workshop = Workshop::open(&thread.to_string());
        let mut tried = Vec::new();
        while let Some((index, mutant)) = take(&next, mutants) {
            tried.push((index, workshop.try_out(mutant, SEEDS)));
        }
        tried
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes: Vec<(usize, Outcome)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("trying reports its troubles")).collect()
    });
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn take<'a>(next: &AtomicUsize, mutants: &[&'a Mutant]) -> Option<(usize, &'a Mutant)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, *mutants.get(index)?))
}
