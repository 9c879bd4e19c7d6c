//! Cuts what a worker writes into whole lines. One that is too long, or whose end does not come, is passed on in pieces.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::upgrade::store::{Store, Stored, Taken};
use crate::upgrade::{AdoptError, SaveError, plain};

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

/// The same as another program goes on with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    partial: Stored,
    wait: Duration,
    #[serde(with = "plain")]
    due: Option<Instant>,
    open: bool,
}

impl Left {
    pub(super) fn take(self, taken: &Taken) -> Result<Lines, AdoptError> {
        let Self { partial, wait, due, open } = self;
        Ok(Lines { partial: taken.bytes(partial)?, wait, due, open })
    }
}

/// What can be passed on: whole lines, or a piece of one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) bytes: Vec<u8>,
    /// Whether the beginning of its first line was passed on before.
    pub(super) continues: bool,
}

impl Cut {
    /// What of it there is for those to whom that beginning was a line of its own, and whether it still goes on with that line: an
    /// end alone is not one more line.
    pub(super) fn as_lines(&self) -> (&[u8], bool) {
        if self.continues {
            for end in [b"\n".as_slice(), b"\r\n"] {
                if let Some(rest) = self.bytes.strip_prefix(end) {
                    return (rest, false);
                }
            }
        }
        (&self.bytes, self.continues)
    }
}

impl Lines {
    pub(super) fn new(wait: Duration) -> Self {
        Self { partial: Vec::new(), wait, due: None, open: false }
    }

    pub(super) fn save(&self, store: &mut Store) -> Result<Left, SaveError> {
        let Self { partial, wait, due, open } = self;
        Ok(Left { partial: store.add(partial)?, wait: *wait, due: *due, open: *open })
    }

    /// Takes what was read; returns what can be passed on.
    pub(super) fn take(&mut self, words: &[u8]) -> Cut {
        // In what was there before is none.
        let newline = words.iter().rposition(|&byte| byte == b'\n');
        let whole = newline.map_or(0, |newline| self.partial.len() + newline + 1);
        self.partial.extend_from_slice(words);
        if whole == 0 && self.partial.len() >= LONGEST_LINE {
            return self.take_characters();
        }
        let rest = self.partial.split_off(whole);
        let begun = self.due.filter(|_| whole == 0);
        self.due = (!rest.is_empty()).then(|| begun.unwrap_or_else(|| Instant::now() + self.wait));
        let continues = self.open;
        self.open &= whole == 0;
        Cut { bytes: std::mem::replace(&mut self.partial, rest), continues }
    }

    /// What there is of a line, but for a character whose end has not come: that is waited for once more.
    pub(super) fn take_characters(&mut self) -> Cut {
        let whole = whole_characters(&self.partial);
        if whole == 0 {
            return self.take_partial();
        }
        let rest = self.partial.split_off(whole);
        let cut = self.take_partial();
        self.due = (!rest.is_empty()).then(|| Instant::now() + self.wait);
        self.partial = rest;
        cut
    }

    /// What there is of a line.
    fn take_partial(&mut self) -> Cut {
        self.due = None;
        let continues = self.open;
        self.open |= !self.partial.is_empty();
        Cut { bytes: std::mem::take(&mut self.partial), continues }
    }

    /// What there is of the last line, and its end.
    pub(super) fn end(&mut self) -> Cut {
        let mut rest = self.take_partial();
        if std::mem::take(&mut self.open) {
            rest.bytes.push(b'\n');
        }
        rest
    }
}

