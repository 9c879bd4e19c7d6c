//! The command line, as types. Nothing after this module looks at text that a person typed.

mod client;
mod run;
mod values;

use std::ffi::{OsStr, OsString};

use clap::{CommandFactory as _, Parser, Subcommand};

pub(crate) use client::{Ask, Reload, ScaleArgs, StatusArgs, Target};
pub(crate) use run::{Around, LogFormat, Run, Switch, Verbosity};
pub(crate) use values::ControlAt;

/// Runs copies of a server on all cores, and replaces them without a gap.
///
/// A master starts one worker on each core; the workers share their listening sockets. On a reload every worker
/// is replaced by one that runs the new code. If the new code does not start, the old workers serve on.
#[derive(Debug, Parser)]
#[command(
    name = "recluster",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    override_usage = "recluster [run] [OPTIONS] <SERVER> [-- ARGS...]\n       recluster <COMMAND>",
    after_help = "`recluster server.js` is `recluster run server.js`; \
        `recluster run --help` shows what can be said about a cluster.\n\
        A server file that is named like a command is written with a directory: `recluster ./reload`."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster in the foreground
    Run(Box<Run>),
    /// Replace every worker by one that runs the new code, and wait for the verdict
    Reload(Reload),
    /// Show slots, workers and how they are
    Status(StatusArgs),
    /// Change the number of workers
    Scale(ScaleArgs),
    /// Let every worker finish what it has, then end
    Stop(Ask),
    /// Kill every worker at once, then end
    Terminate(Ask),
}

impl Command {
    /// Whether the answer is to be JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Run(_) => false,
            Self::Reload(args) => args.target.json,
            Self::Status(args) => args.target.json,
            Self::Scale(args) => args.target.json,
            Self::Stop(args) | Self::Terminate(args) => args.target.json,
        }
    }
}

/// Reads the command line. Ends the process where it asks for help, or is wrong: status 2.
pub(crate) fn parse() -> Command {
    Cli::parse_from(with_command(std::env::args_os().collect())).command
}

/// The names of all commands.
pub(crate) fn commands() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// Inserts the command `run` where none is given: what comes first is then a server file or one of `run`'s options.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let about_all = ["-h", "--help", "-V", "--version"];
    let is_known = |arg: &OsStr| {
        about_all.iter().any(|flag| arg == *flag) || commands().iter().any(|command| arg == command.as_str())
    };
    if args.get(1).is_some_and(|first| !is_known(first)) {
        args.insert(1, "run".into());
    }
    args
}

#[cfg(test)]
mod tests;
