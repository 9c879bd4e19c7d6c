//! The engine of recluster inside a Node process: what the npm package `recluster` loads.
//!
//! This layer decides nothing. It turns a plan, which the package writes as JSON, into a cluster of the engine, and what
//! the cluster tells into notes, which the package takes as JSON. What users see of it is JavaScript, in `npm/`.
//!
//! Two threads meet here. All clusters of a process run on one thread of the engine (`engine`). Node's own thread asks,
//! and waits for an answer only where a fork, at the most, is in the way. The other way round nobody waits: notes are left
//! in a queue (`notes`), and Node is woken.
//!
//! It installs no signal handler, and neither an error nor a panic of it ends the process: both are thrown in JavaScript.

pub mod cluster;
mod engine;
mod notes;
pub mod numbers;
mod plan;
mod sys;
