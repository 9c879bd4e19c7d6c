//! JSON to values in V8's format.

use super::reader::MARK;
use crate::Json;

/// How many bytes the length of a frame has.
pub(super) const LENGTH: usize = 4;
/// The version that Node 18 to 26 write.
const VERSION: u8 = 15;
/// How many bytes the length of an array is written in: it is known only at the end.
const LENGTH_OF_ARRAY: usize = 5;

/// Appends a value with its length before it. (A value whose length four bytes cannot say is not written. No channel has
/// room for one.)
pub fn frame(value: &[u8], out: &mut Vec<u8>) {
    if let Ok(length) = u32::try_from(value.len()) {
        out.reserve(LENGTH + value.len());
        out.extend(length.to_be_bytes());
        out.extend(value);
    }
}

/// What `JSON.parse` would make of a text, as V8 writes it.
pub fn write(json: &Json) -> Vec<u8> {
    let mut writer = Writer { value: vec![MARK, VERSION], open: Vec::new() };
    let mut rest = json.as_str().as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = match byte {
            b'"' => writer.string(behind),
            b'{' | b'[' => {
                writer.open(byte == b'[');
                behind
            }
            b'}' | b']' => {
                writer.close();
                behind
            }
            b't' | b'f' | b'n' | b'-' | b'0'..=b'9' => writer.word(rest),
            // Between the values. What a comma and a colon say is known: the text is valid.
            _ => behind,
        };
    }
    writer.value
}

/// A value that has been written so far.
struct Writer {
    value: Vec<u8>,
    open: Vec<Open>,
}

/// An object or an array that goes on.
struct Open {
    /// Where the length of an array is to be written.
    length_at: Option<usize>,
    /// How many values there are, those that are keys counted as well.
    values: u32,
}

impl Writer {
    fn counted(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.values = open.values.saturating_add(1);
        }
    }

    fn open(&mut self, is_array: bool) {
        self.counted();
        self.value.push(if is_array { b'A' } else { b'o' });
        let length_at = is_array.then_some(self.value.len());
        if is_array {
            self.value.extend([0; LENGTH_OF_ARRAY]);
        }
        self.open.push(Open { length_at, values: 0 });
    }

    fn close(&mut self) {
        let Some(Open { length_at, values }) = self.open.pop() else { return };
        let Some(at) = length_at else {
            self.value.push(b'{');
            return self.number(u64::from(values / 2));
        };
        if let Some(place) = self.value.get_mut(at..at + LENGTH_OF_ARRAY) {
            for (shift, byte) in (0..).step_by(7).zip(place) {
                let more = if shift < 7 * (LENGTH_OF_ARRAY - 1) { 0x80 } else { 0 };
                *byte = low_bits(u64::from(values) >> shift) | more;
            }
        }
        self.value.extend([b'$', 0]);
        self.number(u64::from(values));
    }

    /// A value that begins with a letter, a digit or a sign; returns what follows.
    fn word<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        self.counted();
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r');
        let end = text.iter().position(ends).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        match word {
            b"true" => self.value.push(b'T'),
            b"false" => self.value.push(b'F'),
            b"null" => self.value.push(b'0'),
            number => self.numeral(std::str::from_utf8(number).unwrap_or_default()),
        }
        rest
    }

    fn numeral(&mut self, digits: &str) {
        match digits.parse::<i32>() {
            // The sign goes into the lowest bit. A zero with one is none of these.
            Ok(whole) if digits != "-0" => {
                self.value.push(b'I');
                self.number(u64::from((whole.cast_unsigned() << 1) ^ (whole >> 31).cast_unsigned()));
            }
            _ => {
                self.value.push(b'N');
                self.value.extend(digits.parse::<f64>().unwrap_or(f64::NAN).to_le_bytes());
            }
        }
    }

    /// A string, from behind its first quote; returns what follows the last one.
    fn string<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        self.counted();
        let mut end = 0;
        while let Some(&byte) = text.get(end)
            && byte != b'"'
        {
            end += if byte == b'\\' { 2 } else { 1 };
        }
        let (escaped, rest) = text.split_at_checked(end).unwrap_or((text, b""));
        let units = unescaped(std::str::from_utf8(escaped).unwrap_or_default());
        if let Ok(latin1) = units.iter().map(|unit| u8::try_from(*unit)).collect::<Result<Vec<_>, _>>() {
            self.value.push(b'"');
            self.number(latin1.len() as u64);
            self.value.extend(latin1);
        } else {
            self.value.push(b'c');
            self.number(units.len() as u64 * 2);
            self.value.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        }
        rest.get(1..).unwrap_or_default()
    }

    /// A number in groups of seven bits, the lowest first.
    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.value.push(low_bits(number) | 0x80);
            number >>= 7;
        }
        self.value.push(low_bits(number));
    }
}

