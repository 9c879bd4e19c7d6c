//! What was read from a channel and is no whole message yet.

use std::ops::Range;

/// How much an empty buffer may keep allocated, in bytes: after a huge message the memory is given back.
pub(super) const KEPT_CAPACITY: usize = 256 << 10;

/// Bytes in the order in which they came, less those that were taken.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Everything before this was taken.
    start: usize,
}

impl Buffer {
    /// Adds what was read. It grows by doubling, as a `Vec` would, but not past `limit` and these bytes together.
    pub(super) fn push(&mut self, bytes: &[u8], limit: usize) {
        self.forget_taken();
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            let doubled = self.bytes.capacity() * 2;
            let wanted = doubled.min(limit.saturating_add(bytes.len())).max(needed);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// What was not taken.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Takes so many bytes; [`get`](Self::get) has them until the next push.
    pub(super) fn take(&mut self, count: usize) -> Range<usize> {
        let end = self.start.saturating_add(count).min(self.bytes.len());
        std::mem::replace(&mut self.start, end)..end
    }

    /// Bytes that were taken.
    pub(super) fn get(&self, taken: Range<usize>) -> &[u8] {
        self.bytes.get(taken).unwrap_or_default()
    }

    /// Gives back the room of what was taken.
    pub(super) fn forget_taken(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes = Vec::new();
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_doubling_and_no_further_than_it_must() {
        let mut buffer = Buffer::default();
        let mut capacities = Vec::new();
        for _ in 0..1000 {
            let fits = buffer.bytes.len() < buffer.capacity();
            let before = buffer.capacity();
            buffer.push(b"x", 600);
            assert!(buffer.capacity() == before || !fits, "room that is there is used");
            capacities.push(buffer.capacity());
        }
        capacities.dedup();
        assert_eq!(capacities.get(..10), Some([1, 2, 4, 8, 16, 32, 64, 128, 256, 512].as_slice()));
        assert_eq!(capacities.get(10), Some(&601), "no further than to the limit and what was pushed");
    }

    #[test]
    fn of_what_was_taken_little_room_is_kept() {
        for (length, kept) in [(4096, 4096), (KEPT_CAPACITY, KEPT_CAPACITY), (KEPT_CAPACITY + 1, 0)] {
            let mut buffer = Buffer::default();
            buffer.push(&vec![0; length], usize::MAX);
            buffer.take(length);
            buffer.forget_taken();
            assert_eq!(buffer.capacity(), kept);
        }
        assert_eq!(KEPT_CAPACITY, 262_144);
    }
}
