//! The command's own log lines, beside the events of its cluster.

use std::path::absolute;
use std::process;

use recluster::control::Asked;
use recluster::control::protocol::Request;
use serde::Serialize;

use crate::args::{Run, Verbosity};
use crate::signals::Wish;

/// Something that the command did or noticed. A JSON log has it in the form of an event.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Note {
    /// The first line of every log.
    Starting { version: &'static str, pid: u32, server: String, workers: u32, control: Option<String> },
    /// A signal has arrived.
    Signal { signal: &'static str, meaning: &'static str },
    /// A request came on the control socket.
    Asked {
        #[serde(flatten)]
        request: Request,
        pid: Option<i32>,
        uid: u32,
    },
    /// A reload found other settings than the cluster was started with.
    Configured {
        /// These hold from now on.
        changed: Vec<String>,
        /// These are the master's own for as long as it lives.
        needs_restart: Vec<String>,
    },
    /// The log file was opened anew.
    LogReopened,
    /// The log file could not be opened anew.
    LogNotReopened { error: String },
    /// Events came faster than they were logged, and some are missing.
    EventsMissed { events: u64 },
    /// The reader of the log was too slow.
    LinesMissed { lines: u64 },
}

impl Note {
    pub(crate) fn starting(args: &Run, control: Option<String>) -> Self {
        // A reader of the log does not know the working directory.
        let server = absolute(&args.server).unwrap_or_else(|_| args.server.clone());
        Self::Starting {
            version: env!("CARGO_PKG_VERSION"),
            pid: process::id(),
            server: server.display().to_string(),
            workers: args.running.workers.get(),
            control,
        }
    }

    pub(crate) fn signal(signal: &'static str, wish: Wish) -> Self {
        let meaning = match wish {
            Wish::Reload => "reload",
            Wish::Stop => "stop",
            Wish::Terminate => "terminate",
            Wish::MoreWorkers => "one worker more",
            Wish::FewerWorkers => "one worker less",
            Wish::ReopenLog => "open the log file anew",
        };
        Self::Signal { signal, meaning }
    }

    pub(crate) fn asked(asked: Asked) -> Self {
        let Asked { request, pid, uid, .. } = asked;
        Self::Asked { request, pid, uid }
    }

    /// The verbosity from which on it is written.
    pub(super) fn needs(&self) -> Verbosity {
        match self {
            Self::LogNotReopened { .. } | Self::EventsMissed { .. } | Self::LinesMissed { .. } => {
                Verbosity::Quiet
            }
            Self::Asked { request: Request::Status, .. } => Verbosity::Verbose,
            Self::Starting { .. }
            | Self::Signal { .. }
            | Self::Asked { .. }
            | Self::Configured { .. }
            | Self::LogReopened => Verbosity::Normal,
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Starting { version, pid: _, server, workers, control } => {
                let many = if *workers == 1 { "" } else { "s" };
                let control = control.as_deref().unwrap_or("none");
                format!(
                    "recluster {version} starts {workers} worker{many} of {server}, control socket {control}"
                )
            }
            Self::Signal { signal, meaning } => format!("{signal}: {meaning}"),
            Self::Asked { request, pid, uid } => {
                let process = pid.map(|pid| format!("process {pid} of ")).unwrap_or_default();
                format!("{}, asked for by {process}user {uid}", wanted(*request))
            }
            Self::Configured { changed, needs_restart } => configured(changed, needs_restart),
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

fn configured(changed: &[String], needs_restart: &[String]) -> String {
    let said = |what: &str, settings: &[String]| {
        (!settings.is_empty()).then(|| format!("{what}: {}", settings.join(", ")))
    };
    let new = said("other settings than at the start, in force with this reload", changed);
    let old = said("a reload does not change, restart recluster for", needs_restart);
    new.into_iter().chain(old).collect::<Vec<_>>().join("; ")
}

fn wanted(request: Request) -> String {
    match request {
        Request::Reload { .. } => "reload".to_owned(),
        Request::Status => "status".to_owned(),
        Request::ScaleTo { workers } => format!("scale to {workers}"),
        Request::ScaleBy { workers } => format!("scale by {workers:+}"),
        Request::Stop => "stop".to_owned(),
        Request::Terminate => "terminate".to_owned(),
    }
}
