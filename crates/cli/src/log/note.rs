//! The command's own log lines, beside the events of its cluster.

use std::path::absolute;
use std::process;

use recluster::admin::Changed;
use recluster::control::Asked;
use recluster::control::protocol::Request;
use recluster::{Held, Level, Status, WorkerStatus};
use serde::Serialize;

use crate::args::{Run, Verbosity};
use crate::log::{starts, survivors};
use crate::patience::{Patience, Seen};
use crate::wishes::Wish;

/// How many of the workers that a stop waits for are named.
const NAMED: usize = 16;
/// What the first signal that asks for a stop means.
const STOP: &str = "stop";
/// What that of a closed terminal means.
const HUNG_UP: &str = "stop, as the terminal was closed";
/// What the next one does.
const INSIST: &str = "another ^C or SIGTERM ends it at once";
/// What one means that comes with another.
const REPEATED: &str = "the same as the one just before";

/// Something that the command did or noticed. A JSON log has it in the form of an event.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Note {
    /// The first line of every log.
    Starting {
        version: &'static str,
        pid: u32,
        server: String,
        workers: u32,
        control: Option<String>,
        /// Where the admin listener is.
        #[serde(skip_serializing_if = "Option::is_none")]
        admin: Option<String>,
    },
    /// The master before this one was killed, and workers of it are there.
    Survivors {
        /// How many.
        workers: usize,
        /// The first of them.
        pids: Vec<u32>,
    },
    /// The program that was to take the place of the master before this one has failed, or that one has panicked.
    StartedAnew {
        reason: String,
        #[serde(skip)]
        what: &'static str,
    },
    /// Other machines may reach the admin listener.
    AdminExposed { address: String },
    /// There is no control socket, since there is no place for one.
    ControlMissing { reason: String },
    /// The master is the first process of a container, and may take longer to stop than `docker stop` waits.
    StopIsLong { seconds: f64 },
    /// A signal has arrived.
    Signal { signal: &'static str, meaning: &'static str },
    /// A stop that was asked for by a signal is not over yet.
    StopWaits {
        /// For whom.
        workers: Vec<Awaited>,
        /// How many others there are.
        others: usize,
        /// When the last of all these is sent a signal.
        seconds_left: Option<f64>,
    },
    /// A start or a reload is not over yet.
    StartWaits {
        /// The generation that is to serve.
        generation: u64,
        /// Whether it is a reload's: then the old workers serve on.
        reload: bool,
        /// For whom.
        workers: Vec<Lacking>,
        /// How many others there are.
        others: usize,
        /// When the first of all these is sent a signal.
        seconds_left: Option<f64>,
    },
    /// Workers die, and are replaced, again and again.
    RespawnRow {
        /// How many were replaced in a row.
        respawns: u32,
        /// In how much time.
        seconds: f64,
        /// None has died for a while.
        over: bool,
        /// What would help.
        hint: Option<&'static str>,
    },
    /// A request came on the control socket.
    Asked {
        #[serde(flatten)]
        request: Request,
        /// The names of the variables that it sets.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        env: Vec<String>,
        pid: Option<i32>,
        uid: u32,
    },
    /// A change was asked for at the admin listener, and allowed.
    AskedByHttp {
        #[serde(flatten)]
        request: Request,
        from: String,
    },
    /// A reload found other settings than the cluster was started with.
    Configured {
        /// These hold from now on.
        changed: Vec<String>,
        /// These are the master's own for as long as it lives.
        needs_restart: Vec<String>,
    },
    /// A signal asked for another number of workers, in vain.
    NotScaled { reason: String },
    /// A file by which others reach the master had been removed, and is there again.
    PathRestored { what: Kept, path: String },
    /// A file by which others reach the master is gone, and cannot be made again.
    PathLost { what: Kept, path: String, reason: String },
    /// The log file was opened anew.
    LogReopened,
    /// The log file could not be opened anew.
    LogNotReopened { error: String },
    /// Events came faster than they were logged, and some are missing.
    EventsMissed { events: u64 },
    /// The reader of the log was too slow.
    LinesMissed { lines: u64 },
}

/// What has a path that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kept {
    Control,
    Admin,
    Pidfile,
}

impl Kept {
    fn words(self) -> &'static str {
        match self {
            Self::Control => "the control socket",
            Self::Admin => "the socket of the admin listener",
            Self::Pidfile => "the pidfile",
        }
    }
}

/// A worker that a stop waits for.
#[derive(Debug, Serialize)]
pub(crate) struct Awaited {
    pub(super) id: u64,
    pub(super) slot: u32,
    pub(super) pid: Option<u32>,
    /// What it still has, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) held: Option<Held>,
}

