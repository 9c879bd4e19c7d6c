//! TERM and INT as requests to shut down.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::shutdown::Latch;

/// For so long a signal is the same request again: the kernel sends TERM for each thread of a killed master that hands the process on.
const SAME: Duration = Duration::from_millis(500);

/// From now on the first of these signals requests to shut down, and one that comes [`SAME`] later ends the process as if it
/// had no handler.
pub(crate) fn watch(latch: Arc<Latch>) -> io::Result<()> {
    let (mut ours, handlers) = UnixStream::pair()?;
    let once = Arc::new(AtomicBool::new(false));
    let insists = Arc::clone(&once);
    let thread = thread::Builder::new().name("recluster-signals".into());
    thread.spawn(move || {
        // The end of the stream means that no handler was installed.
        if let Ok(1..) = ours.read(&mut [0]) {
            latch.request();
            thread::sleep(SAME);
            insists.store(true, Ordering::Release);
        }
    })?;
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_default(signal, Arc::clone(&once))?;
        low_level::pipe::register(signal, handlers.try_clone()?)?;
    }
    Ok(())
}
