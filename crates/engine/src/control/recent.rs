//! What happened lately, as lines for clients: a ring with a bound in bytes, which all who follow it share. A follower has a
//! place in the ring and no line of its own, so that many of them hold no more than one does. Whoever falls behind the ring is
//! told how much they have missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::report::event::Event;
use crate::report::events::{Events, Heard};
use crate::report::level::Level;
use crate::report::record::Record;

/// How much is kept.
const BYTES: usize = 512 * 1024;
const LINES: usize = 1024;
/// A longer line is not kept: who follows is told that one is missing.
const LONGEST: usize = 64 * 1024;

/// What happened lately. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    ring: Arc<Mutex<Ring>>,
    /// Grows with every line, and once more at the end.
    news: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Kept>,
    bytes: usize,
    /// The number of the next line; the first is 0.
    next: u64,
    /// Nothing more will come.
    is_over: bool,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    line: Arc<[u8]>,
}

/// All of it, as it is left to the program after this one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SavedRecent {
    next: u64,
    /// Each line by its number.
    lines: Vec<(u64, String)>,
}

/// A place, as it is left.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct SavedPlace {
    next: u64,
    until: Option<u64>,
}

/// How far a client has read.
#[derive(Debug)]
pub(super) struct Place {
    next: u64,
    /// Where it is to end.
    until: Option<u64>,
    news: watch::Receiver<u64>,
}

/// What comes next at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Line(Arc<[u8]>),
    /// So many lines were there, and are not kept.
    Missed(u64),
    /// Not yet.
    Nothing,
    /// No more lines follow.
    End,
}

/// Tells those who ask for events of something that is no event of the cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder(Recent);

impl Recorder {
    pub(super) fn new(recent: Recent) -> Self {
        Self(recent)
    }

    /// This has happened: an object with a field `event`.
    pub fn note(&self, level: Level, what: &impl Serialize) {
        self.0.add(level, what);
    }
}

/// Keeps what happens for those who ask for events. Messages of applications are none of it: they may come by the thousand.
pub(super) async fn record(mut events: Events, recent: Recent, closed: impl Future<Output = ()>) {
    let mut closed = std::pin::pin!(closed);
    loop {
        tokio::select! {
            biased;
            heard = events.next() => match heard {
                Some(Heard::Event(Event::Message { .. })) => {}
                Some(Heard::Event(event)) => recent.add(event.level(), &event),
                Some(Heard::Missed(count)) => recent.miss(count),
                None => break,
            },
            () = &mut closed => break,
        }
    }
    recent.end();
}

/// What stands before an event that a client is told.
#[derive(Clone, Copy, Debug, Serialize)]
struct AsReply {
    reply: &'static str,
}

/// An event as the reply that it is to whoever asks for events.
pub(super) fn reply(level: Level, what: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    Record::new(AsReply { reply: "event" }, level, what, SystemTime::now()).line()
}

impl Default for Recent {
    fn default() -> Self {
        Self { ring: Arc::default(), news: Arc::new(watch::Sender::new(0)) }
    }
}

impl Recent {
    /// One more thing has happened.
    pub(super) fn add(&self, level: Level, what: &impl Serialize) {
        let line = reply(level, what).ok().filter(|line| line.len() <= LONGEST);
        self.ring().push(line.map(Arc::from));
        self.news.send_modify(|news| *news += 1);
    }

    /// So many things have happened that are not known.
    pub(super) fn miss(&self, count: u64) {
        let mut ring = self.ring();
        ring.next = ring.next.saturating_add(count);
        drop(ring);
        self.news.send_modify(|news| *news += 1);
    }

    /// Nothing more will happen.
    pub(super) fn end(&self) {
        self.ring().is_over = true;
        self.news.send_modify(|news| *news += 1);
    }

    /// A place for one who wants to hear of so many lines that are there, or of all, and may want to hear of what follows.
    pub(super) fn place(&self, last: Option<u32>, follows: bool) -> Place {
        let ring = self.ring();
        let last = last.map_or(usize::MAX, |last| usize::try_from(last).unwrap_or(usize::MAX));
        let first = ring.lines.len().saturating_sub(last);
        let next = ring.lines.get(first).map_or(ring.next, |kept| kept.number);
        Place { next, until: (!follows).then_some(ring.next), news: self.news.subscribe() }
    }

    /// What comes next at a place, which moves on.
    pub(super) fn next(&self, place: &mut Place) -> Found {
        place.news.mark_unchanged();
        let ring = self.ring();
        if place.until.is_some_and(|until| place.next >= until) {
            return Found::End;
        }
        if place.next >= ring.next {
            return if ring.is_over { Found::End } else { Found::Nothing };
        }
        let index = ring.lines.partition_point(|kept| kept.number < place.next);
        let found = ring.lines.get(index);
        let number = found.map_or(ring.next, |kept| kept.number);
        if number > place.next {
            let until = place.until.map_or(number, |until| number.min(until));
            return Found::Missed(until - std::mem::replace(&mut place.next, until));
        }
        place.next += 1;
        found.map_or(Found::Nothing, |kept| Found::Line(Arc::clone(&kept.line)))
    }

