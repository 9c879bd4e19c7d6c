//! For a program that shows workers to its own users as objects, as the npm package does: it is told everything at the
//! moment it happens, in order and without loss, and says what such a program has to say.
//!
//! Ordinary embedders listen to [`Cluster::subscribe`] instead.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub use recluster_wire::env::Serialization;
pub use recluster_wire::node::{DatagramKind, HandleKind, Listening, SocketKind};
use tokio::sync::oneshot;

pub use recluster_core::Lateness;

use crate::api::builder::ClusterBuilder;
use crate::api::cluster::Cluster;
use crate::config::variable::Variables;
pub use crate::dataplane::{Handle, Misfit, Receipt};
pub use crate::guard::try_parts;
pub use crate::process::after_panic::AfterPanic;
pub use crate::process::first_thread::{FirstThread, Seat};
pub use crate::process::guard::{
    Anew, COMMAND as GUARD_COMMAND, OPTION as GUARD_OPTION, begins_anew, keep_name, keep_watch,
};
use crate::process::latest::Latest;
use crate::process::program::Program;
pub use crate::process::stdio::Stdio;
pub use crate::process::successor::{
    Around, COMMAND as REHEARSAL_COMMAND, Came, OPTION as REHEARSAL_OPTION, Rehearsed, Successor, Upgraded,
};
use crate::report::error::{Gone, ReloadError, SendError};
use crate::report::worker::Worker;
pub use crate::report::worker::addresses;
pub use crate::socket::lend::Lender;
use crate::supervisor::audience::Host;
pub use crate::supervisor::audience::{HostEvent, HostMessage};
use crate::supervisor::child::Numbering;
use crate::supervisor::input::Request;
use crate::sys;
pub use crate::upgrade::{AdoptError, Inheritance, Moment, SaveError, Saving, WayBack};

/// Has all threads of this process share one heap. To be called before there are any.
pub fn share_heap() {
    sys::share_heap();
}

/// Gives the kernel back what was needed for a moment, as at a start or a reload.
pub fn trim_heap() {
    sys::trim_heap();
}

/// What workers are started with: environment, arguments, directory, user, group and standard descriptors.
#[derive(Clone, Debug)]
pub struct Surroundings(Arc<Program>);

impl From<ClusterBuilder> for Surroundings {
    fn from(builder: ClusterBuilder) -> Self {
        Self(Arc::new(builder.draft.program))
    }
}

impl ClusterBuilder {
    /// Asks this before a worker is started, on the thread that starts them all, which waits for the answer: so it must not take
    /// long. The worker is started with what it says, or, with `None`, as its generation began. The server file, the binary of
    /// node and what was added to the environment stay those of its generation.
    #[must_use]
    pub fn latest(mut self, ask: impl Fn() -> Option<Surroundings> + Send + Sync + 'static) -> Self {
        self.latest = Some(Latest::new(move || ask().map(|Surroundings(program)| program)));
        self
    }

    /// Has this thread of the program start all processes of the cluster: its first one, where the program is to become another
    /// one under its workers. Default: a thread of the cluster's own.
    #[must_use]
    pub fn starts_on(mut self, seat: Seat) -> Self {
        self.seat = Some(seat);
        self
    }

    /// Lets another program take this one's place by `exec`. It needs a [seat](Self::starts_on) on the first thread.
    #[must_use]
    pub fn successor(mut self, successor: Successor) -> Self {
        self.successor = Some(Arc::new(successor));
        self
    }

    /// Has this process begin anew where a part of it has panicked that nothing can do without. By default its cluster ends.
    #[must_use]
    pub fn after_panic(mut self, after_panic: AfterPanic) -> Self {
        self.after_panic = Some(Arc::new(after_panic));
        self
    }

    /// Goes on with what the program before has left.
    #[must_use]
    pub fn inherits(mut self, inheritance: Option<Inheritance>) -> Self {
        self.inheritance = inheritance;
        self
    }

