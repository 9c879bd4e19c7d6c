//! What the data plane tells the supervisor: facts at once, and counts when it is asked for them.

use std::collections::BTreeSet;

use recluster_core::WorkerId;
use serde::{Deserialize, Serialize};

use super::messages::{Backlog, Billed, Fact, Tally};
use crate::sink::Sink;

/// Of how many kinds of messages is reported that nobody hears them.
const MOST_KINDS: usize = 8;

#[derive(Debug)]
pub(super) struct Reports {
    facts: Sink<Billed>,
    /// Who pays for the facts of this moment.
    payer: Backlog,
    /// Caveats that were reported: each is reported once.
    caveats: BTreeSet<String>,
    /// Kinds of messages of which was reported that nobody hears them.
    unheard: BTreeSet<String>,
    pub(super) tally: Tally,
}

/// What is left to the program after this one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SavedReports {
    caveats: BTreeSet<String>,
    unheard: BTreeSet<String>,
    tally: Tally,
}

impl Reports {
    pub(super) fn save(&self) -> SavedReports {
        let Self { caveats, unheard, tally, .. } = self;
        SavedReports { caveats: caveats.clone(), unheard: unheard.clone(), tally: tally.clone() }
    }

    pub(super) fn inherit(saved: SavedReports, facts: Sink<Billed>) -> Self {
        let SavedReports { caveats, unheard, tally } = saved;
        Self { facts, payer: Backlog::default(), caveats, unheard, tally }
    }

    pub(super) fn new(facts: Sink<Billed>) -> Self {
        Self::inherit(SavedReports::default(), facts)
    }

    /// From now on facts follow from what this worker says. A worker that leads to more than the supervisor deals with is not read
    /// meanwhile.
    pub(super) fn charge(&mut self, worker: &Backlog) {
        self.payer = worker.clone();
    }

    /// From now on facts follow from nothing that a worker says: the clock, a command or the kernel has led to them.
    pub(super) fn charge_nobody(&mut self) {
        self.payer = Backlog::default();
    }

    pub(super) fn fact(&self, fact: Fact) {
        let receipt = self.payer.note(&fact);
        self.facts.send(Billed { fact, receipt });
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
        if !self.caveats.contains(caveat) {
            self.caveats.insert(caveat.to_owned());
            self.fact(Fact::Caveat(caveat));
        }
    }
}
