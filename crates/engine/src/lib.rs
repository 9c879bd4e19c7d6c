//! A process cluster with zero-downtime reload.
//!
//! One master runs N copies of a server on the machine's cores. They share its listening sockets, and on a reload
//! every copy is replaced by new code, or, if that does not work, none. The workers are ordinary Node.js server files,
//! unchanged: this crate speaks the protocol that Node's own `cluster` module speaks, without Node.
//!
//! ```no_run
//! use recluster::{Cluster, Heard};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::builder("server.js").workers(4).start().await?;
//! let mut events = cluster.subscribe();
//! tokio::spawn(async move {
//!     while let Some(Heard::Event(event)) = events.next().await {
//!         println!("{event:?}");
//!     }
//! });
//! if cluster.started().await.is_ok() {
//!     match cluster.reload().await {
//!         Ok(()) => println!("every slot runs the new code"),
//!         Err(why) => println!("the old code serves on: {why}"),
//!     }
//! }
//! cluster.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The library installs no signal handler, has no global state, and reaps nothing but its own workers: any number of
//! clusters live in one process. Linux only (pidfd, `SCM_RIGHTS`; kernel 5.4 or newer).
//!
//! Inside, a pure policy (`recluster-core`) decides and this crate acts: `supervisor` is the control plane, with one loop;
//! `dataplane` is the data plane, a thread of its own that accepts connections and talks to workers.

pub mod admin;
mod api;
mod aside;
mod config;
pub mod control;
mod dataplane;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod metrics;
mod process;
mod report;
mod sink;
mod socket;
mod supervisor;
mod sys;
#[cfg(test)]
mod tests;
mod upgrade;
mod watch;

pub use api::builder::ClusterBuilder;
pub use api::cluster::{Cluster, Ending};
pub use api::host;
pub use api::start::Checked;
pub use aside::{Awaited, begin_aside};
pub use config::account::{Account, AccountError, Group};
pub use config::admin::{AdminAddress, AdminAddressError};
pub use config::balance::{Balance, ParseStickyByError, PeekLimits, StickyBy};
pub use config::compile_cache::CompileCache;
pub use config::drain_signal::DrainSignal;
pub use config::hook::{Hook, HookError, Moment};
pub use config::hook_url::HookUrlError;
pub use config::limit::{Limit, LimitError};
pub use config::limits::MemoryLimit;
pub use config::listen::{Listen, ListenError, SocketUnit};
pub use config::messages::Messages;
pub use config::output::{LineStyle, WorkerLine, WorkerLog};
pub use config::ready::{ParseReadyCheckError, ReadyCheck, ReadyWhen};
pub use config::scale::Scale;
pub use config::service_manager::ServiceManager;
#[doc(hidden)]
pub use config::size::bytes;
pub use config::unread::Unread;
pub use config::variable::{InstanceEnv, Variables, check_variable};
pub use config::which::Which;
pub use config::worker_metrics::WorkerMetrics;
pub use config::working_directory::logical_directory;
pub use recluster_core::{ConfigError, Surge};
pub use report::configuration;
pub use report::error::{Gone, ProgramError, ReloadError, ReplaceError, ScaleError, SendError, StartError};
pub use report::event::{Event, Exit, RecycleReason};
pub use report::events::{Events, Heard};
pub use report::level::Level;
pub use report::signal::signal_name;
pub use report::status::{
    HttpStatus, LastReload, ListenerStatus, MasterStatus, NodeStatus, ReloadStatus, SlotStatus, Status,
    WorkerStatus,
};
pub use report::stream::Stream;
pub use report::variable::{EnvFileError, EnvFileProblem, VariableError};
pub use report::verdict::{Failure, Replaced, Verdict};
pub use report::worker::{Address, Held, Resource, Worker};
#[doc(hidden)]
pub use socket::place::Place;
