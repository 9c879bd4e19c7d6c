//! The engine of recluster inside a Node process: what the npm package `recluster` loads.
//!
//! This layer decides nothing. It turns a plan, which the package writes as JSON, into a cluster of the engine, and the
//! cluster's events into notes, which the package takes as JSON. What users see of it is JavaScript, in `npm/`.
//!
//! Two threads meet here. All clusters of a process run on one thread of the engine (`engine`). Node's own thread sends
//! requests, and waits for an answer only where that takes no longer than a fork. The engine's thread never waits: it
//! puts notes into a queue (`notes`) and wakes Node.
//!
//! It installs no signal handler, and neither an error nor a panic of it ends the process: both are thrown in JavaScript.

pub mod cluster;
mod engine;
mod latest;
mod notes;
pub mod numbers;
mod plan;
mod sys;
