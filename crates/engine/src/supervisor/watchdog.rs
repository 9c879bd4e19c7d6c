//! A worker's watchdog: from when it is ready on, the worker must say again and again that it is alive. One that is silent
//! for too long is hung: it is aborted, and later killed. The policy decides whether it is replaced.
//!
//! ```text
//! trusted ──silent──▶ doubted ──still silent──▶ hung: ABRT, then KILL
//!    ▲                   │
//!    └───────heard───────┘
//! ```
//!
//! One that outlives KILL is let go: the policy starts another one in its place.

use std::time::{Duration, Instant};

use recluster_core::{Settings, WorkerId};
use serde::{Deserialize, Serialize};

use crate::supervisor::timers::{Timer, Timers};

/// How long a silent worker is doubted before it counts as hung: all that is in the queues is read meanwhile.
const DOUBT: Duration = Duration::from_millis(100);
/// A master that wakes up later than this could not listen in time: a worker then gets its whole patience again.
const LATE: Duration = Duration::from_millis(100);

/// The watchdog of one worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Watchdog {
    worker: WorkerId,
    /// How long the worker may be silent; none where it need not say anything.
    patience: Option<Duration>,
    trust: Trust,
}

/// Whether a worker is believed to be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Trust {
    /// It said so in time.
    Trusted,
    /// It did not, or its word has not been read yet. Another program trusts it anew: while this one becomes it, nobody reads.
    #[serde(rename(serialize = "trusted"))]
    Doubted,
    /// It was silent for too long, and is being ended.
    Hung,
    /// It was sent KILL.
    Killed,
}

/// What is to be done about a silent worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bite {
    /// It is hung: people are told for how long it may be silent, and it is to abort.
    Abort {
        /// How long it may be silent.
        patience: Duration,
    },
    /// It has not ended by itself, and is killed.
    Kill,
    /// Not even that has ended it: it is to be replaced.
    LetGo,
}

impl Watchdog {
    pub(crate) fn new(worker: WorkerId, patience: Option<Duration>) -> Self {
        Self { worker, patience, trust: Trust::Trusted }
    }

    /// Whose it is.
    pub(crate) fn worker(&self) -> WorkerId {
        self.worker
    }

