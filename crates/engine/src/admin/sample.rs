//! Samples: what was between two looks at the cluster. No clock and no IO.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::counts::Measured;
use crate::report::status::WorkerStatus;

/// The cluster in the time since the sample before.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) number: u64,
    pub(crate) at_seconds: f64,
    /// How long that time was.
    pub(crate) seconds: f64,
    pub(crate) generation: u64,
    /// Connections that wait at all listeners.
    pub(crate) queued: u64,
    pub(crate) slots: Vec<SlotSample>,
}

/// One slot in the time since the sample before: all its workers, those that drain as well.
#[derive(Debug, Default, Serialize)]
pub(crate) struct SlotSample {
    pub(crate) slot: u32,
    /// How many connections it got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<u64>,
    /// The CPU time that it used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) loop_utilization: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) loop_lag_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) heap_used_bytes: Option<u64>,
    /// How many requests it answered, and how many of them with an error of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_seconds: Option<f64>,
}

/// What was known of the cluster when it was looked at: the next look is compared with that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Look {
    at: Duration,
    /// The connections that each slot had got, if that is known.
    connections: BTreeMap<u32, Option<u64>>,
    workers: BTreeMap<u64, Done>,
}

/// What a worker has done since it began, as far as it is known.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Done {
    cpu_seconds: Option<f64>,
    /// The requests that it has answered, and how many of them with an error of the server.
    requests: Option<(u64, u64)>,
}

impl Look {
    /// The cluster is so now.
    pub(super) fn new(at: Duration, measured: &Measured, before: Option<&Self>) -> Self {
        let connections = measured.status.slots.iter().map(|slot| (slot.slot, slot.connections));
        let done = measured.status.workers.iter().map(|worker| (worker.id, Done::of(worker, before)));
        Self { at, connections: connections.collect(), workers: done.collect() }
    }
}

impl Sample {
    /// What was between this look and the next one, at which this was measured.
    pub(super) fn between(before: &Look, now: &Look, number: u64, measured: &Measured) -> Self {
        Self {
            number,
            at_seconds: seconds(now.at),
            seconds: seconds(now.at.saturating_sub(before.at)),
            generation: measured.status.generation,
            queued: measured.flow.queues.values().sum(),
            slots: slots(before, now, measured),
        }
    }
}

impl Done {
    /// What is not known now is what was known before. A worker that came since then has begun at nothing.
    fn of(worker: &WorkerStatus, before: Option<&Look>) -> Self {
        let had = match before {
            Some(before) => before.workers.get(&worker.id).copied().unwrap_or_else(Self::nothing),
            None => Self::default(),
        };
        let requests = worker.http.as_ref().map(|http| (http.requests, http.errors));
        Self { cpu_seconds: worker.cpu_seconds.or(had.cpu_seconds), requests: requests.or(had.requests) }
    }

    fn nothing() -> Self {
        Self { cpu_seconds: Some(0.0), requests: Some((0, 0)) }
    }
}

impl SlotSample {
    /// Adds one of its workers, and what that has done since it had done this; nothing is known of what it had if it is no new one.
    fn add(&mut self, worker: &WorkerStatus, had: Option<Done>, has: Done) {
        let had = had.unwrap_or_else(Done::nothing);
        self.memory_bytes = sum(self.memory_bytes, worker.memory_bytes);
        if let Some((has, had)) = has.cpu_seconds.zip(had.cpu_seconds) {
            self.cpu_seconds = Some(rounded(self.cpu_seconds.unwrap_or(0.0) + (has - had).max(0.0)));
        }
        if let Some(node) = &worker.node {
            self.loop_utilization = greater(self.loop_utilization, Some(node.loop_utilization));
            self.loop_lag_seconds = greater(self.loop_lag_seconds, Some(node.loop_lag_seconds));
            self.heap_used_bytes = sum(self.heap_used_bytes, Some(node.heap_used_bytes));
        }
        let Some(http) = &worker.http else { return };
        if let Some((has, had)) = has.requests.zip(had.requests) {
            self.requests = sum(self.requests, Some(since(had.0, has.0)));
            self.errors = sum(self.errors, Some(since(had.1, has.1)));
        }
        self.p99_seconds = greater(self.p99_seconds, http.p99_seconds);
    }
}

fn greater(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(rounded(other))),
        (one, other) => one.or(other.map(rounded)),
    }
}

