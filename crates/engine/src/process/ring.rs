//! The last lines of all workers, in memory, bounded in bytes. Those who read them have a place each and nothing else: to one that
//! is slow the oldest lines are lost, and it is told how many.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::process::lines::{count, whole_characters};
use crate::process::source::Source;
use crate::report::stream::Stream;

/// How much is kept of one slot, in bytes.
const MOST_OF_SLOT: usize = 256 << 10;
/// How much is kept of all slots together, in bytes. Where there is more, the oldest lines of the slot that has most go.
const MOST_OF_ALL: usize = 1 << 20;
/// What a piece costs beside its bytes.
const PIECE: usize = 160;
/// The longest piece, in bytes: one who does not read on holds no more. A line that is longer is in several.
const LONGEST: usize = 8 << 10;

/// The last lines. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ring(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What passes here at all.
    streams: Vec<Stream>,
    kept: Mutex<Kept>,
    /// Counts what came.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    slots: BTreeMap<u32, Slot>,
    bytes: usize,
    /// How many pieces came.
    pieces: u64,
    over: bool,
}

#[derive(Debug, Default)]
struct Slot {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// How many lines came.
    lines: u64,
}

/// Lines that were passed on at once, or a piece of one.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Its place among those of all slots.
    order: u64,
    /// The number of its first line among those of its slot.
    number: u64,
    /// How many lines it has.
    count: u64,
    pub(crate) time: SystemTime,
    pub(crate) source: Source,
    /// Whether it begins in the middle of a line.
    pub(crate) continues: bool,
    pub(crate) lines: Arc<[u8]>,
}

/// How far somebody has read.
#[derive(Debug)]
pub(crate) struct Place {
    ring: Ring,
    slot: Option<u32>,
    /// How many lines of each slot were read or missed.
    seen: BTreeMap<u32, u64>,
    /// How many lines of each slot are wanted, where no more than those that are there.
    until: Option<BTreeMap<u32, u64>>,
    news: watch::Receiver<u64>,
}

/// What is next at a place.
#[derive(Debug)]
pub(crate) enum Found {
    Piece(Piece),
    /// So many lines of this slot were gone before they were read.
    Missed {
        slot: u32,
        lines: u64,
    },
    Nothing,
    /// Nothing comes any more.
    End,
}

impl Ring {
    /// One for what workers write to these.
    pub(crate) fn of(streams: Vec<Stream>) -> Self {
        Self(Arc::new(Shared { streams, kept: Mutex::default(), news: watch::Sender::new(0) }))
    }

    /// Which of what workers write passes here.
    pub(crate) fn streams(&self) -> &[Stream] {
        &self.0.streams
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more piece of what this one says. With `continues` it goes on in the middle of a line.
    pub(super) fn push(&self, source: Source, continues: bool, lines: &[u8]) {
        let (mut rest, mut continues, time) = (lines, continues, SystemTime::now());
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(longest_piece(rest));
            self.lock().add(source, time, continues, piece);
            continues = !piece.ends_with(b"\n");
            rest = later;
        }
        self.0.news.send_modify(|news| *news += 1);
    }

    /// Nothing comes any more.
    pub(crate) fn close(&self) {
        self.lock().over = true;
        self.0.news.send_modify(|news| *news += 1);
    }

    /// Whether a slot of this number has ever written a line.
    pub(crate) fn knows(&self, slot: u32) -> bool {
        self.lock().slots.contains_key(&slot)
    }

    /// A place for one who wants so many of the last lines, or all, of one slot or of all, and may want those that come.
    pub(crate) fn place(&self, slot: Option<u32>, last: Option<u32>, follows: bool) -> Place {
        let news = self.0.news.subscribe();
        let kept = self.lock();
        let last = last.map(u64::from).filter(|last| *last < kept.lines(slot));
        let seen = match last {
            None => kept.slots.iter().map(|(number, slot)| (*number, slot.first())).collect(),
            Some(last) => kept.before_last(slot, last),
        };
        let until =
            (!follows).then(|| kept.slots.iter().map(|(number, slot)| (*number, slot.lines)).collect());
        Place { ring: self.clone(), slot, seen, until, news }
    }
}

