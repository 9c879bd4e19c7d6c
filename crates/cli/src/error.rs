//! What can go wrong in the command: one line that says what and where, a hint what to do, and the exit status.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use recluster::admin::AdminError;
use recluster::control::{BindError, ClientError, FindError};
use recluster::host::AdoptError;
use recluster::{Failure, ProgramError, StartError, VariableError, Worker};

use crate::args;
use crate::config::{self, Origin};
use crate::exit_code::ExitStatus;
use crate::name::Name;
use crate::nearest;
use crate::paint::{Paint, printable, printable_json};
use crate::pidfile::PidfileError;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot listen to signals: {0}")]
    Signals(io::Error),
    #[error("the kernel knows no subreapers: {0}")]
    Subreaper(rustix::io::Errno),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("the server file has a syntax error: {reason}")]
    Syntax { reason: String },
    #[error(
        "the server file is TypeScript, which node {version} does not run: it needs 22.18 or newer, or 23.6 or newer"
    )]
    TypeScript { version: String },
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("a socket that recluster was started with (LISTEN_FDS) is not usable: {0}")]
    Inherited(io::Error),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the name '{name}' is taken by a running cluster; its control socket is {}", path.display())]
    NameTaken { name: Name, path: PathBuf },
    #[error(transparent)]
    Pidfile(#[from] PidfileError),
    #[error("cannot write the log{}: {source}", shown(path.as_ref()))]
    Log { path: Option<PathBuf>, source: io::Error },
    #[error("the first generation never served: {0}")]
    NeverServed(Failure),
    #[error("the cluster has ended, but SIGKILL did not end {} or what it has started; the log says why", named(.0))]
    Unkillable(Vec<Worker>),
    #[error("a part of the master has panicked, which is a fault of recluster, and the cluster has ended")]
    Lost,
    #[error("--env {name}: there is no such variable in the environment of this command; write {name}=VALUE")]
    NoVariable { name: String },
    #[error("--env: {0}")]
    Variable(#[from] VariableError),
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("--control none: without a control socket no cluster can be asked")]
    ControlOff,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no cluster answers at {}{}: {source}", path.display(), named_by(*.by_variable))]
    NoClusterAt { path: PathBuf, by_variable: bool, source: io::Error, running: Vec<PathBuf> },
    #[error("what listens at {}{} is no cluster", path.display(), named_by(*.by_variable))]
    NotACluster { path: PathBuf, by_variable: bool, running: Vec<PathBuf> },
    #[error(
        "{number} is the number of a slot, and the pid of a worker as well: write slot:{number} or pid:{number}"
    )]
    SlotOrPid { number: u32 },
    #[error("top draws on a terminal, and stdout is none where a cursor can be moved")]
    NoTerminal,
    #[error("top is a picture for people: there is no JSON of it")]
    TopAsJson,
    #[error("cannot use the terminal: {0}")]
    Terminal(io::Error),
    #[error("the master refused: {0}")]
    Refused(String),
    #[error("cannot tell where this command itself is: {0}")]
    Executable(io::Error),
    #[error("{} is there already, and is not written over", path.display())]
    ConfigExists { path: PathBuf },
    #[error("cannot write {}: {source}", path.display())]
    ConfigUnwritable { path: PathBuf, source: io::Error },
    #[error("what to run in {} cannot be known: {reason}", directory.display())]
    NoProject { directory: PathBuf, reason: String },
    #[error("{} is there already, and differs", path.display())]
    UnitExists { path: PathBuf },
    #[error("cannot write {}: {source}", path.display())]
    Unit { path: PathBuf, source: io::Error },
    #[error(
        "{}: the master of a unit has no right to run workers as somebody else",
        account(key, value, origin)
    )]
    UnitAccount { key: String, value: String, origin: Origin },
    #[error("{option}: the user that systemd makes for the service cannot write in {}", directory.display())]
    UnitStranger { option: &'static str, directory: PathBuf },
    #[error("what another recluster has left for an upgrade cannot be gone on with: {0}")]
    Upgrade(#[from] AdoptError),
    #[error("cannot {what}: a file system has not answered for {seconds} seconds")]
    Silent { what: String, seconds: u64 },
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
}

impl Error {
    /// Prints the error to stderr, and with `json` to stdout as well. Returns the exit status.
    pub(crate) fn report(&self, json: bool) -> ExitStatus {
        // If it cannot be written, the exit status still says that it failed.
        let _ = if let Self::Config(config::Error::Usage(error)) = self {
            // Clap's own words have more than one paragraph.
            error.print()
        } else {
            io::stderr().write_all(self.shown(Paint::for_stream(&io::stderr())).as_bytes())
        };
        if json {
            let _ = writeln!(io::stdout(), "{}", printable_json(self.as_json().to_string()));
        }
        self.exit_status()
    }

    fn as_json(&self) -> serde_json::Value {
        serde_json::json!({"reply": "failed", "reason": self.to_string(), "hint": self.hint()})
    }

    /// The lines to be shown.
    pub(crate) fn shown(&self, paint: Paint) -> String {
        let error = format!("{} {}\n", paint.red("error:"), printable(&self.to_string()));
        match self.hint() {
            Some(hint) => format!("{error}  {} {}\n", paint.bold("hint:"), printable(&hint)),
            None => error,
        }
    }

    pub(crate) fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Start(StartError::Program(error)) => match error {
                ProgramError::NotFound { .. } | ProgramError::NodeNotFound { .. } => ExitStatus::NotFound,
                ProgramError::NotRunnable { .. } | ProgramError::NodeNotRunnable { .. } => {
                    ExitStatus::CannotRun
                }
                ProgramError::EnvFile(_)
                | ProgramError::Variable(_)
                | ProgramError::User { .. }
                | ProgramError::NoGroup { .. }
                | ProgramError::Limit { .. } => ExitStatus::Usage,
                ProgramError::Directory { .. } | _ => ExitStatus::Failure,
            },
            Self::Start(
                StartError::Config(_)
                | StartError::Listen { .. }
                | StartError::ListenTwice { .. }
                | StartError::NotASocket { .. }
                | StartError::CheckReachesNeighbours
                | StartError::CheckInterval { .. }
                | StartError::CheckListen { .. }
                | StartError::WorkerLog { .. }
                | StartError::DenoTakesNoSocket
                | StartError::StickyWithoutNode,
            )
            | Self::Inherited(_)
            | Self::NoVariable { .. }
            | Self::Variable(_)
            | Self::Config(_)
            | Self::Admin(AdminError::Listen(_) | AdminError::Token(_))
            | Self::Bind(_)
            | Self::NameTaken { .. }
            | Self::NoTerminal
            | Self::TopAsJson
            | Self::ConfigExists { .. }
            | Self::ConfigUnwritable { .. }
            | Self::NoProject { .. }
            | Self::UnitExists { .. }
            | Self::Unit { .. }
            | Self::UnitAccount { .. }
            | Self::UnitStranger { .. }
            | Self::Pidfile(_)
            | Self::Log { .. } => ExitStatus::Usage,
            Self::Start(StartError::System { .. } | _)
            | Self::Runtime(_)
            | Self::Admin(AdminError::System(_) | _)
            | Self::Signals(_)
            | Self::Executable(_)
            | Self::Subreaper(_)
            | Self::Terminal(_)
            | Self::Unkillable(_)
            | Self::Silent { .. }
            | Self::Lost => ExitStatus::Failure,
            Self::Syntax { .. } | Self::TypeScript { .. } => ExitStatus::CannotRun,
            Self::NeverServed(_) => ExitStatus::NeverServed,
            Self::Find(_)
            | Self::ControlOff
            | Self::Client(_)
            | Self::NoClusterAt { .. }
            | Self::NotACluster { .. }
            | Self::Refused(_)
            | Self::SlotOrPid { .. }
            | Self::Upgrade(_)
            | Self::Output(_) => ExitStatus::NoAnswer,
        }
    }

    /// What to do about it, if that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        short_of_files(&self.to_string()).or_else(|| self.hint_at_this())
    }

    fn hint_at_this(&self) -> Option<String> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "most errors say all there is to say")]
        match self {
            Self::Start(StartError::Program(ProgramError::NotFound { path }))
                if looks_like_a_command(path) =>
            {
                Some(commands(path))
            }
            Self::Start(StartError::Program(ProgramError::User { .. })) => Some(
                "a master that is root, or has CAP_SETUID, CAP_SETGID and CAP_KILL, may have such workers"
                    .to_owned(),
            ),
            Self::Start(StartError::Program(ProgramError::NoGroup { .. })) => {
                Some("--group GROUP says it".to_owned())
            }
            Self::Start(StartError::Program(ProgramError::Limit { .. })) => Some(
                "only root, or who has CAP_SYS_RESOURCE, may set a hard limit that is above its own"
                    .to_owned(),
            ),
            Self::TypeScript { .. } => {
                Some("--node PATH names another node; --node-arg=--import=tsx has tsx read it".to_owned())
            }
            Self::Bind(BindError::Alive { .. }) => {
                Some("stop that cluster first, or choose another path with --control".to_owned())
            }
            Self::Bind(BindError::Silent { .. }) => Some(
                "wait if a cluster is about to start or stop there, or choose another path with --control"
                    .to_owned(),
            ),
            Self::Bind(
                BindError::Directory(_)
                | BindError::System { .. }
                | BindError::TooLong { .. }
                | BindError::Foreign { .. }
                | BindError::NotASocket { .. },
            ) => Some("--control PATH puts the socket elsewhere, --control none does without it".to_owned()),
            Self::Pidfile(PidfileError::Alive { .. }) => {
                Some("stop it first; if that process is no cluster, remove the file".to_owned())
            }
            Self::Client(ClientError::Nonsense(_)) => {
                Some("is this a control socket, and of a master of the same version?".to_owned())
            }
            Self::NoTerminal => {
                Some("`recluster status --watch` writes a status a second to anything".to_owned())
            }
            Self::TopAsJson => {
                Some("`recluster status --watch --json` writes a status a second as JSON".to_owned())
            }
            Self::UnitExists { .. } => Some("--force writes over it".to_owned()),
            Self::UnitAccount { key, value, .. } if key == "user" => {
                Some(format!("--run-as {value} instead is the user of the service, workers included"))
            }
            Self::UnitAccount { .. } => Some(
                "--run-as USER is the user of the service, which has the group of that account".to_owned(),
            ),
            Self::UnitStranger { .. } => Some("--run-as USER has the service run as one who can".to_owned()),
            Self::NameTaken { .. } => Some("without --name the cluster gets a name that is free".to_owned()),
            Self::NeverServed(failure) => failure.hint.clone(),
            Self::Find(FindError::None { .. }) => Some(
                "--control PATH names the socket of a cluster that runs elsewhere or as another user"
                    .to_owned(),
            ),
            Self::Find(FindError::NoneNamed { name, running, .. }) => those_that_run(running, Some(name)),
            Self::NoClusterAt { running, .. } | Self::NotACluster { running, .. } => {
                those_that_run(running, None)
            }
            Self::Find(FindError::Several { found }) => {
                Some(format!("choose one with --name: {}", names(found)))
            }
            _ => None,
        }
    }
}

