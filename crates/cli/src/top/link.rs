//! The connections to the master: one that asks for its status again and again, one that hears what happens, one that reads what a
//! slot's workers write while somebody looks at that, and one for each thing that the person at the keyboard asks for. A master that ends is waited for, at the same path.

use std::path::Path;
use std::time::Duration;

use recluster::control::protocol::{Reply, Request};
use recluster::control::{Client, ClientError};
use recluster::{Status, Verdict, Which};
use serde_json::{Map, Value};
use tokio::sync::mpsc::Sender;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::ui::{Key, Wish};
use super::written::{LINES, Told};
use crate::client::connect::unexpected;
use crate::error::Error;

/// How often the status is asked for, and whether a master is there that was not.
const PERIOD: Duration = Duration::from_secs(1);
/// How long after a refusal the next attempt to hear of events is made.
const REFUSED: Duration = Duration::from_secs(10);
/// How many of the last events come first.
const EVENTS: u32 = 200;
/// How many of the last lines come first.
const LAST_LINES: u32 = 200;
/// How long nothing is read after as many lines as are kept: nobody can see more of them.
const PAUSE: Duration = Duration::from_millis(200);

/// What comes in.
#[derive(Debug)]
pub(super) enum News {
    Key(Key),
    /// The terminal has another size.
    Resized,
    Status(Box<Status>),
    /// No master answers, and why.
    Lost(String),
    /// The last events follow, from the beginning.
    EventsBegin,
    Event(Map<String, Value>),
    /// Of what the workers of this slot write.
    Written {
        slot: u32,
        told: Told,
    },
    /// How something went that was asked for.
    Outcome {
        is_good: bool,
        words: String,
        wish: Wish,
    },
}

/// Asks for the status until nobody wants it any more.
pub(super) async fn watch(path: &Path, tell: &Sender<News>) {
    while !tell.is_closed() {
        if let Err(error) = look(path, tell).await {
            let _ = tell.send(News::Lost(error.to_string())).await;
        }
        sleep(PERIOD).await;
    }
}

async fn look(path: &Path, tell: &Sender<News>) -> Result<(), Error> {
    let mut client = Client::connect(path).await?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let reply = client.ask(&Request::Status).await?;
        let Reply::Status(status) = reply else { return Err(unexpected(reply)) };
        if tell.send(News::Status(status)).await.is_err() {
            return Ok(());
        }
    }
}

/// Hears what happens until nobody wants to know it any more.
pub(super) async fn follow(path: &Path, tell: &Sender<News>) {
    while !tell.is_closed() {
        let is_refused = hear(path, tell).await.unwrap_or(false);
        sleep(if is_refused { REFUSED } else { PERIOD }).await;
    }
}

/// Returns whether the master has told nothing.
async fn hear(path: &Path, tell: &Sender<News>) -> Result<bool, Error> {
    let mut client = Client::connect(path).await?;
    client.send(&Request::Events { follow: true, last: Some(EVENTS) }).await?;
    let mut is_first = true;
    loop {
        // One that refuses may do so because too many others follow.
        let Reply::Event(event) = client.next().await? else { return Ok(is_first) };
        let begin = std::mem::take(&mut is_first).then_some(News::EventsBegin);
        for news in begin.into_iter().chain([News::Event(event)]) {
            if tell.send(news).await.is_err() {
                return Ok(false);
            }
        }
    }
}

/// Reads what the workers of a slot write until nobody wants to know it any more.
pub(super) async fn read(path: &Path, slot: u32, tell: &Sender<News>) {
    while !tell.is_closed() {
        let (reason, pause) = match read_once(path, slot, tell).await {
            Ok(()) => return,
            // What the master has refused, it may grant to one who comes later.
            Err(error @ Error::Refused(_)) => (error.to_string(), REFUSED),
            Err(error) => (error.to_string(), PERIOD),
        };
        let _ = tell.send(News::Written { slot, told: Told::Ends(reason) }).await;
        sleep(pause).await;
    }
}

/// Returns when nobody wants to know more.
async fn read_once(path: &Path, slot: u32, tell: &Sender<News>) -> Result<(), Error> {
    let mut client = Client::connect(path).await?;
    client.send(&Request::Logs { follow: true, last: Some(LAST_LINES), slot: Some(slot) }).await?;
    for read in 1_usize.. {
        #[expect(clippy::wildcard_enum_match_arm, reason = "none of the others answers what was asked")]
        let told = match client.next().await? {
            Reply::Streams { streams } => Told::Begins(streams),
            Reply::Line(line) => Told::Line(line),
            Reply::LinesMissed { lines, .. } => Told::Missed(lines),
            Reply::LinesEnd => return Err(ClientError::WentAway.into()),
            other => return Err(unexpected(other)),
        };
        if tell.send(News::Written { slot, told }).await.is_err() {
            break;
        }
        if read.is_multiple_of(LINES) {
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Asks for something, and tells how it went.
pub(super) async fn ask(path: &Path, wish: Wish, tell: &Sender<News>) {
    let (is_good, words) = match outcome(path, wish).await {
        Ok(outcome) => outcome,
        Err(error) => (false, error.to_string()),
    };
    // Whoever has left does not want to know.
    let _ = tell.send(News::Outcome { is_good, words, wish }).await;
}

async fn outcome(path: &Path, wish: Wish) -> Result<(bool, String), Error> {
    let mut client = Client::connect(path).await?;
    let request = match wish {
        Wish::Reload => Request::reload(true),
        Wish::Replace { pid, .. } => Request::Replace { which: Which::Pid(pid) },
        Wish::Scale(workers) => Request::ScaleBy { workers },
    };
    client.send(&request).await?;
    let mut reply = client.next().await?;
    while let Reply::Progress(_) = reply {
        reply = client.next().await?;
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "none of the others answers what was asked")]
    match reply {
        Reply::Verdict { generation, verdict, .. } => Ok(verdict_in_words(generation, &verdict)),
        Reply::Replaced(replaced) => {
            let pid = replaced.by.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            Ok((true, format!("worker {} is replaced by {}{pid}", replaced.worker.id, replaced.by.id)))
        }
        Reply::ReplaceFailed { failure } => Ok((false, format!("{failure}; the old worker goes on"))),
        Reply::Scaled { workers } => Ok((true, format!("scaled to {workers} workers"))),
        other => Err(unexpected(other)),
    }
}

fn verdict_in_words(generation: Option<u64>, verdict: &Verdict) -> (bool, String) {
    let what = generation.map_or_else(|| "the reload".to_owned(), |number| format!("generation {number}"));
    match verdict {
        Verdict::Done => (true, format!("reloaded: {what} serves")),
        Verdict::RolledBack { failure } => (false, format!("{what} was rolled back: {failure}")),
        Verdict::StoppedPartWay { replaced, of, failure } => {
            (false, format!("{what} was stopped at {replaced} of {of}: {failure}"))
        }
        Verdict::Refused { reason } => (false, format!("{what} was refused: {reason}")),
        Verdict::Abandoned => (false, format!("{what} was abandoned: the cluster is to end")),
    }
}
