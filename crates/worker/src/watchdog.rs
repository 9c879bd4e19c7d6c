//! The watchdog: signs of life for the master.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use recluster_wire::notify::Word;

use crate::Error;
use crate::notify::Notifier;

/// The master's watch over this worker: if it hears no [`beat`](Self::beat) within the [`timeout`](Self::timeout), the
/// worker counts as hung, and is replaced and killed.
#[derive(Clone, Debug)]
pub struct Watchdog {
    notifier: Arc<Notifier>,
    timeout: Duration,
}

impl Watchdog {
    pub(crate) fn new(notifier: Arc<Notifier>, timeout: Duration) -> Self {
        Self { notifier, timeout }
    }

    /// How long the worker may be silent. Beat twice as often.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Reports to the master that this worker is alive.
    ///
    /// Fails with [`Error::Tell`] if the master does not take it.
    pub fn beat(&self) -> Result<(), Error> {
        self.notifier.say(&[Word::WatchdogBeat]).map_err(Error::Tell)
    }

    /// Has a thread beat, twice in each timeout, whenever `healthy` returns true: for example, if the event loop has
    /// turned since the last call. A thread that beats without such a check proves nothing.
    ///
    /// The thread lives as long as the process. Fails with [`Error::Setup`] if there is none to be had.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// static TURNED: AtomicBool = AtomicBool::new(true); // set by the program's own loop
    /// if let Some(watchdog) = recluster_worker::watchdog()? {
    ///     watchdog.beat_while(|| TURNED.swap(false, Ordering::Relaxed))?;
    /// }
    /// # Ok::<(), recluster_worker::Error>(())
    /// ```
    pub fn beat_while(self, mut healthy: impl FnMut() -> bool + Send + 'static) -> Result<(), Error> {
        let watch = move || {
            loop {
                if healthy() {
                    // The next beat makes up for one that is lost, unless the master is gone.
                    let _ = self.beat();
                }
                thread::sleep(self.timeout / 2);
            }
        };
        let thread = thread::Builder::new().name("recluster-watchdog".into()).spawn(watch);
        thread.map(drop).map_err(|error| Error::Setup(Arc::new(error)))
    }
}
