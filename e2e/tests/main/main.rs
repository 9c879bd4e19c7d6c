//! Everything that recluster promises, as seen from outside: one folder for each kind of behaviour, see `README.md` beside this directory.

#![expect(clippy::indexing_slicing, reason = "a field that a JSON value lacks reads as null")]

mod balance;
mod control;
mod drain;
mod hostile;
mod node;
mod reload;
mod sockets;
mod start;
mod stop;
mod supervision;
mod upgrade;
