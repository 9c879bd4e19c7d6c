//! How the parts of the data plane name what they leave to the program after this one, and take it again: descriptors, and bytes that are
//! no text or too many to be in one.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving, memory};

/// Up to how many bytes are written among all else, if they are text.
const MOST_TEXT: usize = 4 << 10;

/// Passed what is left.
#[derive(Debug)]
pub(super) struct Passing<'a> {
    saving: &'a mut Saving,
    known: BTreeMap<RawFd, String>,
    pub(super) passed: Passed,
    /// Has to stay open for as long as what is left may be used.
    pub(super) memories: Vec<OwnedFd>,
}

/// All names that were given.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Passed {
    descriptors: Vec<String>,
    memories: Vec<String>,
}

/// Bytes that are left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bytes {
    Text(String),
    /// In a sealed piece of memory by this name.
    Memory(String),
}

/// What was left, by its names. It may go to another thread.
#[derive(Debug, Default)]
pub(super) struct Given {
    descriptors: BTreeMap<String, OwnedFd>,
    bytes: BTreeMap<String, Vec<u8>>,
}

/// The same while it is being used: one descriptor may belong to several.
#[derive(Debug)]
pub(super) struct Taking {
    given: Given,
    shared: BTreeMap<String, Rc<OwnedFd>>,
}

impl<'a> Passing<'a> {
    pub(super) fn new(saving: &'a mut Saving) -> Self {
        Self { saving, known: BTreeMap::new(), passed: Passed::default(), memories: Vec::new() }
    }

    /// Has a descriptor pass; returns the name that it has. One that passes already has the name that it was given first.
    pub(super) fn descriptor(&mut self, fd: impl AsFd, name: &str) -> Result<String, SaveError> {
        let number = fd.as_fd().as_raw_fd();
        if let Some(known) = self.known.get(&number) {
            return Ok(known.clone());
        }
        let name = format!("dataplane/{name}");
        self.saving.pass(fd, name.clone())?;
        self.known.insert(number, name.clone());
        self.passed.descriptors.push(name.clone());
        Ok(name)
    }

    /// Has bytes pass.
    pub(super) fn bytes(&mut self, bytes: Vec<u8>, name: &str) -> Result<Bytes, SaveError> {
        let bytes = match String::from_utf8(bytes) {
            Ok(text) if text.len() <= MOST_TEXT => return Ok(Bytes::Text(text)),
            Ok(text) => text.into_bytes(),
            Err(error) => error.into_bytes(),
        };
        let name = format!("dataplane/{name}");
        let failed = |source| SaveError::Descriptor { purpose: name.clone(), source };
        if !memory::has_room_for(bytes.len()) {
            return Err(SaveError::Refused(format!("{} bytes wait on one worker's channel", bytes.len())));
        }
        let memory = memory::seal(&bytes).map_err(failed)?;
        self.saving.pass(&memory, name.clone())?;
        self.memories.push(memory);
        self.passed.memories.push(name.clone());
        Ok(Bytes::Memory(name))
    }
}

impl Given {
    /// Takes what has these names.
    pub(super) fn take(names: &Passed, inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let mut given = Self::default();
        for name in &names.descriptors {
            given.descriptors.insert(name.clone(), inheritance.descriptor(name)?);
        }
        for name in &names.memories {
            let failed = |reason| AdoptError::Contradiction(format!("{name:?} cannot be read: {reason}"));
            let bytes = memory::read(&inheritance.descriptor(name)?).map_err(failed)?;
            given.bytes.insert(name.clone(), bytes);
        }
        Ok(given)
    }
}

impl Taking {
    pub(super) fn new(given: Given) -> Self {
        Self { given, shared: BTreeMap::new() }
    }

    /// A descriptor that belongs to nobody else.
    pub(super) fn descriptor(&mut self, name: &str) -> Result<OwnedFd, AdoptError> {
        self.given.descriptors.remove(name).ok_or_else(|| AdoptError::NotLeft(name.to_owned()))
    }

    /// One that may belong to others as well.
    pub(super) fn shared(&mut self, name: &str) -> Result<Rc<OwnedFd>, AdoptError> {
        if let Some(known) = self.shared.get(name) {
            return Ok(Rc::clone(known));
        }
        let shared = Rc::new(self.descriptor(name)?);
        self.shared.insert(name.to_owned(), Rc::clone(&shared));
        Ok(shared)
    }

    pub(super) fn bytes(&mut self, bytes: Bytes) -> Result<Vec<u8>, AdoptError> {
        match bytes {
            Bytes::Text(text) => Ok(text.into_bytes()),
            Bytes::Memory(name) => self.given.bytes.remove(&name).ok_or(AdoptError::NotLeft(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn one_descriptor_has_one_name_and_bytes_are_text_where_they_can_be() {
        let (one, other) = UnixStream::pair().unwrap();
        let mut saving = Saving::new("it");
        let mut passing = Passing::new(&mut saving);
        assert_eq!(passing.descriptor(&one, "a").unwrap(), "dataplane/a");
        assert_eq!(passing.descriptor(&one, "b").unwrap(), "dataplane/a");
        assert_eq!(passing.descriptor(&other, "b").unwrap(), "dataplane/b");
        assert_eq!(passing.bytes(b"{\"a\":".into(), "c").unwrap(), Bytes::Text("{\"a\":".to_owned()));
        for bytes in [vec![0xff, 0xfe], vec![b'x'; MOST_TEXT + 1]] {
            let name = format!("{}", bytes.len());
            assert_eq!(passing.bytes(bytes, &name).unwrap(), Bytes::Memory(format!("dataplane/{name}")));
        }
        assert_eq!((passing.passed.descriptors.len(), passing.memories.len()), (2, 2));
    }
}
