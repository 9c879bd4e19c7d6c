//! The arguments of the commands that talk to a running cluster.

use std::path::PathBuf;

use clap::Args;
use recluster::Scale;

use super::values::{self, WorkerAt};
use crate::name::Name;

/// Which cluster is meant, and how its answer is shown.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// The name of the cluster; needed if several run
    #[arg(long, value_name = "NAME", conflicts_with = "control")]
    pub(crate) name: Option<Name>,

    // The variable is read later: a name on the command line comes before it.
    #[arg(long, value_name = "PATH", help = "The control socket of the cluster [env: RECLUSTER_CONTROL]")]
    pub(crate) control: Option<PathBuf>,

    /// Print the answer as JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `stop` and `terminate`.
#[derive(Args, Debug)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `reload`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 the new code serves; 1 the reload was rolled back or stopped part-way; \
    2 no cluster answers, or it ended before the verdict."
)]
pub(crate) struct Reload {
    /// Do not wait for the verdict
    #[arg(long)]
    pub(crate) no_wait: bool,

    // Checked later: the words of a refusal here would show the value.
    #[arg(
        long,
        value_name = "NAME[=VALUE]",
        help = "Set a variable for the workers of this and later generations; may be repeated. NAME alone takes the value from \
                this command's environment. After a rollback it is forgotten"
    )]
    pub(crate) env: Vec<String>,

    #[command(flatten)]
    pub(crate) target: Target,
}

/// `status`.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 every slot has an active worker; 1 a slot has none; \
    2 no cluster answers; 3 the cluster stops, or is about to.")]
pub(crate) struct StatusArgs {
    /// Refresh every second
    #[arg(long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) target: Target,
}

/// `config`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 they were shown, and with --diff nothing differs; 1 something differs; \
    2 no cluster answers, or the config file is wrong."
)]
pub(crate) struct ConfigArgs {
    /// Show what the config file says now and the cluster does not do, and whether a reload takes it over
    #[arg(long)]
    pub(crate) diff: bool,

    #[command(flatten)]
    pub(crate) target: Target,
}

/// `top`.
#[derive(Args, Debug)]
#[command(
    mut_arg("json", |json| json.hide(true)),
    after_help = "Exit status: 0 it was left; 2 no cluster answered at the beginning, or stdout is no terminal."
)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `events`.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 all of them were printed, with --follow when the cluster has ended; \
    2 no cluster answers, or it went away.")]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on, until the cluster has ended
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// How many of the last events come first [default: all that the master still has; 10 with --follow]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<u32>,

    #[command(flatten)]
    pub(crate) target: Target,
}

/// `logs`.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 all of them were printed, with --follow when the cluster has ended; \
    2 no cluster answers, it went away, or what its workers write does not pass through its master.")]
pub(crate) struct LogsArgs {
    /// Go on with what workers write from now on, until the cluster has ended
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// How many of the last lines come first [default: all that the master still has; 10 with --follow]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<u32>,

    /// The lines of this slot alone
    #[arg(long, value_name = "N")]
    pub(crate) slot: Option<u32>,

    /// Show when each line was written, in UTC
    #[arg(short, long)]
    pub(crate) timestamps: bool,

    #[command(flatten)]
    pub(crate) target: Target,
}

/// `replace`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 the new worker serves; 1 it did not come to serve, and the old one goes on; \
    2 there is no such worker, or something else is going on; no cluster answers, or it ended before."
)]
pub(crate) struct ReplaceArgs {
    /// The number of a slot, or the pid of its worker; slot:N and pid:N say which is meant
    #[arg(value_name = "SLOT|PID")]
    pub(crate) worker: WorkerAt,

    #[command(flatten)]
    pub(crate) target: Target,
}

/// `upgrade`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 the new program is the master, or with --dry-run could be; 1 it was refused or has failed, and the master \
    goes on; 2 no cluster answers, or it ended before."
)]
pub(crate) struct UpgradeArgs {
    /// The new program [default: what is now at the path by which the master was started]
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,

    /// Only try whether the new program could take over
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Wait for what is in its way, such as a reload, instead of refusing
    #[arg(long)]
    pub(crate) wait: bool,

    #[command(flatten)]
    pub(crate) target: Target,
}

/// `scale`.
#[derive(Args, Debug)]
pub(crate) struct ScaleArgs {
    /// The number of workers, or how many more or fewer; at least one always remains
    #[arg(value_name = "N|+N|-N", value_parser = values::scale, allow_negative_numbers = true)]
    pub(crate) scale: Scale,

    #[command(flatten)]
    pub(crate) target: Target,
}
