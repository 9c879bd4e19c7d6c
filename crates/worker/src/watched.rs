//! A value that threads wait on, and with the feature `tokio` tasks as well.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
    #[cfg(feature = "tokio")]
    tasks: tokio::sync::Notify,
}

impl<T> Watched<T> {
    pub(crate) fn look<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut self.lock())
    }

    /// Changes the value, and wakes all that wait for it.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        #[cfg(feature = "tokio")]
        self.tasks.notify_waiters();
        result
    }

    /// Waits until something is found in the value, or until then.
    pub(crate) fn wait<R>(
        &self,
        until: Option<Instant>,
        mut find: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let mut value = self.lock();
        loop {
            if let Some(found) = find(&mut value) {
                return Some(found);
            }
            value = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(value).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return None,
                Some(left) => {
                    self.changed.wait_timeout(value, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Waits until something is found in the value. May be dropped at any time: nothing that was found is lost.
    #[cfg(feature = "tokio")]
    pub(crate) async fn found<R>(&self, mut find: impl FnMut(&mut T) -> Option<R>) -> R {
        loop {
            // Begun before the look, so that no change falls between the two.
            let changed = self.tasks.notified();
            if let Some(found) = self.look(&mut find) {
                return found;
            }
            changed.await;
        }
    }

    /// A thread that panicked while it held the value left it whole: every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
