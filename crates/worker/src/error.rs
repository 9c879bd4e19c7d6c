//! What can go wrong between a worker and its master.

use std::io;
use std::sync::Arc;

use recluster_wire::NotJson;

/// Why a call failed.
///
/// It converts into [`io::Error`], so that `?` works where a function returns [`io::Result`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is neither an address nor a possible name of a socket.
    #[error("'{0}' is no address: write 8080, 127.0.0.1:8080, [::1]:8080 or NAME=ADDRESS")]
    NoAddress(String),
    /// A socket was asked for by its name alone, and the process was started without one of that name and kind.
    #[error("no socket named '{0}' was passed to this process")]
    NoSocket(String),
    /// The system refuses to listen there.
    #[error("failed to listen on {address}: {error}")]
    Listen {
        /// The address as it was asked for.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// The master passes connections on one by one, which this crate does not take: it needs the socket itself.
    #[error("the master does not share the socket of {0}")]
    NotShared(String),
    /// The master did not answer within [`ANSWER_WITHIN`](crate::ANSWER_WITHIN).
    #[error("the master does not answer")]
    NoAnswer,
    /// This process has no channel to a master.
    #[error("there is no channel to a master")]
    NoMaster,
    /// The master has closed the channel, or died.
    #[error("the master is gone")]
    MasterGone,
    /// The master has begun to let this worker go, and gives it no more sockets.
    #[error("this worker is shutting down")]
    ShuttingDown,
    /// A message is not one JSON value.
    #[error("the message is {0}")]
    NotJson(#[from] NotJson),
    /// The channel or the notify socket cannot be written to.
    #[error("failed to tell the master: {0}")]
    Tell(io::Error),
    /// No signal handler, thread or descriptor is to be had.
    #[error("failed to set up what a worker needs: {0}")]
    Setup(Arc<io::Error>),
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Listen { error, .. } | Error::Tell(error) => error.kind(),
            Error::Setup(error) => error.kind(),
            Error::NoAddress(_) | Error::NotJson(_) => io::ErrorKind::InvalidInput,
            Error::NoSocket(_) => io::ErrorKind::NotFound,
            Error::NotShared(_) => io::ErrorKind::Unsupported,
            Error::NoAnswer => io::ErrorKind::TimedOut,
            Error::NoMaster => io::ErrorKind::NotConnected,
            Error::MasterGone | Error::ShuttingDown => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
