//! How new connections reach workers: a file for each way, by the option's own word. `shared` has none, because workers
//! accept by themselves there.

pub(super) mod eligible;
pub(super) mod kernel;
pub(super) mod round_robin;
pub(super) mod sticky;
