//! Workers that die and are replaced, again and again: the first lines say each of it, then it is summed up. It knows no
//! clock: whoever asks says what time it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use recluster::Event;
use recluster::host::Moment;
use serde::{Deserialize, Serialize};

/// How many respawns of a row are told one by one.
const ONE_BY_ONE: u32 = 5;
/// The first sum; each that follows comes when there are twice as many.
const FIRST_SUM: u32 = 10;
/// A row is over when none has died for so long.
const QUIET: Duration = Duration::from_secs(30);

/// The row of respawns that goes on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Left", into = "Left")]
pub(super) struct Deaths {
    row: Option<Row>,
    /// When the slots lost their worker that have none which serves.
    lost: BTreeMap<u32, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    began: Instant,
    last: Instant,
    respawns: u32,
    next_sum: u32,
}

/// The same, for another program that goes on with it.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    row: Option<LeftRow>,
    lost: BTreeMap<u32, Moment>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LeftRow {
    began: Moment,
    last: Moment,
    respawns: u32,
    next_sum: u32,
}

impl From<Deaths> for Left {
    fn from(Deaths { row, lost }: Deaths) -> Self {
        let row = row.map(|Row { began, last, respawns, next_sum }| {
            let (began, last) = (began.into(), last.into());
            LeftRow { began, last, respawns, next_sum }
        });
        Self { row, lost: lost.into_iter().map(|(slot, since)| (slot, since.into())).collect() }
    }
}

impl From<Left> for Deaths {
    fn from(Left { row, lost }: Left) -> Self {
        let row = row.map(|LeftRow { began, last, respawns, next_sum }| {
            let (began, last) = (began.into(), last.into());
            Row { began, last, respawns, next_sum }
        });
        Self { row, lost: lost.into_iter().map(|(slot, since)| (slot, since.into())).collect() }
    }
}

/// How many respawns there were in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) respawns: u32,
    pub(super) within: Duration,
    /// No worker has died for a while.
    pub(super) is_over: bool,
}

/// What an event is to the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meaning {
    /// One of too many: the sum says it.
    pub(super) is_one_of_many: bool,
    /// A slot has a serving worker again, after so long.
    pub(super) again_after: Option<Duration>,
    pub(super) sum: Option<Sum>,
}

impl Deaths {
    /// Takes note of an event.
    pub(super) fn hear(&mut self, event: &Event, now: Instant) -> Meaning {
        let mut meaning = Meaning::default();
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is about workers that die")]
        match event {
            Event::Respawning { worker, .. } => {
                self.lost.entry(worker.slot).or_insert(now);
                meaning.sum = self.count(now);
            }
            Event::Serving { worker, .. } => {
                let lost = self.lost.remove(&worker.slot);
                meaning.again_after = lost.map(|lost| now.saturating_duration_since(lost));
            }
            // What a reload starts is nothing that comes again.
            Event::GenerationBegan { .. } | Event::Reloaded { .. } => self.lost.clear(),
            Event::Exit { expected: false, .. } | Event::Failed { .. } => {}
            _ => return meaning,
        }
        meaning.is_one_of_many =
            self.row.is_some_and(|row| row.respawns > ONE_BY_ONE && now < row.last + QUIET);
        meaning
    }

    /// When a long row is over, unless another worker dies.
    pub(super) fn due(&self) -> Option<Instant> {
        self.row.filter(|row| row.respawns > ONE_BY_ONE).map(|row| row.last + QUIET)
    }

    /// The sum of a row that is over.
    pub(super) fn over(&mut self, now: Instant) -> Option<Sum> {
        self.due().filter(|due| *due <= now)?;
        let row = self.row.take()?;
        Some(Sum {
            respawns: row.respawns,
            within: row.last.saturating_duration_since(row.began),
            is_over: true,
        })
    }

    /// One more.
    fn count(&mut self, now: Instant) -> Option<Sum> {
        let goes_on = self.row.filter(|row| now < row.last + QUIET);
        let row = goes_on.unwrap_or(Row { began: now, last: now, respawns: 0, next_sum: FIRST_SUM });
        let row = self.row.insert(Row { last: now, respawns: row.respawns.saturating_add(1), ..row });
        (row.respawns >= row.next_sum).then(|| {
            row.next_sum = row.next_sum.saturating_mul(2);
            let within = now.saturating_duration_since(row.began);
            Sum { respawns: row.respawns, within, is_over: false }
        })
    }
}

#[cfg(test)]
mod tests {
    use recluster::Worker;
    use serde_json::json;

    use super::*;

    fn worker(slot: u32) -> Worker {
        serde_json::from_value(json!({"id": 1, "slot": slot, "generation": 1, "pid": 7})).unwrap()
    }

    fn respawning(slot: u32) -> Event {
        Event::Respawning { worker: worker(slot), delay: Duration::from_secs(1) }
    }

    #[test]
    fn the_first_lines_are_written_and_then_sums_more_and_more_rarely() {
        let began = Instant::now();
        let at = |seconds: u32| began + seconds * Duration::from_secs(1);
        let mut deaths = Deaths::default();
        let (mut one_by_one, mut sums) = (0, Vec::new());
        for second in 1..=100 {
            let meaning = deaths.hear(&respawning(0), at(second));
            one_by_one += u32::from(!meaning.is_one_of_many);
            sums.extend(meaning.sum.map(|sum| sum.respawns));
        }
        assert_eq!((one_by_one, sums), (ONE_BY_ONE, vec![10, 20, 40, 80]));
        assert_eq!(deaths.due(), Some(at(130)));
        assert_eq!(deaths.over(at(129)), None);
        let within = Duration::from_secs(99);
        assert_eq!(deaths.over(at(130)), Some(Sum { respawns: 100, within, is_over: true }));
        assert_eq!((deaths.due(), deaths.over(at(131))), (None, None));
        assert!(!deaths.hear(&respawning(0), at(140)).is_one_of_many, "another row begins");
    }

    #[test]
    fn deaths_that_are_far_apart_are_no_row() {
        let began = Instant::now();
        let mut deaths = Deaths::default();
        for minute in 0..100 {
            let meaning = deaths.hear(&respawning(0), began + minute * Duration::from_secs(60));
            assert_eq!(meaning, Meaning::default());
        }
    }

    #[test]
    fn a_slot_that_lost_its_worker_serves_again_once() {
        let began = Instant::now();
        let serving = |slot| Event::Serving { worker: worker(slot), serving: 1, of: 2 };
        let mut deaths = Deaths::default();
        assert_eq!(deaths.hear(&serving(0), began).again_after, None, "it serves for the first time");
        deaths.hear(&respawning(0), began);
        deaths.hear(&respawning(0), began + Duration::from_secs(1));
        let later = began + Duration::from_secs(3);
        assert_eq!(deaths.hear(&serving(1), later).again_after, None);
        assert_eq!(deaths.hear(&serving(0), later).again_after, Some(Duration::from_secs(3)));
        assert_eq!(deaths.hear(&serving(0), later).again_after, None);
        deaths.hear(&respawning(0), later);
        deaths.hear(&Event::GenerationBegan { generation: 2 }, later);
        assert_eq!(deaths.hear(&serving(0), later).again_after, None, "a reload has started it");
    }
}
