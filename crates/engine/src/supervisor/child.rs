//! One worker as the supervisor knows it: its [`Process`], and what has been seen and heard of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use recluster_core::{Generation, SlotId, WorkerId};
use recluster_wire::env::NodeDrain;
use recluster_wire::node;
use tokio::task::JoinHandle;

use crate::process::Process;
use crate::process::program::{NodeKind, ResolvedProgram};
use crate::process::sd_notify;
use crate::report::worker::{Held, Worker};

/// A worker that lives, or whose end has not been dealt with yet.
#[derive(Debug)]
pub(crate) struct Child {
    /// The number that people know it by.
    pub(crate) number: u64,
    pub(crate) slot: SlotId,
    pub(crate) generation: Generation,
    pub(crate) process: Process,
    pub(crate) seen: Seen,
    /// It drains. It may fall silent, and need not pass checks any more: its drain has a deadline of its own.
    pub(crate) leaving: bool,
    pub(crate) channel_use: ChannelUse,
    /// What its preload was told, if it has loaded it.
    pub(crate) preload: Option<NodeDrain>,
    /// What it still had when it last told, in its drain.
    pub(crate) held: Option<node::Held>,
    /// What it says that it does.
    pub(crate) status: Option<String>,
    /// How long it may be silent.
    pub(crate) watchdog: Option<Duration>,
    /// It was silent for too long, and is being ended.
    pub(crate) hung: bool,
    /// Whether it has been silent for too long already, as far as is known.
    pub(crate) watch: WatchState,
    /// How many notifications were ignored: they came from another process, or made no sense.
    pub(crate) notify_ignored: u64,
    /// Where it alone listens, for its checks.
    pub(crate) own_listener: Option<SocketAddr>,
    pub(crate) check: Option<CheckTask>,
    /// Why its check did not pass the last time, before it ever did.
    pub(crate) check_failure: Option<String>,
    /// Hears its notifications. Dropping this ends the listening.
    pub(crate) notify: Option<sd_notify::Listening>,
}

impl Child {
    /// A worker that has just been started.
    pub(crate) fn new(
        number: u64,
        slot: SlotId,
        generation: Generation,
        process: Process,
        channel_use: ChannelUse,
    ) -> Self {
        Self {
            number,
            slot,
            generation,
            process,
            seen: Seen::default(),
            leaving: false,
            channel_use,
            preload: None,
            held: None,
            status: None,
            watchdog: None,
            hung: false,
            watch: WatchState::Trusted,
            notify_ignored: 0,
            own_listener: None,
            check: None,
            check_failure: None,
            notify: None,
        }
    }

    /// What people are told of it.
    pub(crate) fn about(&self) -> Worker {
        Worker {
            id: self.number,
            slot: self.slot.get(),
            generation: self.generation.get(),
            pid: Some(self.pid().unsigned_abs()),
        }
    }

    /// The number of its process, and of its process group.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid.as_raw_nonzero().get()
    }

    /// What it last told that it still has.
    pub(crate) fn held(&self) -> Option<Held> {
        let held = self.held?;
        Some(Held { connections: held.connections, upgraded: held.upgraded, requests: held.requests })
    }
}

/// What a worker makes of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelUse {
    /// It may not know that it has one, and close it like any other descriptor.
    Unproven,
    /// It reads and writes there, but does not understand a drain: it is told to go by a signal.
    DeafToDrains,
    /// It reads and writes there, and understands a drain.
    Full,
}

impl ChannelUse {
    /// What a worker that runs this program is expected to make of it.
    pub(crate) fn of(program: &ResolvedProgram) -> Self {
        match program.node_kind() {
            Some(NodeKind::Node | NodeKind::Deno) => Self::Full,
            Some(NodeKind::Bun) => Self::DeafToDrains,
            None => Self::Unproven,
        }
    }
}

/// Whether a worker is believed to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchState {
    /// It said so in time.
    Trusted,
    /// It did not, or its word is not read yet.
    Doubted,
}

/// A worker's checks; they end with this.
#[derive(Debug)]
pub(crate) struct CheckTask(JoinHandle<()>);

impl From<JoinHandle<()>> for CheckTask {
    fn from(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for CheckTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What was seen of a worker so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Its first word.
    pub(crate) online: bool,
    /// A server that listens.
    pub(crate) listening: bool,
    /// Whatever makes it ready.
    pub(crate) ready: bool,
}

/// A worker that is gone, for the verdict that names it.
#[derive(Clone, Debug)]
pub(crate) struct DeadWorker {
    pub(crate) worker: Worker,
    pub(crate) stderr: Vec<String>,
    pub(crate) seen: Seen,
    /// Why its process could not be started, if that is what became of it.
    pub(crate) spawn_error: Option<String>,
    /// How its check failed the last time, if it never passed.
    pub(crate) check_failure: Option<String>,
}

/// Gives workers the numbers that people know them by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbering(Option<Arc<AtomicU64>>);

impl Numbering {
    /// Counts on from the last number that was given, which others count on as well.
    pub(crate) fn shared(last: Arc<AtomicU64>) -> Self {
        Self(Some(last))
    }

    /// The number of a worker that is about to be started.
    pub(crate) fn next(&self, worker: WorkerId) -> u64 {
        self.0.as_ref().map_or(worker.get(), |last| last.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shared_where_they_are_to_be() {
        let last = Arc::new(AtomicU64::new(4));
        let (one, other) = (Numbering::shared(Arc::clone(&last)), Numbering::shared(Arc::clone(&last)));
        let numbers = [one.next(WorkerId::from_number(1)), other.next(WorkerId::from_number(1))];
        assert_eq!(numbers, [5, 6]);
        assert_eq!(Numbering::default().next(WorkerId::from_number(9)), 9);
    }
}
