//! How many connections a worker has open, and whether those that come are likely to last, by what workers say once a second.

use std::time::{Duration, Instant};

use recluster_wire::node::Taken;
use serde::{Deserialize, Serialize};

/// How long it counts what became of the last connections.
const MEMORY: Duration = Duration::from_secs(10);
/// How many connections may be handed out in a span: some 1 % of a core.
const MOST_IN_A_SPAN: u32 = 256;
const SPAN: Duration = Duration::from_secs(1);

/// The open connections of one worker.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lasting {
    /// By its own count; none where it does not count.
    said: Option<u64>,
    /// Those that it has taken from the master since then.
    taken: u64,
    /// Not left to another program: without it, what comes may last.
    #[serde(skip)]
    lately: Option<Lately>,
}

/// What became of some of the connections that a worker got within a second.
#[derive(Clone, Copy, Debug)]
struct Lately {
    at: Instant,
    all: u32,
    lasting: u32,
}

/// Whether new connections are likely to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Most of the last ones have, or there were none.
    MayLast,
    /// That counts until then.
    Short(Instant),
}

impl Lasting {
    /// It has counted. What it took from the master before is in it, since it says one after the other.
    pub(super) fn hear(&mut self, said: Taken, now: Instant) {
        (self.said, self.taken) = (said.open, 0);
        if said.lately > 0 {
            self.lately = Some(Lately { at: now, all: said.lately, lasting: said.lasting.min(said.lately) });
        }
    }

    /// It has taken a connection from the master.
    pub(super) fn takes(&mut self) {
        self.taken = self.taken.saturating_add(1);
    }

    /// How many it has, if it counts. Those that have ended since its last count are among them.
    pub(super) fn open(&self) -> Option<u64> {
        self.said.map(|said| said.saturating_add(self.taken))
    }
}

/// Whether the next connections of these workers are likely to last. A single short one of a worker within a second does not count: it
/// may be a health check.
pub(super) fn outlook<'a>(workers: impl Iterator<Item = &'a Lasting>, now: Instant) -> Outlook {
    let (mut lasting, mut short, mut until) = (0, 0, now);
    for lately in workers.filter_map(|worker| worker.lately) {
        let forgotten_at = lately.at + MEMORY;
        if forgotten_at > now {
            lasting += u64::from(lately.lasting);
            short += u64::from((lately.all - lately.lasting).saturating_sub(1));
            until = until.max(forgotten_at);
        }
    }
    if lasting >= short { Outlook::MayLast } else { Outlook::Short(until) }
}

