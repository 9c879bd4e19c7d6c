//! What keeps a worker alive at its end, as the worker says: names and numbers of which no more are kept than people read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// How many kinds of things may keep a worker alive, and how long their names may be.
const MAX_RESOURCES: usize = 16;
const MAX_RESOURCE: usize = 48;

/// How many there are of each kind, by Node's names. What is no name of Node's is left out.
pub(super) struct Alive(pub(super) BTreeMap<String, u32>);

impl<'de> Deserialize<'de> for Alive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AliveVisitor)
    }
}

struct AliveVisitor;

impl<'de> Visitor<'de> for AliveVisitor {
    type Value = Alive;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counts by their names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Alive, A::Error> {
        let mut alive = BTreeMap::new();
        while let Some((name, count)) = map.next_entry::<Cow<'de, str>, u32>()? {
            // Of a name that occurs twice the last count is meant.
            if count == 0 {
                alive.remove(&*name);
            } else if is_name(&name) && (alive.len() < MAX_RESOURCES || alive.contains_key(&*name)) {
                alive.insert(name.into_owned(), count);
            }
        }
        Ok(Alive(alive))
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_RESOURCE && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
