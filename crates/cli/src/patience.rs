//! When people are told that a start, a reload or a stop still waits, and how far each worker of it has come. It knows no
//! clock: whoever asks says what time it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use recluster::{Event, Worker};

/// How long they wait before they are told for the first time. Each time that follows comes twice as late.
const FIRST: Duration = Duration::from_secs(5);
/// The longest time between two lines.
const LONGEST: Duration = Duration::from_secs(300);

/// What is waited for, and since when.
#[derive(Debug)]
pub(crate) struct Patience {
    next: Option<Instant>,
    pause: Duration,
    is_stopping: bool,
    seen: BTreeMap<u64, Seen>,
}

/// How far a worker has come that does not serve yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    Started,
    Online,
    Listens,
}

impl Patience {
    /// A cluster starts.
    pub(crate) fn of_start(now: Instant) -> Self {
        let mut patience = Self { next: None, pause: FIRST, is_stopping: false, seen: BTreeMap::new() };
        patience.begin(now);
        patience
    }

    /// A stop was asked for.
    pub(crate) fn stop(&mut self, now: Instant) {
        if !self.is_stopping {
            self.is_stopping = true;
            self.begin(now);
        }
    }

    /// Something has happened.
    pub(crate) fn hear(&mut self, event: &Event, now: Instant) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "what else happens ends and begins no wait")]
        match event {
            Event::Spawned { worker } => self.see(worker, Seen::Started),
            Event::Online { worker } => self.see(worker, Seen::Online),
            Event::Listening { worker, .. } => self.see(worker, Seen::Listens),
            Event::Exit { worker, .. } => drop(self.seen.remove(&worker.id)),
            // The first one begins before anything is heard.
            Event::GenerationBegan { generation: 2.. } if !self.is_stopping => self.begin(now),
            Event::Started { .. } | Event::Reloaded { .. } if !self.is_stopping => self.next = None,
            Event::StartFailed { .. } => self.stop(now),
            _ => {}
        }
    }

    /// When people are to be told, if they are.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// They were told, or there was nothing to tell yet.
    pub(crate) fn told(&mut self, now: Instant) {
        self.pause = (self.pause * 2).min(LONGEST);
        self.next = Some(now + self.pause);
    }

    /// How far a worker has come.
    pub(crate) fn seen(&self, worker: u64) -> Seen {
        self.seen.get(&worker).copied().unwrap_or(Seen::Started)
    }

    fn begin(&mut self, now: Instant) {
        self.pause = FIRST;
        self.next = Some(now + FIRST);
    }

    fn see(&mut self, worker: &Worker, seen: Seen) {
        let known = self.seen.entry(worker.id).or_insert(seen);
        *known = (*known).max(seen);
    }
}

#[cfg(test)]
mod tests {
    use recluster::{Address, Exit, Verdict};
    use serde_json::json;

    use super::*;

    fn worker(id: u64) -> Worker {
        serde_json::from_value(json!({"id": id, "slot": 0, "generation": 1, "pid": 7})).unwrap()
    }

    fn seconds(began: Instant, patience: &Patience) -> Option<u64> {
        patience.due().map(|at| (at - began).as_secs())
    }

    #[test]
    fn a_start_is_told_of_after_five_seconds_and_then_more_and_more_rarely() {
        let began = Instant::now();
        let mut patience = Patience::of_start(began);
        let mut told = Vec::new();
        for _ in 0..9 {
            told.extend(seconds(began, &patience));
            patience.told(patience.due().unwrap());
        }
        assert_eq!(told, [5, 15, 35, 75, 155, 315, 615, 915, 1215]);
        patience.hear(&Event::Started { generation: 1, workers: 2 }, began);
        assert_eq!(patience.due(), None);
    }

    #[test]
    fn a_reload_is_waited_for_until_its_verdict_and_a_stop_to_the_end() {
        let began = Instant::now();
        let mut patience = Patience::of_start(began);
        patience.hear(&Event::Started { generation: 1, workers: 2 }, began);
        let at = |seconds| began + Duration::from_secs(seconds);
        patience.hear(&Event::GenerationBegan { generation: 2 }, at(100));
        assert_eq!(seconds(began, &patience), Some(105));
        patience.hear(&Event::Reloaded { generation: Some(2), verdict: Verdict::Done }, at(101));
        assert_eq!(patience.due(), None);
        patience.stop(at(200));
        patience.stop(at(203));
        patience.hear(&Event::Reloaded { generation: None, verdict: Verdict::Abandoned }, at(204));
        assert_eq!(seconds(began, &patience), Some(205), "asked again it does not begin anew");
    }

    #[test]
    fn it_knows_how_far_a_worker_has_come() {
        let mut patience = Patience::of_start(Instant::now());
        let now = Instant::now();
        assert_eq!(patience.seen(1), Seen::Started);
        let address = Address::Tcp("127.0.0.1:1".parse().unwrap());
        for event in [
            Event::Spawned { worker: worker(1) },
            Event::Listening { worker: worker(1), address },
            Event::Online { worker: worker(1) },
        ] {
            patience.hear(&event, now);
        }
        assert_eq!(patience.seen(1), Seen::Listens);
        patience.hear(
            &Event::Exit { worker: worker(1), exit: Exit::Code(0), expected: true, oom_killed: false },
            now,
        );
        assert!(patience.seen.is_empty());
    }
}
