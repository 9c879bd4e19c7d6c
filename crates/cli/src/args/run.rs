//! The arguments of `run`. Their help is the documentation that most people read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};
use recluster::{DrainSignal, Listen, ReadyCheck, ReadyWhen, Surge};

use super::balancing::Balancing;
use super::values::{self, ConfigAt, ControlAt};
use crate::config::Settings;
use crate::run::name::Name;
use crate::{duration, size};

/// What stands below the options.
const AFTER_HELP: &str = "\
DUR is a duration: 500ms, 30s, 10m, 1h; a bare number is seconds.

Signals to the master:
  HUP, USR2   reload
  TERM, INT   let every worker finish what it has, then end; the second one kills
  QUIT        kill every worker, then end
  TTIN, TTOU  one worker more, one less
  USR1        open the log file anew

Exit status: 0 ended as asked; 2 wrong usage or configuration; 3 the server never came to serve;
126 the server file cannot be run; 127 it or node was not found; 1 anything else.";

/// Start a cluster in the foreground.
///
/// Starts the workers, replaces those that die, and reloads on request. What is run (the server file and node,
/// every symlink on the way to them) is looked up when a reload begins, and used until the next one.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Run {
    /// The server file: .js .cjs .mjs .ts .mts .cts run under node, anything else must be executable
    #[arg(value_name = "SERVER")]
    pub(crate) server: PathBuf,

    /// Arguments for the server
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,

    #[command(flatten)]
    pub(crate) running: Running,

    #[command(flatten)]
    pub(crate) balancing: Balancing,

    #[command(flatten)]
    pub(crate) readiness: Readiness,

    #[command(flatten)]
    pub(crate) leaving: Leaving,

    #[command(flatten)]
    pub(crate) respawning: Respawning,

    #[command(flatten)]
    pub(crate) recycling: Recycling,

    #[command(flatten)]
    pub(crate) around: Around,

    /// Variables for the workers. Only the config file has them.
    #[arg(skip)]
    pub(crate) env: BTreeMap<String, String>,

    /// All of this once more, with where it comes from.
    #[arg(skip)]
    pub(crate) settings: Settings,
}

/// What is run, and how often.
#[derive(Args, Debug)]
#[command(next_help_heading = "Workers")]
pub(crate) struct Running {
    /// How many workers; max: as many as there are usable cores
    #[arg(
        short,
        long,
        value_name = "N|max",
        env = "WEB_CONCURRENCY",
        hide_env_values = true,
        default_value = "max",
        value_parser = values::workers
    )]
    pub(crate) workers: NonZeroU32,

    #[arg(
        short,
        long,
        value_name = "ADDR",
        help = "Bind this address before the first worker, and hand it to all of them; may be repeated",
        long_help = "Bind this address before the first worker, and hand it to all of them; may be repeated.\n\n\
                     8080, 127.0.0.1:8080, [::]:8080, unix:/path, udp:5353; port 0 lets the kernel choose. \
                     NAME=ADDR names it; ?backlog=N and, for a unix socket, ?mode=660 follow it. A program finds the \
                     sockets from descriptor 3 on (LISTEN_FDS). A Node server needs none: what it listens on is its \
                     own to say"
    )]
    pub(crate) listen: Vec<Listen>,

    /// The node binary: a path, or a name that is looked up in PATH
    #[arg(long, value_name = "PATH", default_value = "node", value_hint = ValueHint::CommandName)]
    pub(crate) node: PathBuf,

    /// An argument for node itself, such as --node-arg=--enable-source-maps; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) node_arg: Vec<OsString>,

    /// Give workers the master's own stderr; a verdict then cannot show what they wrote last
    #[arg(long)]
    pub(crate) raw_stdio: bool,
}

/// When a worker counts.
#[derive(Args, Debug)]
#[command(next_help_heading = "Readiness")]
pub(crate) struct Readiness {
    /// When a worker is ready [default: listening; started for what is not run under node]
    #[arg(long, value_name = "WHEN", value_enum)]
    pub(crate) ready_when: Option<ReadyWhenArg>,

