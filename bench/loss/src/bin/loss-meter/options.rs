//! The options of the meter.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use recluster_loss::{Chaos, Contender, Mix, Server, Settings, Trial, packages};

/// Counts the requests that a cluster loses while it is reloaded under load.
#[derive(Debug, Parser)]
#[command(name = "loss-meter")]
pub(crate) struct Options {
    /// Who is measured: reference, pm2, ours, ours-plain (without the lossless drain), ours-npm (the npm package)
    #[arg(long, value_delimiter = ',', default_value = "reference,pm2,ours")]
    pub(crate) contenders: Vec<Contender>,
    /// With which servers: http, express, fastify, https, http2, mixed
    #[arg(long, value_delimiter = ',', default_value = "mixed")]
    pub(crate) server: Vec<Server>,
    /// How many reloads at least
    #[arg(long, default_value_t = 10)]
    reloads: u32,
    /// How many requests at least: reloads go on until so many were made
    #[arg(long, default_value_t = 0)]
    requests: u64,
    /// How many clients of each kind; kinds that are not named have none
    #[arg(long, value_name = "KIND=N,…")]
    clients: Option<Mix>,
    /// The pause after each answer of the clients that make none by themselves
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1ms")]
    think: Duration,
    /// The pause between the verdict of a reload and the next reload
    #[arg(long, value_parser = humantime::parse_duration, default_value = "500ms")]
    pause: Duration,
    /// How many workers
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// How long an old worker may go on after a reload
    #[arg(long, value_parser = humantime::parse_duration, default_value = "3s")]
    timeout: Duration,
    /// Ours: how connections reach workers
    #[arg(long)]
    balance: Option<String>,
    /// Ours: how many extra workers a reload may run at once
    #[arg(long)]
    surge: Option<String>,
    /// Ours: how long a new worker must live before it counts as serving
    #[arg(long)]
    bake: Option<String>,
    /// Ours: what happens beside the reloads: rollback, overlap, kill, scale, watch
    #[arg(long, value_name = "WHAT,…")]
    chaos: Option<Chaos>,
    /// The node that runs all of it
    #[arg(long, default_value = "node")]
    node: PathBuf,
    /// Our command [default: `recluster` beside this program]
    #[arg(long)]
    recluster: Option<PathBuf>,
    /// One line of JSON for each run instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    pub(crate) fn trial(&self) -> Trial {
        Trial {
            mix: self.clients.clone().unwrap_or_default(),
            think: self.think,
            reloads: self.reloads,
            requests: self.requests,
            pause: self.pause,
            chaos: self.chaos.unwrap_or_default(),
        }
    }

    pub(crate) fn settings(&self, server: Server) -> Result<Settings> {
        let given = [("--balance", &self.balance), ("--surge", &self.surge), ("--bake", &self.bake)];
        let options =
            given.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
        Ok(Settings {
            node: program(&self.node)?,
            recluster: self.recluster()?,
            modules: packages()?,
            server,
            workers: self.workers,
            timeout: self.timeout,
            options: options.collect(),
            journal: false,
            watched: false,
        })
    }

    /// It is there only where it is needed.
    fn recluster(&self) -> Result<PathBuf> {
        let beside = || env::current_exe().map(|meter| meter.with_file_name("recluster"));
        let path = self.recluster.clone().map_or_else(beside, Ok)?;
        let ours = [Contender::Ours, Contender::OursPlain];
        if self.contenders.iter().any(|contender| ours.contains(contender)) {
            let hint = "cargo build --release -p recluster-cli";
            return path.canonicalize().with_context(|| format!("{} is not there: {hint}", path.display()));
        }
        Ok(path)
    }
}

/// The path of a program that is given by its path or by its name in PATH.
fn program(name: &Path) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let by_name =
        || env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file());
    let found = if name.components().count() > 1 { Some(name.to_owned()) } else { by_name() };
    let found = found.with_context(|| format!("{} is not in PATH", name.display()))?;
    found.canonicalize().with_context(|| format!("{} is not there", found.display()))
}
