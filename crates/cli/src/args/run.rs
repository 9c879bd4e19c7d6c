//! The arguments of `run`. Their help is the documentation that most people read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};
use recluster::{Hook, Listen, MemoryLimit, ReadyCheck, ReadyWhen, Surge};

use super::admin::Administering;
use super::balancing::Balancing;
use super::following::Following;
use super::privileges::Privileges;
use super::values::{self, CacheIn, ConfigAt, ControlAt, DrainSignalArg, InstanceIn};
use crate::name::Name;
use crate::{duration, size};

/// What stands below the options.
const AFTER_HELP: &str = "\
DUR is a duration: 500ms, 30s, 10m, 1h; a bare number is seconds.

Signals to the master:
  HUP, USR2   reload
  TERM, INT   stop: workers finish their requests, then the master exits; a second one kills
  QUIT        kill every worker, then exit
  TTIN, TTOU  one worker more, one worker fewer
  USR1        reopen the log file

Exit status: 0 stopped as asked; 2 wrong usage or configuration; 3 the first start failed;
126 the server file cannot be run; 127 the server file or node was not found; 1 any other failure.";

/// Start a cluster in the foreground.
///
/// Starts the workers, replaces those that die, and reloads on request. The paths of the server file and of node
/// are resolved, with their symlinks, when a start or a reload begins; they stay in use until the next reload.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Run {
    /// The server file: .js .cjs .mjs .ts .mts .cts and scripts of node (#!) run under node; any other must be executable
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
    pub(crate) following: Following,

    #[command(flatten)]
    pub(crate) privileges: Privileges,

    #[command(flatten)]
    pub(crate) admin: Administering,

    #[command(flatten)]
    pub(crate) around: Around,

    /// Variables for the workers. Only the config file has them.
    #[arg(skip)]
    pub(crate) env: BTreeMap<String, String>,
}

/// What is run, and how often.
#[derive(Args, Debug)]
#[command(next_help_heading = "Workers")]
pub(crate) struct Running {
    /// Number of workers; max: one for each usable core
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
        help = "Bind this address and pass the socket to every worker; may be repeated. Not needed for Node",
        long_help = "Bind this address and pass the socket to every worker; may be repeated. Not needed for Node.\n\n\
                     Examples: 8080, 127.0.0.1:8080, [::]:8080, unix:/path, udp:5353. With port 0 the kernel \
                     chooses. NAME=ADDR gives the socket a name. ?backlog=N and, for a unix socket, ?mode=660 may \
                     follow the address. The program finds its sockets from descriptor 3 on (LISTEN_FDS). A Node \
                     server calls listen() itself and needs no --listen"
    )]
    pub(crate) listen: Vec<Listen>,

    /// The node binary: a path, or a name to look up in PATH [default: that of the server file's first line, else node]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::CommandName)]
    pub(crate) node: Option<PathBuf>,

    /// An argument for node itself, such as --node-arg=--enable-source-maps; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) node_arg: Vec<OsString>,

    #[arg(
        long,
        value_name = "FILE",
        help = "A file of variables for the workers, NAME=VALUE as node --env-file reads it; read again at each reload; may be \
                repeated"
    )]
    pub(crate) env_file: Vec<PathBuf>,

    #[arg(
        long,
        value_name = "VAR|none",
        default_value = "none",
        help = "A variable that holds the worker's slot beside WORKER_ID; NODE_APP_INSTANCE is that of pm2"
    )]
    pub(crate) instance_env: InstanceIn,

    #[arg(
        long,
        value_name = "DIR|auto|none",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = CacheIn::AUTO,
        default_value = "none",
        value_hint = ValueHint::FilePath,
        help = "Keep the code that Node has compiled, so that workers after the first start faster (Node 22.8 and later); \
                auto, or nothing: in $CACHE_DIRECTORY, else in $XDG_CACHE_HOME/recluster, else in ~/.cache/recluster"
    )]
    pub(crate) compile_cache: CacheIn,

    /// How much compiled code is kept
    #[arg(long, value_name = "SIZE", value_parser = size::of_cache, default_value = "256M")]
    pub(crate) compile_cache_size: u64,

    #[arg(
        long,
        value_name = "wait|lose",
        value_enum,
        default_value_t = WhenUnread::Lose,
        help = "Where the master's stderr is a pipe that is read slowly: workers wait, or lines of theirs are lost and counted"
    )]
    pub(crate) stderr: WhenUnread,

    /// Workers write to the master's stderr directly; a failed reload then cannot show their last lines
    #[arg(long, conflicts_with_all = ["log_prefix", "worker_log"])]
    pub(crate) raw_stdio: bool,

    /// Put slot and pid before each line that workers write; with --log-format json, make an object of each. Their stdout is a
    /// pipe then
    #[arg(long)]
    pub(crate) log_prefix: bool,

    /// Write what workers write to files in this directory, 0.log for the first slot and so on; reopened on USR1
    #[arg(long, value_name = "DIR")]
    pub(crate) worker_log: Option<PathBuf>,

    /// Begin a new file before one is larger than this; the old one becomes 0.log.1 [default: never]
    #[arg(long, value_name = "SIZE", value_parser = size::of_log)]
    pub(crate) worker_log_size: Option<u64>,

    /// How many old files of a slot are kept
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "5")]
    pub(crate) worker_log_keep: NonZeroU32,
}

