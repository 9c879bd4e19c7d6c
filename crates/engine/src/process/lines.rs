//! Cuts what a worker writes into whole lines. One that is too long, or whose end does not come, is passed on in pieces.

use std::time::{Duration, Instant};

/// The longest piece that is left at once and should find room where it is to wait, in bytes.
pub(super) const LONGEST_PIECE: usize = 128 << 10;
/// How much of a worker's output is read at a time.
pub(super) const CHUNK: usize = 8 * 1024;
/// A line that is longer is passed on in pieces, in bytes.
pub(super) const LONGEST_LINE: usize = LONGEST_PIECE - CHUNK;

/// Cuts what a worker writes into whole lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// How long that is waited for before the beginning is passed on.
    wait: Duration,
    /// When it is passed on without its end.
    pub(super) due: Option<Instant>,
    /// The beginning of a line was passed on without its end.
    open: bool,
}

impl Lines {
    pub(super) fn new(wait: Duration) -> Self {
        Self { partial: Vec::new(), wait, due: None, open: false }
    }

    /// Takes what was read; returns what can be passed on.
    pub(super) fn take(&mut self, words: &[u8]) -> Vec<u8> {
        self.partial.extend_from_slice(words);
        let whole = self.partial.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        if whole == 0 && self.partial.len() >= LONGEST_LINE {
            return self.take_partial();
        }
        let rest = self.partial.split_off(whole);
        let begun = self.due.filter(|_| whole == 0);
        self.due = (!rest.is_empty()).then(|| begun.unwrap_or_else(|| Instant::now() + self.wait));
        self.open &= whole == 0;
        std::mem::replace(&mut self.partial, rest)
    }

    /// What there is of a line.
    pub(super) fn take_partial(&mut self) -> Vec<u8> {
        self.due = None;
        self.open |= !self.partial.is_empty();
        std::mem::take(&mut self.partial)
    }

    /// What there is of the last line, and its end.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut rest = self.take_partial();
        if std::mem::take(&mut self.open) {
            rest.push(b'\n');
        }
        rest
    }
}

/// How many lines these are; the beginning of one counts.
pub(super) fn count(lines: &[u8]) -> u64 {
    lines.split_inclusive(|&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Lines {
        Lines::new(Duration::from_secs(60))
    }

    #[test]
    fn lines_are_passed_on_when_they_are_whole() {
        let mut lines = lines();
        assert_eq!(lines.take(b"one\ntw"), b"one\n");
        assert!(lines.due.is_some());
        assert_eq!(lines.take(b"o"), b"");
        assert_eq!(lines.take(b"\n"), b"two\n");
        assert_eq!(lines.due, None);
        assert_eq!(lines.end(), b"");
    }

    #[test]
    fn the_beginning_of_a_line_is_passed_on_when_its_end_does_not_come() {
        let mut lines = lines();
        lines.take(b"a prompt> ");
        assert_eq!(lines.take_partial(), b"a prompt> ");
        assert_eq!(lines.take(b"its answer"), b"");
        assert_eq!(lines.end(), b"its answer\n", "what others say begins on a line of its own");
        assert_eq!(lines.end(), b"");
        lines.take(b"another> ");
        lines.take_partial();
        assert_eq!(lines.end(), b"\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_on_in_pieces() {
        let mut lines = lines();
        let mut passed_on = 0;
        for _ in 0..100 {
            let piece = lines.take(&[b'x'; CHUNK]);
            assert!(piece.len() <= LONGEST_PIECE);
            passed_on += piece.len();
        }
        assert_eq!(passed_on + lines.end().len(), 100 * CHUNK + 1);
    }

    #[test]
    fn the_beginning_of_a_line_counts() {
        assert_eq!([count(b""), count(b"a"), count(b"a\n"), count(b"a\nb"), count(b"\n\n")], [0, 1, 1, 2, 2]);
    }
}
