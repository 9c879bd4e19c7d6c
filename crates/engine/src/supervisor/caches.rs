//! The compile cache of Node workers, as far as the master has to do with it: who writes it, and what is too much goes.

use recluster_core::WorkerId;
use serde::{Deserialize, Serialize};

use crate::config::ready::ReadyWhen;
use crate::process::compile_cache::Sweeper;
use crate::process::program::ResolvedProgram;
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving};

/// What is known of it.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    /// Why workers have none, as people were last told.
    told: Option<String>,
    sweeper: Sweeper,
    /// Who writes what it compiles, and has not loaded its application yet.
    writer: Option<(WorkerId, u64)>,
}

/// What another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    told: Option<String>,
    writer: Option<Writer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Writer {
    worker: WorkerId,
    generation: u64,
}

const PART: &str = "caches";

impl Caches {
    /// Leaves what is known to another program.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        let writer = self.writer.map(|(worker, generation)| Writer { worker, generation });
        saving.put(PART, &Left { told: self.told.clone(), writer })
    }

    /// Goes on with what was left.
    pub(crate) fn adopt(inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let Left { told, writer } = inheritance.needed(PART)?;
        let writer = writer.map(|Writer { worker, generation }| (worker, generation));
        Ok(Self { told, writer, sweeper: Sweeper::default() })
    }

    /// Whether people are to be told why a worker has none: what is wrong with one is wrong with the next one.
    pub(crate) fn is_news(&mut self, reason: &str) -> bool {
        let is_news = self.told.as_deref() != Some(reason);
        if is_news {
            self.told = Some(reason.to_owned());
        }
        is_news
    }

    /// Whether a worker that is about to be started writes what it compiles, before it listens: that takes a while. Workers that are
    /// started together compile the same, so the first of them does it, and another one if that has ended before. What only
    /// others have is written when they exit.
    pub(crate) fn is_to_write(
        &mut self,
        worker: WorkerId,
        generation: u64,
        lives: impl FnOnce(WorkerId) -> bool,
    ) -> bool {
        let is_awaited = self.writer.is_some_and(|(writer, of)| of == generation && lives(writer));
        if !is_awaited {
            self.writer = Some((worker, generation));
        }
        !is_awaited
    }

    /// A worker has loaded its application; whether it was the one that writes.
    pub(crate) fn has_loaded(&mut self, worker: WorkerId) -> bool {
        self.writer.take_if(|(writer, _)| *writer == worker).is_some()
    }

    /// Cleans up what workers of this program have written.
    pub(crate) fn sweep(&self, program: Option<&ResolvedProgram>) {
        if let Some(cache) = program.and_then(|program| program.compile_cache.clone()) {
            self.sweeper.begin(cache);
        }
    }
}

/// What a worker has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Milestone {
    BecameReady,
    Listens,
}

/// Whether a worker has loaded its application by then. One that counts as ready when it runs has not loaded anything.
pub(crate) fn has_loaded(ready_when: ReadyWhen, milestone: Milestone) -> bool {
    match milestone {
        Milestone::BecameReady => ready_when != ReadyWhen::Started,
        Milestone::Listens => ready_when == ReadyWhen::Started,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reason_is_told_once() {
        let mut caches = Caches::default();
        assert_eq!(
            ["full", "full", "foreign", "full"].map(|reason| caches.is_news(reason)),
            [true, false, true, true]
        );
    }

    #[test]
    fn of_workers_that_are_started_together_one_writes() {
        let mut caches = Caches::default();
        let [one, two, three, four] = [1, 2, 3, 4].map(WorkerId::from_number);
        assert!(caches.is_to_write(one, 1, |_| true));
        assert!(!caches.is_to_write(two, 1, |writer| writer == one));
        assert!(!caches.has_loaded(two) && caches.has_loaded(one) && !caches.has_loaded(one));
        assert!(caches.is_to_write(three, 1, |_| true), "it has read what was written");
        assert!(caches.is_to_write(four, 1, |_| false), "that one has ended");
        assert!(!caches.has_loaded(three) && caches.has_loaded(four));
    }

    #[test]
    fn a_new_generation_runs_other_code() {
        let mut caches = Caches::default();
        let [one, two, three] = [1, 2, 3].map(WorkerId::from_number);
        assert!(caches.is_to_write(one, 1, |_| true));
        assert!(caches.is_to_write(two, 2, |_| true));
        assert!(!caches.is_to_write(three, 2, |_| true));
        assert!(!caches.has_loaded(one) && caches.has_loaded(two));
    }

    #[test]
    fn what_has_been_compiled_is_written_once_for_each_way_to_be_ready() {
        for ready_when in [ReadyWhen::Listening, ReadyWhen::Started, ReadyWhen::Ready, ReadyWhen::Notify] {
            let at = [Milestone::BecameReady, Milestone::Listens]
                .map(|milestone| has_loaded(ready_when, milestone));
            assert_ne!(at[0], at[1], "{ready_when:?}");
        }
        assert!(has_loaded(ReadyWhen::Started, Milestone::Listens));
    }
}
