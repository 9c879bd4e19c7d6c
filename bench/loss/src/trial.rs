//! One run: a load against a contender that is reloaded again and again.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::chaos::{self, Chaos, Killed};
use crate::contender::Cluster;
use crate::home::{handle, has_ended};
use crate::watchers::Watchers;
use crate::{Connector, Contender, Load, Loss, Mix, Server, Settings, Tally};

/// How much of the load there is before the first reload.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long an old worker may stay after its time is over, before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at them.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// What is done to each contender.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The clients.
    pub mix: Mix,
    /// The pause after each answer of the clients that make none by themselves.
    pub think: Duration,
    /// How many reloads at least.
    pub reloads: u32,
    /// How many requests at least: there are reloads until so many were made.
    pub requests: u64,
    /// The pause between a verdict and the next reload. Old workers may still be there then.
    pub pause: Duration,
    /// What happens beside the reloads; to ours only.
    pub chaos: Chaos,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Who was measured.
    pub contender: Contender,
    /// With which server.
    pub server: Server,
    /// How often it was reloaded.
    pub reloads: u32,
    /// How long the load lasted.
    pub elapsed: Duration,
    /// What became of the requests, without the excused losses.
    pub tally: Tally,
    /// How many workers were killed.
    pub killed: usize,
    /// The requests that were in flight inside a worker that was killed, proven by its pid.
    pub excused: Vec<Loss>,
    /// How often metrics were scraped, if it was watched.
    pub scrapes: u64,
    /// The longest time from the verdict of a reload until its last old worker was gone.
    pub longest_farewell: Duration,
}

/// The reloads of a run.
struct Reloads<'a> {
    trial: &'a Trial,
    settings: &'a Settings,
    chaos: Chaos,
    cluster: Cluster,
    /// For each reload, the wait for its old workers to go.
    farewells: JoinSet<Result<Duration>>,
    killed: Vec<Killed>,
    count: u32,
}

impl Trial {
    /// Runs a contender under this load. When the future is dropped, nothing is left running.
    ///
    /// # Errors
    ///
    /// When the contender does not start, does not reload, or leaves old workers behind.
    pub async fn run(&self, contender: Contender, settings: &Settings) -> Result<Outcome> {
        let ours = matches!(contender, Contender::Ours | Contender::OursPlain);
        let chaos = if ours { self.chaos } else { Chaos::default() };
        let settings = &Settings { journal: chaos.kill, watched: chaos.watch, ..settings.clone() };
        let cluster = Cluster::start(contender, settings).await?;
        let mut endpoints = cluster.endpoints()?;
        if chaos.kill {
            // A client of a unix socket has no port by which the journal could tell who accepted it.
            endpoints.retain(|endpoint| endpoint.port.is_some());
        }
        let connector = Connector::new(&Settings::identity())?;
        let watchers = chaos.watch.then(|| Watchers::start(&cluster)).transpose()?;
        let load = Load::start(&self.mix, &endpoints, &connector, self.think);
        let (farewells, killed, count) = (JoinSet::new(), Vec::new(), 0);
        let mut reloads = Reloads { trial: self, settings, chaos, cluster, farewells, killed, count };
        sleep(WARM_UP).await;
        reloads.make(&load).await?;
        let longest_farewell = reloads.last_farewell().await?;
        let began = Instant::now() - load.elapsed();
        let tally = load.finish().await;
        let elapsed = began.elapsed();
        let scrapes = if let Some(watchers) = watchers { watchers.finish().await? } else { 0 };
        let (tally, excused) = reloads.excuse(tally, began)?;
        let (reloads, killed) = (reloads.count, reloads.killed.len());
        let server = settings.server;
        Ok(Outcome { contender, server, reloads, elapsed, tally, killed, excused, scrapes, longest_farewell })
    }
}

impl Reloads<'_> {
    async fn make(&mut self, load: &Load) -> Result<()> {
        while self.count < self.trial.reloads || load.requests() < self.trial.requests {
            let old = self.cluster.workers()?.into_iter().filter_map(handle).collect();
            let killed = chaos::reload(&self.cluster, self.settings, self.chaos).await?;
            self.killed.extend(killed);
            self.count += 1;
            self.farewells.spawn(farewell(old, self.settings.timeout + PATIENCE));
            sleep(self.trial.pause).await;
        }
        Ok(())
    }

    /// Waits until all old workers are gone; the longest time that those of one reload took.
    async fn last_farewell(&mut self) -> Result<Duration> {
        let mut longest = Duration::ZERO;
        while let Some(farewell) = self.farewells.join_next().await {
            longest = longest.max(farewell.context("the wait for old workers")??);
        }
        Ok(longest)
    }

    /// Takes the losses out of a tally that killed workers explain.
    fn excuse(&self, mut tally: Tally, began: Instant) -> Result<(Tally, Vec<Loss>)> {
        let mut excused = Vec::new();
        if self.killed.is_empty() {
            return Ok((tally, excused));
        }
        let journal = self.cluster.home.journal()?;
        for counts in tally.kinds.values_mut() {
            let losses = std::mem::take(&mut counts.losses);
            let (explained, others) = chaos::excuse(losses, &self.killed, &journal, began);
            excused.extend(explained);
            counts.losses = others;
        }
        Ok((tally, excused))
    }
}

/// Waits until these processes have ended; how long that took.
async fn farewell(old: Vec<OwnedFd>, patience: Duration) -> Result<Duration> {
    let begin = Instant::now();
    while !old.iter().all(has_ended) {
        if begin.elapsed() > patience {
            bail!("old workers still live {patience:?} after their reload");
        }
        sleep(BETWEEN_LOOKS).await;
    }
    Ok(begin.elapsed())
}

impl Outcome {
    /// How many requests were lost, by kind of client and what happened.
    pub fn stories(&self) -> BTreeMap<(crate::Kind, String), usize> {
        let mut stories = BTreeMap::new();
        for loss in self.tally.losses() {
            *stories.entry((loss.kind, loss.story())).or_default() += 1;
        }
        stories
    }
}
