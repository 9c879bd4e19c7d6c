//! For a program that shows workers to its own users as objects, as the npm package does: it is told everything at the
//! moment it happens, in order and without loss, and says what such a program has to say.
//!
//! Ordinary embedders listen to [`Cluster::subscribe`] instead.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use recluster_core as core;
use recluster_core::WorkerId;
pub use recluster_wire::node::{DatagramKind, HandleKind, Listening, SocketKind};
use rustix::process::Signal;
use tokio::sync::oneshot;

use crate::api::builder::ClusterBuilder;
use crate::api::cluster::Cluster;
use crate::dataplane::Command;
pub use crate::dataplane::{Handle, Receipt};
pub use crate::process::stdio::Stdio;
use crate::report::error::{Gone, ReloadError, SendError};
use crate::report::event::{Address, Event, Worker};
use crate::supervisor::Supervisor;
use crate::supervisor::input::Request;

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
        /// Our ends of its stdin, stdout and stderr, where these are [`Stdio::Pipe`].
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

impl ClusterBuilder {
    /// Tells this everything, on the thread of the cluster's runtime; it must not block. Subscribers hear no messages of
    /// applications then.
    #[must_use]
    pub fn host(mut self, host: impl Fn(HostEvent) + Send + Sync + 'static) -> Self {
        self.hosting.host = Some(Host(Box::new(host)));
        self
    }

    /// Numbers workers by this counter, which holds the last number that was given: several clusters, and whoever else
    /// takes a number, share it. Default: each cluster counts from 1.
    #[must_use]
    pub fn numbering(mut self, last: Arc<AtomicU64>) -> Self {
        self.hosting.numbering = Some(last);
        self
    }

    /// The workers' whole environment, in the place of the master's own.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.program.environment = Some(variables.into_iter().collect());
        self
    }

    /// The directory that workers run in. Default the master's.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.program.set_directory(directory.into());
        self
    }

    /// The user that workers run as. Default the master's.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.program.uid = Some(uid);
        self
    }

    /// The group that workers run as. Default the master's.
    #[must_use]
    pub fn gid(mut self, gid: u32) -> Self {
        self.program.gid = Some(gid);
        self
    }

    /// Where workers' stdin, stdout and stderr go. Default [`Stdio::Null`], [`Stdio::Inherit`] and [`Stdio::Tail`].
    #[must_use]
    pub fn stdio(mut self, stdio: [Stdio; 3]) -> Self {
        self.program.stdio = stdio;
        self
    }

    /// The server file runs under node, whatever its ending.
    #[must_use]
    pub fn under_node(mut self) -> Self {
        self.program.under_node = true;
        self
    }

    /// A worker that is not ready in time is only told of ([`Event::Late`]), unless a reload waits for it. Default off.
    #[must_use]
    pub fn lenient(mut self, lenient: bool) -> Self {
        self.settings.lenient = lenient;
        self
    }
}

impl Cluster {
    /// Begins a reload; with a builder, to what that says ([`ClusterBuilder::reread`] tells what that can be). The reload
    /// has been asked for when this returns; what it returns waits for the verdict.
    pub fn begin_reload(
        &self,
        with: Option<ClusterBuilder>,
    ) -> Result<impl Future<Output = Result<(), ReloadError>> + Send + 'static, Gone> {
        let (reply, verdict) = oneshot::channel();
        self.tell(Request::Reload(with.map(Box::new), reply))?;
        Ok(async move { ReloadError::unless_done(verdict.await.map_err(|_| Gone)?) })
    }

    /// Every live worker, for a thread that is no runtime's. What was asked for before has been begun by then: the workers
    /// of a reload have been started, if it could begin at once.
    ///
    /// # Panics
    ///
    /// On a thread that runs tasks of a runtime.
    pub fn workers_blocking(&self) -> Result<Vec<Worker>, Gone> {
        self.ask_blocking(Request::Workers)
    }

    /// Sends a message, and a descriptor with it, to a worker's `process.on('message')`. It has been queued behind those
    /// before it when this returns; what it returns waits until it is on its way.
    pub fn post(
        &self,
        worker: u64,
        json: String,
        handle: Option<Handle>,
    ) -> Result<impl Future<Output = Result<(), SendError>> + Send + 'static, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(Request::Send { worker, json, handle, reply })?;
        Ok(async move { answer.await.map_err(|_| Gone)? })
    }

    /// Tells a Node worker to disconnect, as its user may: it closes its servers, then its channel, and is replaced then.
    /// Whoever drains it later does not say so again.
    pub fn disconnect_worker(&self, worker: u64) -> Result<(), Gone> {
        self.tell(Request::Disconnect(worker))
    }

    /// Sends a signal to a worker's process, and to no other; false if it does not live or there is no such signal. For
    /// a thread that is no runtime's.
    ///
    /// # Panics
    ///
    /// On a thread that runs tasks of a runtime.
    pub fn signal_worker(&self, worker: u64, signal: i32) -> Result<bool, Gone> {
        self.ask_blocking(|reply| Request::Signal { worker, signal, reply })
    }

    /// Supervises again after a [`release`](Self::release): workers that live keep their slots, vacant slots get new ones.
    pub fn resume(&self) -> Result<(), Gone> {
        self.tell(Request::Resume)
    }

    fn ask_blocking<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(request(reply))?;
        answer.blocking_recv().map_err(|_| Gone)
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
        let known = self.processes.iter().find(|(_, process)| process.number == number);
        known.map_or(WorkerId::from_number(number), |(&worker, _)| worker)
    }

    /// The number of a worker, dead or alive.
    pub(crate) fn number_of(&self, worker: WorkerId) -> u64 {
        self.about(worker).map_or(worker.get(), |worker| worker.id)
    }

    pub(crate) fn signal_one(&self, number: u64, signal: i32) -> bool {
        let Some(process) = self.processes.get(&self.numbered(number)) else { return false };
        match Signal::from_named_raw(signal) {
            Some(signal) => process.signal_alone(signal).is_ok(),
            // Zero asks whether it lives.
            None => signal == 0,
        }
    }

    /// A worker is to disconnect because its user says so.
    pub(crate) fn disconnect(&self, number: u64) {
        let worker = self.numbered(number);
        let preload = self.shell.conduct.preload;
        let told = self.processes.get(&worker).and_then(|process| process.preload);
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
