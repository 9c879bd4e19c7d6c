//! The names of things: slots, workers, generations, and callers who wait for a verdict.

use std::fmt;

/// Names one slot. Zero-based: it is what a worker sees as its `WORKER_ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SlotId(pub(crate) u32);

impl SlotId {
    /// The number itself, for logs and for the worker's environment.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Where the slot stands among all slots.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one worker. Counts from 1 in the order in which workers are begun, and is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WorkerId(pub(crate) u64);

impl WorkerId {
    /// The name of the worker with this number, for a shell that carried the number elsewhere.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number itself, for logs and for the worker's environment.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All workers begun by one start or one reload. Counts from 1 in the order in which they are begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

/// A caller who waits for the verdict of a reload. The shell chooses the number; the core returns it once, with the
/// verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Caller(pub u64);
