//! The last lines of all workers, in memory, bounded in bytes. Those who read them have a place each and nothing else: to one that
//! is slow the oldest lines are lost, and it is told how many.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::process::lines::{count, whole_characters};
use crate::process::source::Source;
use crate::report::stream::Stream;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, memory, plain};

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
    /// What was written for another program.
    ahead: Mutex<Option<Ahead>>,
    /// Counts what came.
    news: watch::Sender<u64>,
}

/// What is kept, in a memory that passes, up to this piece.
#[derive(Debug)]
struct Ahead {
    memory: OwnedFd,
    pieces: u64,
}

/// By what name it passes.
const MEMORY: &str = "outlets/ring";

/// All that is kept, as another program goes on with it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    slots: BTreeMap<u32, Slot>,
    bytes: usize,
    /// How many pieces came.
    pieces: u64,
    #[serde(skip)]
    over: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Slot {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Where the next piece begins.
    end: At,
}

/// Where something is among what a slot has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct At {
    /// How many lines and further pieces of lines are before it.
    parts: u64,
    /// How many lines have begun before it.
    lines: u64,
}

/// Lines that were passed on at once, or a piece of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Its place among those of all slots.
    order: u64,
    at: At,
    /// How many lines it has, with the one that it goes on with.
    count: u64,
    pub(crate) time: SystemTime,
    pub(crate) source: Source,
    /// Whether it begins in the middle of a line.
    pub(crate) continues: bool,
    #[serde(with = "plain")]
    pub(crate) lines: Arc<[u8]>,
}

/// How far somebody has read.
#[derive(Debug)]
pub(crate) struct Place {
    ring: Ring,
    slot: Option<u32>,
    /// What of each slot was read or missed.
    seen: BTreeMap<u32, At>,
    /// What of each slot is wanted, where no more than what is there.
    until: Option<BTreeMap<u32, At>>,
    news: watch::Receiver<u64>,
}

/// A place, as it is left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedPlace {
    slot: Option<u32>,
    seen: BTreeMap<u32, At>,
    until: Option<BTreeMap<u32, At>>,
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
        Self(Arc::new(Shared {
            streams,
            kept: Mutex::default(),
            ahead: Mutex::default(),
            news: watch::Sender::new(0),
        }))
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

    fn ahead(&self) -> MutexGuard<'_, Option<Ahead>> {
        self.0.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is kept for another program: it is much, and takes its time. What comes later is left beside it. Where it cannot be
    /// written ahead, all of it is left so.
    pub(super) fn write_ahead(&self) {
        let kept = self.lock().clone();
        let memory = serde_json::to_vec(&kept).ok().and_then(|text| memory::seal(&text).ok());
        *self.ahead() = memory.map(|memory| Ahead { memory, pieces: kept.pieces });
    }

    /// What was written ahead is not used any more.
    pub(super) fn forget_ahead(&self) {
        *self.ahead() = None;
    }

    /// Leaves all that is kept to another program: what was written ahead, and this.
    pub(super) fn save(&self, saving: &mut Saving) -> Result<Kept, SaveError> {
        let ahead = self.ahead();
        if let Some(ahead) = &*ahead {
            saving.pass(&ahead.memory, MEMORY)?;
        }
        Ok(self.lock().after(ahead.as_ref().map_or(0, |ahead| ahead.pieces)))
    }

    /// Goes on with what another program has kept.
    pub(super) fn go_on(&self, kept: Kept) {
        *self.lock() = kept;
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
        let last = last.map(u64::from).filter(|last| *last < kept.parts(slot));
        let seen = match last {
            None => kept.slots.iter().map(|(number, slot)| (*number, slot.first())).collect(),
            Some(last) => kept.before_last(slot, last),
        };
        let until = (!follows).then(|| kept.ends());
        Place { ring: self.clone(), slot, seen, until, news }
    }
}

impl Ring {
    /// A place that was left.
    pub(crate) fn place_again(&self, saved: SavedPlace) -> Place {
        let SavedPlace { slot, seen, until } = saved;
        Place { ring: self.clone(), slot, seen, until, news: self.0.news.subscribe() }
    }
}

/// How much of what is left is kept as one piece: whole lines, where there are any.
fn longest_piece(rest: &[u8]) -> usize {
    let Some(most) = rest.get(..LONGEST).filter(|most| most.len() < rest.len()) else { return rest.len() };
    let whole = most.iter().rposition(|&byte| byte == b'\n').map(|newline| newline + 1);
    whole.unwrap_or_else(|| whole_characters(most))
}

impl Kept {
    /// What came after so many pieces, and where everything is.
    fn after(&self, pieces: u64) -> Self {
        let later = |slot: &Slot| {
            let at = slot.pieces.partition_point(|piece| piece.order <= pieces);
            let pieces = slot.pieces.range(at..).cloned().collect();
            Slot { pieces, bytes: slot.bytes, end: slot.end }
        };
        Self {
            slots: self.slots.iter().map(|(number, slot)| (*number, later(slot))).collect(),
            bytes: self.bytes,
            pieces: self.pieces,
            over: self.over,
        }
    }

