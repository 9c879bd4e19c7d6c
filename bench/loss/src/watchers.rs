//! Those who look at a cluster of ours while it is reloaded: many who follow its events, one who scrapes its metrics all the time, a page
//! and `top`. What they are told must cost no request anything.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::contender::{Cluster, admin_of};

/// How many follow events.
const FOLLOWERS: usize = 50;
/// How often metrics are scraped, by scrapers that take turns: an answer may take longer than that.
const SCRAPE: Duration = Duration::from_millis(100);
const SCRAPERS: u32 = 4;
/// How often a page asks.
const PAGE: Duration = Duration::from_secs(1);

/// They look until this is dropped.
#[derive(Debug)]
pub(crate) struct Watchers {
    clients: Vec<Child>,
    /// They end by an error alone.
    asking: JoinSet<Result<()>>,
    scrapes: Arc<AtomicU64>,
}

impl Watchers {
    /// Has all of them look.
    pub(crate) fn start(cluster: &Cluster) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..FOLLOWERS {
            clients.push(spawn(cluster.ours(&["events", "--follow", "--json"])?)?);
        }
        clients.push(spawn(cluster.top()?)?);
        let (mut asking, scrapes) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        let admin = admin_of(&cluster.home);
        for turn in 0..SCRAPERS {
            asking.spawn(scrape(admin.clone(), SCRAPE * turn, Arc::clone(&scrapes)));
        }
        asking.spawn(have_a_page(admin));
        Ok(Self { clients, asking, scrapes })
    }

    /// How often metrics were scraped. Each of them must look still.
    pub(crate) async fn finish(mut self) -> Result<u64> {
        for client in &mut self.clients {
            if let Some(status) = client.try_wait()? {
                bail!("one that watched the cluster has ended: {status}");
            }
        }
        if let Some(ended) = self.asking.try_join_next() {
            ended?.context("the admin listener")?;
        }
        for client in &mut self.clients {
            client.kill().await?;
        }
        let scrapes = self.scrapes.load(Ordering::Relaxed);
        ensure!(scrapes > 0, "metrics were never scraped");
        Ok(scrapes)
    }
}

fn spawn(mut command: Command) -> Result<Child> {
    command.stdout(Stdio::null()).kill_on_drop(true).spawn().context("failed to run a client")
}

async fn scrape(admin: PathBuf, begins_in: Duration, scrapes: Arc<AtomicU64>) -> Result<()> {
    let mut ticks = interval_at(Instant::now() + begins_in, SCRAPE * SCRAPERS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        get(&admin, "/metrics").await?;
        scrapes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks for what a page asks for.
async fn have_a_page(admin: PathBuf) -> Result<()> {
    get(&admin, "/").await?;
    let mut ticks = interval(PAGE);
    let mut history = "/history".to_owned();
    loop {
        ticks.tick().await;
        get(&admin, "/status").await?;
        let answer = get(&admin, &history).await?;
        let answer: Option<serde_json::Value> = serde_json::from_str(&answer).ok();
        if let Some(next) = answer.as_ref().and_then(|answer| answer["next"].as_u64()) {
            history = format!("/history?since={next}");
        }
    }
}

/// The body of the answer.
async fn get(admin: &Path, path: &str) -> Result<String> {
    let mut connection = UnixStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    // On a machine that is too busy it says 503.
    let is_well = ["HTTP/1.1 200 ", "HTTP/1.1 503 "].iter().any(|begin| answer.starts_with(begin));
    ensure!(is_well, "{path}: {:?}", answer.lines().next());
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
