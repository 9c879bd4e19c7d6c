//! What was: the last ten minutes as samples, and what happened lately as marks, each a line of JSON, in so many bytes. No clock and
//! no IO.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_millis;
use serde::{Deserialize, Serialize};

use crate::admin::sample::{Look, Sample, seconds};
use crate::report::counts::Measured;
use crate::report::event::Event;
use crate::report::level::Level;
use crate::report::record::{EventsMissed, Record};

/// How far samples go back.
const SPAN: Duration = Duration::from_secs(600);
/// How much of them is kept.
const SAMPLE_BYTES: usize = 1 << 20;
/// The time between two samples while somebody looks, and while nobody does.
const WATCHED: Duration = Duration::from_secs(1);
const UNWATCHED: Duration = Duration::from_secs(5);
/// How many marks are kept, and how much of them. They may be older than samples: what happened last is worth knowing.
const MARKS: usize = 256;
const MARK_BYTES: usize = 128 * 1024;
/// A longer mark has the name of its event alone.
const LONGEST_MARK: usize = 4 * 1024;

/// The history of one cluster. All times in it are from when it was begun.
#[derive(Debug)]
pub(crate) struct History {
    pid: u32,
    begun: SystemTime,
    /// The number of the next sample or mark; the first is 0.
    next: u64,
    samples: Ring,
    marks: Ring,
    before: Option<Look>,
}

/// Lines in the order in which they came.
#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    at: Duration,
    line: Box<[u8]>,
}

/// All of it as it is left to the program after this one, but for the lines themselves.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    begun: SystemTime,
    next: u64,
    samples: Vec<SavedLine>,
    marks: Vec<SavedLine>,
    before: Option<Look>,
}

/// What is known of a line.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct SavedLine {
    number: u64,
    at: Duration,
    bytes: usize,
}

/// What stands before an event.
#[derive(Clone, Copy, Debug, Serialize)]
struct Mark {
    number: u64,
    at_seconds: f64,
}

impl History {
    pub(crate) fn new(pid: u32, begun: SystemTime) -> Self {
        Self { pid, begun, next: 0, samples: Ring::default(), marks: Ring::default(), before: None }
    }

    /// What is known of all lines, and they themselves, one behind the other: samples first.
    pub(super) fn save(&self) -> (Saved, Vec<u8>) {
        let lines: Vec<&[u8]> =
            self.samples.kept.iter().chain(&self.marks.kept).map(|kept| &*kept.line).collect();
        let (samples, marks) = (self.samples.save(), self.marks.save());
        (
            Saved { begun: self.begun, next: self.next, samples, marks, before: self.before.clone() },
            lines.concat(),
        )
    }

    /// Goes on with what was left. None where the lines are not those that are meant.
    pub(super) fn go_on(pid: u32, saved: Saved, mut lines: &[u8]) -> Option<Self> {
        let Saved { begun, next, samples, marks, before } = saved;
        let (samples, marks) = (Ring::go_on(samples, &mut lines)?, Ring::go_on(marks, &mut lines)?);
        lines.is_empty().then_some(Self { pid, begun, next, samples, marks, before })
    }

    /// The number of the next sample or mark.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The time between two samples. Where there are so many slots that ten minutes of samples would be too long, they come less often.
    pub(crate) fn pace(&self, is_watched: bool) -> Duration {
        let wanted = if is_watched { WATCHED } else { UNWATCHED };
        let longest = self.samples.kept.back().map_or(1, Kept::bytes);
        let fit = u32::try_from(SAMPLE_BYTES / longest).unwrap_or(u32::MAX).max(1);
        wanted.max(SPAN / fit)
    }

    /// This has happened.
    pub(crate) fn note(&mut self, at: Duration, event: &Event, now: SystemTime) {
        if !is_worth_a_mark(event) {
            return;
        }
        let mark = Mark { number: self.next, at_seconds: seconds(at) };
        let line = Record::new(mark, event.level(), event, now).line();
        let line = line.unwrap_or_default();
        if line.len() <= LONGEST_MARK {
            self.mark(at, &line);
        } else {
            self.remark(at, event.level(), &named(&line), now);
        }
    }

    /// So many events were missed.
    pub(crate) fn miss(&mut self, at: Duration, events: u64, now: SystemTime) {
        self.remark(at, Level::Warn, &EventsMissed { events }, now);
    }

    fn remark(&mut self, at: Duration, level: Level, what: &impl Serialize, now: SystemTime) {
        let mark = Mark { number: self.next, at_seconds: seconds(at) };
        // It has a form in JSON, which `Record` sees to.
        self.mark(at, &Record::new(mark, level, what, now).line().unwrap_or_default());
    }

    fn mark(&mut self, at: Duration, line: &[u8]) {
        self.marks.push(self.next, at, line.trim_ascii_end());
        self.next += 1;
        self.marks.shrink(|ring| ring.kept.len() > MARKS || ring.bytes > MARK_BYTES);
    }

