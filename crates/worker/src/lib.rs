//! For a server that runs under recluster: its sockets, its readiness, its shutdown, and messages to and from the master.
//!
//! The same program runs alone: where there is no master it binds its sockets itself, and shuts down on TERM and INT;
//! [`ready`] and the like then do nothing.
//!
//! ```
//! use std::io::Write as _;
//!
//! fn main() -> std::io::Result<()> {
//!     let listener = recluster_worker::listen("127.0.0.1:0")?;
//!     let shutdown = recluster_worker::shutdown()?;
//!     recluster_worker::ready()?;
//! #   let client = std::net::TcpStream::connect(listener.local_addr()?)?;
//!     for connection in shutdown.incoming(&listener) {
//!         std::thread::spawn(move || connection?.write_all(b"hello\n"));
//! #       break;
//!     }
//!     Ok(()) // after TERM, or when the master lets this worker go
//! }
//! ```
//!
//! No runtime is needed, and any will do. The listeners are std's and do not block, so that a runtime takes them as they
//! are: `tokio::net::TcpListener::from_std(recluster_worker::listen("8080")?)`. The feature `tokio` adds futures beside
//! the calls that wait: `Shutdown::requested` and `Messages::recv`.
//!
//! # One master for a process
//!
//! The first call of [`listen`], [`listen_unix`], [`bind_udp`], [`shutdown`], [`ready`] or any other that needs it takes
//! over the descriptors that the environment announces (`LISTEN_FDS`, `RECLUSTER_CHANNEL_FD`), so that programs which this
//! one starts later do not inherit them, and from then on a thread listens to the master. So call one of them early
//! in `main`; nothing else may take the same descriptors. The variables stay in the environment, but do not apply
//! to another process.
//!
//! # Threads and signals
//!
//! With a channel to the master there is one thread that reads it. [`shutdown`] adds a handler for TERM and INT, and a
//! thread that waits for it; without that call no signal is touched.

#![deny(unsafe_code)]

mod address;
mod channel;
mod environment;
mod error;
mod listen;
mod messages;
mod notify;
mod shutdown;
mod signals;
mod socket;
mod sys;
#[cfg(test)]
mod tests;
mod watchdog;
mod watched;
mod worker;

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;

pub use recluster_wire::Json;

pub use channel::ANSWER_WITHIN;
pub use error::Error;
pub use messages::Messages;
pub use shutdown::{Incoming, Shutdown};
pub use watchdog::Watchdog;

use address::Kind;
use worker::{Worker, environment};

/// The slot of this worker, from 0; none without a master.
pub fn worker_id() -> Option<u32> {
    environment().slot
}

/// The generation of this worker, from 1: it counts the reloads. None without a master.
pub fn generation() -> Option<u64> {
    environment().generation
}

/// The number of slots when this worker was started; none without a master.
pub fn workers() -> Option<u32> {
    environment().workers
}

/// Whether a recluster master started this process.
pub fn is_worker() -> bool {
    environment().slot.is_some()
}

/// A TCP listener.
///
/// It is looked for in this order:
///
/// 1. among the sockets that this process was started with (`LISTEN_FDS`, as `recluster --listen` and systemd pass them):
///    the one with that name or address, once;
/// 2. at the master, if there is a channel to one: all workers that ask for the same address share one socket;
/// 3. if there is no master, it is bound here.
///
/// `address` is `8080` or `*:8080` (every address of the machine, IPv6 and IPv4), `127.0.0.1:8080`, `[::1]:8080`,
/// `localhost:8080`, the name of a socket as in `recluster --listen NAME=ADDRESS`, or `NAME=ADDRESS`: the socket of that
/// name, and where there is none, the address. Port 0 lets the kernel choose, for all workers the same.
///
/// The listener does not block ([`Shutdown::incoming`] waits for connections), and has to be left so: the socket is shared
/// with other processes, and this property with it.
///
/// Fails with [`Error::NoAddress`], [`Error::NoSocket`] for a name alone, [`Error::Listen`] with what the system says, and
/// what keeps the master from answering.
///
/// ```
/// let listener = recluster_worker::listen("http=127.0.0.1:0")?;
/// println!("{}", listener.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn listen(address: &str) -> Result<TcpListener, Error> {
    Worker::of_process()?.listen(address, Kind::Tcp).map(TcpListener::from)
}

