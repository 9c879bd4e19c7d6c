//! The simulator's only source of chance: splitmix64, so that a seed is a whole run.

use std::time::Duration;

/// All times of a run are multiples of this many milliseconds, so that moments often coincide.
const GRID: u64 = 50;

/// A deterministic generator.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `limit`, which is never zero.
    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        self.word() % limit
    }

    /// True this often in a hundred.
    pub(crate) const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len() as u64);
        from[usize::try_from(index).expect("an index of a slice fits")]
    }

    /// A time on the grid, from zero to `most` milliseconds.
    pub(crate) const fn upto(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most / GRID + 1) * GRID)
    }
}