/// A worker that a start waits for.
#[derive(Debug, Serialize)]
pub(crate) struct Lacking {
    pub(super) id: u64,
    pub(super) slot: u32,
    pub(super) pid: Option<u32>,
    /// What it has not done yet: `online`, `listening`, `ready` or `bake`.
    pub(super) lacks: &'static str,
}

impl Lacking {
    fn of(worker: &WorkerStatus, patience: &Patience) -> Self {
        let lacks = match (worker.state.as_str(), patience.seen(worker.id)) {
            ("ready", _) => "bake",
            (_, Seen::Started) => "online",
            (_, Seen::Online) => "listening",
            (_, Seen::Listens) => "ready",
        };
        Self { id: worker.id, slot: worker.slot, pid: worker.pid, lacks }
    }
}

impl From<&WorkerStatus> for Awaited {
    fn from(worker: &WorkerStatus) -> Self {
        Self { id: worker.id, slot: worker.slot, pid: worker.pid, held: worker.held.clone() }
    }
}

impl Note {
    pub(crate) fn starting(args: &Run, control: Option<String>, admin: Option<String>) -> Self {
        // A reader of the log does not know the working directory.
        let server = absolute(&args.server).unwrap_or_else(|_| args.server.clone());
        Self::Starting {
            version: env!("CARGO_PKG_VERSION"),
            pid: process::id(),
            server: server.display().to_string(),
            workers: args.running.workers.get(),
            control,
            admin,
        }
    }

    /// Workers of a killed master are there; none where there are none.
    pub(crate) fn survivors(pids: &[u32]) -> Option<Self> {
        let named = pids.iter().take(NAMED).copied().collect();
        (!pids.is_empty()).then_some(Self::Survivors { workers: pids.len(), pids: named })
    }

    pub(crate) fn signal(signal: &'static str, wish: Wish) -> Self {
        let meaning = match wish {
            Wish::Reload => "reload",
            Wish::Stop => STOP,
            Wish::Terminate => "terminate",
            Wish::MoreWorkers => "one worker more",
            Wish::FewerWorkers => "one worker less",
            Wish::ReopenLog => "open the log file anew",
            Wish::Repeated => REPEATED,
        };
        Self::Signal { signal, meaning }
    }

    /// The terminal was closed.
    pub(crate) fn hung_up() -> Self {
        Self::Signal { signal: "SIGHUP", meaning: HUNG_UP }
    }

    /// What a stop waits for, if it is this far: before, it may be that connections are accepted for a while.
    pub(crate) fn stop_waits(status: &Status) -> Option<Self> {
        let serves =
            |worker: &WorkerStatus| matches!(worker.state.as_str(), "starting" | "ready" | "serving");
        let workers: Vec<&WorkerStatus> =
            status.workers.iter().filter(|worker| worker.state != "unkillable").collect();
        let begun =
            status.phase == "stopping" && !workers.is_empty() && !workers.iter().any(|worker| serves(worker));
        begun.then(|| Self::StopWaits {
            workers: workers.iter().take(NAMED).copied().map(Awaited::from).collect(),
            others: workers.len().saturating_sub(NAMED),
            seconds_left: workers.iter().filter_map(|worker| worker.seconds_left).reduce(f64::max),
        })
    }

    /// What the first start or a reload waits for, if one is going on.
    pub(crate) fn start_waits(status: &Status, patience: &Patience) -> Option<Self> {
        let reload = status.reload.as_ref().map(|reload| reload.generation);
        let generation = reload.or_else(|| (status.phase == "starting").then_some(status.generation))?;
        let lacks = |worker: &&WorkerStatus| {
            worker.generation == generation && ["starting", "ready"].contains(&worker.state.as_str())
        };
        let lacking: Vec<&WorkerStatus> = status.workers.iter().filter(lacks).collect();
        Some(Self::StartWaits {
            generation,
            reload: reload.is_some(),
            workers: lacking.iter().take(NAMED).map(|worker| Lacking::of(worker, patience)).collect(),
            others: lacking.len().saturating_sub(NAMED),
            seconds_left: lacking.iter().filter_map(|worker| worker.seconds_left).reduce(f64::min),
        })
    }

    pub(crate) fn asked(asked: Asked) -> Self {
        let Asked { request, env, pid, uid, .. } = asked;
        Self::Asked { request, env, pid, uid }
    }

    pub(crate) fn changed(changed: Changed) -> Self {
        let Changed { request, from, .. } = changed;
        Self::AskedByHttp { request, from }
    }

    /// Whether it is among what has happened, for those who ask for events. Whoever watches asks for the status every second, and
    /// would drive out everything else.
    pub(super) fn is_recorded(&self) -> bool {
        !matches!(self, Self::EventsMissed { .. } | Self::Asked { request: Request::Status, .. })
    }

