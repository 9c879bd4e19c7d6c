//! What a master leaves to the program that takes its place by `exec`: an [`Envelope`](envelope::Envelope) in a sealed piece of memory
//! (`memory`), and descriptors, each of which a table in the envelope names (`table`). The process stays, so do its children and the
//! numbers of its descriptors: only what the program knew is lost, unless it is in here.
//!
//! Each room names what it leaves (`saving`) and is given it again (`inheritance`); a `moment` is a time that both programs
//! know, and `plain` has forms of what serde does not write.

pub(crate) mod envelope;
pub(crate) mod exec;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod inheritance;
pub(crate) mod memory;
pub(crate) mod moment;
pub(crate) mod plain;
pub(crate) mod saving;
pub(crate) mod store;
pub(crate) mod table;

pub use inheritance::{AdoptError, Inheritance, WayBack};
pub use moment::Moment;
pub use saving::{SaveError, Saving};