/// When a worker counts.
#[derive(Args, Debug)]
#[command(next_help_heading = "Readiness")]
pub(crate) struct Readiness {
    /// What makes a worker ready [default: listening; started for programs that are not Node]
    #[arg(long, value_name = "WHEN", value_enum)]
    pub(crate) ready_when: Option<ReadyWhenArg>,

    /// A worker that is not ready after this time is killed, and the start or reload fails
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "60s")]
    pub(crate) ready_timeout: Duration,

    #[arg(
        long,
        value_name = "CHECK",
        help = "A health check that a worker must pass to be ready and to stay in service: http:/path or exec:COMMAND",
        long_help = "A health check that a worker must pass to be ready and to stay in service: http:/path or \
                     exec:COMMAND.\n\n\
                     http:/path: the master requests this path from each worker; the status must be from 200 to 399. \
                     exec:COMMAND: /bin/sh runs the command with RECLUSTER_PID and WORKER_ID in its environment; \
                     it must exit with 0"
    )]
    pub(crate) ready_check: Option<ReadyCheck>,

    /// Time between two checks of a serving worker; after three failures in a row it is replaced
    #[arg(long, value_name = "DUR", value_parser = duration::parse_interval, default_value = "10s")]
    pub(crate) check_interval: Duration,

    /// A check that takes longer than this fails
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "5s")]
    pub(crate) check_timeout: Duration,

    /// An extra socket for each worker (TCP, port 0), for http checks of programs that are not Node
    #[arg(long, value_name = "ADDR")]
    pub(crate) check_listen: Option<Listen>,

    #[arg(
        long,
        value_name = "DUR",
        value_parser = duration::parse,
        help = "A ready worker that does not send WATCHDOG=1 by sd_notify for this long is killed and replaced \
                [default: off]"
    )]
    pub(crate) watchdog: Option<Duration>,

    /// How long a ready worker must stay alive before it counts as serving
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "1s")]
    pub(crate) bake: Duration,

    /// After how many failures of one worker the start or the reload fails
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "3")]
    pub(crate) attempts: NonZeroU32,

    /// Retry the first start for ever
    #[arg(long)]
    pub(crate) keep_trying: bool,
}

/// How workers are replaced and let go.
#[derive(Args, Debug)]
#[command(next_help_heading = "Reload and stop")]
pub(crate) struct Leaving {
    /// How many extra workers a reload may run at once; all: no old worker leaves before every new one serves
    #[arg(long, value_name = "N|all", value_parser = values::surge, default_value = "all")]
    pub(crate) surge: Surge,

    /// How many workers boot at a time, or max for one per usable core; the others are started when those are ready
    /// [default: no limit]
    #[arg(long, value_name = "N|max", value_parser = values::workers)]
    pub(crate) boot_limit: Option<NonZeroU32>,

    #[arg(
        long,
        value_name = "DUR",
        value_parser = duration::parse,
        help = "How long an old worker may take to finish its requests before it is sent TERM; 0: no time \
                [default: 30s; 1h for Node if NODE_ENV is production]"
    )]
    pub(crate) timeout: Option<Duration>,

    /// The same when the cluster stops [default: 25s, or --timeout if that is shorter]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) stop_timeout: Option<Duration>,

    /// Drain Node workers without losing a request; off: as Node does by itself, which resets idle connections
    #[arg(long, value_name = "on|off", value_enum, default_value_t = Switch::On)]
    pub(crate) drain_http: Switch,

    /// How long a draining Node worker keeps idle connections open, in a reload at least for its server's keepAliveTimeout
    /// [default: 6s, or a bit less than --timeout]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) idle_grace: Option<Duration>,

    /// The signal that tells a program that is not Node to finish; TERM follows after --timeout
    #[arg(long, value_name = "SIG", value_enum, default_value_t = DrainSignalArg::Term, ignore_case = true)]
    pub(crate) drain_signal: DrainSignalArg,

    /// How long to keep accepting connections after a stop is requested
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "0s")]
    pub(crate) accept_after_stop: Duration,

    /// How long a worker may take to exit after it has closed its channel, before it is sent TERM
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "5s")]
    pub(crate) exit_grace: Duration,

    /// How long a worker may take to exit after TERM, before it is sent KILL
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "5s")]
    pub(crate) kill_timeout: Duration,

    /// How many old generations may drain at once; the oldest one above that is sent TERM, then KILL after
    /// --kill-timeout [default: no limit]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) max_draining: Option<NonZeroU32>,
}

