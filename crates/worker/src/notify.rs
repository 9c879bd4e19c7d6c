//! The notify socket: words to the master by `sd_notify`.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use recluster_wire::notify::{Word, datagram};

/// How long a word may wait for a master that does not read.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Notifier {
    socket: UnixDatagram,
    master: SocketAddr,
}

impl Notifier {
    /// For the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub(crate) fn new(place: &str) -> io::Result<Self> {
        let master = match place.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(place)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, master })
    }

    pub(crate) fn say(&self, words: &[Word]) -> io::Result<()> {
        self.socket.send_to_addr(datagram(words).as_bytes(), &self.master).map(drop)
    }
}
