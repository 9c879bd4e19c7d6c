//! What else may happen to a cluster of ours while it is reloaded, and the proof that a request which was lost then was
//! in a worker that had been killed.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::contender::{Cluster, deploy};
use crate::home::{Accepted, kill};
use crate::{Loss, Settings};

/// What happens beside the reloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for itself, and any of them may go together")]
pub struct Chaos {
    /// Code that cannot run is reloaded, and rolled back.
    pub rollback: bool,
    /// A second reload begins while the first goes on.
    pub overlap: bool,
    /// A worker is killed during each reload.
    pub kill: bool,
    /// Slots are added before a reload and taken away after it.
    pub scale: bool,
    /// Many look at it: its metrics are scraped ten times a second, `top` and the page are open, and fifty follow its events.
    pub watch: bool,
}

/// A worker that was killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Killed {
    pid: u32,
    at: SystemTime,
}

/// What the meter reads of `recluster status --json`.
#[derive(Debug, Deserialize)]
struct Status {
    workers: Vec<Worker>,
}

#[derive(Debug, Deserialize)]
struct Worker {
    pid: Option<u32>,
}

/// At which moment of a reload something happens, in milliseconds.
const MOMENTS: std::ops::Range<u64> = 0..700;
/// The exit status of `recluster reload` after a rollback.
const ROLLED_BACK: Option<i32> = Some(1);
/// How far the clock that a journal was written by, in whole milliseconds, may be ahead.
const CLOCK: Duration = Duration::from_millis(2);

/// One reload with everything that is to happen beside it. Returns when the verdict of the reload was heard, and who
/// was killed.
pub(crate) async fn reload(cluster: &Cluster, settings: &Settings, chaos: Chaos) -> Result<Option<Killed>> {
    if chaos.rollback {
        roll_back(cluster, settings).await?;
    }
    if chaos.scale {
        cluster.run(cluster.ours(&["scale", "+1"])?).await?;
    }
    let (first, second, killed) =
        tokio::join!(cluster.reload(), overlap(cluster, chaos.overlap), kill_one(cluster, chaos.kill));
    first.and(second)?;
    if chaos.scale {
        cluster.run(cluster.ours(&["scale", "-1"])?).await?;
    }
    killed
}

async fn roll_back(cluster: &Cluster, settings: &Settings) -> Result<()> {
    deploy(&cluster.home, &Settings::servers().join("broken.js"))?;
    let (status, _) = cluster.status_of(cluster.ours(&["reload"])?).await?;
    deploy(&cluster.home, &settings.server_file())?;
    if status != ROLLED_BACK {
        bail!("a reload of broken code was not rolled back: status {status:?}");
    }
    Ok(())
}

async fn overlap(cluster: &Cluster, wanted: bool) -> Result<()> {
    if wanted {
        sleep(moment()).await;
        cluster.reload().await?;
    }
    Ok(())
}

async fn kill_one(cluster: &Cluster, wanted: bool) -> Result<Option<Killed>> {
    if !wanted {
        return Ok(None);
    }
    sleep(moment()).await;
    let (_, status) = cluster.status_of(cluster.ours(&["status", "--json"])?).await?;
    let status: Status = serde_json::from_slice(&status).context("failed to read the status")?;
    let pids: Vec<u32> = status.workers.iter().filter_map(|worker| worker.pid).collect();
    let victim = fastrand::choice(pids);
    Ok(victim.map(|pid| {
        let at = SystemTime::now();
        kill(pid);
        Killed { pid, at }
    }))
}

fn moment() -> Duration {
    Duration::from_millis(fastrand::u64(MOMENTS))
}

/// Splits losses into those that a killed worker explains and the others. `began` is when the load began.
pub(crate) fn excuse(
    losses: Vec<Loss>,
    killed: &[Killed],
    journal: &[Accepted],
    began: Instant,
) -> (Vec<Loss>, Vec<Loss>) {
    let began = SystemTime::now() - began.elapsed();
    losses.into_iter().partition(|loss| {
        let at = began + loss.at;
        let worker = loss.worker.or_else(|| accepted_by(loss, at, journal));
        killed.iter().any(|killed| Some(killed.pid) == worker && killed.at <= at)
    })
}

/// Who accepted the connection of a request that was lost then: the last one that wrote down its port. Ports are used
/// again.
fn accepted_by(loss: &Loss, at: SystemTime, journal: &[Accepted]) -> Option<u32> {
    let before = |accepted: &&Accepted| UNIX_EPOCH + Duration::from_millis(accepted.unix_ms) <= at + CLOCK;
    let same = |accepted: &&Accepted| loss.port.is_some() && accepted.port == loss.port;
    journal.iter().rev().filter(same).find(before).map(|accepted| accepted.pid)
}

impl Chaos {
    /// Whether anything is to happen.
    pub fn is_any(self) -> bool {
        self != Self::default()
    }
}

impl FromStr for Chaos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: BTreeSet<&str> = text.split(',').collect();
        let known = ["rollback", "overlap", "kill", "scale", "watch"];
        if let Some(word) = words.iter().find(|word| !known.contains(word)) {
            return Err(format!("{word} is none of {}", known.join(", ")));
        }
        let has = |word: &str| words.contains(word);
        Ok(Self {
            rollback: has("rollback"),
            overlap: has("overlap"),
            kill: has("kill"),
            scale: has("scale"),
            watch: has("watch"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, Kind};

    const KILLED: u32 = 7;
    const OTHER: u32 = 8;

    /// Whether a loss is excused. One second after the beginning of the load, worker 7 is killed; before that, 7 and then
    /// 8 have accepted a connection from port 1000, and after it 8 one from port 2000.
    fn is_excused(worker: Option<u32>, port: Option<u16>, at_millis: u64) -> bool {
        let began = Instant::now();
        let now = SystemTime::now();
        let killed = Killed { pid: KILLED, at: now + Duration::from_secs(1) };
        let accepted = |pid, port, millis| Accepted {
            pid,
            port: Some(port),
            unix_ms: u64::try_from(now.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap() + millis,
        };
        let journal = [
            accepted(KILLED, 1000, 100),
            accepted(OTHER, 1000, 500),
            accepted(KILLED, 2000, 600),
            accepted(OTHER, 2000, 3000),
        ];
        let at = Duration::from_millis(at_millis);
        let loss = Loss { kind: Kind::New, at, cause: Cause::Reset, bytes: 0, worker, port };
        excuse(vec![loss], &[killed], &journal, began).0.len() == 1
    }

    #[test]
    fn what_was_in_a_killed_worker_is_excused() {
        assert!(is_excused(Some(KILLED), None, 1100));
        assert!(is_excused(None, Some(2000), 1100), "the journal says who had it");
    }

    #[test]
    fn what_was_elsewhere_is_not() {
        assert!(!is_excused(Some(OTHER), Some(2000), 1100), "another worker has answered there");
        assert!(
            !is_excused(None, Some(1000), 1100),
            "the last who accepted from this port is another worker"
        );
        assert!(!is_excused(None, Some(2000), 3100), "the port was used again");
    }

    #[test]
    fn what_was_lost_before_the_kill_is_not() {
        assert!(!is_excused(Some(KILLED), None, 900));
    }

    #[test]
    fn what_nobody_can_prove_is_not() {
        assert!(!is_excused(None, None, 1100));
        assert!(!is_excused(None, Some(3000), 1100));
    }
}