/// How often dead workers are replaced.
#[derive(Args, Debug)]
#[command(next_help_heading = "Respawning")]
pub(crate) struct Respawning {
    /// Minimum time between two respawns
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "1s")]
    pub(crate) respawn: Duration,

    /// Double the time between respawns with each respawn, up to this [default: off]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) backoff: Option<Duration>,
}

/// When workers are renewed that work.
#[derive(Args, Debug)]
#[command(next_help_heading = "Recycling")]
pub(crate) struct Recycling {
    /// Replace a worker when it and its child processes use more memory than this, such as 512M; 80%: its part of so much of the
    /// control group's or the machine's memory, divided by the workers that may run at once
    #[arg(long, value_name = "SIZE|N%", value_parser = size::of_worker)]
    pub(crate) max_memory: Option<MemoryLimit>,

    /// Replace a worker at this age (or up to a tenth earlier, so that not all are replaced at once)
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) max_lifetime: Option<Duration>,
}

/// What surrounds a cluster.
#[derive(Args, Debug)]
#[command(next_help_heading = "Control and log")]
pub(crate) struct Around {
    /// The cluster's name, for the control socket and the log
    /// [default: the name in the nearest package.json, else of the directory; with -2, -3 … if it is taken]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,

    #[arg(
        long,
        value_name = "PATH|none",
        env = "RECLUSTER_CONTROL",
        hide_env_values = true,
        value_hint = ValueHint::FilePath,
        help = "Path of the control socket, or none [default: NAME.sock in $XDG_RUNTIME_DIR/recluster, else in \
                /run/recluster for root, else in /tmp/recluster-UID]"
    )]
    pub(crate) control: Option<ControlAt>,

    #[arg(
        long,
        value_name = "FILE|none",
        env = "RECLUSTER_CONFIG",
        hide_env_values = true,
        help = "The config file, or none. It holds options by their long names; the command line overrides it \
                [default: recluster.toml in the directory of the server file; without SERVER, in this directory]"
    )]
    pub(crate) config: Option<ConfigAt>,

    #[arg(
        long,
        value_name = "EVENT=ACTION",
        help = "When something happens, run a command (EVENT=exec:COMMAND) or post the event as JSON (EVENT=http://HOST/PATH); \
                may be repeated",
        long_help = "When something happens, run a command (EVENT=exec:COMMAND) or post the event as JSON \
                     (EVENT=http://HOST/PATH); may be repeated.\n\n\
                     EVENT: started, reloaded, rolled-back, stopped-part-way, crashed, respawn-loop, unhealthy, recycled, \
                     stopping, stopped. /bin/sh runs the command, which has the event as JSON on its stdin and its name in \
                     RECLUSTER_EVENT; it may take ten seconds. For https: exec:curl -fsS --json @- https://HOST/PATH"
    )]
    pub(crate) on: Vec<Hook>,

    /// Write the master's process id to this file
    #[arg(long, value_name = "PATH")]
    pub(crate) pidfile: Option<PathBuf>,

    /// Adopt and reap processes whose parent has ended, as PID 1 of a container does in any case
    #[arg(long)]
    pub(crate) subreaper: bool,

    /// After a panic of the master, which would be a fault of recluster, end the cluster, or begin anew as the same process
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = AfterPanicArg::End)]
    pub(crate) after_panic: AfterPanicArg,

    /// Write the log to this file [default: stderr]
    #[arg(long, value_name = "PATH")]
    pub(crate) log_file: Option<PathBuf>,

    /// Format of the log; json: one event per line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Log only failures
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Log everything
    #[arg(short, long)]
    verbose: bool,
}

/// What becomes of a master of which a part has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AfterPanicArg {
    /// The cluster ends
    End,
    /// The master begins anew with the listening sockets, and starts new workers; those that there were answer what they have and end
    Restart,
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

/// What becomes of stderr that is not read in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhenUnread {
    /// The worker waits
    Wait,
    /// Lines are lost
    Lose,
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
    /// The worker's server listens
    Listening,
    /// The worker's process runs
    Started,
    /// The worker called process.send({cmd: 'ready'})
    Ready,
    #[value(help = "The worker sent READY=1 by sd_notify")]
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