    /// With what the program before has written ahead. What that has forgotten since is not taken over.
    pub(super) fn complete(mut self, inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let unreadable =
            |error: io::Error| AdoptError::Read(format!("the last lines cannot be read: {error}"));
        let mut ahead = match inheritance.optional(MEMORY)? {
            Some(memory) => {
                let text = memory::read(&memory).map_err(unreadable)?;
                serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))?
            }
            None => Self::default(),
        };
        for (number, slot) in &mut self.slots {
            let later = std::mem::take(&mut slot.pieces);
            slot.pieces = ahead.slots.remove(number).unwrap_or_default().pieces;
            slot.pieces.extend(later);
            let most = std::mem::take(&mut slot.bytes);
            slot.bytes = slot.pieces.iter().map(Piece::cost).sum();
            while slot.bytes > most {
                slot.forget();
            }
        }
        self.bytes = self.slots.values().map(|slot| slot.bytes).sum();
        Ok(self)
    }

    fn add(&mut self, source: Source, time: SystemTime, continues: bool, lines: &[u8]) {
        self.pieces += 1;
        let slot = self.slots.entry(source.worker.slot).or_default();
        let piece = Piece {
            order: self.pieces,
            at: slot.end,
            count: count(lines),
            time,
            source,
            continues,
            lines: lines.into(),
        };
        slot.end = piece.end();
        slot.bytes += piece.cost();
        self.bytes += piece.cost();
        slot.pieces.push_back(piece);
        while slot.bytes > MOST_OF_SLOT {
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

    /// How many lines and further pieces of lines are kept.
    fn parts(&self, slot: Option<u32>) -> u64 {
        self.of(slot).map(|(_, slot)| slot.end.parts - slot.first().parts).sum()
    }

    fn ends(&self) -> BTreeMap<u32, At> {
        self.slots.iter().map(|(number, slot)| (*number, slot.end)).collect()
    }

    /// Where so many of the last lines begin in each slot.
    fn before_last(&self, slot: Option<u32>, last: u64) -> BTreeMap<u32, At> {
        let mut before = self.ends();
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
            before.insert(piece.source.worker.slot, piece.before_last(taken));
        }
        before
    }
}

fn is_asked(slot: Option<u32>, number: u32) -> bool {
    slot.is_none_or(|slot| slot == number)
}

impl Slot {
    /// Where what is kept begins.
    fn first(&self) -> At {
        self.pieces.front().map_or(self.end, |piece| piece.at)
    }

    /// Forgets the oldest piece; how much that was.
    fn forget(&mut self) -> usize {
        let freed = self.pieces.pop_front().map_or(0, |piece| piece.cost());
        self.bytes -= freed;
        freed
    }

    /// What is kept from there on, up to the end of its piece.
    fn from(&self, at: At) -> Option<Piece> {
        let index = self.pieces.partition_point(|piece| piece.at <= at).checked_sub(1)?;
        self.pieces.get(index)?.without(at)
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

    fn end(&self) -> At {
        At { parts: self.at.parts + self.count, lines: self.at.lines + self.begun() }
    }

    /// Where so many of its last lines begin.
    fn before_last(&self, count: u64) -> At {
        let end = self.end();
        At { parts: end.parts - count, lines: end.lines - count.min(self.begun()) }
    }

    /// It from there on. None if it ends before.
    fn without(&self, at: At) -> Option<Self> {
        let Some(skipped) = at.parts.checked_sub(self.at.parts).filter(|skipped| *skipped > 0) else {
            return Some(self.clone());
        };
        let count = self.count.checked_sub(skipped).filter(|count| *count > 0)?;
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let lines = self.lines.split_inclusive(|&byte| byte == b'\n').skip(skipped);
        let lines = lines.flatten().copied().collect::<Arc<[u8]>>();
        Some(Self { at, count, continues: false, lines, ..self.clone() })
    }
}

impl Place {
    pub(crate) fn next(&mut self) -> Found {
        self.news.mark_unchanged();
        let kept = self.ring.lock();
        let until = |number: u32| match &self.until {
            None => At { parts: u64::MAX, lines: u64::MAX },
            Some(until) => until.get(&number).copied().unwrap_or_default(),
        };
        let mut next: Option<Piece> = None;
        for (&number, slot) in kept.of(self.slot) {
            let seen = self.seen.entry(number).or_default();
            let first = slot.first().min(until(number));
            if first > *seen {
                // Of a line that was begun, the rest is gone.
                let lines = (first.lines - seen.lines).max(1);
                *seen = first;
                return Found::Missed { slot: number, lines };
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
                self.seen.insert(piece.source.worker.slot, piece.end());
                Found::Piece(piece)
            }
            None if kept.over || self.until.is_some() => Found::End,
            None => Found::Nothing,
        }
    }

    /// Changes when there may be more than was found last.
    pub(crate) fn listener(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }

    /// As it is left to the program after this one.
    pub(crate) fn save(&self) -> SavedPlace {
        SavedPlace { slot: self.slot, seen: self.seen.clone(), until: self.until.clone() }
    }
}

#[cfg(test)]
mod tests;
