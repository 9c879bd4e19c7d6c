//! The policy of recluster: when a worker is started, trusted, drained and killed.
//!
//! # The promise
//!
//! **A serving worker leaves only when what replaces it serves**, unless by a stop, a scale-down or its own request.
//! Under [`Surge::All`] what replaces it is the whole new generation, under [`Surge::AtMost`] the new worker of its
//! slot. A worker that a reload has started and not yet put in a slot is not protected: if the reload fails, it goes.
//!
//! # The driving contract
//!
//! The crate is pure: no clock, no IO, no process, no thread. A shell owns a [`Cluster`] and does three things in
//! turn:
//!
//! 1. it drains [`Cluster::poll_action`] and performs each [`Action`];
//! 2. it waits for the next event, but no longer than until [`Cluster::next_deadline`];
//! 3. it passes the [`Event`] and its time to [`Cluster::handle`]: [`Event::Tick`] if the deadline came first.
//!
//! `handle` only changes facts; then a few ordered rules look at all facts, not only at the last event, and decide.
//! So no event is missed by being early, late or repeated, and a fact about a worker that is gone changes nothing.
//!
//! ```
//! use std::time::Duration;
//! use recluster_core::{Action, Cluster, Config, Event, Notice, Settings, Time};
//!
//! let config = Config::new(Settings { workers: 2, bake: Duration::from_secs(1), ..Settings::default() })?;
//! let mut cluster = Cluster::new(config, Time::ZERO);
//!
//! // Both first workers are to be started. Suppose that both processes run and are ready after 100 ms.
//! let ready_at = Time::after(Duration::from_millis(100));
//! let mut workers = Vec::new();
//! while let Some(action) = cluster.poll_action() {
//!     if let Action::Spawn { worker, .. } = action {
//!         workers.push(worker);
//!     }
//! }
//! for worker in workers {
//!     cluster.handle(Event::Ready(worker), ready_at);
//! }
//!
//! // The shell sleeps until the next deadline: by then both have lived for the bake time.
//! let (wake, _reason) = cluster.next_deadline().expect("two workers are baking");
//! assert_eq!(wake, ready_at + Duration::from_secs(1));
//! cluster.handle(Event::Tick, wake);
//!
//! let actions: Vec<Action> = std::iter::from_fn(|| cluster.poll_action()).collect();
//! assert!(matches!(actions.last(), Some(Action::Notify(Notice::Started { .. }))));
//! assert!(cluster.status().settled);
//! # Ok::<(), recluster_core::ConfigError>(())
//! ```
//!
//! # As plain data
//!
//! With the feature `serde` a [`Cluster`] can be saved whenever all of its actions were polled, and loaded later, by another
//! version as well: it goes on as if nothing had been. Its times count from when the cluster began, whoever asks.

#![forbid(unsafe_code)]

mod action;
mod backoff;
mod changes;
mod cluster;
mod config;
mod event;
mod id;
mod reconcile;
mod record;
mod reload;
#[cfg(feature = "serde")]
mod saved;
mod size;
mod slot;
mod status;
mod time;
mod worker;

pub use action::{Action, Due, Notice, Signal, Verdict};
pub use cluster::{Cluster, Phase};
pub use config::{Config, ConfigError, Lateness, Settings, Surge};
pub use event::{Cause, Change, Event, Exit, Failure, SpawnFailure};
pub use id::{Caller, Generation, SlotId, WorkerId};
pub use record::MOST_SPARED;
pub use status::{ReloadStatus, SlotStatus, Status, WorkerStatus};
pub use time::Time;
pub use worker::State;
