//! A worker that is to be started: everything that its start needs, so that any thread can do it. A start takes as long as
//! the machine likes: it waits until the new process has become its program.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use recluster_core::WorkerId;
use recluster_wire::env::{NodeDrain, Serialization};

use crate::config::drain_signal::DrainSignal;
use crate::config::listen::Listen;
use crate::process::awaited::Awaited;
use crate::process::exit::Watch;
use crate::process::inspector::{self, Place, Ports};
use crate::process::latest::Latest;
use crate::process::program::ResolvedProgram;
use crate::process::runtime::{NodeKind, Runtime};
use crate::process::spawn::{self, SpawnOptions, Spawned};
use crate::process::{Process, sd_notify};
use crate::socket::bind::{self, Bound};

/// Whether a worker has a socket for `sd_notify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notify {
    /// It has other ways.
    Off,
    /// If there can be one.
    IfPossible,
    /// It is not started without.
    Needed,
}

/// What a worker is started with.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) worker: WorkerId,
    /// The number that people know it by.
    pub(crate) number: u64,
    pub(crate) slot: u32,
    pub(crate) generation: u64,
    /// How many slots there are.
    pub(crate) slots: u32,
    pub(crate) program: Arc<ResolvedProgram>,
    /// Who says what has changed since its generation began.
    pub(crate) latest: Option<Latest>,
    pub(crate) raw_stdio: bool,
    pub(crate) takes_stdout: bool,
    pub(crate) end_with_master: bool,
    /// The file that a Node worker loads, and the settings for it.
    pub(crate) preload: Option<(PathBuf, Option<NodeDrain>)>,
    /// What the master has bound for all workers.
    pub(crate) bound: Arc<[Bound]>,
    /// Where it gets a listener of its own.
    pub(crate) own: Option<Listen>,
    pub(crate) notify: Notify,
    pub(crate) watchdog: Option<Duration>,
    pub(crate) drain_signal: DrainSignal,
}

/// A worker's process that runs, and is not watched yet. If nobody takes it, it ends.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(super) parts: Option<Box<Parts>>,
}

/// What there is of a worker that was just started.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) process: Process,
    /// Our end of its channel.
    pub(crate) channel: OwnedFd,
    /// How messages are written on it.
    pub(crate) serialization: Serialization,
    pub(crate) watch: Watch,
    /// Our ends of its standard descriptors, where these are pipes.
    pub(crate) pipes: [Option<OwnedFd>; 3],
    pub(crate) notify: Option<sd_notify::Socket>,
    /// Where it alone listens.
    pub(crate) own: Option<SocketAddr>,
    /// How it drains by its preload, if it does.
    pub(crate) told: Option<NodeDrain>,
    /// Where it listens for a debugger.
    pub(crate) inspector: Option<Place>,
}

/// Where workers of this program are to listen for a debugger, if they are.
pub(crate) fn inspector_of(program: &ResolvedProgram) -> Option<inspector::Wanted> {
    let Runtime::Node { kind: NodeKind::Node, args, .. } = &program.runtime else { return None };
    let options = program.env.get(OsStr::new("NODE_OPTIONS"));
    inspector::wanted(options.map(OsString::as_os_str), args)
}

impl Launch {
    /// Starts it, on this thread.
    pub(crate) fn run(&self, ports: &mut Ports, open_files: Option<u64>) -> io::Result<Launched> {
        let notify = self.open_notify()?;
        let own = self.own.as_ref().map(bind::bind).transpose()?;
        let program =
            self.latest.as_ref().map_or_else(|| Arc::clone(&self.program), |latest| latest.of(&self.program));
        let inspector = self.inspector(&program, ports);
        let options = SpawnOptions {
            worker: self.worker,
            number: self.number,
            slot: self.slot,
            generation: self.generation,
            slots: self.slots,
            raw_stdio: self.raw_stdio,
            takes_stdout: self.takes_stdout,
            end_with_master: self.end_with_master,
            open_files,
            preload: self.preload.clone(),
            inspect_port: inspector.map(|place| place.port),
            sockets: self.bound.iter().chain(&own).collect(),
            notify: notify.as_ref().map(|socket| socket.path().to_owned()),
            watchdog: self.watchdog,
            drain_signal: self.drain_signal,
        };
        let Spawned { process, channel, watch, pipes } = spawn::spawn(&program, &options)?;
        if let Some(place) = inspector {
            ports.give(place.port, process.pid());
        }
        let own = own.and_then(|own| own.address.ip());
        let told = self.preload.as_ref().and_then(|(_, told)| *told);
        let serialization = program.serialization();
        Ok(Launched {
            parts: Some(Box::new(Parts {
                process,
                channel,
                serialization,
                watch,
                pipes,
                notify,
                own,
                told,
                inspector,
            })),
        })
    }

    /// Where this worker alone listens for a debugger, if it is to.
    fn inspector(&self, program: &ResolvedProgram, ports: &mut Ports) -> Option<Place> {
        ports.choose(&inspector_of(program)?, self.slot, self.slots)
    }

    fn open_notify(&self) -> io::Result<Option<sd_notify::Socket>> {
        match (self.notify, sd_notify::Socket::open) {
            (Notify::Off, _) => Ok(None),
            (Notify::IfPossible, open) => Ok(open().ok()),
            (Notify::Needed, open) => open().map(Some),
        }
    }
}

impl Launched {
    /// Nobody else reaps it from now on.
    pub(super) fn claimed(mut self, awaited: &Awaited) -> Self {
        if let Some(parts) = &mut self.parts {
            parts.process.claim(awaited);
        }
        self
    }

    /// Takes it: from now on it ends when it is told to.
    pub(crate) fn take(mut self) -> Option<Parts> {
        self.parts.take().map(|parts| *parts)
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if let Some(parts) = &mut self.parts {
            parts.process.kill_and_reap();
        }
    }
}