/// How many connections may still be handed out.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    /// When the span ends.
    until: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: MOST_IN_A_SPAN, until: now + SPAN }
    }

    /// When there is one left again, if there is none.
    pub(super) fn exhausted_until(&mut self, now: Instant) -> Option<Instant> {
        if self.until <= now {
            *self = Self::new(now);
        }
        (self.left == 0).then_some(self.until)
    }

    /// So many wait to be handed out. Where that is more than are left, or than there is room for, they are the last of this span; whether
    /// they are.
    pub(super) fn is_exceeded_by(&mut self, waiting: u32, room: u32, now: Instant) -> bool {
        let is_exceeded = self.exhausted_until(now).is_none() && waiting > self.left.min(room);
        if is_exceeded {
            self.left = 0;
        }
        is_exceeded
    }

    /// None is to be handed out for a span.
    pub(super) fn end(&mut self, now: Instant) {
        *self = Self { left: 0, until: now + SPAN };
    }

    /// One is handed out. At the end of a span more of them may be than there were left.
    pub(super) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers that have just said this of the connections that came: how many there were, and how many last.
    fn said(of_each: &[(u32, u32)], now: Instant) -> Vec<Lasting> {
        let worker = |&(lately, lasting): &(u32, u32)| {
            let mut worker = Lasting::default();
            worker.hear(Taken { connections: 100, open: Some(0), lately, lasting }, now);
            worker
        };
        of_each.iter().map(worker).collect()
    }

    #[test]
    fn connections_may_last_where_those_before_them_did_or_there_were_none() {
        let now = Instant::now();
        let until = Outlook::Short(now + MEMORY);
        for (of_each, expected) in [
            (&[][..], Outlook::MayLast),
            (&[(0, 0), (0, 0)], Outlook::MayLast),
            (&[(8, 8), (8, 7)], Outlook::MayLast),
            (&[(8, 0), (8, 8)], Outlook::MayLast),
            // New connections for each request, at 50 a second and at 6.
            (&[(25, 0), (25, 0)], until),
            (&[(25, 1), (25, 0)], until),
            (&[(3, 0), (3, 0)], until),
            (&[(32, 2), (32, 3)], until),
            // A check of each, and whatever a worker says of more than there were.
            (&[(1, 0), (1, 0)], Outlook::MayLast),
            (&[(1, u32::MAX), (32, 0)], until),
            (&[(u32::MAX, 0), (u32::MAX, u32::MAX)], Outlook::MayLast),
        ] {
            assert_eq!(outlook(said(of_each, now).iter(), now), expected, "{of_each:?}");
        }
    }

    #[test]
    fn what_became_of_connections_is_forgotten() {
        let now = Instant::now();
        let mut workers = said(&[(25, 0)], now);
        assert_eq!(outlook(workers.iter(), now + MEMORY / 2), Outlook::Short(now + MEMORY));
        assert_eq!(outlook(workers.iter(), now + MEMORY), Outlook::MayLast);
        // Where none came there is nothing new to be said of them.
        workers[0].hear(Taken { connections: 125, open: Some(3), lately: 0, lasting: 0 }, now + MEMORY / 2);
        assert_eq!(outlook(workers.iter(), now + MEMORY / 2), Outlook::Short(now + MEMORY));
        workers[0].hear(Taken { connections: 135, open: Some(9), lately: 10, lasting: 9 }, now + MEMORY / 2);
        assert_eq!(outlook(workers.iter(), now + MEMORY / 2), Outlook::MayLast);
    }

    #[test]
    fn open_connections_are_those_of_the_last_count_and_those_taken_since() {
        let now = Instant::now();
        let mut worker = Lasting::default();
        worker.takes();
        assert_eq!(worker.open(), None, "it does not count");
        let mut hear = |open| {
            worker.hear(Taken { connections: 0, open, lately: 0, lasting: 0 }, now);
            worker.takes();
            worker.takes();
            worker.open()
        };
        assert_eq!([hear(Some(3)), hear(Some(u64::MAX)), hear(None)], [Some(5), Some(u64::MAX), None]);
    }

    #[test]
    fn only_so_many_are_handed_out_in_a_span() {
        let begin = Instant::now();
        let mut budget = Budget::new(begin);
        for _ in 0..MOST_IN_A_SPAN {
            assert_eq!(budget.exhausted_until(begin + SPAN / 2), None);
            budget.take();
        }
        assert_eq!(budget.exhausted_until(begin + SPAN / 2), Some(begin + SPAN));
        budget.take();
        assert_eq!(budget.exhausted_until(begin + SPAN), None);
    }

    #[test]
    fn more_than_are_left_are_the_last_of_a_span() {
        let begin = Instant::now();
        let mut budget = Budget::new(begin);
        assert!(!budget.is_exceeded_by(MOST_IN_A_SPAN, u32::MAX, begin));
        budget.take();
        assert!(budget.is_exceeded_by(MOST_IN_A_SPAN, u32::MAX, begin));
        assert!(!budget.is_exceeded_by(MOST_IN_A_SPAN, u32::MAX, begin), "that is known");
        assert_eq!(budget.exhausted_until(begin), Some(begin + SPAN));
        let next = begin + SPAN;
        assert!(!budget.is_exceeded_by(MOST_IN_A_SPAN, u32::MAX, next), "as many may be again");
        assert!(!budget.is_exceeded_by(9, 9, next));
        assert!(budget.is_exceeded_by(10, 9, next), "the queue has not the room");
        budget.end(next + SPAN);
        assert_eq!(budget.exhausted_until(next + SPAN), Some(next + SPAN * 2));
    }
}