    /// All of it. Changes nothing.
    pub(super) fn save(&self) -> SavedRecent {
        let ring = self.ring();
        let line = |kept: &Kept| (kept.number, String::from_utf8_lossy(&kept.line).into_owned());
        SavedRecent { next: ring.next, lines: ring.lines.iter().map(line).collect() }
    }

    /// What was left, to be gone on with.
    pub(super) fn adopt(SavedRecent { next, lines }: SavedRecent) -> Self {
        let recent = Self::default();
        let mut ring = recent.ring();
        for (number, line) in lines {
            ring.next = number;
            ring.push(Some(line.into_bytes().into()));
        }
        ring.next = ring.next.max(next);
        drop(ring);
        recent
    }

    /// A place that was left.
    pub(super) fn place_again(&self, SavedPlace { next, until }: SavedPlace) -> Place {
        Place { next, until, news: self.news.subscribe() }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, line: Option<Arc<[u8]>>) {
        let number = self.next;
        self.next += 1;
        let Some(line) = line else { return };
        self.bytes += line.len();
        self.lines.push_back(Kept { number, line });
        while self.lines.len() > LINES || self.bytes > BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.line.len();
        }
    }
}

impl Place {
    /// Changes when more may be found than was found last.
    pub(super) fn listener(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }

    /// As it is left.
    pub(super) fn save(&self) -> SavedPlace {
        SavedPlace { next: self.next, until: self.until }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn add(recent: &Recent, number: u64) {
        recent.add(Level::Info, &json!({"event": "it", "number": number}));
    }

    fn number(found: Found) -> u64 {
        let Found::Line(line) = found else { panic!("{found:?}") };
        serde_json::from_slice::<Value>(&line).unwrap()["number"].as_u64().unwrap()
    }

    #[test]
    fn who_asks_for_the_last_ones_gets_these_and_no_more() {
        let recent = Recent::default();
        (0..5).for_each(|number| add(&recent, number));
        let (mut two, mut all) = (recent.place(Some(2), false), recent.place(None, false));
        add(&recent, 5);
        assert_eq!([recent.next(&mut two), recent.next(&mut two)].map(number), [3, 4]);
        assert_eq!(recent.next(&mut two), Found::End);
        assert_eq!([(); 5].map(|()| number(recent.next(&mut all))), [0, 1, 2, 3, 4]);
        assert_eq!(recent.next(&mut all), Found::End);
        assert_eq!(recent.next(&mut recent.place(Some(0), false)), Found::End);
    }

    #[tokio::test]
    async fn who_follows_hears_what_comes_until_the_end() {
        let recent = Recent::default();
        let mut place = recent.place(Some(0), true);
        assert_eq!(recent.next(&mut place), Found::Nothing);
        add(&recent, 7);
        place.listener().changed().await.unwrap();
        assert_eq!(number(recent.next(&mut place)), 7);
        assert_eq!(recent.next(&mut place), Found::Nothing);
        recent.end();
        place.listener().changed().await.unwrap();
        assert_eq!(recent.next(&mut place), Found::End);
    }

    #[test]
    fn who_is_too_slow_hears_how_much_they_have_missed() {
        let recent = Recent::default();
        let mut place = recent.place(None, true);
        (0..LINES as u64 + 3).for_each(|number| add(&recent, number));
        assert_eq!(recent.next(&mut place), Found::Missed(3));
        assert_eq!(number(recent.next(&mut place)), 3);
        recent.miss(4);
        while let Found::Line(_) = recent.next(&mut place) {}
        add(&recent, 9);
        let mut place = recent.place(Some(2), true);
        assert_eq!(number(recent.next(&mut place)), LINES as u64 + 2);
        assert_eq!(recent.next(&mut place), Found::Missed(4));
        assert_eq!(number(recent.next(&mut place)), 9);
    }

    #[test]
    fn what_is_kept_has_a_bound_in_bytes_and_so_has_a_line() {
        let recent = Recent::default();
        let long = |bytes: usize| json!({"event": "it", "text": "x".repeat(bytes)});
        for _ in 0..40 {
            recent.add(Level::Info, &long(LONGEST / 2));
        }
        let held = recent.ring().bytes;
        assert!(held <= BYTES && held > BYTES / 2, "{held}");
        let mut place = recent.place(Some(0), true);
        recent.add(Level::Info, &long(LONGEST));
        assert_eq!(recent.next(&mut place), Found::Missed(1));
        assert_eq!(recent.next(&mut place), Found::Nothing);
    }
}
