//! The loss meter: several contenders under the same load, one table.

mod options;
mod report;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use recluster_loss::{Contender, Outcome};
use tokio::signal::unix::{SignalKind, signal};

use crate::options::Options;

/// Everybody was measured, and ours lost nothing.
const LOSSLESS: u8 = 0;
/// Ours lost a request.
const LOSSES: u8 = 1;
/// A contender could not be measured, or an option is wrong.
const FAILED: u8 = 2;
/// The reference lost nothing: the load was too light to show anything.
const INVALID: u8 = 3;
/// Ended by a signal.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = Options::parse();
    let status = match run(&options) {
        Ok(Some(outcomes)) => verdict(&outcomes),
        Ok(None) => {
            eprintln!("loss-meter: interrupted, nothing is left running");
            INTERRUPTED
        }
        Err(error) => {
            eprintln!("loss-meter: {error:#}");
            FAILED
        }
    };
    ExitCode::from(status)
}

/// Measures everybody; nothing when a signal came.
fn run(options: &Options) -> Result<Option<Vec<Outcome>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("failed to listen for signals")?;
        tokio::select! {
            outcomes = measure(options) => outcomes.map(Some),
            // What was begun is dropped, and ends its processes.
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    })
}

async fn measure(options: &Options) -> Result<Vec<Outcome>> {
    let trial = options.trial();
    let mut outcomes = Vec::new();
    for server in &options.server {
        let settings = options.settings(*server)?;
        for contender in &options.contenders {
            eprintln!("loss-meter: {contender}, {server} …");
            let outcome = trial.run(*contender, &settings).await;
            let outcome = outcome.with_context(|| format!("{contender}, {server}"))?;
            eprintln!(
                "loss-meter: {contender}, {server}: {} lost of {}",
                outcome.tally.lost(),
                outcome.tally.sent()
            );
            outcomes.push(outcome);
        }
    }
    if outcomes.is_empty() {
        bail!("nobody to measure");
    }
    if options.json {
        report::json(&outcomes)?;
    } else {
        report::tables(&outcomes);
    }
    Ok(outcomes)
}

fn verdict(outcomes: &[Outcome]) -> u8 {
    let lost = |contender: Contender| {
        let those = outcomes.iter().filter(move |outcome| outcome.contender == contender);
        those.map(|outcome| outcome.tally.lost())
    };
    if lost(Contender::Ours).chain(lost(Contender::OursNpm)).any(|lost| lost > 0) {
        return LOSSES;
    }
    if lost(Contender::Reference).any(|lost| lost == 0) {
        eprintln!("loss-meter: INVALID: the reference lost nothing, the load was too light to show anything");
        return INVALID;
    }
    LOSSLESS
}