/// How much of what is left is kept as one piece: whole lines, where there are any.
fn longest_piece(rest: &[u8]) -> usize {
    let Some(most) = rest.get(..LONGEST).filter(|most| most.len() < rest.len()) else { return rest.len() };
    let whole = most.iter().rposition(|&byte| byte == b'\n').map(|newline| newline + 1);
    whole.unwrap_or_else(|| whole_characters(most))
}

impl Kept {
    fn add(&mut self, source: Source, time: SystemTime, continues: bool, lines: &[u8]) {
        self.pieces += 1;
        let slot = self.slots.entry(source.worker.slot).or_default();
        let piece = Piece {
            order: self.pieces,
            number: slot.lines,
            count: count(lines),
            time,
            source,
            continues,
            lines: lines.into(),
        };
        slot.lines += piece.count;
        slot.bytes += piece.cost();
        self.bytes += piece.cost();
        slot.pieces.push_back(piece);
        if slot.bytes > MOST_OF_SLOT {
            self.bytes -= slot.forget();
        }
        while self.bytes > MOST_OF_ALL {
            let largest = self.slots.values_mut().max_by_key(|slot| slot.bytes);
            self.bytes -= largest.map_or(self.bytes, Slot::forget);
        }
    }

    fn of(&self, slot: Option<u32>) -> impl Iterator<Item = (&u32, &Slot)> {
        self.slots.iter().filter(move |(number, _)| is_asked(slot, **number))
    }

    /// How many lines are kept.
    fn lines(&self, slot: Option<u32>) -> u64 {
        self.of(slot).map(|(_, slot)| slot.lines - slot.first()).sum()
    }

    /// How many lines of each slot there were before so many of the last ones.
    fn before_last(&self, slot: Option<u32>, last: u64) -> BTreeMap<u32, u64> {
        let mut before: BTreeMap<u32, u64> =
            self.slots.iter().map(|(number, slot)| (*number, slot.lines)).collect();
        let mut pieces: Vec<&Piece> = self.of(slot).flat_map(|(_, slot)| &slot.pieces).collect();
        pieces.sort_unstable_by_key(|piece| std::cmp::Reverse(piece.order));
        let mut left = last;
        for piece in pieces {
            if left == 0 {
                break;
            }
            let begun = piece.begun();
            // Of a line that goes on here, the beginning is to come, and counts.
            let taken = if left > begun { piece.count } else { left };
            left -= begun.min(left);
            before.insert(piece.source.worker.slot, piece.number + piece.count - taken);
        }
        before
    }
}

fn is_asked(slot: Option<u32>, number: u32) -> bool {
    slot.is_none_or(|slot| slot == number)
}

impl Slot {
    /// The number of the first line that is kept.
    fn first(&self) -> u64 {
        self.pieces.front().map_or(self.lines, |piece| piece.number)
    }

    /// Forgets the oldest piece; how much that was.
    fn forget(&mut self) -> usize {
        let freed = self.pieces.pop_front().map_or(0, |piece| piece.cost());
        self.bytes -= freed;
        freed
    }

    /// What is kept from this line on, up to the end of its piece.
    fn from(&self, line: u64) -> Option<Piece> {
        let index = self.pieces.partition_point(|piece| piece.number <= line).checked_sub(1)?;
        self.pieces.get(index)?.without(line)
    }
}

impl Piece {
    fn cost(&self) -> usize {
        self.lines.len() + PIECE
    }

    /// How many lines begin in it.
    fn begun(&self) -> u64 {
        self.count - u64::from(self.continues).min(self.count)
    }

    /// It from this line on. None if it ends before.
    fn without(&self, line: u64) -> Option<Self> {
        let Some(skipped) = line.checked_sub(self.number).filter(|skipped| *skipped > 0) else {
            return Some(self.clone());
        };
        let count = self.count.checked_sub(skipped).filter(|count| *count > 0)?;
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let lines = self.lines.split_inclusive(|&byte| byte == b'\n').skip(skipped);
        let lines = lines.flatten().copied().collect::<Arc<[u8]>>();
        Some(Self { number: line, count, continues: false, lines, ..self.clone() })
    }
}

