//! The arguments of `check`.

use clap::Args;

use super::run::Run;

/// What stands below the options.
const AFTER_HELP: &str = "\
Takes the options of `run`. Starts nothing and changes nothing.

Exit status: 0 nothing is wrong; 2 wrong usage or configuration; 126 the server file cannot be run
or has a syntax error; 127 the server file or node was not found.";

/// `check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) run: Run,
}

/// The command with its own text below, in place of that of `run`, which comes with the options of `run`.
pub(super) fn with_own_help(check: clap::Command) -> clap::Command {
    check.after_help(AFTER_HELP)
}
