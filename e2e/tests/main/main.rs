//! Everything that recluster promises, as seen from outside: one module for each kind of behaviour.

#![expect(clippy::indexing_slicing, reason = "a field that a JSON value lacks reads as null")]

mod channel;
mod cli;
mod closing;
mod control;
mod draining;
mod ending;
mod examples;
mod frameworks;
mod handover;
mod hostile;
mod leaving;
mod listen_errors;
mod load;
mod log;
mod lossless;
mod orphans;
mod ready;
mod refusals;
mod reload;
mod respawn;
mod rollback;
mod scale;
mod scarcity;
mod sockets;
mod start;
mod status;
mod stdio;
mod surge;
mod unseen;
