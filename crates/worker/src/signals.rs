//! TERM and INT as requests to shut down.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::shutdown::Latch;

/// From now on the first of these signals requests to shut down, and the second one ends the process as if it
/// had no handler.
pub(crate) fn watch(latch: Arc<Latch>) -> io::Result<()> {
    let (mut ours, handlers) = UnixStream::pair()?;
    let thread = thread::Builder::new().name("recluster-signals".into());
    thread.spawn(move || {
        // The end of the stream means that no handler was installed.
        if let Ok(1..) = ours.read(&mut [0]) {
            latch.request();
        }
    })?;
    let once = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // They run in this order, so that the first signal does not see the flag that it sets.
        flag::register_conditional_default(signal, Arc::clone(&once))?;
        flag::register(signal, Arc::clone(&once))?;
        low_level::pipe::register(signal, handlers.try_clone()?)?;
    }
    Ok(())
}