    /// The verbosity from which on it is written.
    pub(super) fn needs(&self) -> Verbosity {
        match self {
            Self::LogNotReopened { .. }
            | Self::PathLost { .. }
            | Self::ControlMissing { .. }
            | Self::StartedAnew { .. }
            | Self::RespawnRow { over: false, .. }
            | Self::EventsMissed { .. }
            | Self::LinesMissed { .. } => Verbosity::Quiet,
            Self::Asked {
                request:
                    Request::Status
                    | Request::Configuration { .. }
                    | Request::Events { .. }
                    | Request::Logs { .. },
                ..
            } => Verbosity::Verbose,
            Self::Starting { .. }
            | Self::Survivors { .. }
            | Self::StopIsLong { .. }
            | Self::Signal { .. }
            | Self::StopWaits { .. }
            | Self::StartWaits { .. }
            | Self::RespawnRow { .. }
            | Self::AdminExposed { .. }
            | Self::Asked { .. }
            | Self::AskedByHttp { .. }
            | Self::Configured { .. }
            | Self::NotScaled { .. }
            | Self::PathRestored { .. }
            | Self::LogReopened => Verbosity::Normal,
        }
    }

    /// How much it matters.
    pub(crate) fn level(&self) -> Level {
        match self {
            Self::LogNotReopened { .. } | Self::PathLost { .. } | Self::StartedAnew { .. } => Level::Error,
            Self::StopWaits { .. }
            | Self::Survivors { .. }
            | Self::StartWaits { .. }
            | Self::RespawnRow { over: false, .. }
            | Self::AdminExposed { .. }
            | Self::ControlMissing { .. }
            | Self::NotScaled { .. }
            | Self::PathRestored { .. }
            | Self::EventsMissed { .. }
            | Self::LinesMissed { .. } => Level::Warn,
            Self::Asked {
                request:
                    Request::Status
                    | Request::Configuration { .. }
                    | Request::Events { .. }
                    | Request::Logs { .. },
                ..
            } => Level::Debug,
            Self::Starting { .. }
            | Self::StopIsLong { .. }
            | Self::Signal { .. }
            | Self::RespawnRow { .. }
            | Self::Asked { .. }
            | Self::AskedByHttp { .. }
            | Self::Configured { .. }
            | Self::LogReopened => Level::Info,
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Starting { version, pid: _, server, workers, control, admin } => {
                let many = if *workers == 1 { "" } else { "s" };
                let control = control.as_deref().unwrap_or("none");
                let admin = admin.as_ref().map(|at| format!(", admin listener {at}")).unwrap_or_default();
                format!(
                    "recluster {version} starts {workers} worker{many} of {server}, control socket {control}{admin}"
                )
            }
            Self::StartedAnew { reason, what } => format!("{reason}: this is the {what}, started anew"),
            Self::Survivors { workers, pids } => survivors::words(*workers, pids),
            Self::AdminExposed { address } => format!(
                "other machines may reach the admin listener at {address}, and read the metrics and the status there: \
                 --admin 127.0.0.1:PORT keeps it to this one"
            ),
            Self::ControlMissing { reason } => starts::control_missing(reason),
            Self::StopIsLong { seconds } => starts::stop_is_long(*seconds),
            Self::Signal { signal, meaning: HUNG_UP } => {
                format!("{signal}: {HUNG_UP} (nohup keeps a cluster running without one)")
            }
            Self::Signal { signal, meaning: STOP } => format!("{signal}: {STOP}; {INSIST}"),
            Self::Signal { signal, meaning } => format!("{signal}: {meaning}"),
            Self::StopWaits { workers, others, seconds_left } => stop_waits(workers, *others, *seconds_left),
            Self::StartWaits { generation, reload, workers, others, seconds_left } => {
                start_waits(*generation, *reload, (workers, *others), *seconds_left)
            }
            Self::RespawnRow { respawns, seconds, over, hint } => {
                respawn_row(*respawns, *seconds, *over, *hint)
            }
            Self::Asked { request, env, pid, uid } => {
                let process = pid.map(|pid| format!("process {pid} of ")).unwrap_or_default();
                let with = if env.is_empty() { String::new() } else { format!(" with {}", env.join(", ")) };
                format!("{}{with}, asked for by {process}user {uid}", wanted(request))
            }
            Self::AskedByHttp { request, from } => {
                format!("{}, asked for by {from} at the admin listener", wanted(request))
            }
            Self::Configured { changed, needs_restart } => configured(changed, needs_restart),
            Self::NotScaled { reason } => format!("the number of workers stays: {reason}"),
            Self::PathRestored { what, path } => {
                format!("{} {path} had been removed, and is there again", what.words())
            }
            Self::PathLost { what: Kept::Control, path, reason } => format!(
                "no client reaches the control socket {path} any more, until its path is free: {reason}; signals to the master \
                 work as before"
            ),
            Self::PathLost { what: Kept::Admin, path, reason } => {
                format!(
                    "no client reaches the admin listener at {path} any more, until its path is free: {reason}"
                )
            }
            Self::PathLost { what, path, reason } => format!(
                "{} {path} does not name this master any more, until its path is free: {reason}",
                what.words()
            ),
            Self::LogReopened => "the log file was opened anew".to_owned(),
            Self::LogNotReopened { error } => {
                format!("the log file cannot be opened anew, the old one is written on: {error}")
            }
            Self::EventsMissed { events } => format!("{events} events are missing here, they came too fast"),
            Self::LinesMissed { lines } => {
                format!("{lines} lines are missing here, they were not read fast enough")
            }
        }
    }
}

