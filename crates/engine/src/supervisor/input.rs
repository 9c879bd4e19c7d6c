//! What wakes the supervisor, beside the clock: reports of those below, and requests of those who hold a handle.

use std::sync::Arc;

use recluster_core::WorkerId;
use tokio::sync::oneshot;

use crate::config::scale::Scale;
use crate::config::variable::Variables;
use crate::config::which::Which;
use crate::dataplane::{Billed, Handle};
use crate::guard::Panicked;
use crate::process;
use crate::process::binary::Program;
use crate::process::launcher::Outcome;
use crate::process::successor::{Upgraded, Wanted};
use crate::report::configuration::Configuration;
use crate::report::counts::{Health, Measured};
use crate::report::error::{ScaleError, SendError};
use crate::report::status::Status;
use crate::report::verdict::{Failure, Told};
use crate::report::worker::Worker;
use crate::socket::holder::Holder;
use crate::supervisor::audience::HostMessage;
use crate::supervisor::hooks::Failed;
use crate::supervisor::renewals;
use crate::supervisor::spec::Spec;
use crate::watch::seen::Sighting;

/// Everything that wakes the supervisor, beside the clock.
#[derive(Debug)]
pub(crate) enum Input {
    /// The dataplane reports.
    Fact(Billed),
    /// A worker's process reports.
    Process(process::event::Event),
    /// A worker's process is being started.
    Begun(WorkerId),
    /// A worker's process was started, or cannot be.
    Launched(Outcome),
    /// A worker's channel closed a while ago. If the process ended as well, that is known by now, unless it is busy: then it is looked
    /// at so often again.
    LivesOn(WorkerId, u32),
    /// What workers of a generation have left in the background was looked for.
    Left(u64, Option<Holder>),
    /// A hook has failed.
    Hook(Failed),
    /// Something is seen of files that are watched.
    Seen(Sighting),
    /// An upgrade has come further.
    Upgrade(Step),
    /// A part of the engine has panicked.
    Panicked(Panicked),
    /// Somebody asks.
    Request(Request),
}

/// What an upgrade has waited for.
#[derive(Debug)]
pub(crate) enum Step {
    /// The program is there, or cannot be run.
    Found(Result<Arc<Program>, String>),
    /// It is of this version and could take over, or why not.
    Rehearsed(Arc<Program>, Result<String, String>),
}

/// How the cluster is to be run from a reload on, or why it cannot be run so.
pub(crate) type Reloaded = Result<Box<Spec>, String>;

/// What is in force, for people.
#[derive(Debug)]
pub(crate) struct InForce {
    /// As it was said.
    pub(crate) said: Arc<Configuration>,
    /// With what it comes to, and what was changed since.
    pub(crate) shown: Configuration,
}

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// To what this spec says, or, without one, to what the one who is asked at each reload says. The verdict may be
    /// waited for.
    Reload {
        with: Option<Reloaded>,
        /// Variables that workers are given from then on.
        set: Variables,
        reply: Option<oneshot::Sender<Told>>,
    },
    /// The reload that has just been asked for is asked for again.
    ConfirmReload,
    /// Reap children that have ended and that nobody here waits for.
    ReapOrphans,
    Replace(u64),
    Renew(Which, oneshot::Sender<renewals::Outcome>),
    Scale(Scale, oneshot::Sender<Result<u32, ScaleError>>),
    Stop,
    Terminate,
    /// Has another program take this one's place. Where that is done, that program answers whoever has asked.
    Upgrade(Wanted, oneshot::Sender<Result<Upgraded, String>>),
    /// Opens the files of workers' output anew.
    ReopenLog,
    Release,
    Workers(oneshot::Sender<Vec<Worker>>),
    ActiveWorkers(oneshot::Sender<Vec<Option<Worker>>>),
    Status(oneshot::Sender<Status>),
    Measure(oneshot::Sender<Measured>),
    Health(oneshot::Sender<Health>),
    /// None where nobody has said for people what is in force.
    Configuration(oneshot::Sender<Option<InForce>>),
    Disconnect(u64),
    Signal {
        worker: u64,
        signal: i32,
        reply: oneshot::Sender<bool>,
    },
    Resume,
    Send {
        worker: u64,
        said: HostMessage,
        handle: Option<Handle>,
        reply: oneshot::Sender<Result<(), SendError>>,
    },
}

/// How far the cluster as a whole has come: whether it has started, failed to start, or ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) started: bool,
    pub(crate) failed: Option<Failure>,
    /// The workers that live on, or of which something does, because the kernel does not let them end.
    pub(crate) unkillable: Vec<Worker>,
    /// A part of the engine has panicked.
    pub(crate) panicked: bool,
    pub(crate) over: bool,
}