    /// Tells this everything, on the thread of the cluster's runtime; it must not block. Subscribers hear no messages of
    /// applications then.
    #[must_use]
    pub fn host(mut self, host: impl Fn(HostEvent) + Send + Sync + 'static) -> Self {
        self.host = Some(Host::new(host));
        self
    }

    /// Numbers workers by this counter, which holds the last number that was given: several clusters, and whoever else
    /// takes a number, share it. Default: each cluster counts from 1.
    #[must_use]
    pub fn numbering(mut self, last: Arc<AtomicU64>) -> Self {
        self.numbering = Numbering::shared(last);
        self
    }

    /// The workers' whole environment, in the place of the master's own.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.draft.program.environment = Some(variables.into_iter().collect());
        self
    }

    /// The directory that workers run in. Default the master's.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.draft.program.set_directory(directory.into());
        self
    }

    /// The user that workers run as. Default the master's.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.draft.program.privileges.uid = Some(uid);
        self
    }

    /// The group that workers run as. Default the master's.
    #[must_use]
    pub fn gid(mut self, gid: u32) -> Self {
        self.draft.program.privileges.gid = Some(gid);
        self
    }

    /// Which descriptors of this process Node workers mean by `listen({ fd })` and `bind({ fd })`, beside those that
    /// [`adopt`](Self::adopt) and [`listen`](Self::listen) number. Default none.
    #[must_use]
    pub fn lends(mut self, lender: Lender) -> Self {
        self.lender = lender;
        self
    }

    /// Whether each worker leads a process group of its own (the default), or stays in the master's. One that leads none is
    /// signalled alone, and what is sent to the master's group, as by ^C in a terminal, reaches it too.
    #[must_use]
    pub fn own_group(mut self, own_group: bool) -> Self {
        self.draft.program.own_group = own_group;
        self
    }

    /// Where workers' stdin, stdout and stderr go. Default [`Stdio::Null`], [`Stdio::Inherit`] and [`Stdio::Tail`].
    #[must_use]
    pub fn stdio(mut self, stdio: [Stdio; 3]) -> Self {
        self.draft.program.stdio = stdio;
        self
    }

    /// How messages are written on the channels of workers that are Node. Default [`Serialization::Json`].
    #[must_use]
    pub fn serialization(mut self, serialization: Serialization) -> Self {
        self.draft.program.serialization = serialization;
        self
    }

    /// The server file runs under node, whatever its ending, and finds in `process.argv` the name by which it was given, as where
    /// node is given that name.
    #[must_use]
    pub fn under_node(mut self) -> Self {
        self.draft.program.under_node = true;
        self
    }

    /// What becomes of a worker that is not ready in time. One that may go on is told of ([`Event::Late`](crate::Event::Late)).
    /// Default [`Lateness::Fails`].
    #[must_use]
    pub fn lateness(mut self, lateness: Lateness) -> Self {
        self.draft.settings.lateness = lateness;
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
        let spec = |with: ClusterBuilder| with.spec().map(|(spec, _)| Box::new(spec));
        let verdict = self.ask_reload(
            with.map(|with| spec(with).map_err(|error| error.to_string())),
            Variables::default(),
        )?;
        Ok(async move { ReloadError::unless_done(verdict.await.map_err(|_| Gone)?.verdict) })
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
        said: HostMessage,
        handle: Option<Handle>,
    ) -> Result<impl Future<Output = Result<(), SendError>> + Send + 'static, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(Request::Send { worker, said, handle, reply })?;
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

    /// Reaps children of the first thread that have ended and are none of the cluster's, as orphans are. Only for a program that has
    /// its cluster [start](ClusterBuilder::starts_on) all of its processes on that thread, and no others.
    pub fn reap_orphans(&self) -> Result<(), Gone> {
        self.tell(Request::ReapOrphans)
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
