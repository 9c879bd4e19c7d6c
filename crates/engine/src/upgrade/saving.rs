//! What the rooms of a master leave. Saving changes nothing: descriptors are named, and stay as they are.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};

use rustix::fs::fstat;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use serde_json::value::to_raw_value;
use thiserror::Error;

use crate::upgrade::envelope::Envelope;
use crate::upgrade::memory;
use crate::upgrade::table::Entry;

/// How many descriptors another program may need beside what it is left.
const SPARE: u64 = 100;

/// What is left so far.
#[derive(Debug)]
pub struct Saving {
    envelope: Envelope,
    /// Of the descriptors that pass.
    numbers: BTreeSet<RawFd>,
    purposes: BTreeSet<String>,
    arrivals: Vec<Arrival>,
    /// How many descriptors pass, or would.
    count: u64,
    /// What passes and nobody else holds.
    kept: Vec<OwnedFd>,
}

/// A socket at which clients arrive. Nothing is left of this: it is for whoever would have to begin anew if everything fails.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) number: RawFd,
    /// Which socket it is.
    pub(crate) inode: u64,
    pub(crate) role: Role,
}

/// How this process has come by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It was started with it, and with this name for it.
    Given(Option<String>),
    /// It was bound here.
    Own {
        /// It was bound before any worker asked for it.
        is_first: bool,
        /// For what: the sockets of one listener have the same.
        listener: String,
        /// Its place among these.
        place: u32,
        /// The file of a unix socket: its device and its inode.
        file: Option<(u64, u64)>,
    },
}

/// Why something cannot be left.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SaveError {
    /// A descriptor is not to be had.
    #[error("the descriptor for {purpose:?} cannot be looked at: {source}")]
    Descriptor {
        /// What it is for.
        purpose: String,
        /// Why not.
        source: io::Error,
    },
    /// What was said is no JSON.
    #[error("the part {part:?} cannot be written: {source}")]
    Part {
        /// Whose it is.
        part: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// Two have the same purpose, or one has two.
    #[error("two parts of recluster have left something as {0:?}")]
    Twice(String),
    /// Not at this moment: because of what follows "it cannot be done now: ".
    #[error("{0}")]
    Refused(String),
}

impl Saving {
    /// One in which there is nothing yet. The program is named for people.
    pub(crate) fn new(program: &str) -> Self {
        let envelope = Envelope::new(program);
        let (numbers, purposes) = (BTreeSet::new(), BTreeSet::new());
        Self { envelope, numbers, purposes, arrivals: Vec::new(), count: 0, kept: Vec::new() }
    }

    /// Has a descriptor pass. It is remembered by its number, so it has to stay open.
    pub fn pass(&mut self, descriptor: impl AsFd, purpose: impl Into<String>) -> Result<(), SaveError> {
        let purpose = purpose.into();
        let entry = Entry::of(descriptor, purpose.clone())
            .map_err(|source| SaveError::Descriptor { purpose, source })?;
        self.add(entry)?;
        self.count += 1;
        Ok(())
    }

    /// Has bytes pass in a memory of their own: what is much is no text among others.
    pub(crate) fn remember(&mut self, bytes: &[u8], purpose: &str) -> Result<(), SaveError> {
        let failed = |source| SaveError::Descriptor { purpose: purpose.to_owned(), source };
        self.keep(memory::seal(bytes).map_err(failed)?, purpose)
    }

    /// The same of one that is made for it, and stays open for as long as this is there.
    pub(crate) fn keep(&mut self, descriptor: OwnedFd, purpose: impl Into<String>) -> Result<(), SaveError> {
        self.pass(&descriptor, purpose)?;
        self.kept.push(descriptor);
        Ok(())
    }

    /// Clients arrive at this socket, which is remembered by its number.
    pub(crate) fn arrive(&mut self, at: impl AsFd, role: Role) {
        let number = at.as_fd().as_raw_fd();
        // It is open.
        if let Ok(about) = fstat(at) {
            self.arrivals.push(Arrival { number, inode: about.st_ino, role });
        }
    }

    /// Where clients arrive.
    pub(crate) fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// Puts in what a part has to say.
    pub fn put(&mut self, part: &str, said: &impl Serialize) -> Result<(), SaveError> {
        let said = to_raw_value(said).map_err(|source| SaveError::Part { part: part.to_owned(), source })?;
        if self.envelope.add(part, said) { Ok(()) } else { Err(SaveError::Twice(part.to_owned())) }
    }

    /// Adds what a thread has saved.
    pub(crate) fn merge(&mut self, mut other: Self) -> Result<(), SaveError> {
        self.arrivals.append(&mut other.arrivals);
        self.count += other.count;
        self.kept.append(&mut other.kept);
        let (entries, parts) = other.envelope.into_contents();
        entries.into_iter().try_for_each(|entry| self.add(entry))?;
        for (part, said) in parts {
            if !self.envelope.add(&part, said) {
                return Err(SaveError::Twice(part));
            }
        }
        Ok(())
    }

    /// Whether another program has room for what passes. Until nothing can fail any more, it has two of each.
    pub(crate) fn fits(&self) -> Result<(), SaveError> {
        self.fits_into(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn fits_into(&self, limit: u64) -> Result<(), SaveError> {
        let count = self.count;
        if count.saturating_mul(2).saturating_add(SPARE) <= limit {
            return Ok(());
        }
        Err(SaveError::Refused(format!(
            "{count} descriptors are open that the new program would have to have twice for a moment, and {limit} is the limit (ulimit -n)"
        )))
    }

    /// The same for a program that only tries: no descriptor passes. One that somebody else holds open does not close, so that a connection
    /// would not end, nor a channel.
    pub(crate) fn without_descriptors(mut self) -> Self {
        self.envelope.descriptors.clear();
        self.kept.clear();
        self
    }

    /// All of it, and what has to stay open until it is taken.
    pub(crate) fn into_envelope(self) -> (Envelope, Vec<OwnedFd>) {
        (self.envelope, self.kept)
    }

    fn add(&mut self, entry: Entry) -> Result<(), SaveError> {
        if self.numbers.contains(&entry.number) || self.purposes.contains(&entry.purpose) {
            return Err(SaveError::Twice(entry.purpose));
        }
        self.numbers.insert(entry.number);
        self.purposes.insert(entry.purpose.clone());
        self.envelope.descriptors.push(entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_threads_have_saved_comes_together_and_nothing_is_there_twice() {
        let (one, other) = UnixStream::pair().unwrap();
        let mut all = Saving::new("it");
        all.pass(&one, "one").unwrap();
        all.put("first", &1).unwrap();
        let mut more = Saving::new("it");
        more.pass(&other, "other").unwrap();
        more.put("second", &2).unwrap();
        all.merge(more).unwrap();
        for (descriptor, purpose) in [(&one, "again"), (&other, "one")] {
            assert!(matches!(all.pass(descriptor, purpose), Err(SaveError::Twice(_))), "{purpose}");
        }
        assert!(matches!(all.put("second", &3), Err(SaveError::Twice(_))));
        assert!(all.fits_into(104).is_ok());
        let error = all.fits_into(103).unwrap_err().to_string();
        assert!(
            error.starts_with("2 descriptors are open that") && error.contains(" 103 is the limit"),
            "{error}"
        );
        let (mut envelope, _kept) = all.into_envelope();
        let purposes: Vec<_> = envelope.descriptors.iter().map(|entry| entry.purpose.as_str()).collect();
        assert_eq!(purposes, ["one", "other"]);
        assert_eq!(envelope.take::<u8>("second").unwrap(), Some(2));
    }
}
