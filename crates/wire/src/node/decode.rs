//! Bytes to lines, and lines to messages, with a limit on what may be held.

use std::fmt;
use std::ops::Range;

use memchr::memchr;

use super::buffer::Buffer;
use super::message::FromWorker;
use super::parse::parse_line;
use super::skim::Skim;

/// The default limit for a line that is kept: 16 MiB.
///
/// Node itself has none; but without a limit one worker could exhaust the memory of the master.
pub const DEFAULT_MAX_LINE: usize = 16 << 20;

/// Cuts the bytes of one worker's channel into messages.
///
/// Call [`next_message`](Self::next_message) after each [`push`](Self::push) until it has no more:
/// then no more is ever allocated than the limit and one push together.
#[derive(Debug)]
pub struct Decoder {
    max_line: usize,
    /// The lines that have not been handed out.
    buffer: Buffer,
    /// So many of its bytes were searched for a newline already.
    searched: usize,
    /// The line that is skipped, as far as it has come.
    skim: Option<Box<Skim>>,
    overflowed: bool,
}

/// A line is longer than allowed, or an unfinished one already is, and it may not be skipped.
///
/// It ends the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong {
    /// The limit in bytes, without the newline.
    pub limit: usize,
}

/// What comes next in the buffer.
enum Cut {
    /// A whole line stands there, its newline not counted.
    Line(Range<usize>),
    Unfinished,
    TooLong,
}

impl Decoder {
    /// A decoder that keeps lines of up to `max_line` bytes, the newline not counted.
    pub fn new(max_line: usize) -> Self {
        Self { max_line, buffer: Buffer::default(), searched: 0, skim: None, overflowed: false }
    }

    /// One that goes on where another has stopped: with what that [had](Self::unfinished).
    pub fn resume(max_line: usize, bytes: &[u8], skipped: Option<Skim>) -> Self {
        let mut decoder = Self { skim: skipped.map(Box::new), ..Self::new(max_line) };
        decoder.push(bytes);
        decoder
    }

    /// The bytes that wait for the rest of their line, or to be handed out; and the line that is skipped, as far as it has come.
    pub fn unfinished(&self) -> (&[u8], Option<&Skim>) {
        (self.buffer.rest(), self.skim.as_deref())
    }

    /// Takes what was read from the channel, cut anywhere. Ignored after a [`LineTooLong`].
    pub fn push(&mut self, bytes: &[u8]) {
        if self.overflowed {
            return;
        }
        self.buffer.push(bytes, self.max_line);
    }

    /// The next whole message of a worker, or none before more bytes are pushed. One of a user that is longer than the limit
    /// is [skipped](FromWorker::Skipped), in an envelope or not.
    ///
    /// Fails where a message between the two halves of the protocol is too long, and from then on always.
    pub fn next_message(&mut self) -> Result<Option<FromWorker>, LineTooLong> {
        if self.overflowed {
            return Err(self.overflow());
        }
        if self.skim.is_none() {
            match self.cut() {
                Cut::Line(line) => return Ok(Some(parse_line(self.buffer.get(line)))),
                Cut::Unfinished => return Ok(None),
                Cut::TooLong => self.skim = Some(Box::default()),
            }
        }
        self.skip()
    }

    /// How long the line is that is being skipped, as far as it has come. It may have no end.
    pub fn skipping(&self) -> Option<u64> {
        self.skim.as_ref().map(|skim| skim.bytes())
    }

    /// The next whole line, without its newline. The worker's half of the protocol reads by this:
    /// [`FromPrimary::parse`](super::worker::FromPrimary::parse).
    ///
    /// Fails where a line is too long, and from then on always.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        if self.overflowed {
            return Err(self.overflow());
        }
        match self.cut() {
            Cut::Line(line) => Ok(Some(self.buffer.get(line))),
            Cut::Unfinished => Ok(None),
            Cut::TooLong => Err(self.overflow()),
        }
    }

    /// How many bytes wait for the rest of their line, or to be handed out.
    pub fn buffered(&self) -> usize {
        self.buffer.rest().len()
    }

    /// Cuts the next line off.
    fn cut(&mut self) -> Cut {
        let newline = self.find_newline();
        let line_end = newline.unwrap_or(self.buffer.rest().len());
        if line_end > self.max_line {
            return Cut::TooLong;
        }
        if newline.is_none() {
            self.searched = line_end;
            self.buffer.forget_taken();
            return Cut::Unfinished;
        }
        self.searched = 0;
        let line = self.buffer.take(line_end);
        self.buffer.take(1);
        Cut::Line(line)
    }

    fn find_newline(&self) -> Option<usize> {
        let found = memchr(b'\n', self.buffer.rest().get(self.searched..)?)?;
        Some(self.searched + found)
    }

    /// Looks through what there is of a line that is too long, and forgets it.
    fn skip(&mut self) -> Result<Option<FromWorker>, LineTooLong> {
        let newline = self.find_newline();
        let line_end = newline.unwrap_or(self.buffer.rest().len());
        let line = self.buffer.take(line_end);
        let skim = self.skim.get_or_insert_default();
        skim.read(self.buffer.get(line));
        if skim.is_internal() {
            return Err(self.overflow());
        }
        self.searched = 0;
        if newline.is_none() {
            self.buffer.forget_taken();
            return Ok(None);
        }
        self.buffer.take(1);
        Ok(self.skim.take().map(|skim| skim.skipped(skim.bytes())))
    }

    fn overflow(&mut self) -> LineTooLong {
        *self = Self { overflowed: true, ..Self::new(self.max_line) };
        LineTooLong { limit: self.max_line }
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
    use super::super::buffer::KEPT_CAPACITY;
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
    fn a_reader_of_lines_that_overflowed_holds_nothing_and_stays_so() {
        let mut decoder = Decoder::new(3);
        decoder.push(b"1\n1234");
        assert!(decoder.next_line().expect("short").is_some());
        for _ in 0..2 {
            assert_eq!(decoder.next_line(), Err(LineTooLong { limit: 3 }));
            assert_eq!((decoder.buffered(), decoder.buffer.capacity()), (0, 0));
            decoder.push(b"\n1\n");
        }
    }

    #[test]
    fn a_protocol_message_that_is_too_long_ends_it_before_its_end() {
        let mut decoder = Decoder::new(30);
        decoder.push(br#"{"cmd":"NODE_CLUSTER","act":"listening""#);
        for _ in 0..2 {
            assert_eq!(decoder.next_message(), Err(LineTooLong { limit: 30 }));
            assert_eq!((decoder.buffered(), decoder.buffer.capacity()), (0, 0));
            decoder.push(b"\n1\n");
        }
    }

    #[test]
    fn of_a_line_without_an_end_nothing_is_kept() {
        const MAX_LINE: usize = 1 << 20;
        let mut decoder = Decoder::new(MAX_LINE);
        let piece = vec![b'x'; 1 << 16];
        decoder.push(br#"{"endless":""#);
        for _ in 0..64 {
            decoder.push(&piece);
            assert_eq!(decoder.next_message(), Ok(None));
            assert!(decoder.buffer.capacity() <= MAX_LINE + piece.len());
        }
        assert_eq!(decoder.skipping(), Some(12 + 64 * (1 << 16)));
        assert!(decoder.buffered() == 0 && decoder.buffer.capacity() <= KEPT_CAPACITY);
        decoder.push(b"\"}\n\"ready\"\n");
        assert!(matches!(decoder.next_message(), Ok(Some(FromWorker::Skipped(_)))));
        assert_eq!(decoder.skipping(), None);
        assert_eq!(drain(&mut decoder), 1);
    }
}
