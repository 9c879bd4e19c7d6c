//! What a master leaves to the program that takes its place by `exec`: an [`Envelope`](envelope::Envelope) in a sealed piece of memory
//! (`memory`), and descriptors, each of which a table in the envelope names (`table`). The process stays, so do its children and the
//! numbers of its descriptors: only what the program knew is lost, unless it is in here.

pub(crate) mod envelope;
pub(crate) mod memory;
pub(crate) mod table;