/// What to do where a process may have no more descriptors, or the whole machine. Which part wanted one more makes no difference.
fn short_of_files(error: &str) -> Option<String> {
    let is = |errno: rustix::io::Errno| error.contains(&io::Error::from(errno).to_string());
    if is(rustix::io::Errno::MFILE) {
        return Some(
            "it may have more with a higher limit: `ulimit -n`, or LimitNOFILE= of a unit".to_owned(),
        );
    }
    is(rustix::io::Errno::NFILE)
        .then(|| "the machine may have more with a higher limit: `sysctl fs.file-max`".to_owned())
}

/// Whether a command may have been meant: most server files have an extension.
fn looks_like_a_command(server: &Path) -> bool {
    server.extension().is_none()
}

/// Which command was probably meant by a server file that is not there.
fn commands(server: &Path) -> String {
    let name = server.file_name().unwrap_or_default().to_string_lossy();
    let meant = nearest::to(&name, args::commands());
    let meant = meant.map(|command| format!("did you mean `recluster {command}`? ")).unwrap_or_default();
    let all = args::commands().join(", ");
    if meant.is_empty() {
        format!("the commands are {all}")
    } else {
        format!("{meant}The commands are {all}")
    }
}

/// Which clusters could be meant instead, and by what name probably.
fn those_that_run(running: &[PathBuf], name: Option<&str>) -> Option<String> {
    let meant = name.and_then(|name| nearest::to(name, name_list(running)));
    match (running, meant) {
        ([], _) => None,
        ([_], Some(meant)) => Some(format!("did you mean --name {meant}? No other one is running")),
        (_, Some(meant)) => {
            Some(format!("did you mean --name {meant}? These are running: {}", names(running)))
        }
        (_, None) => Some(format!("these are running: {} (--name chooses one)", names(running))),
    }
}

fn named_by(variable: bool) -> &'static str {
    if variable { " (named by RECLUSTER_CONTROL)" } else { "" }
}

fn name_list(sockets: &[PathBuf]) -> Vec<String> {
    let names = sockets.iter().filter_map(|path| path.file_stem());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn names(sockets: &[PathBuf]) -> String {
    name_list(sockets).join(", ")
}

/// Workers, each with its process.
fn named(workers: &[Worker]) -> String {
    let name = |worker: &Worker| {
        let pid = worker.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        format!("worker {}{pid}", worker.id)
    };
    workers.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A setting of who workers are, as it was written, and where if that is in a file.
fn account(key: &str, value: &str, origin: &Origin) -> String {
    if matches!(origin, Origin::File(_)) {
        format!("{key} = {value:?} ({origin})")
    } else {
        format!("--{key} {value}")
    }
}

fn shown(path: Option<&PathBuf>) -> String {
    path.map(|path| format!(" to {}", path.display())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