fn stop_waits(workers: &[Awaited], others: usize, seconds_left: Option<f64>) -> String {
    let at_most = seconds_left.map(|seconds| format!(", {seconds:.0} s at most,")).unwrap_or_default();
    let worker = |Awaited { id, slot, pid, held }: &Awaited| {
        let pid = pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        let held = held.as_ref().map(|held| format!(": {held}")).unwrap_or_default();
        format!("worker {id} (slot {slot}{pid}){held}")
    };
    let named = workers.iter().map(worker);
    let others = (others > 0).then(|| format!("{others} more"));
    let whom: Vec<String> = named.chain(others).collect();
    format!("the stop waits{at_most} for {}; {INSIST}", whom.join("; "))
}

fn start_waits(
    generation: u64,
    reload: bool,
    (workers, others): (&[Lacking], usize),
    seconds_left: Option<f64>,
) -> String {
    let worker = |Lacking { id, slot, pid, lacks }: &Lacking| {
        let pid = pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        let lacks = match *lacks {
            "online" => "its process does not run yet",
            "listening" => "it runs and has not begun to listen, nor said that it is ready",
            "ready" => "it listens, and has not said that it is ready or passed its check",
            _ => "it is ready, and has to live on for the rest of --bake",
        };
        format!("worker {id} (slot {slot}{pid}): {lacks}")
    };
    let others = (others > 0).then(|| format!("{others} more"));
    let whom: Vec<String> = workers.iter().map(worker).chain(others).collect();
    let whom = if whom.is_empty() { "a worker that is started next".to_owned() } else { whom.join("; ") };
    let limit =
        seconds_left.map(|seconds| format!("; the first has {seconds:.0} s left")).unwrap_or_default();
    if reload {
        format!(
            "the reload to generation {generation} waits for {whom}{limit}; the old workers serve on, and a newer reload takes its place"
        )
    } else {
        format!("the start waits for {whom}{limit}; ^C or SIGTERM ends it")
    }
}

fn respawn_row(respawns: u32, seconds: f64, over: bool, hint: Option<&str>) -> String {
    let hint = hint.map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
    if over {
        format!("no worker has died for a while: {respawns} were replaced in {seconds:.0} s before")
    } else {
        format!(
            "workers die again and again: {respawns} were replaced in {seconds:.0} s{hint}; -v logs each of them"
        )
    }
}

fn configured(changed: &[String], needs_restart: &[String]) -> String {
    let said = |what: &str, settings: &[String]| {
        (!settings.is_empty()).then(|| format!("{what}: {}", settings.join(", ")))
    };
    let new = said("other settings than at the start, in force with this reload", changed);
    let old = said("a reload does not change, restart recluster for", needs_restart);
    new.into_iter().chain(old).collect::<Vec<_>>().join("; ")
}

fn wanted(request: &Request) -> String {
    match request {
        Request::Reload { .. } => "reload".to_owned(),
        Request::Status => "status".to_owned(),
        Request::Configuration { .. } => "configuration".to_owned(),
        Request::Events { follow: false, .. } => "events".to_owned(),
        Request::Events { follow: true, .. } => "events to follow".to_owned(),
        Request::Logs { follow, slot, .. } => {
            let of = slot.map(|slot| format!(" of slot {slot}")).unwrap_or_default();
            format!("the last lines of workers{of}{}", if *follow { ", to follow" } else { "" })
        }
        Request::Replace { which } => format!("replace the worker of {which}"),
        Request::ScaleTo { workers } => format!("scale to {workers}"),
        Request::ScaleBy { workers } => format!("scale by {workers:+}"),
        Request::Upgrade { binary, dry_run, .. } => {
            let to = binary.as_ref().map(|binary| format!(" to {}", binary.display())).unwrap_or_default();
            format!("{}{to}", if *dry_run { "dry run of an upgrade" } else { "upgrade" })
        }
        Request::Stop => "stop".to_owned(),
        Request::Terminate => "terminate".to_owned(),
    }
}
