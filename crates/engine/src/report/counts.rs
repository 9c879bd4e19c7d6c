//! What is counted of a cluster from its start, for metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use recluster_wire::node::Spans;
use serde::{Deserialize, Serialize};

use crate::report::measured::SlotMeasures;
use crate::report::status::Status;

/// All that metrics are made of, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) status: Status,
    pub(crate) counts: Counts,
    pub(crate) flow: Flow,
}

/// Whether the cluster as a whole serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// As [`Status::phase`].
    pub(crate) phase: &'static str,
    pub(crate) slots: usize,
    /// How many slots have an active worker.
    pub(crate) active: usize,
}

/// What the supervisor has counted. Everything in it has a bound: the labels are known, and it keeps something of each worker that lives.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    /// Workers that were started, by the reason.
    pub(crate) starts: ByLabel<5>,
    /// Workers that have ended, by what led to it.
    pub(crate) exits: ByLabel<6>,
    /// Workers that were renewed, by the limit that they exceeded.
    pub(crate) recycles: ByLabel<3>,
    /// Reloads that have ended, by how.
    pub(crate) reloads: ByLabel<6>,
    /// How the last reload ended, or the first start where there was none.
    pub(crate) last_reload: Option<LastEnd>,
    /// From the start of a worker to when it may serve.
    pub(crate) ready: Histogram,
    /// From the beginning of a drain to the end of the process, by how that came.
    pub(crate) drains: BTreeMap<&'static str, Histogram>,
    /// Lines of workers' stderr that were not passed on.
    pub(crate) lines_lost: u64,
    /// When each worker that lives was started, in seconds since 1970.
    pub(crate) started_at: BTreeMap<u64, f64>,
}

/// What is on its way to workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow {
    /// Connections that the master has accepted and the workers of a slot have not taken, by slot.
    pub(crate) in_flight: BTreeMap<u32, u64>,
    /// Connections that wait to be accepted, or to be given to a worker, by address.
    pub(crate) queues: BTreeMap<String, u64>,
    /// What Node workers have said of themselves, by slot.
    pub(crate) nodes: BTreeMap<u32, SlotMeasures>,
}

/// How something ended, and when, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastEnd {
    pub(crate) successful: bool,
    pub(crate) at: f64,
}

/// A count for each of some labels, all of which are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByLabel<const N: usize>([(&'static str, u64); N]);

impl<const N: usize> ByLabel<N> {
    pub(crate) fn new(labels: [&'static str; N]) -> Self {
        Self(labels.map(|label| (label, 0)))
    }

    /// Counts one more. A label that is not among them counts for nothing.
    pub(crate) fn add(&mut self, label: &str) {
        for (_, count) in self.0.iter_mut().filter(|(known, _)| *known == label) {
            *count += 1;
        }
    }

    /// What was counted before, for those labels that are known.
    pub(crate) fn go_on(&mut self, counted: &BTreeMap<String, u64>) {
        for (label, count) in &mut self.0 {
            *count = counted.get(*label).copied().unwrap_or_default();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }
}

/// How long something took, each time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Histogram {
    /// The greatest time of each bucket, in seconds, ascending.
    bounds: &'static [f64],
    /// How many are in each bucket; behind them those that took longer than all bounds.
    buckets: Vec<u64>,
    /// All of them together, in seconds.
    pub(crate) sum: f64,
}

/// How many are in each bucket, and all of them together, for another program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    buckets: Vec<u64>,
    sum: Duration,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// What others have counted in buckets of these bounds.
    pub(crate) fn of<const N: usize>(bounds: &'static [f64], spans: &Spans<N>) -> Self {
        let sum = Duration::from_micros(spans.sum).as_secs_f64();
        Self { bounds, buckets: spans.buckets.to_vec(), sum }
    }

    /// How many are in each bucket, and all of them together.
    pub(crate) fn counted(&self) -> Counted {
        Counted {
            buckets: self.buckets.clone(),
            sum: Duration::try_from_secs_f64(self.sum).unwrap_or_default(),
        }
    }

    /// What was counted before, if it was in such buckets.
    pub(crate) fn go_on(&mut self, Counted { buckets, sum }: Counted) {
        if buckets.len() == self.buckets.len() {
            (self.buckets, self.sum) = (buckets, sum.as_secs_f64());
        }
    }

    pub(crate) fn observe(&mut self, span: Duration) {
        let seconds = span.as_secs_f64();
        let at = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        if let Some(count) = self.buckets.get_mut(at) {
            *count += 1;
        }
        self.sum += seconds;
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Each bound with how many took no longer.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        self.bounds.iter().zip(&self.buckets).scan(0_u64, |sum, (bound, count)| {
            *sum = sum.saturating_add(*count);
            Some((*bound, *sum))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_took_no_longer() {
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        for millis in [100, 500, 501, 1000, 2000] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(0.5, 2), (1.0, 4)]);
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum - 4.101).abs() < 1e-9, "{}", histogram.sum);
    }

    #[test]
    fn labels_are_there_from_the_start_and_no_others_come() {
        let mut counts = ByLabel::new(["a", "b"]);
        counts.add("b");
        counts.add("c");
        assert_eq!(counts.iter().collect::<Vec<_>>(), [("a", 0), ("b", 1)]);
    }
}
