//! What a Node worker with our preload says of itself when it is asked: whole numbers in arrays of fixed length, so that whatever a
//! worker says, there is nothing in it that grows.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Up to when a request is in each bucket, in seconds, ascending. Behind these is one for those that took longer.
pub const REQUEST_BOUNDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The classes of the statuses of responses. The last is for what is no status of HTTP.
pub const CODES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
/// The index of the class of errors of the server.
pub const SERVER_ERRORS: usize = 4;
/// The kinds of garbage collections.
pub const COLLECTIONS: [&str; 4] = ["minor", "major", "incremental", "weakcb"];
/// Up to when a garbage collection is in each bucket, as [`REQUEST_BOUNDS`].
pub const COLLECTION_BOUNDS: [f64; 6] = [0.001, 0.01, 0.1, 1.0, 2.0, 5.0];
/// The kinds of resources that keep an event loop alive, by Node's names. The last is for all others.
pub const RESOURCES: [&str; 15] = [
    "TCPSocketWrap",
    "TCPServerWrap",
    "TLSWrap",
    "PipeWrap",
    "PipeServerWrap",
    "TTYWrap",
    "UDPWrap",
    "ProcessWrap",
    "Timeout",
    "Immediate",
    "FSReqCallback",
    "FSReqPromise",
    "GetAddrInfoReqWrap",
    "MessagePort",
    "other",
];

/// What a worker says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// The version of Node: major, minor, patch.
    pub version: [u32; 3],
    /// How busy its event loop was since it said so last, in millionths of the time.
    pub utilization: u32,
    /// The heap of V8, in use and in all, and what is outside of it, in bytes.
    pub memory: Memory,
    /// How many of [`RESOURCES`] keep its event loop alive.
    #[serde(deserialize_with = "by_kind", serialize_with = "as_kinds")]
    pub active: [u32; RESOURCES.len()],
    /// Garbage collections since it was asked first, by [`COLLECTIONS`].
    pub gc: [Spans<{ COLLECTION_BOUNDS.len() + 1 }>; COLLECTIONS.len()],
    /// Requests since it began, if it counts them.
    #[serde(default)]
    pub http: Option<Requests>,
}

/// Memory of a worker, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Of the heap, in use.
    pub used: u64,
    /// The heap.
    pub total: u64,
    /// Bound to objects of the heap, outside of it.
    pub external: u64,
}

/// Requests that were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// How many, by [`CODES`].
    pub codes: [u64; CODES.len()],
    /// How long they took.
    pub spans: Spans<{ REQUEST_BOUNDS.len() + 1 }>,
}

/// How long something took, each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "[u64; N]: Deserialize<'de>", serialize = "[u64; N]: Serialize"))]
pub struct Spans<const N: usize> {
    /// All of them together, in microseconds.
    pub sum: u64,
    /// How many are in each bucket.
    pub buckets: [u64; N],
}

impl<const N: usize> Default for Spans<N> {
    fn default() -> Self {
        Self { sum: 0, buckets: [0; N] }
    }
}

/// The counts of an object, by their names.
fn by_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u32; RESOURCES.len()], D::Error> {
    deserializer.deserialize_map(Kinds)
}

fn as_kinds<S: Serializer>(active: &[u32; RESOURCES.len()], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(RESOURCES.iter().zip(active))
}

/// How many there are of each of [`RESOURCES`].
struct Kinds;

impl<'de> Visitor<'de> for Kinds {
    type Value = [u32; RESOURCES.len()];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counts by their names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut active = [0_u32; RESOURCES.len()];
        while let Some((name, count)) = map.next_entry::<Cow<'de, str>, u32>()? {
            let known = RESOURCES.iter().position(|kind| *kind == name);
            if let Some(sum) = active.get_mut(known.unwrap_or(RESOURCES.len() - 1)) {
                *sum = sum.saturating_add(count);
            }
        }
        Ok(active)
    }
}

impl Requests {
    /// What comes after both, of which each has counted by itself.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        add(&mut self.codes, &other.codes);
        self.spans = self.spans.and(&other.spans);
        self
    }

    /// What was counted up to now, of which this is known from before: no count becomes less, whatever is said.
    #[must_use]
    pub fn no_less_than(mut self, before: &Self) -> Self {
        at_least(&mut self.codes, &before.codes);
        self.spans = self.spans.no_less_than(&before.spans);
        self
    }
}

impl<const N: usize> Spans<N> {
    /// As [`Requests::and`].
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.sum = self.sum.saturating_add(other.sum);
        add(&mut self.buckets, &other.buckets);
        self
    }

    /// As [`Requests::no_less_than`].
    #[must_use]
    pub fn no_less_than(mut self, before: &Self) -> Self {
        self.sum = self.sum.max(before.sum);
        at_least(&mut self.buckets, &before.buckets);
        self
    }
}

fn add<const N: usize>(counts: &mut [u64; N], more: &[u64; N]) {
    counts.iter_mut().zip(more).for_each(|(count, more)| *count = count.saturating_add(*more));
}

fn at_least<const N: usize>(counts: &mut [u64; N], least: &[u64; N]) {
    counts.iter_mut().zip(least).for_each(|(count, least)| *count = (*count).max(*least));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_grow_and_end_at_what_can_be_counted() {
        let before = Requests { codes: [0, 5, 0, 0, 1, 0], ..Requests::default() };
        let lies = Requests { codes: [0, 3, 0, 0, u64::MAX, 0], ..Requests::default() };
        let now = lies.no_less_than(&before);
        assert_eq!(now.codes, [0, 5, 0, 0, u64::MAX, 0]);
        assert_eq!(now.and(&before).codes, [0, 10, 0, 0, u64::MAX, 0]);
        let most = Spans { sum: u64::MAX, buckets: [u64::MAX; 2] };
        assert_eq!(most.and(&most), most);
        assert_eq!(Spans::default().no_less_than(&most), most);
    }
}
