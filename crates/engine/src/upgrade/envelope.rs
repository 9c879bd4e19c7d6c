//! The state of a master as text that other versions read.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::upgrade::table::Entry;

/// The version of the format that is written here.
pub(crate) const VERSION: u32 = 1;
/// The version of the format that a reader has to know at least to read what is written here.
const LEAST_READER: u32 = 1;

/// All that a master leaves. What a reader does not know it keeps, and writes again where the state goes on: a program of a later
/// version that the state came from, and to which it goes back, is to lose nothing by it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// The version of the format that whoever wrote it knew.
    pub(crate) version: u32,
    /// The version that a reader has to know at least.
    least_reader: u32,
    /// Which recluster wrote it, for people.
    pub(crate) program: String,
    #[serde(default)]
    pub(crate) descriptors: Vec<Entry>,
    /// What each part of the master has to say, by the part's name: text that is written and read once, while the master rests.
    #[serde(default)]
    parts: BTreeMap<String, Box<RawValue>>,
    /// What a later version has added.
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// Why it cannot be read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error("it is no state of a master: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(
        "it needs a program that reads version {needed} of the format, and this one reads version {VERSION}"
    )]
    TooNew { needed: u32 },
    #[error("it names descriptor {0} twice")]
    Twice(i32),
    #[error("it has two descriptors for {0:?}")]
    Ambiguous(String),
    #[error("what the part {part:?} has left cannot be read: {reason}")]
    Part { part: String, reason: serde_json::Error },
}

/// What has to be understood where nothing else is.
#[derive(Deserialize)]
struct Head {
    least_reader: u32,
}

impl Envelope {
    /// One that nothing was put into.
    pub(crate) fn new(program: &str) -> Self {
        Self {
            version: VERSION,
            least_reader: LEAST_READER,
            program: program.to_owned(),
            descriptors: Vec::new(),
            parts: BTreeMap::new(),
            unknown: Map::new(),
        }
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let envelope: Self = serde_json::from_slice(bytes).map_err(|error| {
            // A later format may have other types for all else.
            match serde_json::from_slice(bytes) {
                Ok(Head { least_reader: needed }) if needed > VERSION => ReadError::TooNew { needed },
                _ => error.into(),
            }
        })?;
        if envelope.least_reader > VERSION {
            return Err(ReadError::TooNew { needed: envelope.least_reader });
        }
        let (mut numbers, mut purposes) = (BTreeSet::new(), BTreeSet::new());
        for Entry { number, purpose, .. } in &envelope.descriptors {
            if !numbers.insert(number) {
                return Err(ReadError::Twice(*number));
            }
            if !purposes.insert(purpose) {
                return Err(ReadError::Ambiguous(purpose.clone()));
            }
        }
        Ok(envelope)
    }

    pub(crate) fn write(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Puts in what a part of the master has to say, unless there is something of that name.
    pub(crate) fn add(&mut self, part: &str, said: Box<RawValue>) -> bool {
        match self.parts.entry(part.to_owned()) {
            Slot::Vacant(room) => {
                room.insert(said);
                true
            }
            Slot::Occupied(_) => false,
        }
    }

    /// The descriptors, and what the parts have said.
    pub(crate) fn into_contents(self) -> (Vec<Entry>, BTreeMap<String, Box<RawValue>>) {
        (self.descriptors, self.parts)
    }

    /// What a part has said, which stays; none where there was no such part.
    pub(crate) fn see<T: for<'said> Deserialize<'said>>(&self, part: &str) -> Result<Option<T>, ReadError> {
        self.parts.get(part).map(|said| read(part, said)).transpose()
    }

    /// What a part has said; none where there was no such part.
    pub(crate) fn take<T: for<'said> Deserialize<'said>>(
        &mut self,
        part: &str,
    ) -> Result<Option<T>, ReadError> {
        self.parts.remove(part).map(|said| read(part, &said)).transpose()
    }
}

fn read<T: for<'said> Deserialize<'said>>(part: &str, said: &RawValue) -> Result<T, ReadError> {
    serde_json::from_str(said.get()).map_err(|reason| ReadError::Part { part: part.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the first version of the format has written. It is read for as long as any program does.
    const GOLDEN: &str = include_str!("golden/1.json");

    fn read(value: &Value) -> Result<Envelope, ReadError> {
        Envelope::read(value.to_string().as_bytes())
    }

    fn said(text: &str) -> Box<RawValue> {
        serde_json::value::to_raw_value(text).unwrap()
    }

    fn golden() -> Value {
        serde_json::from_str(GOLDEN).unwrap()
    }

    #[test]
    fn what_the_first_version_has_written_is_read_and_written_as_it_was() {
        let mut envelope = Envelope::read(GOLDEN.as_bytes()).unwrap();
        assert_eq!((envelope.version, envelope.program.as_str()), (1, "2.0.0"));
        let [listener, worker] = &envelope.descriptors[..] else { panic!("{envelope:?}") };
        assert_eq!((listener.number, listener.purpose.as_str()), (7, "listener/0"));
        assert_eq!(worker.process, Some(4711));
        assert_eq!(serde_json::to_value(&envelope).unwrap(), golden());
        assert_eq!(envelope.see::<Vec<u64>>("workers").unwrap(), Some(vec![1, 2]), "it stays");
        assert_eq!(envelope.take::<Vec<u64>>("workers").unwrap(), Some(vec![1, 2]));
        assert_eq!(envelope.take::<Vec<u64>>("workers").unwrap(), None);
    }

    #[test]
    fn what_a_later_version_has_added_is_kept_everywhere() {
        let mut later = golden();
        later["version"] = json!(2);
        later["added"] = json!({"a": [1, null]});
        later["parts"]["later"] = json!("more");
        later["descriptors"][0]["added"] = json!(true);
        later["descriptors"][1]["kind"] = json!("a later kind");
        let envelope = read(&later).unwrap();
        assert_eq!(serde_json::to_value(&envelope).unwrap(), later);
    }

    #[test]
    fn one_that_this_program_is_too_old_for_says_so_whatever_else_it_is() {
        let error = read(&json!({"least_reader": 2, "descriptors": "otherwise"})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it needs a program that reads version 2 of the format, and this one reads version 1"
        );
    }

    #[test]
    fn no_beginning_of_one_is_one() {
        for length in 0..GOLDEN.trim_end().len() {
            let error = Envelope::read(&GOLDEN.as_bytes()[..length]).unwrap_err();
            assert!(matches!(error, ReadError::Malformed(_)), "{error}");
        }
        let nested = format!("{{\"least_reader\": 1, \"added\": {}", "[".repeat(100_000));
        assert!(matches!(Envelope::read(nested.as_bytes()), Err(ReadError::Malformed(_))));
    }

    #[test]
    fn a_descriptor_has_one_purpose_and_a_purpose_one_descriptor() {
        let mut twice = golden();
        twice["descriptors"][1]["number"] = json!(7);
        assert!(matches!(read(&twice), Err(ReadError::Twice(7))));
        let mut ambiguous = golden();
        ambiguous["descriptors"][1]["purpose"] = json!("listener/0");
        assert!(matches!(read(&ambiguous), Err(ReadError::Ambiguous(_))));
    }

    #[test]
    fn a_part_that_makes_no_sense_is_named() {
        let mut envelope = Envelope::new("it");
        assert!(envelope.add("workers", said("three")) && !envelope.add("workers", said("four")));
        let error = envelope.take::<Vec<u64>>("workers").unwrap_err().to_string();
        assert!(error.starts_with("what the part \"workers\" has left cannot be read: "), "{error}");
    }
}