/// How much of it there is up to where a character in UTF-8 has begun and not ended. Other bytes are whole whatever they are.
pub(super) fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes.len().saturating_sub(3);
    let begins = bytes.iter().enumerate().skip(last).rfind(|(_, byte)| **byte & 0xc0 == 0xc0);
    let Some((index, first)) = begins else { return bytes.len() };
    let length = match first {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    };
    let rest = bytes.get(index + 1..).unwrap_or_default();
    if rest.len() + 1 < length && rest.iter().all(|byte| byte & 0xc0 == 0x80) { index } else { bytes.len() }
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
        assert_eq!(lines.take(b"one\ntw").bytes, b"one\n");
        assert!(lines.due.is_some());
        assert_eq!(lines.take(b"o").bytes, b"");
        assert_eq!(lines.take(b"\n").bytes, b"two\n");
        assert_eq!(lines.due, None);
        assert_eq!(lines.end(), Cut::default());
    }

    #[test]
    fn the_beginning_of_a_line_is_passed_on_when_its_end_does_not_come() {
        let mut lines = lines();
        lines.take(b"a prompt> ");
        assert_eq!(lines.take_characters(), Cut { bytes: b"a prompt> ".to_vec(), continues: false });
        assert_eq!(lines.take(b"its answer").bytes, b"");
        let end = lines.end();
        assert_eq!(end.bytes, b"its answer\n", "what others say begins on a line of its own");
        assert_eq!(end.as_lines(), (b"its answer\n".as_slice(), true));
        assert_eq!(lines.end(), Cut::default());
    }

    #[test]
    fn the_end_of_a_line_whose_beginning_was_passed_on_is_no_line_more() {
        for end in ["\n", "\r\n"] {
            let mut lines = lines();
            lines.take(b"a prompt> ");
            lines.take_characters();
            let cut = lines.take(format!("{end}\nnext\n").as_bytes());
            assert_eq!(cut.bytes, format!("{end}\nnext\n").as_bytes());
            assert_eq!(cut.as_lines(), (b"\nnext\n".as_slice(), false), "a line that is empty is one");
            lines.take(b"another> ");
            lines.take_characters();
            let end = lines.end();
            assert_eq!((end.bytes.as_slice(), end.as_lines()), (b"\n".as_slice(), (b"".as_slice(), false)));
        }
    }

    #[test]
    fn no_character_is_cut_where_a_line_is() {
        let mut lines = lines();
        let text = "a€".repeat(LONGEST_LINE / 2);
        let mut passed_on = Vec::new();
        for chunk in text.as_bytes().chunks(CHUNK) {
            let piece = lines.take(chunk).bytes;
            assert!(std::str::from_utf8(&piece).is_ok() && piece.len() <= LONGEST_PIECE);
            passed_on.extend(piece);
        }
        passed_on.extend(lines.end().bytes);
        assert_eq!(passed_on, [text.as_bytes(), b"\n"].concat());
    }

    #[test]
    fn the_end_of_a_character_is_waited_for_once_more() {
        let mut lines = lines();
        lines.take(b"prompt \xe2\x82");
        assert_eq!(lines.take_characters().bytes, b"prompt ");
        assert!(lines.due.is_some());
        assert_eq!(lines.take_characters().bytes, b"\xe2\x82", "it does not come");
        assert_eq!(lines.due, None);
    }

    #[test]
    fn only_a_character_that_has_begun_is_cut_off() {
        let whole: [&[u8]; 7] =
            [b"", b"a", "é".as_bytes(), "€".as_bytes(), "🦀".as_bytes(), b"\x80\x80\x80\x80", b"\xc3a"];
        for bytes in whole {
            assert_eq!(whole_characters(bytes), bytes.len(), "{bytes:?}");
        }
        let cut: [(&[u8], usize); 5] =
            [(b"a\xc3", 1), (b"\xe2", 0), (b"\xe2\x82", 0), (b"a\xf0\x9f\xa6", 1), (b"\xe2\x82\xac\xf0", 3)];
        for (bytes, whole) in cut {
            assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_on_in_pieces() {
        let mut lines = lines();
        let mut passed_on = 0;
        for _ in 0..100 {
            let piece = lines.take(&[b'x'; CHUNK]).bytes;
            assert!(piece.len() <= LONGEST_PIECE);
            passed_on += piece.len();
        }
        assert_eq!(passed_on + lines.end().bytes.len(), 100 * CHUNK + 1);
    }

    #[test]
    fn the_beginning_of_a_line_counts() {
        assert_eq!([count(b""), count(b"a"), count(b"a\n"), count(b"a\nb"), count(b"\n\n")], [0, 1, 1, 2, 2]);
    }
}
