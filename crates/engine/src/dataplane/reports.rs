//! What the data plane tells the supervisor: facts at once, and counts when it is asked for them.

use std::collections::BTreeSet;

use super::messages::{Fact, Tally};
use crate::sink::Sink;

#[derive(Debug)]
pub(super) struct Reports {
    facts: Sink<Fact>,
    /// Caveats that were reported: each is reported once.
    caveats: BTreeSet<&'static str>,
    pub(super) tally: Tally,
}

impl Reports {
    pub(super) fn new(facts: Sink<Fact>) -> Self {
        Self { facts, caveats: BTreeSet::new(), tally: Tally::default() }
    }

    pub(super) fn fact(&self, fact: Fact) {
        self.facts.send(fact);
    }

    /// Reports, once, something that the cluster cannot do.
    pub(super) fn caveat(&mut self, caveat: &'static str) {
        if self.caveats.insert(caveat) {
            self.fact(Fact::Caveat(caveat));
        }
    }
}
