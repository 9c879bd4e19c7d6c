//! The request to shut down: made once, and seen by all threads and tasks that wait for it.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::watched::Watched;

/// How long a failed accept is left alone: out of descriptors, it would fail again at once.
const AFTER_A_FAILURE: Duration = Duration::from_millis(100);

/// Set once, and never cleared.
#[derive(Debug)]
pub(crate) struct Latch {
    requested: Watched<bool>,
    /// Readable from then on.
    bell: OwnedFd,
}

impl Latch {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { requested: Watched::default(), bell })
    }

    pub(crate) fn request(&self) {
        // It fails only when the counter of 64 bits is full.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        self.requested.change(|requested| *requested = true);
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.requested.look(|requested| *requested)
    }
}

/// Says when this program is to finish its work and exit. Cheap to clone; see [`shutdown`](crate::shutdown).
#[derive(Clone, Debug)]
pub struct Shutdown {
    latch: Arc<Latch>,
}

impl Shutdown {
    pub(crate) fn new(latch: Arc<Latch>) -> Self {
        Self { latch }
    }

    /// Whether it is requested.
    pub fn is_requested(&self) -> bool {
        self.latch.is_requested()
    }

    /// Waits until it is requested.
    pub fn wait(&self) {
        self.latch.requested.wait(None, |requested| requested.then_some(()));
    }

    /// Waits until it is requested, but no longer than this; returns whether it is.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let until = Instant::now().checked_add(timeout);
        self.latch.requested.wait(until, |requested| requested.then_some(())).is_some()
    }

    /// Waits until it is requested. To be used with any runtime; `with_graceful_shutdown` takes it as it is.
    #[cfg(feature = "tokio")]
    pub async fn requested(self) {
        self.latch.requested.found(|requested| requested.then_some(())).await;
    }

    /// Waits until there is something to read or to accept on a socket. False once shutdown is requested.
    ///
    /// Another worker may still be quicker to take what there was, so that the read or the accept which follows says
    /// [`WouldBlock`](io::ErrorKind::WouldBlock). Fails with what `poll` fails with.
    pub fn wait_readable(&self, socket: impl AsFd) -> io::Result<bool> {
        loop {
            let mut watched =
                [PollFd::new(&self.latch.bell, PollFlags::IN), PollFd::new(&socket, PollFlags::IN)];
            match poll(&mut watched, None) {
                Ok(_) => return Ok(!self.is_requested()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The connections of a listener until shutdown is requested, for servers with a thread for each.
    ///
    /// ```
    /// let listener = recluster_worker::listen("127.0.0.1:0")?;
    /// let shutdown = recluster_worker::shutdown()?;
    /// # let address = listener.local_addr()?;
    /// # let client = std::net::TcpStream::connect(address)?;
    /// for connection in shutdown.incoming(&listener) {
    ///     let connection = connection?;
    ///     std::thread::spawn(move || drop(connection));
    /// #   break;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn incoming<'a>(&self, listener: &'a TcpListener) -> Incoming<'a> {
        Incoming { shutdown: self.clone(), listener, rests: false }
    }
}

/// What [`Shutdown::incoming`] yields. An error is one connection's, or says that there are too few descriptors; then
/// the next turn comes a moment later.
#[derive(Debug)]
pub struct Incoming<'a> {
    shutdown: Shutdown,
    listener: &'a TcpListener,
    /// The last turn failed.
    rests: bool,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.rests) && self.shutdown.wait_timeout(AFTER_A_FAILURE) {
            return None;
        }
        loop {
            match self.shutdown.wait_readable(self.listener) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(self.failed(error))),
            }
            match self.listener.accept() {
                Ok((connection, _)) => return Some(Ok(connection)),
                Err(error) if is_nobody(&error) => {}
                Err(error) => return Some(Err(self.failed(error))),
            }
        }
    }
}

impl Incoming<'_> {
    fn failed(&mut self, error: io::Error) -> io::Error {
        self.rests = true;
        error
    }
}

/// The connection went to another worker, or its client has left.
fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | ConnectionAborted | Interrupted)
}