    /// A worker that is not ready after this is killed, and its generation has failed
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "60s")]
    pub(crate) ready_timeout: Duration,

    #[arg(
        long,
        value_name = "CHECK",
        help = "What a worker must pass to be ready, and go on passing: http:/path, or exec:COMMAND",
        long_help = "What a worker must pass to be ready, and go on passing: http:/path, or exec:COMMAND.\n\n\
                     http:/path is asked for over a connection that reaches this very worker, and must be answered \
                     with a status below 400. exec:COMMAND is run by /bin/sh with RECLUSTER_PID and WORKER_ID, and \
                     must end with status 0"
    )]
    pub(crate) ready_check: Option<ReadyCheck>,

    /// How long after a check a serving worker is checked again; three failures in a row, and it is renewed
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "10s")]
    pub(crate) check_interval: Duration,

    /// A check that takes longer has failed
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "5s")]
    pub(crate) check_timeout: Duration,

    /// Give each worker a listener of its own there, for http checks of a program that is not Node
    #[arg(long, value_name = "ADDR")]
    pub(crate) check_listen: Option<Listen>,

    #[arg(
        long,
        value_name = "DUR",
        value_parser = duration::parse,
        help = "A ready worker that does not say WATCHDOG=1 by sd_notify for this long is ended and replaced \
                [default: off]"
    )]
    pub(crate) watchdog: Option<Duration>,

    /// How long a ready worker must live before it counts as serving
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "1s")]
    pub(crate) bake: Duration,

    /// How often a worker may fail to start before the start, or the reload, is given up
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "3")]
    pub(crate) attempts: NonZeroU32,

    /// Never give up the first start
    #[arg(long)]
    pub(crate) keep_trying: bool,
}

/// How workers are replaced and let go.
#[derive(Args, Debug)]
#[command(next_help_heading = "Reload and stop")]
pub(crate) struct Leaving {
    /// How many extra workers a reload may run at once; all: no old worker goes before every new one serves
    #[arg(long, value_name = "N|all", value_parser = values::surge, default_value = "all")]
    pub(crate) surge: Surge,

    #[arg(
        long,
        value_name = "DUR",
        value_parser = duration::parse,
        help = "How long an old worker may go on after a reload before it is sent TERM; 0: at once \
                [default: 30s; 1h for node where NODE_ENV is production]"
    )]
    pub(crate) timeout: Option<Duration>,

    /// The same for a stop [default: 25s, or the timeout if that is shorter]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) stop_timeout: Option<Duration>,

    /// Drain Node workers without losing a request: off leaves it to Node, which resets idle connections
    #[arg(long, value_name = "on|off", value_enum, default_value_t = Switch::On)]
    pub(crate) drain_http: Switch,

    /// How long an idle connection of a draining Node worker is spared [default: 6s, or a bit less than the timeout]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) idle_grace: Option<Duration>,

    /// What a program that is not Node is sent at the start of its drain; if it is not TERM, that follows at the
    /// drain timeout
    #[arg(long, value_name = "SIG", value_enum, default_value_t = DrainSignalArg::Term, ignore_case = true)]
    pub(crate) drain_signal: DrainSignalArg,

    /// How long to go on accepting connections after a stop was asked for
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "0s")]
    pub(crate) accept_after_stop: Duration,

    /// How long a worker that has closed its channel may take to exit before it is sent TERM
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "5s")]
    pub(crate) exit_grace: Duration,

    /// How long a worker may take from TERM to its exit before it is sent KILL
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "5s")]
    pub(crate) kill_timeout: Duration,

    /// How many old generations may be on their way out at once; the oldest beyond that is sent TERM, and KILL after the
    /// kill timeout [default: no limit]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) max_draining: Option<NonZeroU32>,
}

/// How often dead workers are replaced.
#[derive(Args, Debug)]
#[command(next_help_heading = "Respawning")]
pub(crate) struct Respawning {
    /// The least time between two respawns
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "1s")]
    pub(crate) respawn: Duration,

    /// Double the time between respawns with each of them, up to this [default: off]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) backoff: Option<Duration>,
}

