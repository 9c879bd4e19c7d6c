//! The command line, as types. Nothing after this module looks at text that a person typed.

mod admin;
mod alone;
mod balancing;
mod check;
mod client;
mod completions;
pub(crate) mod development;
mod following;
mod init;
mod privileges;
mod reading;
mod run;
mod systemd;
mod tips;
mod values;

use std::env;
use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub(crate) use check::Check;
pub(crate) use client::{
    Ask, ConfigArgs, EventsArgs, LogsArgs, Reload, ReplaceArgs, ScaleArgs, StatusArgs, Target, TopArgs,
    UpgradeArgs,
};
pub(crate) use completions::{Completions, ShellArg};
pub(crate) use following::WatchAt;
pub(crate) use init::Init;
pub(crate) use run::{
    AfterPanicArg, Around, Leaving, LogFormat, Readiness, Run, Running, Switch, Verbosity, WhenUnread,
};
pub(crate) use systemd::{OWN as SYSTEMDS_OWN, Systemd};
pub(crate) use values::{CacheIn, ConfigAt, ControlAt, InstanceIn, WorkerAt, scale};

/// Runs a server on all cores, and replaces its code without losing a request.
///
/// A master starts one worker for each core. The workers share their listening sockets. A reload replaces every
/// worker with one that runs the new code. If the new code does not start, the old workers keep serving.
#[derive(Debug, Parser)]
#[command(
    name = "recluster",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    override_usage = "recluster [run] [OPTIONS] <SERVER> [-- ARGS...]\n       recluster <COMMAND>",
    after_help = "`recluster server.js` is `recluster run server.js`; \
        `recluster run --help` lists its options.\n\
        For a server file with the name of a command, write a directory: `recluster ./reload`."
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
    /// Show whether a cluster would start, and with which settings, without starting it
    Check(Box<Check>),
    /// Replace every worker with one that runs the new code, and wait for the verdict
    Reload(Reload),
    /// Show the slots and workers of a cluster
    Status(StatusArgs),
    /// Show with which settings a cluster runs, and how the config file differs from them
    Config(ConfigArgs),
    /// Watch a cluster in a terminal, with keys to reload, replace and scale
    Top(TopArgs),
    /// Show what has happened in a cluster, and follow what happens
    Events(EventsArgs),
    /// Show the last lines that workers have written, and follow those that come
    Logs(LogsArgs),
    /// Replace one worker by a new one of the same code, and wait until that serves
    Replace(ReplaceArgs),
    /// Change the number of workers
    Scale(ScaleArgs),
    /// Put a new version of recluster in the place of the running master, under its workers
    Upgrade(UpgradeArgs),
    /// Let every worker finish its requests, then stop
    Stop(Ask),
    /// Kill every worker, then stop
    Terminate(Ask),
    /// Print a systemd unit that runs a cluster with these options, or install it
    Systemd(Box<Systemd>),
    /// Write a recluster.toml for the project in a directory, and say what to run
    Init(Init),
    /// Print what a shell needs to complete command lines
    Completions(Completions),
}

impl Command {
    /// What is said about a cluster that is to be started, if one is.
    pub(crate) fn run_mut(&mut self) -> Option<&mut Run> {
        match self {
            Self::Run(run) => Some(run),
            Self::Check(check) => Some(&mut check.run),
            Self::Systemd(systemd) => Some(&mut systemd.run),
            Self::Reload(_)
            | Self::Status(_)
            | Self::Config(_)
            | Self::Top(_)
            | Self::Events(_)
            | Self::Logs(_)
            | Self::Replace(_)
            | Self::Scale(_)
            | Self::Upgrade(_)
            | Self::Stop(_)
            | Self::Terminate(_)
            | Self::Init(_)
            | Self::Completions(_) => None,
        }
    }

    /// The same, for keeping.
    pub(crate) fn into_run(self) -> Option<Run> {
        match self {
            Self::Run(run) => Some(*run),
            Self::Check(check) => Some(check.run),
            Self::Systemd(systemd) => Some(systemd.run),
            Self::Reload(_)
            | Self::Status(_)
            | Self::Config(_)
            | Self::Top(_)
            | Self::Events(_)
            | Self::Logs(_)
            | Self::Replace(_)
            | Self::Scale(_)
            | Self::Upgrade(_)
            | Self::Stop(_)
            | Self::Terminate(_)
            | Self::Init(_)
            | Self::Completions(_) => None,
        }
    }
}

/// What can be written on the command line.
pub(crate) fn definition() -> clap::Command {
    let command = Cli::command()
        .mut_subcommand("check", check::with_own_help)
        .mut_subcommand("systemd", systemd::with_own_help);
    reading::without_empty_variables(command, |name| env::var_os(name))
}

/// What can be written behind `run`.
pub(crate) fn definition_of_run() -> clap::Command {
    let run = Cli::command().find_subcommand("run").cloned();
    run.unwrap_or_default()
}

/// Reads a command line [with a command](with_command).
pub(crate) fn matches(args: &[OsString]) -> Result<ArgMatches, clap::Error> {
    reading::matches(&definition(), args)
}

/// What was written, as types.
pub(crate) fn typed(matches: &ArgMatches) -> Result<Command, clap::Error> {
    typed_for(matches, None)
}

/// The same for a cluster that watches this, whatever is written now, if it runs already.
pub(crate) fn typed_for(matches: &ArgMatches, watches: Option<&[WatchAt]>) -> Result<Command, clap::Error> {
    let mut command = Cli::from_arg_matches(matches)?.command;
    let given = matches.subcommand().map(|(_, given)| given);
    let is_given = |id: &str| {
        let source = given.and_then(|given| given.value_source(id));
        source.is_some_and(|source| source != ValueSource::DefaultValue)
    };
    if let Some(words) = command.run_mut().and_then(|run| alone::refusal(run, is_given)) {
        return Err(definition().error(ErrorKind::ArgumentConflict, words));
    }
    if let Some(run) = command.run_mut() {
        if let Some(watches) = watches {
            run.following.watch = watches.to_vec();
        }
        development::suit(run, is_given);
    }
    Ok(command)
}

/// The names of all commands.
pub(crate) fn commands() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// Inserts the command `run` where none is given: what comes first is then a server file or one of `run`'s options.
/// `help` and `help COMMAND`, which many commands have, become `--help` and `COMMAND --help`.
pub(crate) fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|first| first == "help") {
        args.remove(1);
        args.truncate(2);
        args.push("--help".into());
    }
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
