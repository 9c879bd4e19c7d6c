//! Clients by the thousand, of the control socket, the admin listener and the server. Each sends what its row says, without waiting, and is replaced by
//! another when its turn comes again.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use recluster_e2e::written;
use rustix::net::sockopt::set_socket_linger;

use crate::attack::{Attack, By};

/// How long a client tries to say more than its master takes.
const PATIENCE: Duration = Duration::from_millis(1);

/// So many clients that come and go until this is dropped.
pub(crate) struct Crowd {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What clients connect to.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    /// The control socket, or the admin listener.
    Unix(PathBuf),
    Server(SocketAddr),
}

enum Client {
    Control(UnixStream),
    Server(TcpStream),
}

impl Crowd {
    /// Each row has the same share of them. As many as are let in are there when this returns.
    pub(crate) fn gather(door: Door, rows: Vec<&'static Attack>, clients: usize, pause: Duration) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let mut there: Vec<Option<Client>> = Vec::new();
        for (n, row) in rows.iter().cycle().take(clients).enumerate() {
            // The first that is not let in is one too many.
            let Ok(client) = come(&door, row, n as u64) else { break };
            there.push(client);
        }
        there.resize_with(clients, || None);
        let thread = thread::spawn(move || {
            let rows = rows.iter().cycle();
            for (n, row) in rows.enumerate() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Some(place) = n.checked_rem(clients).and_then(|at| there.get_mut(at)) else { return };
                // The old one leaves before the new one comes.
                place.take();
                *place = come(&door, row, n as u64).ok().flatten();
                thread::sleep(pause);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic is that of the test.
            let _ = thread.join();
        }
    }
}

/// A client comes and says what it has to. None if it has left again.
fn come(door: &Door, row: &Attack, n: u64) -> io::Result<Option<Client>> {
    let mut client = match door {
        Door::Unix(path) => Client::Control(UnixStream::connect(path)?),
        Door::Server(address) => Client::Server(TcpStream::connect_timeout(address, Duration::from_secs(1))?),
    };
    for text in row.sends {
        // As much of it as is taken at once; a master that has had enough closes.
        if client.say(written(text, n).as_bytes()).is_err() {
            break;
        }
    }
    match (row.by, &client) {
        (By::Control { leaves: true } | By::Admin { leaves: true }, _) => Ok(None),
        (By::Network { resets: true }, Client::Server(stream)) => {
            set_socket_linger(stream, Some(Duration::ZERO))?;
            Ok(None)
        }
        _ => Ok(Some(client)),
    }
}

impl Client {
    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Control(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.write_all(bytes)
            }
            Self::Server(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.write_all(bytes)
            }
        }
    }
}
