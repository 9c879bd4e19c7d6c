//! What is saved and adopted within one process, for tests of rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd as _, IntoRawFd as _};

use serde_json::Value;

use crate::sys;
use crate::upgrade::envelope::Envelope;
use crate::upgrade::{Inheritance, Saving};

/// The same as another program would be left it: as text, and with descriptors of its own.
pub(crate) fn inherited(saving: Saving) -> Inheritance {
    let (mut envelope, _kept) = saving.into_envelope();
    for entry in &mut envelope.descriptors {
        let duplicate = sys::duplicate(entry.number.unsigned_abs()).unwrap();
        entry.number = duplicate.as_raw_fd();
        // It is taken by its number.
        let _ = duplicate.into_raw_fd();
    }
    Inheritance::take(Envelope::read(&envelope.write().unwrap()).unwrap()).unwrap()
}

/// What was said by each part, and what descriptors are for.
pub(crate) fn said(saving: Saving) -> (BTreeMap<String, Value>, BTreeSet<String>) {
    let (entries, parts) = saving.into_envelope().0.into_contents();
    let parts = parts.into_iter().map(|(part, said)| (part, serde_json::from_str(said.get()).unwrap()));
    (parts.collect(), entries.into_iter().map(|entry| entry.purpose).collect())
}
