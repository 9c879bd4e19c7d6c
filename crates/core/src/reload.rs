//! A reload in progress, and what it brings: a generation.

use std::fmt;

use crate::Caller;

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
}
