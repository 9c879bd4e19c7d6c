//! The strings of V8's format, as JSON writes them.

use serde::{Deserialize, Serialize};

/// How the characters of a string are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Encoding {
    /// A byte each.
    #[default]
    Latin1,
    /// Two bytes for each half of a pair, or for a character that needs no pair.
    Utf16,
    Utf8,
}

/// A string that has been read so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Text {
    encoding: Encoding,
    /// How many more characters are written.
    room: usize,
    /// The first byte of two.
    half: Option<u8>,
}

impl Text {
    /// A string of which no more than so many characters are written.
    pub(super) fn new(encoding: Encoding, room: usize) -> Self {
        Self { encoding, room, half: None }
    }

    /// Writes the next bytes of the string.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            if self.room == 0 {
                return;
            }
            match (self.encoding, self.half.take()) {
                (Encoding::Latin1, _) => self.unit(u16::from(byte), out),
                (Encoding::Utf16, None) => self.half = Some(byte),
                (Encoding::Utf16, Some(low)) => self.unit(u16::from_le_bytes([low, byte]), out),
                (Encoding::Utf8, _) if byte.is_ascii() => self.unit(u16::from(byte), out),
                (Encoding::Utf8, _) => {
                    out.push(byte);
                    self.room -= 1;
                }
            }
        }
    }

    fn unit(&mut self, unit: u16, out: &mut Vec<u8>) {
        self.room -= 1;
        match u8::try_from(unit) {
            Ok(quoted @ (b'"' | b'\\')) => out.extend([b'\\', quoted]),
            Ok(plain @ b' '..=b'~') => out.push(plain),
            // A half of a pair is written so as well: JSON can say it, and UTF-8 cannot.
            _ => out.extend(format!("\\u{unit:04x}").bytes()),
        }
    }
}