    /// From now on the worker may be silent for so long; zero: for ever.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = Some(patience).filter(|patience| !patience.is_zero());
    }

    /// The worker is alive, and serves. It must say so again in time.
    pub(crate) fn heard(&mut self, timers: &mut Timers, now: Instant) {
        if self.is_being_ended() {
            return;
        }
        self.trust = Trust::Trusted;
        match self.patience.and_then(|patience| now.checked_add(patience)) {
            Some(at) => timers.set(Timer::Watchdog(self.worker), at),
            None => timers.clear(Timer::Watchdog(self.worker)),
        }
    }

    /// The worker drains: from now on only its deadline counts. One that is hung is still to be killed.
    pub(crate) fn leaves(&self, timers: &mut Timers) {
        if !self.is_being_ended() {
            timers.clear(Timer::Watchdog(self.worker));
        }
    }

    /// The worker's timer is due, and it is late by so much. Its word may lie in the queue still, all the more so where the
    /// master itself could not run: the worker is doubted first.
    pub(crate) fn due(
        &mut self,
        late: Duration,
        settings: &Settings,
        timers: &mut Timers,
        now: Instant,
    ) -> Option<Bite> {
        if self.trust != Trust::Trusted {
            return Some(self.bite(settings, timers, now));
        }
        self.trust = Trust::Doubted;
        let patience = self.patience.filter(|_| late > LATE).unwrap_or(DOUBT);
        if let Some(at) = now.checked_add(patience) {
            timers.set(Timer::Watchdog(self.worker), at);
        }
        None
    }

    /// The worker itself says that it hangs.
    pub(crate) fn gives_up(
        &mut self,
        settings: &Settings,
        timers: &mut Timers,
        now: Instant,
    ) -> Option<Bite> {
        (!self.is_being_ended()).then(|| self.bite(settings, timers, now))
    }

    fn is_being_ended(&self) -> bool {
        matches!(self.trust, Trust::Hung | Trust::Killed)
    }

    fn bite(&mut self, settings: &Settings, timers: &mut Timers, now: Instant) -> Bite {
        let (trust, bite, next) = match self.trust {
            Trust::Trusted | Trust::Doubted => {
                let bite = Bite::Abort { patience: self.patience.unwrap_or_default() };
                (Trust::Hung, bite, settings.kill_timeout)
            }
            Trust::Hung => (Trust::Killed, Bite::Kill, settings.end_timeout),
            Trust::Killed => return Bite::LetGo,
        };
        self.trust = trust;
        if let Some(at) = now.checked_add(next) {
            timers.set(Timer::Watchdog(self.worker), at);
        }
        bite
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const KILL_TIMEOUT: Duration = Duration::from_secs(5);
    const END_TIMEOUT: Duration = Duration::from_secs(10);
    const NOT_LATE: Duration = Duration::ZERO;

    fn settings() -> Settings {
        Settings { kill_timeout: KILL_TIMEOUT, end_timeout: END_TIMEOUT, ..Settings::default() }
    }

    /// A watchdog that has just heard its worker, the timers, and that moment.
    fn heard() -> (Watchdog, Timers, Instant) {
        let (mut timers, now) = (Timers::default(), Instant::now());
        let mut watchdog = Watchdog::new(WorkerId::from_number(1), Some(PATIENCE));
        watchdog.heard(&mut timers, now);
        assert_eq!(timers.next(), Some(now + PATIENCE));
        (watchdog, timers, now)
    }

    #[test]
    fn a_silent_worker_is_doubted_then_aborted_then_killed_then_replaced() {
        let (mut watchdog, mut timers, begin) = heard();
        let mut due = |at: Instant| {
            let (timer, late) = timers.take_due(at).unwrap();
            assert_eq!(timer, Timer::Watchdog(WorkerId::from_number(1)));
            watchdog.due(late, &settings(), &mut timers, at)
        };
        assert_eq!(due(begin + PATIENCE), None);
        assert_eq!(due(begin + PATIENCE + DOUBT), Some(Bite::Abort { patience: PATIENCE }));
        let killed = begin + PATIENCE + DOUBT + KILL_TIMEOUT;
        assert_eq!(due(killed), Some(Bite::Kill));
        assert_eq!(due(killed + END_TIMEOUT), Some(Bite::LetGo), "it could not be killed");
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_word_that_comes_while_it_is_doubted_is_in_time() {
        let (mut watchdog, mut timers, now) = heard();
        assert_eq!(watchdog.due(NOT_LATE, &settings(), &mut timers, now + PATIENCE), None);
        watchdog.heard(&mut timers, now + PATIENCE);
        assert_eq!(timers.next(), Some(now + 2 * PATIENCE));
        assert_eq!(watchdog.due(NOT_LATE, &settings(), &mut timers, now + 2 * PATIENCE), None);
    }

    #[test]
    fn one_that_another_program_has_doubted_is_doubted_anew() {
        let (mut watchdog, mut timers, begin) = heard();
        let now = begin + PATIENCE;
        assert_eq!(watchdog.due(NOT_LATE, &settings(), &mut timers, now), None);
        let left = serde_json::to_string(&watchdog).unwrap();
        let mut again: Watchdog = serde_json::from_str(&left).unwrap();
        assert_eq!(again.due(NOT_LATE, &settings(), &mut timers, now + DOUBT), None);
        let bite = again.due(NOT_LATE, &settings(), &mut timers, now + 2 * DOUBT);
        assert_eq!(bite, Some(Bite::Abort { patience: PATIENCE }));
        let hung: Watchdog = serde_json::from_str(&serde_json::to_string(&again).unwrap()).unwrap();
        assert!(hung.is_being_ended());
    }

    #[test]
    fn a_master_that_could_not_run_gives_the_whole_patience_again() {
        let (mut watchdog, mut timers, now) = heard();
        assert_eq!(watchdog.due(LATE, &settings(), &mut timers, now + PATIENCE), None);
        assert_eq!(timers.next(), Some(now + PATIENCE + DOUBT), "it could run");
        let (mut watchdog, mut timers, now) = heard();
        let late = now + PATIENCE + 2 * LATE;
        assert_eq!(watchdog.due(2 * LATE, &settings(), &mut timers, late), None);
        assert_eq!(timers.next(), Some(late + PATIENCE));
    }

    #[test]
    fn a_hung_worker_is_killed_whatever_it_says_and_though_it_leaves() {
        let (mut watchdog, mut timers, now) = heard();
        let bite = watchdog.gives_up(&settings(), &mut timers, now);
        assert_eq!(bite, Some(Bite::Abort { patience: PATIENCE }));
        assert_eq!(watchdog.gives_up(&settings(), &mut timers, now), None, "it is being ended already");
        watchdog.heard(&mut timers, now);
        watchdog.leaves(&mut timers);
        assert_eq!(timers.next(), Some(now + KILL_TIMEOUT));
        assert_eq!(watchdog.due(NOT_LATE, &settings(), &mut timers, now + KILL_TIMEOUT), Some(Bite::Kill));
    }

    #[test]
    fn a_worker_that_leaves_may_be_silent() {
        let (watchdog, mut timers, _) = heard();
        watchdog.leaves(&mut timers);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn the_worker_may_say_how_long_it_may_be_silent() {
        let (mut watchdog, mut timers, now) = heard();
        watchdog.set_patience(Duration::from_secs(1));
        watchdog.heard(&mut timers, now);
        assert_eq!(timers.next(), Some(now + Duration::from_secs(1)));
        watchdog.set_patience(Duration::ZERO);
        watchdog.heard(&mut timers, now);
        assert_eq!(timers.next(), None);
    }
}
