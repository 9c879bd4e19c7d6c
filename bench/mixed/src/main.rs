//! The clients of `bench/balance`. They print what they saw as one line of JSON; an error that they saw is part of it,
//! and for the reader to judge.

mod answer;
mod beside;
mod client;
mod fault;
mod hold;
mod plan;
#[cfg(test)]
mod server;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::plan::Rates;

/// Asks a server on 127.0.0.1 as many clients do.
#[derive(Debug, Parser)]
#[command(name = "mixed-load")]
struct Options {
    /// The server's port
    #[arg(long)]
    port: u16,
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Opens connections at a fixed rate, whatever the server does; tells how long `GET /` took beside `GET /block`
    Beside(Beside),
    /// Opens connections and keeps all of them; tells which worker has how many
    Hold {
        /// How many connections
        #[arg(long)]
        connections: u32,
        /// How many are being opened at any moment
        #[arg(long)]
        at_once: NonZeroU32,
    },
}

#[derive(Debug, Args)]
struct Beside {
    /// Fast requests a second
    #[arg(long)]
    rate: NonZeroU32,
    /// Blocking requests a second
    #[arg(long)]
    block_rate: NonZeroU32,
    /// How long requests are begun
    #[arg(long)]
    seconds: NonZeroU32,
    /// Chooses the moments of the requests: the same number, the same moments
    #[arg(long)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mixed-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<String> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let line = match &options.load {
        Load::Beside(load) => {
            let rates = Rates { fast: load.rate, blocking: load.block_rate };
            let plan = plan::plan(rates, Duration::from_secs(load.seconds.get().into()), load.seed);
            serde_json::to_string(&runtime.block_on(beside::run(server, plan))?)?
        }
        Load::Hold { connections, at_once } => {
            hold::allow_descriptors(*connections)?;
            serde_json::to_string(&runtime.block_on(hold::run(server, *connections, *at_once)))?
        }
    };
    Ok(line)
}
