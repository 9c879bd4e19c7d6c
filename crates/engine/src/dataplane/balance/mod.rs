//! How new connections reach workers: one file a way, by the option's own word.

pub(super) mod kernel;
pub(super) mod round_robin;
pub(super) mod sticky;