/// The lowest seven bits.
fn low_bits(number: u64) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or_default()
}

/// The characters of a string of JSON, as JavaScript counts them: a half of a pair is one.
fn unescaped(text: &str) -> Vec<u16> {
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        units.extend(plain.encode_utf16());
        let (unit, length) = match escape.chars().next() {
            Some('n') => (0x0a, 1),
            Some('r') => (0x0d, 1),
            Some('t') => (0x09, 1),
            Some('b') => (0x08, 1),
            Some('f') => (0x0c, 1),
            Some('u') => {
                (escape.get(1..5).and_then(|hex| u16::from_str_radix(hex, 16).ok()).unwrap_or_default(), 5)
            }
            // A quote, a slash or a backslash, which stands for itself.
            _ => (escape.as_bytes().first().map_or(0, |byte| u16::from(*byte)), 1),
        };
        units.push(unit);
        rest = escape.get(length..).unwrap_or_default();
    }
    units.extend(rest.encode_utf16());
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Node's `v8.serialize` writes of the same value, behind the version.
    const AS_NODE: &[(&str, &[u8])] = &[
        ("true", b"T"),
        ("false", b"F"),
        ("null", b"0"),
        ("0", b"I\x00"),
        ("1", b"I\x02"),
        ("-1", b"I\x01"),
        ("-64", b"I\x7f"),
        ("64", b"I\x80\x01"),
        ("2147483647", b"I\xfe\xff\xff\xff\x0f"),
        ("-2147483648", b"I\xff\xff\xff\xff\x0f"),
        ("-0", b"N\x00\x00\x00\x00\x00\x00\x00\x80"),
        ("1.5", b"N\x00\x00\x00\x00\x00\x00\xf8\x3f"),
        ("2147483648", b"N\x00\x00\x00\x00\x00\x00\xe0\x41"),
        (r#""""#, b"\"\x00"),
        (r#""\n\r\t\b\f\"\\\/\u00e9é""#, b"\"\x0a\n\r\t\x08\x0c\"\\/\xe9\xe9"),
        (r#""\u20ac""#, b"c\x02\xac\x20"),
        ("\"\u{1f600}\"", b"c\x04\x3d\xd8\x00\xde"),
        ("{}", b"o{\x00"),
        (r#"{"a":1, "b":{"c" : true}}"#, b"o\"\x01aI\x02\"\x01bo\"\x01cT{\x01{\x02"),
    ];

    fn written(text: &str) -> Vec<u8> {
        let value = write(&Json::parse(text).expect(text));
        value.strip_prefix(&[MARK, VERSION]).expect("the mark and the version come first").to_vec()
    }

    #[test]
    fn a_value_is_written_as_node_writes_it() {
        for &(text, value) in AS_NODE {
            assert_eq!(written(text), value, "{text}");
        }
    }

    #[test]
    fn the_length_of_an_array_has_five_bytes_before_its_items() {
        assert_eq!(written("[]"), b"A\x80\x80\x80\x80\x00$\x00\x00");
        assert_eq!(
            written("[1,[null]]"),
            b"A\x82\x80\x80\x80\x00I\x02A\x81\x80\x80\x80\x000$\x00\x01$\x00\x02"
        );
        let items = vec!["0"; 20_000].join(",");
        let value = written(&format!("[{items}]"));
        assert!(value.starts_with(b"A\xa0\x9c\x81\x80\x00I\x00"));
        assert!(value.ends_with(b"I\x00$\x00\xa0\x9c\x01"));
    }

    #[test]
    fn a_frame_begins_with_its_length() {
        let mut out = b"before".to_vec();
        frame(&[7; 258], &mut out);
        assert_eq!((out.len(), &out[..11]), (6 + 4 + 258, b"before\0\0\x01\x02\x07".as_slice()));
    }
}
