//! The `recluster` command: runs a cluster in the foreground, and talks to running ones. (`main` is the program; what it
//! consists of is a library, so that tests outside reach its decoders.)
//!
//! `args` and `config` turn the command line and the config file into typed arguments, once. Then one of three acts on
//! them: `run`, which is the library plus signals, a log and a control socket; `check`, which says what `run` would do;
//! or `client`, which asks a running master.

mod args;
mod check;
mod claim;
mod client;
#[doc(hidden)]
pub mod completions;
mod config;
mod describe;
mod duration;
mod error;
mod exit_code;
#[doc(hidden)]
pub mod fuzzing;
mod inherited;
mod init;
mod log;
mod name;
mod nearest;
mod open_files;
mod orphans;
mod paint;
mod patience;
mod pidfile;
mod run;
mod signals;
mod size;
mod systemd;
mod top;
mod wishes;
mod worker_lines;
mod writable;

use std::process::ExitCode;
use std::time::Duration;

use crate::args::Command;
use crate::config::{CommandLine, Invocation};
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::inherited::Inherited;

/// How long what blocks a thread may go on when everything else is done.
const LOOK_UPS: Duration = Duration::from_secs(1);

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    let inherited = inherited::sockets();
    let line = CommandLine::of_process();
    let outcome = line.read().map_err(Error::from).and_then(|invocation| {
        let runtime = runtime()?;
        let outcome = runtime.block_on(execute(invocation, &line, inherited));
        // A name that a hook wanted to know may be looked up for long after everybody has given up on it.
        runtime.shutdown_timeout(LOOK_UPS);
        outcome
    });
    outcome.unwrap_or_else(|error| error.report(line.wants_json())).into()
}

async fn execute(
    invocation: Invocation,
    line: &CommandLine,
    inherited: Inherited,
) -> Result<ExitStatus, Error> {
    let Invocation { command, settings } = invocation;
    match command {
        Command::Run(args) => run::run(*args, settings, line.clone(), inherited).await,
        Command::Check(args) => check::check(*args, &settings, inherited).await,
        Command::Reload(args) => client::reload(args).await,
        Command::Status(args) => client::status(args).await,
        Command::Config(args) => client::config(args).await,
        Command::Top(args) => top::top(args).await,
        Command::Events(args) => client::events(args).await,
        Command::Logs(args) => client::logs(args).await,
        Command::Replace(args) => client::replace(args).await,
        Command::Scale(args) => client::scale(args).await,
        Command::Stop(args) => client::stop(args).await,
        Command::Terminate(args) => client::terminate(args).await,
        Command::Systemd(mut args) => systemd::systemd(&mut args, &settings, line),
        Command::Init(args) => init::init(&args),
        Command::Completions(args) => completions::print(&args),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)
}
