//! Reads a value in V8's format as JSON, piece by piece, and keeps next to nothing of it.
//!
//! The JSON says what `JSON.stringify` would of objects, arrays, strings, numbers and booleans, and `null` of all else: of
//! `undefined`, of what JSON does not know (a Map, a Buffer, a Date …) and of an object that was there before. No message of
//! the protocol has such. Whoever reads the JSON of a long message wants to know what kind of message it is: so what lies deep
//! is not written, and of a string only the beginning.

use serde::{Deserialize, Serialize};

use super::grammar::{Frame, Meaning, Number, Owner, Want};
use super::text::{Encoding, Text};
use crate::node::message::MAX_STRING;

/// What a value begins with, before the version of the format.
pub(super) const MARK: u8 = 0xff;
/// The oldest version that Node 18 to 26 read; all of them write 15.
const OLDEST_VERSION: u64 = 13;
/// From this version on, what a view of a buffer says of itself has one more number.
const VIEW_FLAGS: u64 = 14;
/// How deep values may lie in each other. Node fails at a few thousand.
const MOST_FRAMES: usize = 1 << 16;
/// In so many objects the fields matter that a message is known by: its own, and those of `msg`.
const NAMES_DEPTH: usize = 2;
/// How many bytes of a string are written where only names are wanted.
const NAME_LENGTH: usize = MAX_STRING;

/// How much of a value is written as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reach {
    /// What a message is known by.
    Names,
    /// All of it.
    All,
    /// All but the field `msg` of the outermost object.
    AllButMsg,
}

/// A value that has been read so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Reader {
    /// What was read, as JSON, and not taken yet.
    json: Vec<u8>,
    reach: Reach,
    want: Want,
    version: u64,
    frames: Vec<Frame>,
    /// Nothing is written before the value ends that began in so many frames.
    silent: Option<usize>,
    text: Text,
    number: Number,
    /// The last value was a buffer: a view of it may follow.
    was_buffer: bool,
}

impl Reader {
    pub(super) fn new(reach: Reach) -> Self {
        Self {
            json: Vec::new(),
            reach,
            want: Want::Mark,
            version: 0,
            frames: Vec::new(),
            silent: None,
            text: Text::default(),
            number: Number::default(),
            was_buffer: false,
        }
    }

