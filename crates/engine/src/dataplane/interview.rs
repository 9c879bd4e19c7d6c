//! What one Node worker says of itself. It is asked when somebody looks at the cluster, and no more than about once a second: while
//! nobody looks, no worker and no master is woken for this. The keeper of the admin listener looks every five seconds, for its history.
//!
//! The time that an answer takes is the lag of the worker's loop, and is known of one that is blocked as well.

use std::time::{Duration, Instant};

use recluster_wire::node::{Measures, REQUEST_BOUNDS, Requests};
use serde::{Deserialize, Serialize};

use crate::report::measured::{Counted, Said, quantile};
use crate::upgrade::Moment;

/// The least time between two questions: less than a second, so that who looks once a second asks each time.
const EVERY: Duration = Duration::from_millis(900);
/// How long whoever looks waits for an answer.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// Of how much time at least the requests are of which the slowest are told.
const LATELY: Duration = Duration::from_secs(5);

/// What one worker has said of itself, and what it was asked.
#[derive(Debug, Default)]
pub(super) struct Interview {
    /// It answers: it has our preload, and was told to.
    pub(super) answers: bool,
    asked_at: Option<Instant>,
    /// It has not answered the last question.
    is_open: bool,
    lag: Duration,
    said: Option<Box<Measures>>,
    /// What it had counted at two looks before, of which the second is the newer one.
    marks: [Option<(Instant, Requests)>; 2],
}

/// One as it is left to the program after this one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedInterview {
    answers: bool,
    asked_at: Option<Moment>,
    is_open: bool,
    lag: Duration,
    said: Option<Box<Measures>>,
    marks: [Option<(Moment, Requests)>; 2],
}

impl Interview {
    pub(super) fn save(&self) -> SavedInterview {
        SavedInterview {
            answers: self.answers,
            asked_at: self.asked_at.map(Moment::from),
            is_open: self.is_open,
            lag: self.lag,
            said: self.said.clone(),
            marks: self.marks.map(|mark| mark.map(|(at, http)| (at.into(), http))),
        }
    }

    pub(super) fn inherit(saved: SavedInterview) -> Self {
        let SavedInterview { answers, asked_at, is_open, lag, said, marks } = saved;
        let marks = marks.map(|mark| mark.map(|(at, http)| (at.into(), http)));
        Self { answers, asked_at: asked_at.map(Instant::from), is_open, lag, said, marks }
    }

    /// Whether it is to be asked now: one that can be given connections, or that has answered before, as it drains.
    pub(super) fn is_due(&self, has_standing: bool, now: Instant) -> bool {
        let is_early = self.asked_at.is_some_and(|asked| now < asked + EVERY);
        self.answers && !self.is_open && !is_early && (has_standing || self.said.is_some())
    }

    /// Whether its answer is waited for.
    pub(super) fn is_awaited(&self, now: Instant) -> bool {
        self.is_open && self.asked_at.is_some_and(|asked| now < asked + PATIENCE)
    }

    /// It is asked.
    pub(super) fn ask(&mut self, now: Instant) {
        (self.asked_at, self.is_open) = (Some(now), true);
    }

    /// It has answered. What it has counted never becomes less, whatever it says.
    pub(super) fn hear(&mut self, mut said: Box<Measures>, now: Instant) {
        if std::mem::replace(&mut self.is_open, false) {
            self.lag = self.asked_at.map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        }
        if let Some(before) = &self.said {
            let counted = Counted::of(&said).no_less_than(&Counted::of(before));
            (said.gc, said.http) = (counted.gc, counted.http);
        }
        if let Some(http) = said.http {
            self.mark(http, now);
        }
        self.said = Some(said);
    }

    fn mark(&mut self, http: Requests, now: Instant) {
        if self.marks[1].is_none_or(|(at, _)| at + LATELY <= now) {
            self.marks = [self.marks[1], Some((now, http))];
        }
    }

    /// What it has counted in its life.
    pub(super) fn counted(&self) -> Counted {
        self.said.as_deref().map(Counted::of).unwrap_or_default()
    }

    /// What is known of it, if it has ever answered.
    pub(super) fn told(&self, now: Instant) -> Option<Said> {
        let measures = Measures::clone(self.said.as_deref()?);
        let waits = self.asked_at.filter(|_| self.is_open).map(|asked| now.saturating_duration_since(asked));
        let lag = waits.filter(|waits| *waits >= PATIENCE).unwrap_or(self.lag);
        let before = self.marks[0].map_or_else(Requests::default, |(_, before)| before);
        let p99 = measures.http.and_then(|http| {
            let lately = http.spans.buckets.iter().zip(before.spans.buckets);
            quantile(&REQUEST_BOUNDS, lately.map(|(now, before)| now.saturating_sub(before)), 0.99)
        });
        Some(Said { measures, lag, p99 })
    }
}
