//! Bytes that workers and clients have said and that wait: they may be many and no text, so they pass in a sealed piece of memory of their own.
//! As text among all else each of them would take many times its room, in this program and in the next.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use crate::upgrade::inheritance::{AdoptError, Inheritance};
use crate::upgrade::memory::{self, Writer};
use crate::upgrade::saving::{SaveError, Saving};

/// Up to how many bytes are written among all else, if they are text.
const MOST_TEXT: usize = 1024;

/// Some bytes, as they are named among all else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Stored {
    Text(String),
    /// In the memory of their store, from here on and so many.
    At {
        at: u64,
        length: u64,
    },
}

/// Takes what is to be left.
#[derive(Debug)]
pub(crate) struct Store {
    purpose: String,
    memory: Option<Writer>,
}

impl Store {
    /// One whose memory is for this.
    pub(crate) fn new(purpose: &str) -> Self {
        Self { purpose: purpose.to_owned(), memory: None }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<Stored, SaveError> {
        if bytes.len() <= MOST_TEXT
            && let Ok(text) = str::from_utf8(bytes)
        {
            return Ok(Stored::Text(text.to_owned()));
        }
        let failed = |source| SaveError::Descriptor { purpose: self.purpose.clone(), source };
        let memory = match &mut self.memory {
            Some(memory) => memory,
            none => none.insert(Writer::new().map_err(failed)?),
        };
        let at = memory.add(bytes).map_err(failed)?;
        Ok(Stored::At { at, length: bytes.len() as u64 })
    }

    /// Has the memory pass, if there is one.
    pub(crate) fn pass(self, saving: &mut Saving) -> Result<(), SaveError> {
        let Self { purpose, memory } = self;
        let Some(memory) = memory else { return Ok(()) };
        let memory =
            memory.seal().map_err(|source| SaveError::Descriptor { purpose: purpose.clone(), source })?;
        saving.keep(memory, purpose)
    }
}

/// What was left in a store.
#[derive(Debug)]
pub(crate) struct Taken {
    purpose: String,
    memory: Option<(File, u64)>,
}

impl Taken {
    pub(crate) fn of(purpose: &str, inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let purpose = purpose.to_owned();
        let open = |memory: OwnedFd| {
            memory::open(memory)
                .map_err(|error| AdoptError::Contradiction(format!("{purpose:?} cannot be read: {error}")))
        };
        let memory = inheritance.optional(&purpose)?.map(open).transpose()?;
        Ok(Self { purpose, memory })
    }

    pub(crate) fn bytes(&self, stored: Stored) -> Result<Vec<u8>, AdoptError> {
        let (at, length) = match stored {
            Stored::Text(text) => return Ok(text.into_bytes()),
            Stored::At { at, length } => (at, length),
        };
        let Some((memory, size)) = &self.memory else {
            return Err(AdoptError::NotLeft(self.purpose.clone()));
        };
        let is_there = at.checked_add(length).is_some_and(|end| end <= *size);
        let room = usize::try_from(length).ok().filter(|_| is_there);
        let wrong =
            |what: String| AdoptError::Contradiction(format!("{:?} cannot be read: {what}", self.purpose));
        let mut bytes = vec![0; room.ok_or_else(|| wrong(format!("it has {size} bytes")))?];
        memory.read_exact_at(&mut bytes, at).map_err(|error| wrong(error.to_string()))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::fixtures::inherited;

    #[test]
    fn what_is_stored_is_read_as_it_was_whatever_it_is() {
        let all: [&[u8]; 5] = [b"", b"short", &[0xff; 3], &[b'a'; MOST_TEXT], &[b'b'; MOST_TEXT + 1]];
        let (mut saving, mut store) = (Saving::new("it"), Store::new("store"));
        let stored = all.map(|bytes| store.add(bytes).unwrap());
        let is_text = stored.each_ref().map(|stored| matches!(stored, Stored::Text(_)));
        assert_eq!(is_text, [true, true, false, true, false]);
        let named = serde_json::to_string(&stored).unwrap();
        store.pass(&mut saving).unwrap();
        let mut inheritance = inherited(saving);
        let taken = Taken::of("store", &mut inheritance).unwrap();
        let named: Vec<Stored> = serde_json::from_str(&named).unwrap();
        let read: Vec<_> = named.into_iter().map(|stored| taken.bytes(stored).unwrap()).collect();
        assert_eq!(read, all);
        for beyond in [(0, MOST_TEXT as u64 + 5), (MOST_TEXT as u64 + 4, 1), (u64::MAX, 2), (1, u64::MAX)] {
            let error = taken.bytes(Stored::At { at: beyond.0, length: beyond.1 }).unwrap_err().to_string();
            assert_eq!(error, "\"store\" cannot be read: it has 1028 bytes");
        }
    }

    #[test]
    fn where_all_is_short_text_there_is_no_memory() {
        let (mut saving, mut store) = (Saving::new("it"), Store::new("store"));
        let text = store.add(b"it").unwrap();
        store.pass(&mut saving).unwrap();
        let mut inheritance = inherited(saving);
        let taken = Taken::of("store", &mut inheritance).unwrap();
        assert_eq!(taken.bytes(text).unwrap(), b"it");
        let error = taken.bytes(Stored::At { at: 0, length: 0 }).unwrap_err().to_string();
        assert_eq!(error, "no descriptor was left for \"store\"");
    }
}
