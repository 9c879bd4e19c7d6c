//! What Node workers say of themselves, as it is kept and counted.

use std::time::Duration;

use recluster_wire::node::{COLLECTION_BOUNDS, COLLECTIONS, Measures, Requests, SERVER_ERRORS, Spans};
use serde::{Deserialize, Serialize};

use crate::report::status::{HttpStatus, NodeStatus};

/// What a worker has said last.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) measures: Measures,
    /// How long it took to say so; or, if it has not answered since, for how long.
    pub(crate) lag: Duration,
    /// How long the slowest requests of the last seconds have taken, in seconds.
    pub(crate) p99: Option<f64>,
}

/// What workers of one slot have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) gc: [Spans<{ COLLECTION_BOUNDS.len() + 1 }>; COLLECTIONS.len()],
    /// None where none of them counts requests.
    pub(crate) http: Option<Requests>,
}

/// All that is known of the Node workers of one slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotMeasures {
    /// What its active worker has said last.
    pub(crate) said: Option<Said>,
    /// What all of them have counted.
    pub(crate) counted: Counted,
}

impl Counted {
    pub(crate) fn of(measures: &Measures) -> Self {
        Self { gc: measures.gc, http: measures.http }
    }

    /// What both have counted together.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.gc.iter_mut().zip(&other.gc).for_each(|(own, other)| *own = own.and(other));
        self.http = match (self.http, other.http) {
            (Some(own), Some(other)) => Some(own.and(&other)),
            (own, other) => own.or(other),
        };
        self
    }

    /// What is counted now by one that has counted the other before: nothing becomes less.
    pub(crate) fn no_less_than(mut self, before: &Self) -> Self {
        self.gc.iter_mut().zip(&before.gc).for_each(|(own, before)| *own = own.no_less_than(before));
        self.http = match (self.http, before.http) {
            (Some(own), Some(before)) => Some(own.no_less_than(&before)),
            (own, before) => own.or(before),
        };
        self
    }
}

impl Said {
    /// How the worker does, for the status.
    pub(crate) fn node(&self) -> NodeStatus {
        NodeStatus {
            loop_utilization: self.utilization(),
            loop_lag_seconds: self.lag.as_secs_f64(),
            heap_used_bytes: self.measures.memory.used,
        }
    }

    /// The requests that it has answered, if it counts them.
    pub(crate) fn http(&self) -> Option<HttpStatus> {
        let codes = self.measures.http?.codes;
        Some(HttpStatus {
            requests: codes.iter().fold(0, |sum, count| sum.saturating_add(*count)),
            errors: codes.get(SERVER_ERRORS).copied().unwrap_or(0),
            p99_seconds: self.p99,
        })
    }

    /// How busy its event loop was, of 1.
    pub(crate) fn utilization(&self) -> f64 {
        /// As what a worker says is counted.
        const WHOLE: u32 = 1_000_000;
        f64::from(self.measures.utilization.min(WHOLE)) / f64::from(WHOLE)
    }
}

/// How long it took at most for this part of what was counted, in seconds: within a bucket as if all were spread evenly, as Prometheus
/// does. What took longer than all bounds took as long as the greatest. None where nothing was counted.
pub(crate) fn quantile(bounds: &[f64], buckets: impl Iterator<Item = u64>, part: f64) -> Option<f64> {
    let counts: Vec<f64> = buckets.map(as_float).collect();
    let all: f64 = counts.iter().sum();
    let (mut below, mut least) = (0.0, 0.0);
    for (count, bound) in counts.iter().zip(bounds) {
        let within = all * part - below;
        if *count > 0.0 && within <= *count {
            return Some(least + (bound - least) * (within / count).max(0.0));
        }
        (below, least) = (below + count, *bound);
    }
    (all > 0.0).then_some(least)
}

/// A count as a number that can be divided, as all of Prometheus's are.
#[expect(clippy::cast_precision_loss, reason = "what is lost is lost in a share of it as well")]
pub(crate) fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_the_bucket_in_which_it_falls() {
        let of = |buckets: &[u64], part| quantile(&[1.0, 2.0, 4.0], buckets.iter().copied(), part);
        assert_eq!(of(&[0, 0, 0, 0], 0.99), None);
        assert_eq!(of(&[0, 10, 0, 0], 0.5), Some(1.5));
        assert_eq!(of(&[50, 0, 50, 0], 0.5), Some(1.0));
        assert_eq!(of(&[50, 0, 50, 0], 0.75), Some(3.0));
        assert_eq!(of(&[0, 0, 0, 7], 0.99), Some(4.0), "longer than all bounds");
        assert_eq!(of(&[u64::MAX; 4], 0.25), Some(1.0), "it does not overflow");
    }

    #[test]
    fn what_one_worker_does_not_count_another_may() {
        let requests = Requests { codes: [1; 6], ..Requests::default() };
        let counts = Counted { http: Some(requests), ..Counted::default() };
        assert_eq!(Counted::default().and(&counts), counts);
        assert_eq!(counts.and(&counts).http.map(|http| http.codes), Some([2; 6]));
        assert_eq!(Counted::default().no_less_than(&counts), counts, "it says nothing of them any more");
    }
}
