//! What the data plane tells the supervisor: facts at once, and counts when it is asked for them.

use std::collections::BTreeSet;

use recluster_core::WorkerId;

use super::messages::{Fact, Tally};
use crate::sink::Sink;

/// Of how many kinds of messages is reported that nobody hears them.
const MOST_KINDS: usize = 8;

#[derive(Debug)]
pub(super) struct Reports {
    facts: Sink<Fact>,
    /// Caveats that were reported: each is reported once.
    caveats: BTreeSet<&'static str>,
    /// Kinds of messages of which was reported that nobody hears them.
    unheard: BTreeSet<String>,
    pub(super) tally: Tally,
}

impl Reports {
    pub(super) fn new(facts: Sink<Fact>) -> Self {
        Self { facts, caveats: BTreeSet::new(), unheard: BTreeSet::new(), tally: Tally::default() }
    }

    pub(super) fn fact(&self, fact: Fact) {
        self.facts.send(fact);
    }

    /// Reports, once for each kind and not of too many, that nobody hears a message.
    pub(super) fn unheard(&mut self, worker: WorkerId, name: impl FnOnce() -> String) {
        if self.unheard.len() < MOST_KINDS {
            let kind = name();
            if self.unheard.insert(kind.clone()) {
                self.fact(Fact::Unheard { worker, kind });
            }
        }
    }

    /// Reports, once, something that the cluster cannot do.
    pub(super) fn caveat(&mut self, caveat: &'static str) {
        if self.caveats.insert(caveat) {
            self.fact(Fact::Caveat(caveat));
        }
    }
}