/// Each slot in the time between two looks, and each that is no more and has workers yet.
fn slots(before: &Look, now: &Look, measured: &Measured) -> Vec<SlotSample> {
    let mut slots: BTreeMap<u32, SlotSample> = BTreeMap::new();
    for (&slot, &connections) in &now.connections {
        let had = before.connections.get(&slot).copied().unwrap_or(Some(0));
        let connections = had.zip(connections).map(|(had, has)| since(had, has));
        let sample = SlotSample { slot, connections, ..SlotSample::default() };
        slots.insert(slot, sample);
    }
    for worker in &measured.status.workers {
        let sample = slots.entry(worker.slot).or_default();
        sample.slot = worker.slot;
        let done = now.workers.get(&worker.id).copied().unwrap_or_default();
        sample.add(worker, before.workers.get(&worker.id).copied(), done);
    }
    slots.into_values().collect()
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

/// How much a counter has grown. One that is less than it was has begun anew.
fn since(had: u64, has: u64) -> u64 {
    has.checked_sub(had).unwrap_or(has)
}

/// To a millionth: what a plot shows is coarser, and digits have a cost.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// In seconds, to the millisecond.
pub(super) fn seconds(span: Duration) -> f64 {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::report::counts::Flow;
    use crate::supervisor::tally::Tally;

    /// A cluster of so many slots, each of which has got so many connections and its worker used so much.
    pub(in crate::admin) fn measured(slots: u32, connections: u64, cpu_seconds: f64) -> Measured {
        let of_slot =
            |slot: u32| json!({"slot": slot, "active": slot + 1, "restarts": 0, "connections": connections});
        let of_worker = |slot: u32| {
            json!({
                "id": slot + 1, "slot": slot, "generation": 1, "pid": 7, "state": "serving", "seconds_left": null,
                "uptime_seconds": 1.0, "memory_bytes": 45_453_312, "cpu_seconds": cpu_seconds, "connections": connections
            })
        };
        let status = json!({
            "pid": 1, "phase": "running", "generation": 1, "reload": null, "uptime_seconds": 1.0, "balance": "shared", "listeners": [],
            "slots": (0..slots).map(of_slot).collect::<Vec<_>>(), "workers": (0..slots).map(of_worker).collect::<Vec<_>>()
        });
        let counts = Tally::default().counts();
        let flow = Flow { queues: [("a".to_owned(), 2), ("b".to_owned(), 3)].into(), ..Flow::default() };
        Measured { status: serde_json::from_value(status).unwrap(), counts, flow }
    }

    /// The samples between these looks, a second from each to the next.
    fn told(looks: &[Measured]) -> Vec<Value> {
        let mut before: Option<Look> = None;
        let mut samples = Vec::new();
        for (at, measured) in (1..).zip(looks) {
            let now = Look::new(Duration::from_secs(at), measured, before.as_ref());
            if let Some(before) = before {
                samples.push(json!(Sample::between(&before, &now, at, measured)));
            }
            before = Some(now);
        }
        samples
    }

    #[test]
    fn a_sample_has_what_was_done_since_the_look_before() {
        let expected = json!({
            "number": 2, "at_seconds": 2.0, "seconds": 1.0, "generation": 1, "queued": 5, "slots": [
                {"slot": 0, "connections": 3, "memory_bytes": 45_453_312, "cpu_seconds": 0.07},
                {"slot": 1, "connections": 8, "memory_bytes": 45_453_312, "cpu_seconds": 1.07}
            ]
        });
        assert_eq!(told(&[measured(1, 5, 1.0), measured(2, 8, 1.07)]), [expected]);
    }

    #[test]
    fn counters_that_begin_anew_and_workers_that_drain_are_counted() {
        let mut later = measured(1, 2, 0.5);
        let mut old = later.status.workers[0].clone();
        (old.id, old.slot) = (9, 4);
        later.status.workers.push(old);
        let slots = told(&[measured(1, 5, 1.0), later])[0]["slots"].clone();
        assert_eq!((&slots[0]["connections"], &slots[0]["cpu_seconds"]), (&json!(2), &json!(0.0)));
        assert_eq!((&slots[1]["slot"], &slots[1]["cpu_seconds"]), (&json!(4), &json!(0.5)), "it is no more");
    }

    /// With what a Node worker says of itself.
    fn node(requests: u64, errors: u64, p99_seconds: Option<f64>) -> Measured {
        let mut measured = measured(1, 0, 0.0);
        let of = json!({"loop_utilization": 0.123_456_789, "loop_lag_seconds": 0.002, "heap_used_bytes": 9});
        let http = json!({"requests": requests, "errors": errors, "p99_seconds": p99_seconds});
        let worker = &mut measured.status.workers[0];
        worker.node = serde_json::from_value(of).unwrap();
        worker.http = serde_json::from_value(http).unwrap();
        measured
    }

    #[test]
    fn requests_are_counted_from_look_to_look_also_where_a_worker_is_silent_at_one() {
        let mut newer = node(7, 1, Some(0.25));
        newer.status.workers[0].id = 2;
        newer.status.workers.extend(node(1051, 12, Some(0.5)).status.workers);
        let samples = told(&[
            measured(1, 0, 0.0),
            node(1000, 10, Some(0.012)),
            node(1020, 12, None),
            measured(1, 0, 0.0),
            node(1050, 12, Some(0.5)),
            newer,
        ]);
        let slots: Vec<&Value> = samples.iter().map(|sample| &sample["slots"][0]).collect();
        let all = |field: &str| slots.iter().map(|slot| slot[field].clone()).collect::<Vec<_>>();
        // Nobody knows in how much time it had answered the first thousand.
        assert_eq!(all("requests"), [json!(null), json!(20), json!(null), json!(30), json!(8)]);
        assert_eq!(all("errors"), [json!(null), json!(2), json!(null), json!(0), json!(1)]);
        assert_eq!(all("p99_seconds"), [json!(0.012), json!(null), json!(null), json!(0.5), json!(0.5)]);
        assert_eq!(all("heap_used_bytes"), [json!(9), json!(9), json!(null), json!(9), json!(18)]);
        assert_eq!(slots[0]["loop_utilization"], 0.123_457);
    }
}