impl Place {
    pub(crate) fn next(&mut self) -> Found {
        self.news.mark_unchanged();
        let kept = self.ring.lock();
        let until = |number: u32| match &self.until {
            None => u64::MAX,
            Some(until) => until.get(&number).copied().unwrap_or_default(),
        };
        let mut next: Option<Piece> = None;
        for (&number, slot) in kept.of(self.slot) {
            let seen = self.seen.entry(number).or_default();
            let first = slot.first().min(until(number));
            if first > *seen {
                return Found::Missed { slot: number, lines: first - std::mem::replace(seen, first) };
            }
            if *seen < until(number)
                && let Some(piece) = slot.from(*seen)
                && next.as_ref().is_none_or(|next| piece.order < next.order)
            {
                next = Some(piece);
            }
        }
        match next {
            Some(piece) => {
                self.seen.insert(piece.source.worker.slot, piece.number + piece.count);
                Found::Piece(piece)
            }
            None if kept.over || self.until.is_some() => Found::End,
            None => Found::Nothing,
        }
    }

    /// Waits until there may be more.
    pub(crate) async fn news(&mut self) {
        // An error means that the ring is gone, and this place holds it.
        let _ = self.news.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use recluster_core::WorkerId;

    use super::*;
    use crate::report::worker::Worker;

    fn source(slot: u32) -> Source {
        let worker = Worker { id: 1, slot, generation: 1, pid: Some(7) };
        Source { id: WorkerId::from_number(1), worker, stream: Stream::Stderr }
    }

    fn ring() -> Ring {
        Ring::of(vec![Stream::Stderr])
    }

    fn push(ring: &Ring, slot: u32, lines: impl AsRef<[u8]>) {
        ring.push(source(slot), false, lines.as_ref());
    }

    /// What is found up to where there is nothing: text, and how much was missed.
    fn read(place: &mut Place) -> (String, u64) {
        let (mut text, mut gone) = (String::new(), 0);
        loop {
            match place.next() {
                Found::Piece(piece) => text.push_str(std::str::from_utf8(&piece.lines).unwrap()),
                Found::Missed { lines, .. } => gone += lines,
                Found::Nothing | Found::End => return (text, gone),
            }
        }
    }

    #[test]
    fn lines_of_all_slots_come_in_order_and_those_of_one_alone() {
        let ring = ring();
        for (slot, lines) in [(0, "a\nb\n"), (1, "c\n"), (0, "d\n")] {
            push(&ring, slot, lines);
        }
        let (mut all, mut one) = (ring.place(None, None, true), ring.place(Some(1), None, true));
        assert_eq!(read(&mut all), ("a\nb\nc\nd\n".to_owned(), 0));
        assert_eq!(read(&mut one), ("c\n".to_owned(), 0));
        push(&ring, 1, "e\n");
        push(&ring, 2, "f\n");
        assert_eq!(read(&mut all).0, "e\nf\n", "a slot that is new is among all");
        assert_eq!(read(&mut one).0, "e\n");
        ring.close();
        assert!(matches!(all.next(), Found::End));
    }

    #[test]
    fn who_wants_the_last_ones_gets_so_many_whatever_piece_they_are_in() {
        let ring = ring();
        for (slot, lines) in [(0, "a\nb\nc\n"), (1, "d\n"), (0, "e\nf\n")] {
            push(&ring, slot, lines);
        }
        let last = |slot, last| {
            let mut place = ring.place(slot, Some(last), false);
            let (text, missed) = read(&mut place);
            assert_eq!(missed, 0);
            assert!(matches!(place.next(), Found::End));
            text
        };
        let expected = ["", "f\n", "e\nf\n", "d\ne\nf\n", "c\nd\ne\nf\n"];
        assert_eq!([0, 1, 2, 3, 4].map(|number| last(None, number)), expected);
        assert_eq!(last(None, 99), "a\nb\nc\nd\ne\nf\n");
        assert_eq!((last(Some(0), 3), last(Some(1), 3)), ("c\ne\nf\n".to_owned(), "d\n".to_owned()));
    }

    #[test]
    fn a_line_in_several_pieces_is_one_of_the_last_ones() {
        let ring = ring();
        let long =
            |byte: u8, times: usize| String::from_utf8(vec![byte; times * LONGEST + 7]).unwrap() + "\n";
        let (first, second) = (long(b'a', 3), long(b'b', 2));
        push(&ring, 0, format!("before\n{first}"));
        push(&ring, 1, "between\n");
        // What is longer than a pipe holds comes a part at a time, and a short line with its end.
        let (begins, ends) = second.split_at(5000);
        push(&ring, 0, begins);
        ring.push(source(0), true, format!("{ends}after\n").as_bytes());
        let lines = ["before\n", &first, "between\n", &second, "after\n"];
        for last in 0..=5 {
            let (text, missed) = read(&mut ring.place(None, Some(last), false));
            assert_eq!((text, missed), (lines[5 - last as usize..].concat(), 0), "{last}");
        }
        assert_eq!(read(&mut ring.place(Some(0), Some(3), false)).0, [&first, &second, "after\n"].concat());
        ring.push(source(0), false, &[b'c'; 2 * LONGEST]);
        assert_eq!(
            read(&mut ring.place(None, Some(1), false)).0.len(),
            2 * LONGEST,
            "one that has no end yet"
        );
    }

    #[test]
    fn who_does_not_follow_gets_what_was_there() {
        let ring = ring();
        push(&ring, 0, "a\n");
        let mut place = ring.place(None, None, false);
        push(&ring, 0, "b\n");
        push(&ring, 1, "c\n");
        assert_eq!(read(&mut place), ("a\n".to_owned(), 0));
        let mut late = ring.place(None, None, false);
        for _ in 0..=MOST_OF_SLOT / PIECE {
            push(&ring, 0, "d\n");
        }
        assert_eq!(read(&mut late), ("c\n".to_owned(), 2), "and hears of what was there and is gone");
    }

    #[test]
    fn it_is_bounded_in_bytes_and_a_quiet_slot_keeps_its_lines() {
        let ring = ring();
        push(&ring, 9, "quiet\n");
        let mut place = ring.place(None, None, true);
        let mut said = 1;
        for _ in 0..100 {
            for slot in 0..8 {
                push(&ring, slot, b"x\n".repeat(4096));
                said += 4096;
            }
        }
        let kept = ring.lock();
        let bytes: usize = kept.slots.values().map(|slot| slot.bytes).sum();
        assert!(bytes <= MOST_OF_ALL && bytes > MOST_OF_ALL / 2, "{bytes}");
        assert_eq!(bytes, kept.bytes);
        drop(kept);
        let (text, missed) = read(&mut place);
        assert!(text.starts_with("quiet\n"));
        assert_eq!(text.lines().count() as u64 + missed, said);
        assert_eq!(read(&mut ring.place(None, None, true)).1, 0, "one who comes later has missed nothing");
    }

    #[test]
    fn many_slots_and_many_short_or_long_pieces_have_a_bound_as_well() {
        let ring = ring();
        for _ in 0..10_000 {
            push(&ring, 0, "\n");
        }
        let pieces = ring.lock().slots[&0].pieces.len();
        assert!(pieces <= MOST_OF_SLOT / PIECE, "{pieces}");
        for slot in 0..1000 {
            push(&ring, slot, vec![b'x'; 120 << 10]);
        }
        let kept = ring.lock();
        let bytes: usize =
            kept.slots.values().flat_map(|slot| &slot.pieces).map(|piece| piece.lines.len()).sum();
        assert!(bytes <= MOST_OF_ALL, "{bytes}");
    }

    #[test]
    fn a_long_line_is_kept_in_pieces_that_cut_no_character() {
        let ring = ring();
        let line = "€".repeat(9000) + "\n";
        push(&ring, 0, &line);
        push(&ring, 0, "next\n");
        let mut place = ring.place(None, None, true);
        let mut found = Vec::new();
        while let Found::Piece(piece) = place.next() {
            assert!(piece.lines.len() <= LONGEST);
            found.push((piece.continues, String::from_utf8(piece.lines.to_vec()).unwrap()));
        }
        let (continues, texts): (Vec<bool>, Vec<String>) = found.into_iter().unzip();
        assert_eq!(texts.concat(), line + "next\n");
        assert_eq!(continues, [false, true, true, true, false]);
    }

    #[tokio::test]
    async fn one_who_waits_hears_of_what_came_in_between() {
        let ring = ring();
        let mut place = ring.place(None, None, true);
        assert!(matches!(place.next(), Found::Nothing));
        push(&ring, 0, "a\n");
        place.news().await;
        assert_eq!(read(&mut place).0, "a\n");
    }
}
