//! Keeps the history: hears what happens, and looks at the cluster every few seconds, or every second while somebody looks.

use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::admin::history::{self, History};
use crate::admin::picture::{NoAnswer, Pictures};
use crate::control::room::Shared;
use crate::report::events::{Events, Heard};
use crate::upgrade::plain;

/// For how long after a question somebody is taken to look.
const LOOKS: Duration = Duration::from_secs(15);
/// For how long all who ask for everything are given the same answer.
const SAME: Duration = Duration::from_millis(200);
/// Who is further behind gets all of it: what many are given is held once.
const FEW: u64 = 64;

/// The history of a cluster, and who looks at it.
#[derive(Debug)]
pub(super) struct Keeper {
    begun: Instant,
    state: Mutex<State>,
    /// Somebody looks, after a time in which nobody did.
    noticed: Notify,
}

/// What another program goes on with, beside the lines of the history.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    #[serde(with = "plain")]
    begun: Instant,
    history: history::Saved,
}

#[derive(Debug)]
struct State {
    history: History,
    /// When somebody has last asked.
    asked: Option<Instant>,
    /// All of it, as long as somebody reads that.
    whole: (Instant, Weak<Shared>),
}

impl Keeper {
    /// Goes on with what was left, if that can be; else it begins anew.
    pub(super) fn new(left: Option<(Saved, Vec<u8>)>) -> Self {
        let left = left.and_then(|(Saved { begun, history }, lines)| {
            Some((begun, History::go_on(process::id(), history, &lines)?))
        });
        let now = Instant::now();
        let (begun, history) = left.unwrap_or_else(|| (now, History::new(process::id(), SystemTime::now())));
        let state = State { history, asked: None, whole: (now, Weak::new()) };
        Self { begun, state: Mutex::new(state), noticed: Notify::new() }
    }

    /// What is left to another program, and the lines of the history.
    pub(super) fn save(&self) -> (Saved, Vec<u8>) {
        let (history, lines) = self.state().history.save();
        (Saved { begun: self.begun, history }, lines)
    }

    /// What came from this number on; or all that is kept, for whoever knows little of that.
    pub(super) fn since(&self, number: Option<u64>) -> Arc<Shared> {
        let (mut state, now) = (self.state(), Instant::now());
        if !state.is_watched(now) {
            self.noticed.notify_one();
        }
        state.asked = Some(now);
        let (at, next) = (now.duration_since(self.begun), state.history.next());
        // A number that is not known yet is of a master before this one.
        match number.filter(|number| *number <= next && next - *number <= FEW) {
            Some(number) => Arc::new(Shared::new(state.history.since(number, at))),
            None => state.whole(now, at),
        }
    }

    /// Keeps it until the cluster is over.
    pub(super) async fn keep(&self, pictures: &Pictures, events: Events) {
        tokio::join!(self.hear(events), self.look(pictures));
    }

    async fn hear(&self, mut events: Events) {
        while let Some(heard) = events.next().await {
            let (at, now) = (self.begun.elapsed(), SystemTime::now());
            match heard {
                Heard::Event(event) => self.state().history.note(at, &event, now),
                Heard::Missed(count) => self.state().history.miss(at, count, now),
            }
        }
    }

    async fn look(&self, pictures: &Pictures) {
        loop {
            let looked = Instant::now();
            match pictures.take().await {
                Ok(picture) => {
                    self.state().history.sample(self.begun.elapsed(), picture.measured());
                }
                // It is asked again.
                Err(NoAnswer::Silent) => {}
                Err(NoAnswer::Gone) => return,
            }
            self.pause(looked).await;
        }
    }

    /// Waits until the next look is due, which is earlier when somebody begins to watch.
    async fn pause(&self, looked: Instant) {
        let due = || looked + self.state().pace(Instant::now());
        while timeout_at(due().into(), self.noticed.notified()).await.is_ok() {}
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_watched(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.duration_since(asked) < LOOKS)
    }

    fn pace(&self, now: Instant) -> Duration {
        self.history.pace(self.is_watched(now))
    }

    fn whole(&mut self, now: Instant, at: Duration) -> Arc<Shared> {
        let (written, body) = &self.whole;
        if let Some(body) = body.upgrade().filter(|_| now.duration_since(*written) < SAME) {
            return body;
        }
        let body = Arc::new(Shared::new(self.history.since(0, at)));
        self.whole = (now, Arc::downgrade(&body));
        body
    }
}
