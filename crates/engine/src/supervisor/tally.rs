//! Counts what happens, for metrics. It costs a few instructions for each event, whether anybody looks or not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use recluster_core::Exit;
use serde::{Deserialize, Serialize};

use crate::report::counts::{ByLabel, Counted, Counts, Histogram, LastEnd};
use crate::report::event::{Event, RecycleReason};
use crate::report::verdict::Verdict;
use crate::report::worker::Worker;
use crate::upgrade::plain;

/// Why workers are started.
const STARTS: [&str; 5] = ["start", "reload", "respawn", "replace", "scale"];
/// What leads to their ends: they were asked, they ended by themselves, by a signal of others, by the kernel for want of memory, or were
/// killed by us for this reason.
const EXITS: [&str; 6] = ["asked", "exited", "signal", "oom", "not_ready", "hung"];
/// Why they are renewed.
const RECYCLES: [&str; 3] = ["memory", "age", "unhealthy"];
/// How reloads end.
const RELOADS: [&str; 6] = ["done", "rolled_back", "stopped_part_way", "superseded", "refused", "abandoned"];
/// How drains end: the worker ended by itself, or it was sent a signal because its time was over.
const DRAINS: [&str; 3] = ["done", "term", "kill"];
/// Seconds.
const READY_BOUNDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Seconds.
const DRAIN_BOUNDS: &[f64] = &[0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0];

/// What was counted, and what is known of workers and slots that more will be counted of.
#[derive(Debug)]
pub(crate) struct Tally {
    counts: Counts,
    /// Every worker that lives, by its number.
    workers: BTreeMap<u64, Life>,
    slots: BTreeMap<u32, Slot>,
    /// The newest generation that came to serve; zero before.
    served: u64,
}

/// A worker that lives.
#[derive(Clone, Copy, Debug)]
struct Life {
    begun: Instant,
    is_ready: bool,
    /// When it was told to go, and how that ended as far as is known.
    drain: Option<(Instant, &'static str)>,
    /// Why it will have ended, if that is known already.
    cause: Option<&'static str>,
}

/// A place of workers.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Slot {
    /// The newest generation that a worker was started of.
    generation: u64,
    /// The next worker takes the place of one that is gone or going.
    respawns: bool,
    /// The number of its last worker.
    last: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let counts = Counts {
            starts: ByLabel::new(STARTS),
            exits: ByLabel::new(EXITS),
            recycles: ByLabel::new(RECYCLES),
            reloads: ByLabel::new(RELOADS),
            last_reload: None,
            ready: Histogram::new(READY_BOUNDS),
            drains: DRAINS.map(|end| (end, Histogram::new(DRAIN_BOUNDS))).into(),
            lines_lost: 0,
            started_at: BTreeMap::new(),
        };
        Self { counts, workers: BTreeMap::new(), slots: BTreeMap::new(), served: 0 }
    }
}

/// What another program goes on with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    starts: BTreeMap<String, u64>,
    exits: BTreeMap<String, u64>,
    recycles: BTreeMap<String, u64>,
    reloads: BTreeMap<String, u64>,
    last_reload: Option<LastEnd>,
    ready: Counted,
    drains: BTreeMap<String, Counted>,
    lines_lost: u64,
    /// Since 1970: the last digits of a fraction get lost in text.
    started_at: BTreeMap<u64, Duration>,
    workers: BTreeMap<u64, LeftLife>,
    slots: BTreeMap<u32, Slot>,
    served: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LeftLife {
    #[serde(with = "plain")]
    begun: Instant,
    is_ready: bool,
    #[serde(with = "plain")]
    drains_since: Option<Instant>,
    drain_ends: Option<String>,
    cause: Option<String>,
}

