//! A reload in progress, and what it brings: a generation.

use std::fmt;

use crate::size::Sizing;
use crate::{Caller, Config, Settings};

/// All workers begun by one start or one reload. Counts from 1 in the order in which they are begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub(crate) u64);

impl Generation {
    /// The generation of the first start.
    pub const FIRST: Self = Self(1);

    /// The number itself, for logs and for the worker's environment.
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A reload that has begun and is not decided yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reload {
    /// What it starts.
    pub(crate) generation: Generation,
    /// Who waits for its verdict.
    pub(crate) callers: Vec<Caller>,
    /// The settings of what was proven last, which a rollback brings back.
    pub(crate) before: Settings,
    /// What it does to the number of slots; nothing any more once somebody has said how many there are to be.
    pub(crate) sizing: Option<Sizing>,
}

impl Reload {
    /// How many of so many slots its workers are to serve in. Those that are to go when it is done need none.
    pub(crate) fn covers(&self, slots: u32) -> u32 {
        self.sizing.map_or(slots, |sizing| sizing.to.min(slots))
    }
}

/// A reload that was asked for and has not begun: one, however many asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    /// Who asked.
    pub(crate) waiting: Vec<Caller>,
    /// The settings that it brings, as they were said last.
    pub(crate) config: Option<Config>,
    /// Somebody has said since then how many slots there are to be.
    pub(crate) overruled: bool,
}

impl Pending {
    pub(crate) fn ask(&mut self, caller: Option<Caller>, config: Option<Config>) {
        self.waiting.extend(caller);
        if config.is_some() {
            (self.config, self.overruled) = (config, false);
        }
    }
}
