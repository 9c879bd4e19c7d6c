//! A line that waits for a moment, because the next one may say the same and more: a worker that ends, or is late, before it
//! has served is a failure as well.

use std::time::{Duration, Instant};

use recluster::Event;
use serde::{Deserialize, Serialize};

/// How long a line waits. What says it again is emitted right behind it.
const MOMENT: Duration = Duration::from_millis(50);

/// At most one line.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Aside(Option<Waiting>);

#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    /// The worker that the line is about.
    worker: u64,
    line: String,
    /// What another program has left has waited long enough.
    #[serde(skip, default = "Instant::now")]
    until: Instant,
}

/// Whether a failure may say this again.
pub(super) fn may_be_said_again(event: &Event) -> bool {
    worker_of(event).is_some()
}

fn worker_of(event: &Event) -> Option<u64> {
    if let Event::Exit { worker, expected: false, .. } | Event::Overdue { worker, due: "ready", .. } = event {
        return Some(worker.id);
    }
    None
}

impl Aside {
    /// Keeps the line of an event that [may be said again](may_be_said_again).
    pub(super) fn put(&mut self, event: &Event, line: String, now: Instant) {
        self.0 = worker_of(event).map(|worker| Waiting { worker, line, until: now + MOMENT });
    }

    /// Drops the line that this event says again.
    pub(super) fn forget_what_is_said_again(&mut self, event: &Event) {
        if let Event::Failed { failure } = event {
            self.0.take_if(|waiting| waiting.worker == failure.worker.id);
        }
    }

    /// The line, which is to be written now.
    pub(super) fn take(&mut self) -> Option<String> {
        self.0.take().map(|waiting| waiting.line)
    }

    /// When it has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.as_ref().map(|waiting| waiting.until)
    }
}