/// The label that this is, among those that are known.
fn label(known: &[&'static str], text: Option<&String>) -> Option<&'static str> {
    known.iter().find(|label| text.is_some_and(|text| text == **label)).copied()
}

impl LeftLife {
    fn of(life: &Life) -> Self {
        Self {
            begun: life.begun,
            is_ready: life.is_ready,
            drains_since: life.drain.map(|(since, _)| since),
            drain_ends: life.drain.map(|(_, end)| end.to_owned()),
            cause: life.cause.map(str::to_owned),
        }
    }

    fn adopt(&self) -> Life {
        let end = label(&DRAINS, self.drain_ends.as_ref());
        let cause = label(&EXITS, self.cause.as_ref());
        Life { begun: self.begun, is_ready: self.is_ready, drain: self.drains_since.zip(end), cause }
    }
}

impl Tally {
    /// Leaves it to another program.
    pub(crate) fn save(&self) -> Left {
        fn labels<const N: usize>(counts: &ByLabel<N>) -> BTreeMap<String, u64> {
            counts.iter().map(|(label, count)| (label.to_owned(), count)).collect()
        }
        let counts = &self.counts;
        let drains = counts.drains.iter().map(|(end, times)| ((*end).to_owned(), times.counted()));
        let since = |at: f64| Duration::try_from_secs_f64(at).unwrap_or_default();
        let started_at = counts.started_at.iter().map(|(number, at)| (*number, since(*at)));
        Left {
            starts: labels(&counts.starts),
            exits: labels(&counts.exits),
            recycles: labels(&counts.recycles),
            reloads: labels(&counts.reloads),
            last_reload: counts.last_reload,
            ready: counts.ready.counted(),
            drains: drains.collect(),
            lines_lost: counts.lines_lost,
            started_at: started_at.collect(),
            workers: self.workers.iter().map(|(number, life)| (*number, LeftLife::of(life))).collect(),
            slots: self.slots.clone(),
            served: self.served,
        }
    }

    /// Goes on with what was left.
    pub(crate) fn adopt(mut left: Left) -> Self {
        let mut tally = Self::default();
        let counts = &mut tally.counts;
        counts.starts.go_on(&left.starts);
        counts.exits.go_on(&left.exits);
        counts.recycles.go_on(&left.recycles);
        counts.reloads.go_on(&left.reloads);
        counts.ready.go_on(left.ready);
        for (end, times) in &mut counts.drains {
            if let Some(before) = left.drains.remove(*end) {
                times.go_on(before);
            }
        }
        (counts.last_reload, counts.lines_lost) = (left.last_reload, left.lines_lost);
        let started_at = left.started_at.into_iter().map(|(number, at)| (number, at.as_secs_f64()));
        counts.started_at = started_at.collect();
        tally.workers = left.workers.iter().map(|(number, life)| (*number, life.adopt())).collect();
        (tally.slots, tally.served) = (left.slots, left.served);
        tally
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts.clone()
    }

    pub(crate) fn hear(&mut self, event: &Event, now: Instant) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "most of what happens is not counted")]
        match event {
            Event::Spawned { worker } => self.spawned(*worker, now),
            Event::Ready { worker } => self.ready(worker.id, now),
            Event::Draining { worker, .. } => self.life(worker.id, |life| life.drain = Some((now, "done"))),
            Event::Overdue { worker, due, signal, .. } => self.overdue(worker.id, due, signal),
            Event::OutOfTime { worker, .. } => self.life(worker.id, |life| life.ends("term")),
            Event::Hung { worker, .. } => self.life(worker.id, |life| life.cause = Some("hung")),
            Event::Exit { worker, exit, expected, oom_killed } => {
                if *oom_killed {
                    self.life(worker.id, |life| life.cause = Some("oom"));
                }
                self.ended(worker.id, *exit, *expected, now);
            }
            Event::Respawning { worker, .. } => self.slots.entry(worker.slot).or_default().respawns = true,
            Event::Recycling { excess, .. } => self.counts.recycles.add(match excess {
                RecycleReason::Memory { .. } => "memory",
                RecycleReason::Age { .. } => "age",
            }),
            Event::Unhealthy { .. } => self.counts.recycles.add("unhealthy"),
            Event::Started { generation, .. } => self.serves(*generation, true),
            Event::Superseded { .. } => self.counts.reloads.add("superseded"),
            Event::Reloaded { generation, verdict } => self.reloaded(*generation, verdict),
            Event::Scaled { to, .. } => self.slots.retain(|slot, _| slot < to),
            Event::LinesLost { lines, .. } => self.lost(*lines),
            _ => {}
        }
    }

    /// Lines of workers were lost. Those of files are counted before people are told how many there were.
    pub(crate) fn lost(&mut self, lines: u64) {
        self.counts.lines_lost = self.counts.lines_lost.saturating_add(lines);
    }

    fn life(&mut self, worker: u64, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.workers.get_mut(&worker) {
            change(life);
        }
    }

    fn spawned(&mut self, worker: Worker, now: Instant) {
        let reason = self.reason(worker);
        self.counts.starts.add(reason);
        let slot = self.slots.entry(worker.slot).or_default();
        *slot = Slot { generation: slot.generation.max(worker.generation), respawns: false, last: worker.id };
        self.workers.insert(worker.id, Life { begun: now, is_ready: false, drain: None, cause: None });
        self.counts.started_at.insert(worker.id, unix_time());
    }

    /// Why a worker is started, by what its slot has had.
    fn reason(&self, worker: Worker) -> &'static str {
        match self.slots.get(&worker.slot) {
            Some(slot) if slot.generation >= worker.generation => {
                let before = self.workers.get(&slot.last);
                let goes_on = before.is_some_and(|life| life.drain.is_none());
                if slot.respawns || !goes_on { "respawn" } else { "replace" }
            }
            Some(_) => "reload",
            None if worker.generation == 1 && self.served == 0 => "start",
            None if worker.generation > self.served => "reload",
            None => "scale",
        }
    }

    fn ready(&mut self, worker: u64, now: Instant) {
        let Some(life) = self.workers.get_mut(&worker).filter(|life| !life.is_ready) else { return };
        life.is_ready = true;
        self.counts.ready.observe(now.saturating_duration_since(life.begun));
    }

    fn overdue(&mut self, worker: u64, due: &str, signal: &str) {
        self.life(worker, |life| {
            if due == "ready" {
                life.cause = Some("not_ready");
            }
            life.ends(if signal == "SIGKILL" { "kill" } else { "term" });
        });
    }

    fn ended(&mut self, worker: u64, exit: Exit, expected: bool, now: Instant) {
        let Some(life) = self.workers.remove(&worker) else { return };
        self.counts.started_at.remove(&worker);
        let cause = match (life.cause, expected, exit) {
            (Some(cause), ..) => cause,
            (None, true, _) => "asked",
            (None, false, Exit::Code(_)) => "exited",
            (None, false, Exit::Signal(_)) => "signal",
        };
        self.counts.exits.add(cause);
        let Some((since, end)) = life.drain else { return };
        if let Some(histogram) = self.counts.drains.get_mut(end) {
            histogram.observe(now.saturating_duration_since(since));
        }
    }

    fn reloaded(&mut self, generation: Option<u64>, verdict: &Verdict) {
        let word = match verdict {
            Verdict::Done => "done",
            Verdict::RolledBack { .. } => "rolled_back",
            Verdict::StoppedPartWay { .. } => "stopped_part_way",
            Verdict::Refused { .. } => "refused",
            Verdict::Abandoned => "abandoned",
        };
        self.counts.reloads.add(word);
        self.serves(generation.unwrap_or(0), word == "done");
    }

    /// A generation came to serve, or did not.
    fn serves(&mut self, generation: u64, successful: bool) {
        if successful {
            self.served = self.served.max(generation);
        }
        self.counts.last_reload = Some(LastEnd { successful, at: unix_time() });
    }
}

