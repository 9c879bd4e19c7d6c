//! What a worker is started with is what JavaScript says at that moment. So the thread that starts workers asks, by a note, and
//! waits, as long as Node's thread has time; where that is blocked, workers are started as their generation began.
//!
//! While Node's thread itself waits for the engine, nothing can change: what it said when it began to wait is the latest.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use recluster::host::Surroundings;

/// How long Node's thread may take to answer. Where it did not, nobody waits again until it has.
const PATIENCE: Duration = Duration::from_secs(3);

/// A question, and its answer.
pub(crate) struct Latest {
    patience: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// A question has not been answered.
    asked: bool,
    /// It has not been answered in time.
    silent: bool,
    /// Node's thread waits for the engine.
    held: bool,
    said: Option<Surroundings>,
}

impl Latest {
    /// One that Node's thread holds already.
    pub(crate) fn held() -> Arc<Self> {
        let latest = Self::new(PATIENCE);
        latest.state().held = true;
        Arc::new(latest)
    }

    fn new(patience: Duration) -> Self {
        Self { patience, state: Mutex::default(), changed: Condvar::new() }
    }

    /// What a worker is to be started with; none: as its generation began. Asks and waits for Node's thread.
    pub(crate) fn ask(&self, ask: impl FnOnce()) -> Option<Surroundings> {
        let mut state = self.state();
        if !state.held && !state.asked {
            state.asked = true;
            ask();
        }
        let until = Instant::now() + self.patience;
        while !state.held && state.asked {
            let left = until.saturating_duration_since(Instant::now());
            if state.silent || left.is_zero() {
                state.silent = true;
                return None;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state.said.clone()
    }

    /// Node's thread answers.
    pub(crate) fn answer(&self, said: Option<Surroundings>) {
        *self.state() = State { said, ..State::default() };
        self.changed.notify_all();
    }

    /// This is the latest until `wait`, for which Node's thread waits, has returned.
    pub(crate) fn hold<T>(&self, said: Option<Surroundings>, wait: impl FnOnce() -> T) -> T {
        *self.state() = State { said, held: true, ..State::default() };
        self.changed.notify_all();
        let waited = wait();
        self.state().held = false;
        waited
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use recluster::Cluster;

    use super::*;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(120);

    fn said() -> Surroundings {
        Cluster::builder("/srv/server.js").into()
    }

    #[test]
    fn whoever_asks_waits_for_the_answer() {
        let latest = Latest::new(LONG);
        thread::scope(|scope| {
            assert!(latest.ask(|| drop(scope.spawn(|| latest.answer(Some(said()))))).is_some());
            assert!(latest.ask(|| drop(scope.spawn(|| latest.answer(None)))).is_none());
        });
    }

    #[test]
    fn who_does_not_answer_in_time_is_neither_waited_for_nor_asked_until_it_has() {
        let latest = Latest::new(Duration::ZERO);
        assert!(latest.ask(|| ()).is_none());
        let mut asked = false;
        assert!(latest.ask(|| asked = true).is_none());
        assert!(!asked);
        latest.answer(Some(said()));
        assert!(latest.ask(|| asked = true).is_none());
        assert!(asked);
    }

    #[test]
    fn nobody_is_asked_who_waits_itself() {
        let latest = Latest::held();
        let mut asked = false;
        assert!(latest.ask(|| asked = true).is_none());
        assert!(latest.hold(Some(said()), || latest.ask(|| asked = true)).is_some());
        assert!(!asked);
    }
}