    /// The cluster is so now. The first time there is nothing to compare it with.
    pub(crate) fn sample(&mut self, at: Duration, measured: &Measured) {
        let now = Look::new(at, measured, self.before.as_ref());
        if let Some(before) = self.before.take() {
            let sample = Sample::between(&before, &now, self.next, measured);
            // All keys of it are texts, so it can be written.
            self.samples.push(self.next, at, &serde_json::to_vec(&sample).unwrap_or_default());
            self.next += 1;
        }
        self.before = Some(now);
        let is_old = |oldest: &Kept| at.saturating_sub(oldest.at) > SPAN;
        self.samples.shrink(|ring| ring.bytes > SAMPLE_BYTES || ring.kept.front().is_some_and(is_old));
    }

    /// What came from this number on, as JSON.
    pub(crate) fn since(&self, number: u64, now: Duration) -> Vec<u8> {
        let mut text = format!(
            r#"{{"pid":{},"begun":"{}","now_seconds":{},"span_seconds":{},"next":{},"samples":["#,
            self.pid,
            format_rfc3339_millis(self.begun),
            seconds(now),
            SPAN.as_secs(),
            self.next
        )
        .into_bytes();
        self.samples.write(number, &mut text);
        text.extend_from_slice(br#"],"marks":["#);
        self.marks.write(number, &mut text);
        text.extend_from_slice(b"]}\n");
        text
    }
}

impl Ring {
    fn save(&self) -> Vec<SavedLine> {
        let known = |kept: &Kept| SavedLine { number: kept.number, at: kept.at, bytes: kept.line.len() };
        self.kept.iter().map(known).collect()
    }

    /// Takes its lines from the beginning of these.
    fn go_on(saved: Vec<SavedLine>, lines: &mut &[u8]) -> Option<Self> {
        let mut ring = Self::default();
        for SavedLine { number, at, bytes } in saved {
            let (line, rest) = lines.split_at_checked(bytes)?;
            ring.push(number, at, line);
            *lines = rest;
        }
        Some(ring)
    }

    /// Keeps a line; nothing in its place if it could not be written.
    fn push(&mut self, number: u64, at: Duration, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let kept = Kept { number, at, line: line.into() };
        self.bytes += kept.bytes();
        self.kept.push_back(kept);
    }

    fn shrink(&mut self, is_too_much: impl Fn(&Self) -> bool) {
        while is_too_much(self) {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.bytes();
        }
    }

    /// Writes those from this number on, with commas between them.
    fn write(&self, number: u64, text: &mut Vec<u8>) {
        let first = self.kept.partition_point(|kept| kept.number < number);
        for (index, kept) in self.kept.iter().skip(first).enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(&kept.line);
        }
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.line.len() + size_of::<Self>()
    }
}

/// Whether people who look at a plot want to see when this happened: all that changes how the cluster serves, and all that is wrong.
fn is_worth_a_mark(event: &Event) -> bool {
    event.level() >= Level::Info
}

