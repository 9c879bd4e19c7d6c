//! The arguments of `systemd`.

use std::path::PathBuf;

use clap::Args;

use super::run::Run;

/// What stands below the options.
const AFTER_HELP: &str = "\
Takes the options of `run`, which are those of the unit. Starts nothing.

Exit status: 0 it is printed, or written; 2 wrong usage or configuration, or a file is there already;
126 the server file cannot be run; 127 the server file or node was not found.";

/// `systemd`.
#[derive(Args, Debug)]
pub(crate) struct Systemd {
    /// Write the unit, and that of its sockets, instead of printing it, and say what to run next
    ///
    /// The directory is /etc/systemd/system where none is said.
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = UNITS)]
    pub(crate) install: Option<PathBuf>,

    /// Write over units that are there and differ
    #[arg(long, requires = "install")]
    pub(crate) force: bool,

    /// The user that the service runs as; `dynamic`: one that systemd makes for it [default: dynamic for root, else yourself]
    #[arg(long, value_name = "USER")]
    pub(crate) run_as: Option<String>,

    /// Print the units as JSON
    #[arg(long, conflicts_with = "install")]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) run: Run,
}

/// Where systemd looks for the units of an administrator.
const UNITS: &str = "/etc/systemd/system";

/// The options of this command alone, which are none of the unit's; with whether a value of theirs stands in the next word.
pub(crate) const OWN: [(&str, bool); 4] =
    [("--install", false), ("--force", false), ("--run-as", true), ("--json", false)];

/// The command with its own text below, in place of that of `run`, which comes with the options of `run`.
pub(super) fn with_own_help(systemd: clap::Command) -> clap::Command {
    systemd.after_help(AFTER_HELP)
}