/// A unix stream listener, by its path, or by its name as in `recluster --listen NAME=unix:PATH`.
///
/// As [`listen`] otherwise. Where there is no master, the file of a socket without a listener is replaced.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("app.sock");
/// let listener = recluster_worker::listen_unix(&path)?;
/// # std::os::unix::net::UnixStream::connect(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn listen_unix(path: impl AsRef<Path>) -> Result<UnixListener, Error> {
    Worker::of_process()?.listen_unix(path.as_ref()).map(UnixListener::from)
}

/// A UDP socket that does not block. As [`listen`] otherwise; whichever worker reads first has a datagram.
///
/// ```
/// let socket = recluster_worker::bind_udp("127.0.0.1:0")?;
/// # assert!(socket.local_addr()?.port() != 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn bind_udp(address: &str) -> Result<UdpSocket, Error> {
    Worker::of_process()?.listen(address, Kind::Udp).map(UdpSocket::from)
}

/// Reports to the master that this worker serves: by the message `{cmd: 'ready'}` where there is a channel, and by
/// `READY=1` where there is a notify socket.
/// This is what `--ready-when ready` and `--ready-when notify` wait for.
///
/// Does nothing without a master. Fails with [`Error::MasterGone`] or [`Error::Tell`].
pub fn ready() -> Result<(), Error> {
    Worker::of_process()?.ready()
}

/// Says in a few words what this worker does, for `recluster status`; 512 bytes of it are kept.
///
/// Does nothing without a notify socket. Fails with [`Error::Tell`].
///
/// ```
/// recluster_worker::status("warming its cache: 40 %")?;
/// # Ok::<(), recluster_worker::Error>(())
/// ```
pub fn status(text: &str) -> Result<(), Error> {
    Worker::of_process()?.status(text)
}

/// Asks the master to replace this worker, by the message `{cmd: 'disconnect'}` and by `STOPPING=1`. For a worker that
/// knows that it is failing. It goes on with its work as far as it can; the master asks it to shut down like any other.
///
/// Does nothing without a master. Fails with [`Error::MasterGone`] or [`Error::Tell`].
#[doc(alias = "stopping")]
pub fn replace_me() -> Result<(), Error> {
    Worker::of_process()?.replace_me()
}

/// Says when to shut down: to take no more connections, finish what is under way, and return from `main`.
///
/// That is requested by the master (the message `{cmd: 'disconnect'}`, or Node's disconnect), by the end of the channel,
/// since then the master is dead, and by TERM and INT, which this function begins to handle at its first call. The second
/// such signal ends the process at once.
///
/// Fails with [`Error::Setup`].
///
/// ```
/// use std::time::Duration;
///
/// let shutdown = recluster_worker::shutdown()?;
/// while !shutdown.wait_timeout(Duration::from_millis(1)) {
///     // one turn of the work that this program does
/// #   break;
/// }
/// # Ok::<(), recluster_worker::Error>(())
/// ```
pub fn shutdown() -> Result<Shutdown, Error> {
    let worker = Worker::of_process()?;
    worker.watch_signals()?;
    Ok(worker.shutdown())
}

/// Sends a message to the master, whose user hears it: one JSON value. Waits while the channel is full.
///
/// An object whose `cmd` begins with `NODE_` is not for users to send.
///
/// Fails with [`Error::NotJson`], [`Error::NoMaster`], [`Error::MasterGone`] or [`Error::Tell`].
///
/// ```
/// use recluster_worker::{Error, send};
///
/// assert!(matches!(send(r#"{"served": 100}"#), Err(Error::NoMaster)));
/// assert!(matches!(send("served: 100"), Err(Error::NotJson(_))));
/// ```
pub fn send(json: &str) -> Result<(), Error> {
    Worker::of_process()?.send(json)
}

/// The messages of the master's user to this worker, but for `{cmd: 'disconnect'}`, which is a request to [`shutdown`].
/// Each message goes to one of those who wait for it.
///
/// Fails with [`Error::Setup`].
///
/// ```
/// for message in recluster_worker::messages()? {
///     println!("{message}");
/// }
/// // The master is gone, or was never there.
/// # Ok::<(), recluster_worker::Error>(())
/// ```
pub fn messages() -> Result<Messages, Error> {
    Ok(Worker::of_process()?.messages())
}

/// The master's watch over this worker; none if it does not watch.
///
/// Fails with [`Error::Setup`].
pub fn watchdog() -> Result<Option<Watchdog>, Error> {
    Ok(Worker::of_process()?.watchdog())
}
