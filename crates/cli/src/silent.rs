//! A file system that does not answer, such as one whose server is gone, keeps whoever asks it for ever, and signals as well. Before
//! a cluster runs nobody would say why nothing happens.

use std::fmt::Display;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::error::Error;

/// How long it may take.
const LONGEST: Duration = Duration::from_secs(10);

/// Ends the process with an error if what is done now, which asks file systems, takes too long. It is done when this is dropped.
#[must_use]
pub(crate) fn watch(json: bool, what: impl Display) -> Sender<()> {
    let what = what.to_string();
    let (asks, done) = channel();
    let watch = move || {
        if done.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
            Error::Silent { what, seconds: LONGEST.as_secs() }.report(json).exit();
        }
    };
    // Where no thread can be had, nobody watches.
    let _ = thread::Builder::new().name("recluster-silent".to_owned()).spawn(watch);
    asks
}