/// The event of this line, by its name alone.
fn named(line: &[u8]) -> serde_json::Value {
    let whole: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
    serde_json::json!({ "event": whole.get("event") })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::Value;

    use super::*;
    use crate::admin::sample::tests::measured;
    use crate::report::verdict::{Failure, Verdict};
    use crate::report::worker::Worker;

    const SECOND: Duration = Duration::from_secs(1);

    fn told(history: &History, number: u64) -> Value {
        serde_json::from_slice(&history.since(number, Duration::from_millis(4500))).unwrap()
    }

    #[test]
    fn the_first_look_is_compared_with_nothing() {
        let mut history = History::new(7, UNIX_EPOCH);
        history.sample(SECOND, &measured(1, 5, 1.0));
        let expected = serde_json::json!({
            "pid": 7, "begun": "1970-01-01T00:00:00.000Z", "now_seconds": 4.5, "span_seconds": 600, "next": 0, "samples": [], "marks": []
        });
        assert_eq!(told(&history, 0), expected);
    }

    #[test]
    fn who_has_heard_some_is_told_what_follows() {
        let mut history = History::new(7, UNIX_EPOCH);
        for at in 0..4 {
            history.sample(at * SECOND, &measured(1, 0, 0.0));
        }
        history.note(4 * SECOND, &Event::Scaled { from: 1, to: 2 }, UNIX_EPOCH);
        history.note(
            4 * SECOND,
            &Event::Online { worker: Worker { id: 1, slot: 0, generation: 1, pid: None } },
            UNIX_EPOCH,
        );
        assert_eq!(history.next(), 4, "what is routine is no mark");
        let told = told(&history, 2);
        assert_eq!(told["samples"].as_array().unwrap().len(), 1);
        assert_eq!((&told["marks"][0]["event"], &told["marks"][0]["to"]), (&"scaled".into(), &2.into()));
        assert_eq!((&told["marks"][0]["number"], &told["marks"][0]["at_seconds"]), (&3.into(), &4.0.into()));
        assert_eq!(told["next"], 4);
        let none = history.since(4, SECOND);
        assert!(none.ends_with(b"\"samples\":[],\"marks\":[]}\n"));
    }

    #[test]
    fn another_program_goes_on_with_it_or_begins_anew() {
        let mut history = History::new(7, UNIX_EPOCH + SECOND);
        for at in 0..4 {
            history.sample(at * SECOND, &measured(2, u64::from(at), 0.5));
        }
        history.note(4 * SECOND, &Event::Scaled { from: 1, to: 2 }, UNIX_EPOCH);
        let left = || {
            let (saved, lines) = history.save();
            (serde_json::from_value::<Saved>(serde_json::to_value(saved).unwrap()).unwrap(), lines)
        };
        let (saved, lines) = left();
        let mut next = History::go_on(7, saved, &lines).unwrap();
        assert_eq!(told(&next, 0), told(&history, 0));
        assert_eq!((next.samples.bytes, next.marks.bytes), (history.samples.bytes, history.marks.bytes));
        next.sample(5 * SECOND, &measured(2, 9, 0.5));
        assert_eq!(
            told(&next, 4)["samples"][0]["slots"][0]["connections"],
            6,
            "it is compared with the look before"
        );
        let (saved, lines) = left();
        assert!(History::go_on(7, saved, &lines[1..]).is_none());
        let (saved, mut lines) = left();
        lines.push(b' ');
        assert!(History::go_on(7, saved, &lines).is_none());
    }

    #[test]
    fn a_day_of_samples_and_events_is_bounded_in_bytes() {
        let failure = Failure {
            worker: Worker { id: 1, slot: 0, generation: 2, pid: Some(7) },
            reason: "exited with status 1 before it served".to_owned(),
            failures: 1,
            stderr: vec!["x".repeat(100); 20],
            hint: None,
        };
        let verdict = Verdict::RolledBack { failure };
        let event = Event::Reloaded { generation: Some(2), verdict };
        let (mut history, mut measured) = (History::new(7, UNIX_EPOCH), measured(2, 0, 0.0));
        for turn in 0..17_280 {
            // Whoever has looked for a while has had one sample a second.
            let at = if turn < 16_680 { turn * 5 * SECOND } else { (66_720 + turn) * SECOND };
            measured
                .status
                .slots
                .iter_mut()
                .for_each(|slot| slot.connections = slot.connections.map(|it| it + 123_456));
            history.sample(at, &measured);
            history.note(at, &event, UNIX_EPOCH);
        }
        assert!(history.samples.bytes <= SAMPLE_BYTES && history.marks.bytes <= MARK_BYTES);
        assert_eq!(history.samples.kept.len(), 600, "ten minutes of them");
        assert!(history.marks.kept.len() > 40, "{}", history.marks.kept.len());
        let answer = history.since(0, 86_400 * SECOND);
        assert!(answer.len() <= SAMPLE_BYTES + MARK_BYTES, "{}", answer.len());
        serde_json::from_slice::<Value>(&answer).unwrap();
    }

    #[test]
    fn where_there_are_many_slots_samples_come_less_often_and_reach_as_far_back() {
        let mut history = History::new(7, UNIX_EPOCH);
        assert_eq!((history.pace(true), history.pace(false)), (WATCHED, UNWATCHED));
        let mut at = Duration::ZERO;
        while at < 2 * SPAN {
            history.sample(at, &measured(500, 1, 1.0));
            at += history.pace(true);
        }
        assert!(history.pace(true) > WATCHED);
        assert!(history.samples.bytes <= SAMPLE_BYTES);
        let reach = at.saturating_sub(history.samples.kept.front().unwrap().at);
        assert!(reach > SPAN * 9 / 10, "{reach:?}");
    }

    #[test]
    fn a_mark_that_is_too_long_has_its_name_alone_and_missed_events_are_told() {
        let mut history = History::new(7, UNIX_EPOCH);
        let long = Event::PreloadMissing { reason: "x".repeat(LONGEST_MARK) };
        history.note(SECOND, &long, UNIX_EPOCH);
        history.miss(SECOND, 9, UNIX_EPOCH);
        let marks = told(&history, 0)["marks"].clone();
        let expected = serde_json::json!({
            "number": 0, "at_seconds": 1.0, "time": "1970-01-01T00:00:00.000Z", "level": "warn", "event": "preload_missing"
        });
        assert_eq!(marks[0], expected);
        assert_eq!((&marks[1]["event"], &marks[1]["events"]), (&"events_missed".into(), &9.into()));
    }
}