    /// Reads the next bytes.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.want {
                Want::Text(length) => bytes = self.read_text(length, bytes),
                Want::Raw(length) => bytes = self.skip(length, bytes),
                Want::End | Want::Failed => return,
                Want::Mark | Want::Tag | Want::Number(_) | Want::Double { .. } | Want::ErrorPart => {
                    self.read_byte(byte);
                    bytes = rest;
                }
            }
        }
    }

    /// Whether the value has been read to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.want == Want::End
    }

    /// The version of the format; none before it was read.
    pub(super) fn version(&self) -> Option<u64> {
        (self.version >= OLDEST_VERSION).then_some(self.version)
    }

    /// What was read since this was asked last, as JSON.
    pub(super) fn take_json(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.json)
    }

    fn read_byte(&mut self, byte: u8) {
        match self.want {
            Want::Mark if byte == MARK => self.want_number(Meaning::Version),
            Want::Tag => self.tag(byte),
            Want::Number(meaning) => self.read_number(meaning, byte),
            Want::Double { matters } => self.read_double(matters, byte),
            Want::ErrorPart => self.error_part(byte),
            Want::Mark | Want::Text(_) | Want::Raw(_) | Want::End | Want::Failed => self.fail(),
        }
    }

    fn tag(&mut self, tag: u8) {
        let was_buffer = std::mem::take(&mut self.was_buffer);
        match tag {
            // Before a string of two bytes each, so that they are aligned.
            0 => self.was_buffer = was_buffer,
            // For a reader that wants to know how many objects there are.
            b'?' => self.want_number(Meaning::Ignored(1)),
            b'V' if was_buffer => self.want_number(Meaning::Ignored(self.view_numbers())),
            _ if self.ends_frame(tag) => {}
            _ if self.is_key_next() => self.key(tag),
            _ => self.value(tag),
        }
    }

    /// How a view describes itself: its sort, its beginning, its length, and since a later version its flags.
    fn view_numbers(&self) -> u8 {
        if self.version >= VIEW_FLAGS { 4 } else { 3 }
    }

    fn is_key_next(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::Fields { at_key: true, .. }))
    }

    /// Ends the value that we are in if this tag does so.
    fn ends_frame(&mut self, tag: u8) -> bool {
        let numbers = match (self.frames.last(), tag) {
            (Some(Frame::Fields { at_key: true, of: Owner::Object, .. }), b'{') => 1,
            (Some(Frame::Fields { at_key: true, of: Owner::Array, .. }), b'$')
            | (Some(Frame::Fields { at_key: true, of: Owner::SparseArray, .. }), b'@') => 2,
            (Some(Frame::Group { end }), tag) if *end == tag => 1,
            _ => return false,
        };
        self.want_number(Meaning::Closing(numbers));
        true
    }

    fn key(&mut self, tag: u8) {
        match tag {
            b'"' | b'c' | b'S' | b'I' | b'U' | b'N' => self.value(tag),
            _ => self.fail(),
        }
    }

    fn value(&mut self, tag: u8) {
        self.hide_msg();
        match tag {
            b'_' | b'0' | b'-' => self.leaf(b"null"),
            b'T' | b'y' => self.leaf(b"true"),
            b'F' | b'x' => self.leaf(b"false"),
            b'I' => self.want_number(Meaning::Signed),
            b'U' => self.want_number(Meaning::Unsigned),
            b'N' | b'n' => self.want_double(true),
            b'D' => self.want_double(false),
            b'"' => self.want_number(Meaning::TextLength(Encoding::Latin1)),
            b'c' => self.want_number(Meaning::TextLength(Encoding::Utf16)),
            b'S' => self.want_number(Meaning::TextLength(Encoding::Utf8)),
            // A String object: the string follows.
            b's' => {}
            b'Z' | b'z' => self.want_number(Meaning::DigitsLength),
            b'^' => self.want_number(Meaning::Reference),
            b'B' => self.want_number(Meaning::RawLength),
            b'~' => self.want_number(Meaning::ResizableLength),
            b'\\' => self.want_number(Meaning::HostKind),
            b'o' => self.open(Frame::Fields { at_key: true, is_empty: true, of: Owner::Object }),
            b'A' => self.want_number(Meaning::Length),
            b'a' => self.want_number(Meaning::SparseLength),
            b';' => self.open(Frame::Group { end: b':' }),
            b'\'' => self.open(Frame::Group { end: b',' }),
            b'R' => self.open(Frame::RegExp),
            b'r' => self.open(Frame::Error),
            _ => self.fail(),
        }
    }

    fn want_number(&mut self, meaning: Meaning) {
        self.number = Number::default();
        self.want = Want::Number(meaning);
    }

    fn want_double(&mut self, matters: bool) {
        self.number = Number::default();
        self.want = Want::Double { matters };
    }

    fn read_number(&mut self, meaning: Meaning, byte: u8) {
        if self.number.bits > 63 {
            return self.fail();
        }
        self.number.value |= u64::from(byte & 0x7f) << self.number.bits;
        self.number.bits += 7;
        if byte & 0x80 == 0 {
            self.means(meaning, self.number.value);
        }
    }

    fn means(&mut self, meaning: Meaning, value: u64) {
        match meaning {
            Meaning::Version => {
                self.version = value;
                self.want = if value >= OLDEST_VERSION { Want::Tag } else { Want::Failed };
            }
            Meaning::Signed => {
                let size = i128::from(value >> 1);
                let signed = if value & 1 == 0 { size } else { -size - 1 };
                self.leaf(signed.to_string().as_bytes());
            }
            Meaning::Unsigned => self.leaf(value.to_string().as_bytes()),
            Meaning::Reference => self.leaf(b"null"),
            Meaning::TextLength(encoding) => self.open_text(encoding, value),
            Meaning::ResizableLength => self.want_number(Meaning::MostLength(value)),
            Meaning::RawLength | Meaning::MostLength(_) => {
                let length = if let Meaning::MostLength(length) = meaning { length } else { value };
                self.was_buffer = true;
                self.raw(length);
            }
            Meaning::DigitsLength => self.raw(value >> 1),
            Meaning::Length => self.open(Frame::Items { missing: value, is_empty: true }),
            Meaning::SparseLength => {
                self.open(Frame::Fields { at_key: true, is_empty: true, of: Owner::SparseArray });
            }
            // Node writes a view by itself, and any other host object as an ordinary one with its fields.
            Meaning::HostKind => match value {
                0 => self.want_number(Meaning::HostView),
                1 => self.want = Want::Tag,
                _ => self.fail(),
            },
            Meaning::HostView => self.want_number(Meaning::RawLength),
            Meaning::Ignored(1) => self.want = Want::Tag,
            Meaning::Ignored(more) => self.want_number(Meaning::Ignored(more - 1)),
            Meaning::Closing(1) => self.close(),
            Meaning::Closing(more) => self.want_number(Meaning::Closing(more - 1)),
        }
    }

    fn read_double(&mut self, matters: bool, byte: u8) {
        self.number.value |= u64::from(byte) << self.number.bits;
        self.number.bits += 8;
        if self.number.bits < 64 {
            return;
        }
        let double = f64::from_bits(self.number.value);
        if matters && double.is_finite() {
            self.leaf((double + 0.0).to_string().as_bytes());
        } else {
            self.leaf(b"null");
        }
    }

    fn error_part(&mut self, part: u8) {
        match part {
            // Which of JavaScript's errors it is.
            b'E' | b'R' | b'F' | b'S' | b'T' | b'U' => {}
            // Its message, its stack, its cause.
            b'm' | b's' | b'c' => self.want = Want::Tag,
            b'.' => self.close(),
            _ => self.fail(),
        }
    }

    /// Bytes that do not matter, which are a value.
    fn raw(&mut self, length: u64) {
        self.begin();
        self.write(b"null");
        self.want = Want::Raw(length);
        if length == 0 {
            self.ended();
        }
    }

    fn skip<'a>(&mut self, length: u64, bytes: &'a [u8]) -> &'a [u8] {
        let here = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        let left = length - here as u64;
        self.want = Want::Raw(left);
        if left == 0 {
            self.ended();
        }
        bytes.get(here..).unwrap_or_default()
    }

    fn open_text(&mut self, encoding: Encoding, length: u64) {
        self.begin();
        self.write(b"\"");
        let most = if self.reach == Reach::Names { NAME_LENGTH } else { usize::MAX };
        self.text = Text::new(encoding, most);
        self.want = Want::Text(length);
        if length == 0 {
            self.text_ended();
        }
    }

    fn read_text<'a>(&mut self, length: u64, bytes: &'a [u8]) -> &'a [u8] {
        let here = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        let (text, rest) = bytes.split_at(here);
        if self.silent.is_none() {
            self.text.write(text, &mut self.json);
        }
        let left = length - here as u64;
        self.want = Want::Text(left);
        if left == 0 {
            self.text_ended();
        }
        rest
    }

    fn text_ended(&mut self) {
        self.write(b"\"");
        self.ended();
    }

    /// A value without parts. As a key, it is a string.
    fn leaf(&mut self, json: &[u8]) {
        self.begin();
        let quote: &[u8] = if self.is_key_next() { b"\"" } else { b"" };
        for part in [quote, json, quote] {
            self.write(part);
        }
        self.ended();
    }

    /// A value begins.
    fn begin(&mut self) {
        let is_first = match self.frames.last() {
            Some(Frame::Fields { at_key: true, is_empty, .. } | Frame::Items { is_empty, .. }) => *is_empty,
            _ => true,
        };
        if !is_first {
            self.write(b",");
        }
    }

    /// A value begins in which others lie.
    fn open(&mut self, frame: Frame) {
        if self.frames.len() >= MOST_FRAMES {
            return self.fail();
        }
        self.begin();
        let opening: &[u8] = match frame {
            Frame::Fields { of: Owner::Object, .. } => b"{",
            Frame::Items { .. } => b"[",
            Frame::Fields { .. } | Frame::Group { .. } | Frame::RegExp | Frame::Error => b"",
        };
        let is_deep = self.reach == Reach::Names && self.frames.len() >= NAMES_DEPTH;
        if opening.is_empty() || is_deep {
            self.write(b"null");
            self.silence();
        } else {
            self.write(opening);
        }
        self.frames.push(frame);
        self.await_next();
    }

    /// What the innermost frame wants next.
    fn await_next(&mut self) {
        self.want = Want::Tag;
        match self.frames.last() {
            None => self.want = Want::End,
            Some(Frame::Error) => self.want = Want::ErrorPart,
            Some(Frame::Items { missing: 0, .. }) => self.items_ended(),
            Some(Frame::Items { .. } | Frame::Fields { .. } | Frame::Group { .. } | Frame::RegExp) => {}
        }
    }

    /// An array has all its items. What it has beside them is no part of its JSON.
    fn items_ended(&mut self) {
        self.write(b"]");
        self.frames.pop();
        self.silence();
        self.frames.push(Frame::Fields { at_key: true, is_empty: true, of: Owner::Array });
    }

    /// The value ends that we are in.
    fn close(&mut self) {
        let closed = self.frames.pop();
        if let Some(Frame::Fields { of: Owner::Object, .. }) = closed {
            self.write(b"}");
        }
        self.ended();
    }

    /// A value has ended: what it was in goes on.
    fn ended(&mut self) {
        if self.silent == Some(self.frames.len()) {
            self.silent = None;
        }
        match self.frames.last_mut() {
            Some(Frame::Fields { at_key, is_empty, .. }) => {
                *at_key = !*at_key;
                let is_value_next = !*at_key;
                *is_empty = false;
                if is_value_next {
                    self.write(b":");
                }
            }
            Some(Frame::Items { missing, is_empty }) => {
                *missing = missing.saturating_sub(1);
                *is_empty = false;
            }
            Some(Frame::RegExp) => return self.want_number(Meaning::Closing(1)),
            Some(Frame::Group { .. } | Frame::Error) | None => {}
        }
        self.await_next();
    }

    /// The message of an envelope is hidden: that it is there is all that is written.
    fn hide_msg(&mut self) {
        let at_value =
            matches!(self.frames.as_slice(), [Frame::Fields { at_key: false, of: Owner::Object, .. }]);
        let at_msg = || [br#"{"msg":"#, br#","msg":"#].iter().any(|key| self.json.ends_with(*key));
        if self.reach == Reach::AllButMsg && at_value && self.silent.is_none() && at_msg() {
            self.write(b"null");
            self.silence();
        }
    }

    /// Writes nothing of the value that begins here.
    fn silence(&mut self) {
        self.silent.get_or_insert(self.frames.len());
    }

    fn write(&mut self, json: &[u8]) {
        if self.silent.is_none() {
            self.json.extend_from_slice(json);
        }
    }

    fn fail(&mut self) {
        self.want = Want::Failed;
    }
}

#[cfg(test)]
mod tests;
