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
