//! The compile cache of Node workers, as far as the master has to do with it: workers are told when to write it, and what
//! is too much goes.

use std::time::Instant;

use crate::config::ready::ReadyWhen;
use crate::process::compile_cache::Sweeper;
use crate::process::program::ResolvedProgram;

/// What is known of it.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    /// Why workers have none, as people were last told.
    told: Option<String>,
    sweeper: Sweeper,
    /// When a worker of this generation was told last to write what it has compiled.
    written: Option<(u64, Instant)>,
}

impl Caches {
    /// Whether people are to be told why a worker has none: what is wrong with one is wrong with the next one.
    pub(crate) fn is_news(&mut self, reason: &str) -> bool {
        let is_news = self.told.as_deref() != Some(reason);
        if is_news {
            self.told = Some(reason.to_owned());
        }
        is_news
    }

    /// Whether a worker that was started then is to write what it has compiled: it takes a while, and its requests wait. Workers
    /// that are started together compile the same, and one of them writes it. What only another one has is written when that
    /// one exits.
    pub(crate) fn is_to_write(&mut self, generation: u64, started: Instant, now: Instant) -> bool {
        let is_written = self.written.is_some_and(|(of, at)| of == generation && started < at);
        if !is_written {
            self.written = Some((generation, now));
        }
        !is_written
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
    use std::time::Duration;

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
    fn of_workers_that_were_started_together_one_writes() {
        let mut caches = Caches::default();
        let (first, second) = (1, 2);
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(caches.is_to_write(first, at(0), at(5)));
        assert!(!caches.is_to_write(first, at(1), at(6)));
        assert!(caches.is_to_write(second, at(1), at(7)), "it runs other code");
        assert!(caches.is_to_write(second, at(8), at(9)), "it has read what was written");
        assert!(!caches.is_to_write(second, at(8), at(10)));
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
