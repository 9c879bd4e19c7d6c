//! Bytes to lines, and lines to messages, with a limit on what may be held.

use std::fmt;

use super::message::FromWorker;
use super::parse::parse_line;

/// The default limit for a line of a worker: 16 MiB.
///
/// Node itself has none; but without a limit one worker could exhaust the memory of the master.
pub const DEFAULT_MAX_LINE: usize = 16 << 20;

/// How much an empty buffer may keep allocated, in bytes: after a huge message the memory is given back.
const KEPT_CAPACITY: usize = 256 << 10;

/// Cuts the bytes of one worker's channel into messages.
///
/// Call [`next_message`](Self::next_message) after each [`push`](Self::push) until it has no more:
/// then no more is ever allocated than the limit and one push together.
#[derive(Debug)]
pub struct Decoder {
    max_line: usize,
    buffer: Vec<u8>,
    /// Where the first line that has not been handed out begins.
    line_start: usize,
    /// Everything before this was searched for a newline already.
    searched: usize,
    overflowed: bool,
}

/// A line is longer than allowed, or an unfinished one already is.
///
/// It ends the channel: where the next message would begin is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong {
    /// The limit in bytes, without the newline.
    pub limit: usize,
}

impl Decoder {
    /// A decoder that takes lines of up to `max_line` bytes, the newline not counted.
    pub fn new(max_line: usize) -> Self {
        Self { max_line, buffer: Vec::new(), line_start: 0, searched: 0, overflowed: false }
    }

    /// Takes what was read from the channel, cut anywhere. Ignored after a [`LineTooLong`].
    pub fn push(&mut self, bytes: &[u8]) {
        if self.overflowed {
            return;
        }
        self.forget_consumed();
        self.make_room(bytes.len());
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message of a worker, or none before more bytes are pushed.
    ///
    /// Fails where a line is too long, and from then on always.
    pub fn next_message(&mut self) -> Result<Option<FromWorker>, LineTooLong> {
        Ok(self.next_line()?.map(parse_line))
    }

    /// The next whole line, without its newline. The worker's half of the protocol reads by this:
    /// [`FromPrimary::parse`](super::worker::FromPrimary::parse).
    ///
    /// Fails where a line is too long, and from then on always.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let newline = self.find_newline();
        let line_end = newline.unwrap_or(self.buffer.len());
        if self.overflowed || line_end - self.line_start > self.max_line {
            return Err(self.overflow());
        }
        self.searched = line_end;
        if newline.is_none() {
            self.forget_consumed();
            return Ok(None);
        }
        let line = self.line_start..line_end;
        self.searched += 1;
        self.line_start = self.searched;
        Ok(self.buffer.get(line))
    }

    /// How many bytes wait for the rest of their line, or to be handed out.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.line_start
    }

    fn find_newline(&self) -> Option<usize> {
        let unsearched = self.buffer.get(self.searched..)?;
        let found = unsearched.iter().position(|&byte| byte == b'\n')?;
        Some(self.searched + found)
    }

    fn overflow(&mut self) -> LineTooLong {
        *self = Self { overflowed: true, ..Self::new(self.max_line) };
        LineTooLong { limit: self.max_line }
    }

    /// Grows by doubling, as a `Vec` would, but not past what a decoder may hold.
    fn make_room(&mut self, more: usize) {
        let needed = self.buffer.len() + more;
        if needed > self.buffer.capacity() {
            let doubled = self.buffer.capacity() * 2;
            let wanted = doubled.min(self.max_line.saturating_add(more)).max(needed);
            self.buffer.reserve_exact(wanted - self.buffer.len());
        }
    }

    fn forget_consumed(&mut self) {
        self.buffer.drain(..self.line_start);
        self.searched -= self.line_start;
        self.line_start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_CAPACITY {
            self.buffer = Vec::new();
        }
    }
}

impl fmt::Display for LineTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line on the channel is longer than {} bytes", self.limit)
    }
}

impl std::error::Error for LineTooLong {}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(decoder: &mut Decoder) -> usize {
        let mut messages = 0;
        while decoder.next_message().expect("no line is too long").is_some() {
            messages += 1;
        }
        messages
    }

    #[test]
    fn no_more_is_allocated_than_the_limit_and_one_push() {
        const MAX_LINE: usize = 1 << 20;
        const PUSH: usize = 1000;
        let mut decoder = Decoder::new(MAX_LINE);
        let mut longest = 0;
        for _ in 0..MAX_LINE / PUSH {
            decoder.push(&[b' '; PUSH]);
            assert_eq!(drain(&mut decoder), 0);
            longest = longest.max(decoder.buffer.capacity());
        }
        assert!((MAX_LINE - PUSH..=MAX_LINE + PUSH).contains(&longest), "{longest}");
    }

    #[test]
    fn the_room_of_a_huge_line_is_given_back() {
        let mut decoder = Decoder::new(DEFAULT_MAX_LINE);
        decoder.push(&vec![b' '; KEPT_CAPACITY * 2]);
        decoder.push(b"1\n");
        assert_eq!(drain(&mut decoder), 1);
        assert_eq!(decoder.buffer.capacity(), 0);
    }

    #[test]
    fn lines_that_are_not_fetched_at_once_are_not_kept_after_they_were() {
        let mut decoder = Decoder::new(100);
        for _ in 0..1000 {
            decoder.push(b"1\n");
            decoder.next_message().expect("short").expect("whole");
        }
        assert!(decoder.buffer.capacity() <= 102, "{}", decoder.buffer.capacity());
    }

    #[test]
    fn a_decoder_that_overflowed_holds_nothing_and_stays_so() {
        let mut decoder = Decoder::new(3);
        decoder.push(b"1\n1234");
        assert!(decoder.next_message().expect("short").is_some());
        for _ in 0..2 {
            assert_eq!(decoder.next_message(), Err(LineTooLong { limit: 3 }));
            assert_eq!((decoder.buffered(), decoder.buffer.capacity()), (0, 0));
            decoder.push(b"\n1\n");
        }
    }
}
