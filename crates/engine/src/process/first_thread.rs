//! The thread of a program on which its cluster starts processes, where that is to be a certain one.

use std::fmt;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};

use crate::upgrade::WayBack;

type Work = Box<dyn FnOnce() + Send>;

/// For the first thread of a program that is to become another one by `exec` while its workers go on: children that end with
/// the thread that has started them (`PR_SET_PDEATHSIG`) outlive an `exec` only by the first one, when it is also the one that
/// calls it. All else that the program does has another thread.
#[derive(Debug)]
pub struct FirstThread(Receiver<Work>);

/// By which a cluster has the first thread start its processes ([`ClusterBuilder::starts_on`](crate::ClusterBuilder::starts_on)).
pub struct Seat(Sender<Work>);

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seat")
    }
}

impl FirstThread {
    /// The thread's side, and the cluster's.
    pub fn new() -> (Self, Seat) {
        let (sender, receiver) = mpsc::channel();
        (Self(receiver), Seat(sender))
    }

    /// Starts processes for as long as the cluster lives, or the builder that is to become one. To be called by the first thread.
    pub fn work(self) {
        self.0.iter().for_each(|work| work());
    }
}

impl Seat {
    /// One more for the same thread, which waits for both.
    #[must_use]
    pub fn another(&self) -> Self {
        Self(self.0.clone())
    }

    /// Has the thread become the program before, when it has done what it was asked to. Returns only where that cannot be, and why.
    pub fn go_back(self, way_back: WayBack, reason: String) -> String {
        let (tell, told) = mpsc::channel();
        let sent = self.take(move || drop(tell.send(way_back.go(&reason))));
        let failed = || "the first thread has ended".to_owned();
        sent.map_or_else(|error| error.to_string(), |()| told.recv().unwrap_or_else(|_| failed()))
    }

    pub(crate) fn take(self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let has_ended = |_| io::Error::other("the thread that was to start processes has ended");
        self.0.send(Box::new(work)).map_err(has_ended)
    }
}
