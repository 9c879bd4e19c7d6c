//! Which worker is given a connection (`--balance`).

mod fallbacks;
mod handover;
mod kernel;
mod sticky;
