//! How a worker that is replaced finishes what it has, and how it is ended when it does not.

mod by_signal;
mod by_themselves;
mod leftovers;
pub(crate) mod lossless;
mod next_master;
mod old_workers;
mod orphans;
