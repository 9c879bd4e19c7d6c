//! Everything that recluster promises, as seen from outside: one module for each kind of behaviour.

#![expect(clippy::indexing_slicing, reason = "a field that a JSON value lacks reads as null")]

mod activation;
mod channel;
mod checks;
mod cli;
mod closing;
mod control;
mod drain_signal;
mod draining;
mod ending;
mod examples;
mod fallbacks;
mod frameworks;
mod groups;
mod handover;
mod hostile;
mod leaving;
mod listen_errors;
mod load;
mod log;
mod lossless;
mod notify;
mod orphans;
mod preload;
mod ready;
mod recycling;
mod refusals;
mod reload;
mod rereading;
mod respawn;
mod rollback;
mod scale;
mod scarcity;
mod sockets;
mod start;
mod status;
mod stdio;
mod steering;
mod sticky;
mod surge;
mod systemd;
mod unbindable;
mod unseen;
mod watchdog;
