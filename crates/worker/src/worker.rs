//! This process as a worker: what it was started with, and its side of the channel.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use recluster_wire::node::worker::ToPrimary;
use recluster_wire::node::{QueryServer, SocketKind};
use recluster_wire::notify::Word;
use recluster_wire::{Json, NotJson};
use socket2::{Domain, SockRef, Type};

use crate::environment::Environment;
use crate::messages::{Inbox, Messages};
use crate::notify::Notifier;
use crate::shutdown::{Latch, Shutdown};
use crate::socket::Inherited;
use crate::watchdog::Watchdog;
use crate::{Error, channel::Channel, signals, sys};

/// What the process was started with.
#[derive(Debug, Default)]
pub(crate) struct Start {
    pub(crate) sockets: Vec<Inherited>,
    pub(crate) channel: Option<UnixStream>,
    pub(crate) notifier: Option<Notifier>,
    pub(crate) watchdog: Option<Duration>,
}

/// There is one in a process; see [`Worker::of_process`].
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) channel: Option<Channel>,
    pub(crate) indices: Indices,
    inherited: Mutex<Vec<Inherited>>,
    notifier: Option<Arc<Notifier>>,
    watchdog: Option<Duration>,
    latch: Arc<Latch>,
    inbox: Arc<Inbox>,
    signals: OnceLock<Result<(), Arc<io::Error>>>,
}

impl Worker {
    /// The one of this process. The first call takes over what the environment says is there.
    pub(crate) fn of_process() -> Result<&'static Self, Error> {
        static WORKER: OnceLock<Result<Worker, Arc<io::Error>>> = OnceLock::new();
        let worker = WORKER.get_or_init(|| Self::begin(Start::inherited(environment())).map_err(Arc::new));
        worker.as_ref().map_err(|error| Error::Setup(Arc::clone(error)))
    }

    pub(crate) fn begin(start: Start) -> io::Result<Self> {
        let latch = Arc::new(Latch::new()?);
        let inbox = Arc::new(Inbox::default());
        if start.channel.is_none() {
            inbox.end();
        }
        let open = |socket| Channel::open(socket, Arc::clone(&latch), Arc::clone(&inbox));
        let channel = start.channel.map(open).transpose()?;
        Ok(Self {
            channel,
            indices: Indices::default(),
            inherited: Mutex::new(start.sockets),
            notifier: start.notifier.map(Arc::new),
            watchdog: start.watchdog,
            latch,
            inbox,
            signals: OnceLock::new(),
        })
    }

    pub(crate) fn inherited(&self) -> MutexGuard<'_, Vec<Inherited>> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ready(&self) -> Result<(), Error> {
        self.say(&ToPrimary::UserReady)?;
        self.notify(Word::Ready)
    }

    pub(crate) fn replace_me(&self) -> Result<(), Error> {
        self.say(&ToPrimary::UserDisconnect)?;
        self.notify(Word::Stopping)
    }

    pub(crate) fn status(&self, text: &str) -> Result<(), Error> {
        self.notify(Word::status(text))
    }

    pub(crate) fn send(&self, text: &str) -> Result<(), Error> {
        let message = Json::parse(text).map_err(|NotJson| Error::NotJson(NotJson))?;
        self.channel.as_ref().ok_or(Error::NoMaster)?.say(&ToPrimary::User(&message))
    }

    pub(crate) fn messages(&self) -> Messages {
        Messages::new(Arc::clone(&self.inbox))
    }

    pub(crate) fn watchdog(&self) -> Option<Watchdog> {
        let (notifier, timeout) = (self.notifier.as_ref()?, self.watchdog?);
        Some(Watchdog::new(Arc::clone(notifier), timeout))
    }

    /// Without the signals.
    pub(crate) fn shutdown(&self) -> Shutdown {
        Shutdown::new(Arc::clone(&self.latch))
    }

    pub(crate) fn watch_signals(&self) -> Result<(), Error> {
        let watch = || signals::watch(Arc::clone(&self.latch)).map_err(Arc::new);
        self.signals.get_or_init(watch).clone().map_err(Error::Setup)
    }

    fn say(&self, message: &ToPrimary<'_>) -> Result<(), Error> {
        self.channel.as_ref().map_or(Ok(()), |channel| channel.say(message))
    }

    fn notify(&self, word: Word) -> Result<(), Error> {
        self.notifier.as_ref().map_or(Ok(()), |notifier| notifier.say(&[word])).map_err(Error::Tell)
    }
}

impl Start {
    /// Takes over what the environment announces. What is not there, or is of another kind, was meant for a parent
    /// process.
    fn inherited(environment: &Environment) -> Self {
        let sockets = environment.sockets.iter().filter_map(|(number, name)| {
            let socket = sys::adopt(*number).ok()?;
            Inherited::new(name.clone(), socket)
        });
        Self {
            sockets: sockets.collect(),
            channel: environment.channel_fd.and_then(channel),
            notifier: environment.notify_socket.as_deref().and_then(|place| Notifier::new(place).ok()),
            watchdog: environment.watchdog,
        }
    }
}

fn channel(number: u32) -> Option<UnixStream> {
    let socket = sys::adopt(number).ok()?;
    let is_channel = {
        let socket = SockRef::from(&socket);
        socket.r#type().ok()? == Type::STREAM
            && socket.domain().ok()? == Domain::UNIX
            && socket.peer_addr().is_ok()
    };
    is_channel.then(|| socket.into())
}

/// The environment of this process, as it was at the first call.
pub(crate) fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(Environment::of_process)
}

/// How often each socket was asked for. The number makes every request for a random port one for a port of its own.
#[derive(Debug, Default)]
pub(crate) struct Indices {
    used: Mutex<BTreeMap<Asked, u32>>,
}

type Asked = (Option<SocketKind>, Option<String>, Option<u16>);

impl Indices {
    pub(crate) fn next(&self, query: &QueryServer) -> u32 {
        self.lock().get(&asked(query)).copied().unwrap_or(0)
    }

    pub(crate) fn used(&self, query: &QueryServer) {
        *self.lock().entry(asked(query)).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Asked, u32>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn asked(query: &QueryServer) -> Asked {
    (query.kind, query.address.clone(), query.port)
}
