//! The `recluster` command: runs a cluster in the foreground, and talks to running ones.
//!
//! What people write on the command line becomes typed arguments in `args`, once; everything after that is either
//! `run`, which is the library plus signals, a log and a control socket, or `client`, which asks a running master.

mod args;
mod client;
mod duration;
mod error;
mod exit_code;
mod log;
mod paint;
mod run;

use std::process::ExitCode;

use crate::args::Command;
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::run::inherited::{self, Inherited};

fn main() -> ExitCode {
    let inherited = inherited::sockets();
    let command = args::parse();
    let json = command.wants_json();
    let outcome = runtime().and_then(|runtime| runtime.block_on(execute(command, inherited)));
    outcome.unwrap_or_else(|error| error.report(json)).into()
}

async fn execute(command: Command, inherited: Inherited) -> Result<ExitStatus, Error> {
    match command {
        Command::Run(args) => run::run(*args, inherited).await,
        Command::Reload(args) => client::reload(args).await,
        Command::Status(args) => client::status(args).await,
        Command::Scale(args) => client::scale(args).await,
        Command::Stop(args) => client::stop(args).await,
        Command::Terminate(args) => client::terminate(args).await,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)
}
