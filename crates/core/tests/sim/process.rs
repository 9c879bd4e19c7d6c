//! Fake processes: what one says and does by itself, and when it is asked to go.

use std::time::Duration;

use recluster_core::{Event, Exit, SpawnFailure, WorkerId};

use crate::rng::Rng;

/// A sound process is ready after this many milliseconds at most, which is less than every ready timeout drawn.
pub(crate) const BOOT: u64 = 300;

/// What the shell would report of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    Begun,
    Online,
    Ready,
    Unready,
    Retiring,
    Disconnected,
    Exited(Exit),
    Ending,
    SpawnFailed(SpawnFailure),
}

impl Word {
    pub(crate) const fn of(self, worker: WorkerId) -> Event {
        match self {
            Self::Begun => Event::Begun(worker),
            Self::Online => Event::Online(worker),
            Self::Ready => Event::Ready(worker),
            Self::Unready => Event::Unready(worker),
            Self::Ending => Event::Ending(worker),
            Self::Retiring => Event::Retiring(worker),
            Self::Disconnected => Event::Disconnected(worker),
            Self::Exited(exit) => Event::Exited(worker, exit),
            Self::SpawnFailed(failure) => Event::SpawnFailed(worker, failure),
        }
    }

    /// The process is gone after this word.
    pub(crate) const fn is_last(self) -> bool {
        matches!(self, Self::Exited(_) | Self::SpawnFailed(_))
    }

    /// A sound process never says this by itself.
    pub(crate) const fn is_fault(self) -> bool {
        matches!(self, Self::Exited(_) | Self::Retiring | Self::Disconnected)
    }
}

/// Words, each with the time from now until it is said.
pub(crate) type Words = Vec<(Duration, Word)>;

/// One way in which a process is no good.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Crashes,
    CrashesWhenReady,
    IsNeverReady,
    Retires,
    ClosesChannel,
    CannotStart(SpawnFailure),
}

const FAULTS: [Fault; 8] = [
    Fault::Crashes,
    Fault::Crashes,
    Fault::CrashesWhenReady,
    Fault::IsNeverReady,
    Fault::Retires,
    Fault::ClosesChannel,
    Fault::CannotStart(SpawnFailure::Temporary),
    Fault::CannotStart(SpawnFailure::Hopeless),
];

/// What the processes of one generation have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Temper {
    Sound,
    Broken(Fault),
    /// Only the slots from this one on.
    BrokenFrom(u32, Fault),
    /// This often in a hundred, each time in a way of its own.
    Flaky(u64),
}

impl Temper {
    pub(crate) fn draw(rng: &mut Rng, rot: u64) -> Self {
        if !rng.chance(rot) {
            return Self::Sound;
        }
        match rng.below(4) {
            0 => Self::Broken(rng.pick(&FAULTS)),
            1 => Self::BrokenFrom(rng.pick(&[0, 1, 1, 2]), rng.pick(&FAULTS)),
            _ => Self::Flaky(rng.pick(&[10, 30, 70])),
        }
    }

    /// What is wrong with the process that is begun now.
    pub(crate) fn fault(self, rng: &mut Rng, slot: u32) -> Option<Fault> {
        match self {
            Self::Sound => None,
            Self::Broken(fault) => Some(fault),
            Self::BrokenFrom(first, fault) => (slot >= first).then_some(fault),
            Self::Flaky(percent) => rng.chance(percent).then(|| rng.pick(&FAULTS)),
        }
    }
}

/// What a process with this fault says by itself.
pub(crate) fn life(rng: &mut Rng, fault: Option<Fault>) -> Words {
    let runs = rng.upto(BOOT / 2);
    let boot = runs + rng.upto(BOOT / 2);
    let online = (runs, Word::Online);
    match fault {
        None => vec![online, (boot, Word::Ready)],
        Some(Fault::Crashes) => crash(rng, boot),
        Some(Fault::CrashesWhenReady) => {
            let lives = rng.upto(3_500);
            with(vec![online, (boot, Word::Ready)], crash(rng, boot + lives))
        }
        Some(Fault::IsNeverReady) => vec![online],
        Some(Fault::Retires) => {
            let lives = rng.upto(2_000);
            vec![online, (boot, Word::Ready), (lives, Word::Retiring)]
        }
        Some(Fault::ClosesChannel) => {
            let lives = rng.upto(2_000);
            vec![online, (boot, Word::Ready), (lives, Word::Disconnected)]
        }
        Some(Fault::CannotStart(failure)) => vec![(runs, Word::SpawnFailed(failure))],
    }
}

/// What may befall a sound process in the time of trouble: a second port, a slow start, a late end.
pub(crate) fn mishap(rng: &mut Rng, words: &mut Words) {
    match rng.below(20) {
        0..6 => {
            let again = rng.upto(2 * BOOT);
            words.push((again, Word::Ready));
        }
        6 => {
            let late = rng.upto(6_000);
            for (at, _) in words {
                *at += late;
            }
        }
        7 | 8 => {
            let at = rng.upto(20_000);
            words.extend(crash(rng, at));
        }
        9 => words.push((rng.upto(20_000), Word::Retiring)),
        10 => words.push((rng.upto(20_000), Word::Disconnected)),
        11 | 12 => {
            // A trial before the real server listens.
            let (trial, over) = (rng.upto(BOOT / 4), rng.upto(BOOT / 4));
            words.extend([(trial, Word::Ready), (trial + over, Word::Unready)]);
        }
        _ => {}
    }
}

/// What a process does that is asked to finish: it goes, closes its channel and stays, or does not listen.
pub(crate) fn farewell(rng: &mut Rng) -> Words {
    let finishes = rng.pick(&[0, 300, 3_000, 40_000]);
    let at = rng.upto(finishes);
    match rng.below(5) {
        0 => vec![(at, Word::Exited(Exit::Code(0)))],
        1 | 2 => {
            let closed = (at, Word::Disconnected);
            vec![closed, (at + rng.upto(300), Word::Exited(Exit::Code(0)))]
        }
        3 => vec![(at, Word::Disconnected)],
        _ => Vec::new(),
    }
}

/// What a process does that was sent TERM.
pub(crate) fn on_term(rng: &mut Rng) -> Words {
    if rng.chance(30) { Vec::new() } else { vec![(rng.upto(600), Word::Exited(Exit::Signal(15)))] }
}

/// What a process does that was sent KILL.
pub(crate) fn on_kill(rng: &mut Rng) -> Words {
    vec![(rng.upto(100), Word::Exited(Exit::Signal(9)))]
}

/// What a process does that the kernel does not let end when it was sent KILL: it lives on for long, or for ever.
pub(crate) fn outlives_kill(dice: &mut Rng) -> Words {
    let (moves, late) = (dice.upto(5_000), dice.upto(20_000));
    let end = (late, Word::Exited(Exit::Signal(9)));
    match dice.below(4) {
        0 => vec![(moves, Word::Ending)],
        1 => vec![(moves, Word::Ending), end],
        2 => vec![end],
        _ => Vec::new(),
    }
}

/// The end of a process that was not asked to go; often its channel closes first.
pub(crate) fn crash(rng: &mut Rng, at: Duration) -> Words {
    let exit = rng.pick(&[Exit::Code(0), Exit::Code(1), Exit::Signal(11)]);
    let gone = (at + rng.upto(50), Word::Exited(exit));
    if rng.chance(40) { vec![(at, Word::Disconnected), gone] } else { vec![gone] }
}

fn with(mut words: Words, more: Words) -> Words {
    words.extend(more);
    words
}
