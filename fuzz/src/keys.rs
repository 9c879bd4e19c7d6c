//! Keys that stand twice in an object of JSON: which of them counts is known only at its end, and no object of V8 has such.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Whether an object in a text has such keys, or may have: one that is no Unicode or nested too deep is not read.
pub(crate) fn are_twice(text: &str) -> bool {
    serde_json::from_str(text).map_or(true, |Repeats(twice)| twice)
}

/// Whether a value has an object with such keys.
struct Repeats(bool);

impl<'de> Deserialize<'de> for Repeats {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        text.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Repeats;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Repeats, A::Error> {
        let (mut keys, mut twice) = (BTreeSet::new(), false);
        while let Some((key, Repeats(inside))) = map.next_entry::<Cow<'de, str>, _>()? {
            twice |= inside || !keys.insert(key);
        }
        Ok(Repeats(twice))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Repeats, A::Error> {
        let mut twice = false;
        while let Some(Repeats(inside)) = list.next_element()? {
            twice |= inside;
        }
        Ok(Repeats(twice))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_str<E>(self, _: &str) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_unit<E>(self) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }
}
