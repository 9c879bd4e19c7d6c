//! The fields of a JSON object that mean something to us, each still as text.
//!
//! One pass over a line finds them all, skips the rest and checks the syntax of both. It reads an
//! object as JavaScript does: of a key that occurs twice the last one counts, and a string may hold
//! half a surrogate pair, which is no Unicode and would stop an ordinary parse.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A field as it stands in the line; none where it is absent or null.
pub(super) type Field<'a> = Option<&'a RawValue>;

/// A string in a superset of UTF-8 that can hold half a surrogate pair.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, [u8]>);

/// The fields of all internal messages together; no message has all of them.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) cmd: Field<'a>,
    pub(super) act: Field<'a>,
    pub(super) seq: Field<'a>,
    pub(super) ack: Field<'a>,
    pub(super) accepted: Field<'a>,
    pub(super) errno: Field<'a>,
    pub(super) key: Field<'a>,
    pub(super) index: Field<'a>,
    pub(super) address: Field<'a>,
    pub(super) port: Field<'a>,
    pub(super) address_type: Field<'a>,
    pub(super) fd: Field<'a>,
    pub(super) flags: Field<'a>,
    pub(super) backlog: Field<'a>,
    pub(super) readable_all: Field<'a>,
    pub(super) writable_all: Field<'a>,
    pub(super) data: Field<'a>,
    pub(super) handle_type: Field<'a>,
    pub(super) datagram_type: Field<'a>,
    pub(super) msg: Field<'a>,
    pub(super) connections: Field<'a>,
    pub(super) open: Field<'a>,
    pub(super) lately: Field<'a>,
    pub(super) lasting: Field<'a>,
    pub(super) upgraded: Field<'a>,
    pub(super) requests: Field<'a>,
    pub(super) alive: Field<'a>,
    pub(super) handles: Field<'a>,
    pub(super) timeout: Field<'a>,
    pub(super) reason: Field<'a>,
    pub(super) text: Field<'a>,
    pub(super) measures: Field<'a>,
}

impl<'a> Fields<'a> {
    /// None if the text is not exactly one JSON object.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Field<'a>> {
        let slot = match name {
            b"cmd" => &mut self.cmd,
            b"act" => &mut self.act,
            b"seq" => &mut self.seq,
            b"ack" => &mut self.ack,
            b"accepted" => &mut self.accepted,
            b"errno" => &mut self.errno,
            b"key" => &mut self.key,
            b"index" => &mut self.index,
            b"address" => &mut self.address,
            b"port" => &mut self.port,
            b"addressType" => &mut self.address_type,
            b"fd" => &mut self.fd,
            b"flags" => &mut self.flags,
            b"backlog" => &mut self.backlog,
            b"readableAll" => &mut self.readable_all,
            b"writableAll" => &mut self.writable_all,
            b"data" => &mut self.data,
            b"type" => &mut self.handle_type,
            b"dgramType" => &mut self.datagram_type,
            b"msg" => &mut self.msg,
            b"connections" => &mut self.connections,
            b"open" => &mut self.open,
            b"lately" => &mut self.lately,
            b"lasting" => &mut self.lasting,
            b"upgraded" => &mut self.upgraded,
            b"requests" => &mut self.requests,
            b"alive" => &mut self.alive,
            b"handles" => &mut self.handles,
            b"timeout" => &mut self.timeout,
            b"reason" => &mut self.reason,
            b"text" => &mut self.text,
            b"measures" => &mut self.measures,
            _ => return None,
        };
        Some(slot)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        // A key is checked as raw JSON first: read as bytes, it might hold bare control characters.
        while let Some(key) = map.next_key::<&RawValue>()? {
            let name = text(Some(key)).unwrap_or_default();
            if let Some(slot) = fields.slot(&name) {
                *slot = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

/// The value of a field that is a string.
pub(super) fn text(field: Field<'_>) -> Option<Cow<'_, [u8]>> {
    let Text(text) = serde_json::from_str(field?.get()).ok()?;
    Some(text)
}

/// What a string means of which these are the bytes between the quotes, or the first of them: as they are where they are
/// no whole string.
pub(super) fn unquoted(escaped: Vec<u8>) -> Vec<u8> {
    if !escaped.contains(&b'\\') {
        return escaped;
    }
    let whole = escaped.get(..whole_escapes(&escaped)).unwrap_or_default();
    let quoted = [b"\"".as_slice(), whole, b"\""].concat();
    match serde_json::from_slice::<Text<'_>>(&quoted) {
        Ok(Text(text)) => text.into_owned(),
        Err(_) => escaped,
    }
}

/// How long the text is without an escape at its end that was cut.
fn whole_escapes(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let length = match (byte, text.get(at + 1)) {
            (b'\\', Some(b'u')) => 6,
            (b'\\', _) => 2,
            _ => 1,
        };
        if at + length > text.len() {
            break;
        }
        at += length;
    }
    at
}

/// The value of a field that is a string of no more than so many bytes.
pub(super) fn string(field: Field<'_>, max_len: usize) -> Option<String> {
    let string: String = serde_json::from_str(field?.get()).ok()?;
    (string.len() <= max_len).then_some(string)
}

/// The value of a field that is a whole number in the range of `N`.
pub(super) fn number<N: FromStr>(field: Field<'_>) -> Option<N> {
    field?.get().parse().ok()
}

pub(super) fn boolean(field: Field<'_>) -> Option<bool> {
    field?.get().parse().ok()
}

/// Whether JavaScript takes the value for true.
pub(super) fn truthy(field: Field<'_>) -> bool {
    field.is_some_and(|value| !matches!(value.get(), "false" | "0" | r#""""#))
}
