//! The clients of the loss meter against a port of the loopback interface, for a script that does something to what is behind it.
//!
//! It is told what to do on its stdin: each line is answered with the number of requests so far, and its end ends the load. Then one line of
//! JSON says what became of the requests.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use recluster_loss::{Connector, Endpoint, Load, Mix, Settings, Tally};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::time::timeout;

/// Asks without end until stdin ends, and counts the requests that were lost.
#[derive(Debug, Parser)]
#[command(name = "loss-load")]
struct Options {
    /// The port of 127.0.0.1 where a server of the meter's own answers
    #[arg(long)]
    port: u16,
    /// How many clients of each kind; kinds that are not named have none
    #[arg(long, value_name = "KIND=N,…")]
    clients: Mix,
    /// The pause after each answer of the clients that make none by themselves
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1ms")]
    think: Duration,
    /// How long it goes on at most
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5m")]
    most: Duration,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = runtime.block_on(measure(&options))?;
    println!("{}", report(&tally));
    // A thread of it may still wait for stdin.
    runtime.shutdown_background();
    Ok(())
}

async fn measure(options: &Options) -> Result<Tally> {
    let connector = Connector::new(&Settings::identity())?;
    let load = Load::start(&options.clients, &[Endpoint::tcp(options.port)], &connector, options.think);
    // Out of time is as good as told to end.
    if let Ok(obeyed) = timeout(options.most, obey(&load)).await {
        obeyed?;
    }
    Ok(load.finish().await)
}

async fn obey(load: &Load) -> Result<()> {
    let mut lines = BufReader::new(stdin()).lines();
    while lines.next_line().await.context("failed to read what to do")?.is_some() {
        println!("{}", load.requests());
    }
    Ok(())
}

fn report(tally: &Tally) -> serde_json::Value {
    let answered: u64 = tally.kinds.values().map(|counts| counts.answered).sum();
    let by_kind: BTreeMap<_, _> =
        tally.kinds.iter().map(|(kind, counts)| (kind.name(), [counts.lost(), counts.sent()])).collect();
    let losses = tally.losses().map(|loss| {
        let (kind, seconds) = (loss.kind.name(), loss.at.as_secs_f64());
        json!({ "kind": kind, "at": seconds, "cause": loss.cause.to_string(), "bytes": loss.bytes })
    });
    let losses: Vec<_> = losses.collect();
    json!({ "answered": answered, "again": tally.refused(), "by_kind": by_kind, "losses": losses })
}
