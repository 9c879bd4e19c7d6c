//! The data plane: a thread of its own that owns listening sockets, connections on their way and the workers'
//! channels. Connections never pass the policy's loop, and a busy host program never delays them.
//!
//! The supervisor sends [`Command`]s (a worker begins, who may be given what, drain this one); the dataplane reports
//! [`Fact`]s (it listens, it is ready, its channel closed). Neither ever waits for the other, but the supervisor for a moment before it makes
//! a promise: whoever has heard that a reload is done meets no old worker.
//!
//! - `turn` is the loop: wait, read, hand over, look at the clock;
//! - `channel` carries one worker's messages and descriptors, `peer` is that worker;
//! - `node_cluster` is the primary's half of Node's cluster protocol;
//! - `listener` binds and keeps sockets, `passing` decides which worker gets a connection, and `steering` has the kernel
//!   decide it, by a program of `bpf`;
//! - `sticky` says which slot a client belongs to, `sight` who the client is by what it says, and `sorting` sees to it
//!   that the client gets there;
//! - `rescue` takes back what a dying worker had not taken.

mod balance;
mod bpf;
mod channel;
mod client_hash;
mod client_key;
mod listener;
mod messages;
mod protocol;
mod reclaim;
mod state;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::sink::Sink;

use messages::pending_limit;
pub(crate) use messages::{Admission, Command, Config, Fact, Report, Routes, Setup, Standing, Tally};
pub use messages::{Handle, Receipt};

/// How long the supervisor waits at most for the dataplane to do what it was told.
const SETTLE: Duration = Duration::from_millis(100);

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct DataPlane {
    commands: mpsc::Sender<Command>,
    waker: Arc<OwnedFd>,
}

/// The dataplane's thread ends with the supervisor, however that ends.
impl Drop for DataPlane {
    fn drop(&mut self) {
        self.tell(Command::Finish);
    }
}

impl DataPlane {
    /// Starts the thread.
    pub(crate) fn start(setup: Setup, facts: Sink<Fact>) -> io::Result<Self> {
        let waker = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (commands, inbox) = mpsc::channel();
        let turns = state::Inbox { commands: inbox, waker: Arc::clone(&waker), facts };
        let poll = state::poll(&waker)?;
        thread::Builder::new()
            .name("recluster-dataplane".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || state::run(setup, turns, poll))?;
        Ok(Self { commands, waker })
    }

    /// Waits until everything that was told before is done, or for as long as is proper.
    pub(crate) fn settle(&self) {
        let (done, settled) = mpsc::channel();
        self.tell(Command::Settle(done));
        // It takes microseconds, unless the machine has no time for the dataplane.
        let _ = settled.recv_timeout(SETTLE);
    }

    pub(crate) fn tell(&self, command: Command) {
        // Both fail only when the thread is gone, and then nobody needs the command.
        if self.commands.send(command).is_ok() {
            let _ = rustix::io::write(&self.waker, &1_u64.to_ne_bytes());
        }
    }
}
