//! Which worker is given a connection (`--balance`).

mod fallbacks;
mod handout;
mod handover;
mod kernel;
mod sticky;
