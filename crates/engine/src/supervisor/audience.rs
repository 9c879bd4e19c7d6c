//! Who is told what happens: whoever subscribed, and a host that shows workers to users of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use recluster_core as core;
use recluster_core::WorkerId;
use recluster_wire::node::Listening;
use rustix::process::Signal;

use crate::dataplane::{Command, Handle, Receipt};
use crate::report::event::Event;
use crate::report::worker::{Address, Worker};
use crate::supervisor::Supervisor;

/// One thing that the host is told.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "whoever shows a cluster to its users must show all of it")]
pub enum HostEvent {
    /// What subscribers hear as well, but for what has a variant of its own here.
    Event(Event),
    /// A worker's process was started.
    Spawned {
        /// The worker.
        worker: Worker,
        /// Our ends of its stdin, stdout and stderr, where these are [`Stdio::Pipe`](crate::host::Stdio::Pipe).
        stdio: [Option<OwnedFd>; 3],
    },
    /// A server in a worker listens.
    Listening {
        /// The worker.
        worker: Worker,
        /// Where, as the worker says it.
        listening: Listening,
    },
    /// A worker sent a message of its application.
    Message {
        /// The worker.
        worker: Worker,
        /// The message, as the JSON text that the worker sent.
        json: String,
        /// What came with it.
        handle: Option<Handle>,
        /// To be dropped when the message has been dealt with. While 1 MiB of a worker's messages has not been, its
        /// channel is not read.
        receipt: Receipt,
    },
    /// Another worker is the active one of a slot, or none is.
    Active {
        /// The slot.
        slot: u32,
        /// The worker.
        worker: Option<Worker>,
    },
}

/// Who is told.
pub(crate) struct Host(Box<dyn Fn(HostEvent) + Send + Sync>);

impl Host {
    pub(crate) fn new(tell: impl Fn(HostEvent) + Send + Sync + 'static) -> Self {
        Self(Box::new(tell))
    }

    pub(crate) fn tell(&self, told: HostEvent) {
        (self.0)(told);
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

/// What a host says for as long as its cluster lives.
#[derive(Debug, Default)]
pub(crate) struct Hosting {
    pub(crate) host: Option<Host>,
    /// The last number that was given to a worker.
    pub(crate) numbering: Option<Arc<AtomicU64>>,
    /// Who was active in each slot when the host was last told.
    active: BTreeMap<u32, WorkerId>,
}

impl Hosting {
    /// The number of a worker that is begun.
    pub(crate) fn number(&self, worker: WorkerId) -> u64 {
        let counter = self.numbering.as_ref();
        counter.map_or(worker.get(), |counter| counter.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Supervisor {
    /// Tells the host; without one, whoever listens.
    pub(crate) fn spawned(&self, worker: WorkerId, stdio: [Option<OwnedFd>; 3]) {
        match (&self.shell.hosting.host, self.about(worker)) {
            (Some(host), Some(worker)) => host.tell(HostEvent::Spawned { worker, stdio }),
            (None, Some(worker)) => self.emit(Event::Spawned { worker }),
            (_, None) => {}
        }
    }

    /// Tells the host, as the worker says it; without one, whoever listens.
    pub(crate) fn listening(&self, worker: WorkerId, address: Address, listening: Listening) {
        match (&self.shell.hosting.host, self.about(worker)) {
            (Some(host), Some(worker)) => host.tell(HostEvent::Listening { worker, listening }),
            (None, Some(worker)) => self.emit(Event::Listening { worker, address }),
            (_, None) => {}
        }
    }

    /// Tells the host who is active where, as far as that has changed.
    pub(crate) fn tell_who_is_active(&mut self, status: &core::Status) {
        if self.shell.hosting.host.is_none() {
            return;
        }
        let active = status.slots.iter().filter_map(|slot| Some((slot.slot.get(), slot.active?))).collect();
        let before = std::mem::replace(&mut self.shell.hosting.active, active);
        let (after, Some(host)) = (&self.shell.hosting.active, &self.shell.hosting.host) else { return };
        for &slot in before.keys().filter(|slot| !after.contains_key(slot)) {
            host.tell(HostEvent::Active { slot, worker: None });
        }
        for (&slot, &worker) in after.iter().filter(|(slot, worker)| before.get(slot) != Some(worker)) {
            host.tell(HostEvent::Active { slot, worker: self.about(worker) });
        }
    }

    /// Which worker has this number.
    pub(crate) fn numbered(&self, number: u64) -> WorkerId {
        let known = self.children.iter().find(|(_, child)| child.number == number);
        known.map_or(WorkerId::from_number(number), |(&worker, _)| worker)
    }

    /// The number of a worker, dead or alive.
    pub(crate) fn number_of(&self, worker: WorkerId) -> u64 {
        self.about(worker).map_or(worker.get(), |worker| worker.id)
    }

    pub(crate) fn signal_one(&self, number: u64, signal: i32) -> bool {
        let Some(child) = self.children.get(&self.numbered(number)) else { return false };
        match Signal::from_named_raw(signal) {
            Some(signal) => child.process.signal_alone(signal).is_ok(),
            // Zero asks whether it lives.
            None => signal == 0,
        }
    }

    /// A worker is to disconnect because its user says so.
    pub(crate) fn disconnect(&self, number: u64) {
        let worker = self.numbered(number);
        let preload = self.shell.spec.preload;
        let told = self.children.get(&worker).and_then(|child| child.preload);
        let grace = preload.filter(|_| told.is_some()).map(|preload| preload.grace(preload.timeout));
        self.dataplane.tell(Command::Disconnect { worker, grace });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shared() {
        let last = Arc::new(AtomicU64::new(4));
        let one = Hosting { numbering: Some(Arc::clone(&last)), ..Hosting::default() };
        let other = Hosting { numbering: Some(Arc::clone(&last)), ..Hosting::default() };
        let numbers = [one.number(WorkerId::from_number(1)), other.number(WorkerId::from_number(1))];
        assert_eq!(numbers, [5, 6]);
        assert_eq!(Hosting::default().number(WorkerId::from_number(9)), 9);
    }
}