/// When workers are renewed that work.
#[derive(Args, Debug)]
#[command(next_help_heading = "Recycling")]
pub(crate) struct Recycling {
    /// Renew a worker, new first, when it and what it started use more memory than this, such as 512M
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) max_memory: Option<u64>,

    /// Renew a worker, new first, when it has lived this long, or up to a tenth less
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) max_lifetime: Option<Duration>,
}

/// What surrounds a cluster.
#[derive(Args, Debug)]
#[command(next_help_heading = "Control and log")]
pub(crate) struct Around {
    /// The cluster's name, for the control socket and the log
    /// [default: that of the nearest package.json, else of the directory; -2, -3 … where it is taken]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,

    #[arg(
        long,
        value_name = "PATH|none",
        env = "RECLUSTER_CONTROL",
        hide_env_values = true,
        value_hint = ValueHint::FilePath,
        help = "The control socket, or none [default: NAME.sock in $XDG_RUNTIME_DIR/recluster, else in \
                /run/recluster for root, else in /tmp/recluster-UID]"
    )]
    pub(crate) control: Option<ControlAt>,

    #[arg(
        long,
        value_name = "FILE|none",
        env = "RECLUSTER_CONFIG",
        hide_env_values = true,
        help = "The config file: options by their long names, for what is not said here; or none [default: \
                recluster.toml beside the server file; it can also name that file, as in server = \"server.js\"]"
    )]
    pub(crate) config: Option<ConfigAt>,

    /// Write the master's process id to this file
    #[arg(long, value_name = "PATH")]
    pub(crate) pidfile: Option<PathBuf>,

    /// Write the log to this file [default: stderr]
    #[arg(long, value_name = "PATH")]
    pub(crate) log_file: Option<PathBuf>,

    /// How the log is written; json: one event a line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Log failures only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Log everything
    #[arg(short, long)]
    verbose: bool,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Failures.
    Quiet,
    /// What changes how the cluster serves.
    Normal,
    /// Everything.
    Verbose,
}

impl Around {
    pub(crate) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, false) => Verbosity::Normal,
            (false, true) => Verbosity::Verbose,
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

/// [`ReadyWhen`], as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadyWhenArg {
    /// Its server listens
    Listening,
    /// Its process runs
    Started,
    /// It said so, by process.send({cmd: 'ready'})
    Ready,
    #[value(help = "It said READY=1 by sd_notify")]
    Notify,
}

impl From<ReadyWhenArg> for ReadyWhen {
    fn from(arg: ReadyWhenArg) -> Self {
        match arg {
            ReadyWhenArg::Listening => Self::Listening,
            ReadyWhenArg::Started => Self::Started,
            ReadyWhenArg::Ready => Self::Ready,
            ReadyWhenArg::Notify => Self::Notify,
        }
    }
}

/// [`DrainSignal`], as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum DrainSignalArg {
    #[value(alias = "SIGTERM")]
    Term,
    #[value(alias = "SIGINT")]
    Int,
    #[value(alias = "SIGQUIT")]
    Quit,
    #[value(alias = "SIGHUP")]
    Hup,
    #[value(alias = "SIGUSR1")]
    Usr1,
    #[value(alias = "SIGUSR2")]
    Usr2,
    #[value(alias = "SIGWINCH")]
    Winch,
}

impl From<DrainSignalArg> for DrainSignal {
    fn from(arg: DrainSignalArg) -> Self {
        match arg {
            DrainSignalArg::Term => Self::Term,
            DrainSignalArg::Int => Self::Int,
            DrainSignalArg::Quit => Self::Quit,
            DrainSignalArg::Hup => Self::Hup,
            DrainSignalArg::Usr1 => Self::Usr1,
            DrainSignalArg::Usr2 => Self::Usr2,
            DrainSignalArg::Winch => Self::Winch,
        }
    }
}