impl Life {
    /// Its drain ends by a signal. The last one counts.
    fn ends(&mut self, by: &'static str) {
        if let Some((_, end)) = &mut self.drain {
            *end = by;
        }
    }
}

/// Seconds since 1970.
fn unix_time() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::stream::Stream;
    use crate::report::verdict::Failure;

    /// Hears events, each a second after the one before.
    fn heard(events: &[Event]) -> Tally {
        let mut tally = Tally::default();
        let begun = Instant::now();
        for (second, event) in (0..).zip(events) {
            tally.hear(event, begun + Duration::from_secs(second));
        }
        tally
    }

    fn worker(id: u64, slot: u32, generation: u64) -> Worker {
        Worker { id, slot, generation, pid: Some(7) }
    }

    fn spawned(id: u64, slot: u32, generation: u64) -> Event {
        Event::Spawned { worker: worker(id, slot, generation) }
    }

    fn exit(id: u64, exit: Exit, expected: bool) -> Event {
        Event::Exit { worker: worker(id, 0, 1), exit, expected, oom_killed: false }
    }

    fn draining(id: u64) -> Event {
        Event::Draining { worker: worker(id, 0, 1), timeout: Duration::from_secs(9) }
    }

    fn overdue(id: u64, due: &'static str, signal: &'static str) -> Event {
        Event::Overdue { worker: worker(id, 0, 1), due, signal, held: None }
    }

    fn counted<const N: usize>(counts: &ByLabel<N>) -> Vec<(&'static str, u64)> {
        counts.iter().filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn each_start_has_the_reason_that_led_to_it() {
        let started = Event::Started { generation: 1, workers: 2 };
        let done = Event::Reloaded { generation: Some(2), verdict: Verdict::Done };
        let respawning = Event::Respawning { worker: worker(1, 0, 1), delay: Duration::ZERO };
        let tally = heard(&[
            spawned(1, 0, 1),
            spawned(2, 1, 1),
            started,
            exit(1, Exit::Code(1), false),
            respawning,
            spawned(3, 0, 1),
            // Renewed, new first.
            spawned(4, 1, 1),
            spawned(5, 2, 1),
            spawned(6, 0, 2),
            spawned(7, 3, 2),
            done,
            Event::Scaled { from: 4, to: 3 },
            spawned(8, 3, 2),
        ]);
        let expected = [("start", 2), ("reload", 2), ("respawn", 1), ("replace", 1), ("scale", 2)];
        assert_eq!(counted(&tally.counts.starts), expected);
    }

    #[test]
    fn after_a_rollback_the_old_generation_respawns() {
        let tally = heard(&[
            spawned(1, 0, 1),
            Event::Started { generation: 1, workers: 1 },
            spawned(2, 0, 2),
            exit(2, Exit::Code(1), false),
            exit(1, Exit::Code(1), false),
            spawned(3, 0, 1),
        ]);
        assert_eq!(counted(&tally.counts.starts), [("start", 1), ("reload", 1), ("respawn", 1)]);
    }

    #[test]
    fn each_end_has_the_cause_that_led_to_it_and_nothing_is_kept_of_the_dead() {
        let hung = Event::Hung { worker: worker(5, 0, 1), silent: Duration::from_secs(1) };
        let mut events: Vec<Event> = (1..=6).map(|id| spawned(id, 0, 1)).collect();
        events.extend([
            exit(1, Exit::Code(0), true),
            exit(2, Exit::Code(3), false),
            exit(3, Exit::Signal(9), false),
            overdue(4, "ready", "SIGKILL"),
            exit(4, Exit::Signal(9), true),
            hung,
            exit(5, Exit::Signal(9), true),
            Event::Exit { worker: worker(6, 0, 1), exit: Exit::Signal(9), expected: false, oom_killed: true },
            // One that is not known.
            exit(9, Exit::Code(0), true),
        ]);
        let tally = heard(&events);
        let expected =
            [("asked", 1), ("exited", 1), ("signal", 1), ("oom", 1), ("not_ready", 1), ("hung", 1)];
        assert_eq!(counted(&tally.counts.exits), expected);
        assert!(tally.workers.is_empty() && tally.counts.started_at.is_empty());
    }

    #[test]
    fn times_are_those_to_be_ready_and_to_go() {
        let tally = heard(&[
            spawned(1, 0, 1),
            Event::Ready { worker: worker(1, 0, 1) },
            Event::Ready { worker: worker(1, 0, 1) },
            draining(1),
            exit(1, Exit::Code(0), true),
            spawned(2, 0, 1),
            draining(2),
            overdue(2, "drain", "SIGTERM"),
            overdue(2, "kill", "SIGKILL"),
            exit(2, Exit::Signal(9), true),
        ]);
        let Counts { ready, drains, .. } = tally.counts;
        assert_eq!((ready.count(), ready.sum), (1, 1.0));
        let ends: Vec<_> = drains.iter().map(|(end, times)| (*end, times.count(), times.sum)).collect();
        assert_eq!(ends, [("done", 1, 1.0), ("kill", 1, 3.0), ("term", 0, 0.0)]);
    }

    #[test]
    fn reloads_are_counted_by_their_ends_and_the_last_one_is_known() {
        let mut tally = heard(&[]);
        assert_eq!(tally.counts.last_reload, None);
        let now = Instant::now();
        tally.hear(&Event::Started { generation: 1, workers: 1 }, now);
        assert!(tally.counts.last_reload.unwrap().successful, "the first start, where there was no reload");
        let failure = Failure {
            worker: worker(2, 0, 2),
            reason: String::new(),
            failures: 1,
            stderr: Vec::new(),
            hint: None,
        };
        let reloaded = |verdict| Event::Reloaded { generation: Some(2), verdict };
        tally.hear(&Event::Superseded { generation: 2 }, now);
        tally.hear(&reloaded(Verdict::Abandoned), now);
        tally.hear(&reloaded(Verdict::Refused { reason: String::new() }), now);
        tally.hear(&reloaded(Verdict::StoppedPartWay { replaced: 1, of: 2, failure: failure.clone() }), now);
        tally.hear(&reloaded(Verdict::RolledBack { failure }), now);
        assert!(!tally.counts.last_reload.unwrap().successful);
        tally.hear(&reloaded(Verdict::Done), now);
        assert!(tally.counts.last_reload.unwrap().successful);
        assert!(tally.counts.reloads.iter().all(|(_, count)| count == 1), "{:?}", tally.counts.reloads);
    }

    #[test]
    fn other_things_are_counted_as_they_are_told() {
        let about = worker(1, 0, 1);
        let recycling = |excess| Event::Recycling { worker: about, excess };
        let mut tally = heard(&[
            recycling(RecycleReason::Memory { bytes: 2, limit: 1 }),
            recycling(RecycleReason::Age { seconds: 2 }),
            Event::Unhealthy { worker: about, reason: String::new() },
            Event::LinesLost { worker: about, stream: Stream::Stdout, lines: 5 },
            Event::LinesLost { worker: about, stream: Stream::Stderr, lines: 2 },
            Event::WorkerLogResumed { slot: 0, lines: 4 },
        ]);
        tally.lost(4);
        assert_eq!(counted(&tally.counts.recycles), [("memory", 1), ("age", 1), ("unhealthy", 1)]);
        assert_eq!(tally.counts.lines_lost, 11);
    }
}
