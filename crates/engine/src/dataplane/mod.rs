//! The data plane: a thread of its own that owns the listening sockets, the connections on their way and the workers'
//! channels. Connections never pass the supervisor's loop, and a busy host program never delays them.
//!
//! The supervisor sends [`Command`]s (a worker begins, which workers may be given what, drain this one); the data plane
//! reports [`Fact`]s (a worker listens, is ready, has closed its channel). Neither waits for the other, with two exceptions:
//! before the supervisor says that a reload is done, it waits a moment, so that from then on no connection meets an old
//! worker; and at the end it waits for the thread, so that no file of a unix socket is left.
//!
//! - `event_loop` waits for what `reactor` watches; `commands` and `reading` act on commands and on the workers' messages,
//!   which `protocol` understands (the primary's half of Node's cluster protocol). `state` has the parts that they all
//!   touch;
//! - `worker` is one worker; `channel` carries its messages and descriptors, `drain` lets it go, and `reclaim` takes back what
//!   it had not taken when it died;
//! - `application` passes on what an application says, and `interview` is what a worker says of itself; `looking` answers those who ask
//!   for all of it;
//! - `listeners` opens, closes and stops sockets; `listener` is one, and `group` the sockets of one address; `inherited` are those
//!   that were bound before any worker asked, `abandoned` those that a worker closes while it goes on, and
//!   `later` are requests to listen that wait for workers of a master that was killed, and `instead` says why one is not served as was asked for;
//! - `keeping` has a service manager keep sockets, and uses what it kept; `spares` are sockets that came back and are too many;
//! - `beside` is for two sockets whose addresses overlap, and `names` keeps the files of unix sockets in their places;
//! - `resting` stops all of it for a moment, so that another program may go on with what `saved` leaves: each part says what that is, and
//!   `passing` names it;
//! - `handover` moves one `connection` from the kernel's queue to a worker, which a file of `balance` chooses; `idle` looks
//!   whether a worker has anything to do, and `lasting` says whether connections that come are likely to last;
//! - `remains` are the sockets of a thread that has panicked, for a master that begins anew;
//! - under `sticky`, `client_key` reads who the client is from the first bytes, which `peeks` waits for, `client_hash` says
//!   which slot it belongs to, and `bpf` has the kernel compute the same.

mod abandoned;
mod application;
mod balance;
mod beside;
mod bpf;
mod channel;
pub(crate) mod client_hash;
pub(crate) mod client_key;
mod codec;
mod commands;
mod connection;
mod drain;
mod event_loop;
#[cfg(test)]
mod fixtures;
mod group;
mod handle;
mod handover;
mod idle;
mod inherited;
mod instead;
mod interview;
mod keeping;
mod lasting;
mod later;
mod listener;
mod listeners;
mod looking;
pub(crate) mod messages;
mod names;
mod passing;
mod peeks;
mod protocol;
mod reactor;
mod reading;
mod reclaim;
mod remains;
mod reports;
mod resting;
mod saved;
mod spares;
mod state;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::guard::{Panicked, attempt, guarded};
use crate::report::worker::Address;
use crate::sink::Sink;
use crate::upgrade::{SaveError, Saving};

use event_loop::Inbox;
use messages::PART;
use reactor::Reactor;
use remains::Remains;
use state::State;

pub use handle::{Handle, Misfit};
pub(crate) use instead::BY_ITSELF;
pub(crate) use keeping::stand_alone;
pub use messages::Receipt;
pub(crate) use messages::{Admission, Billed, Command, Config, Fact, Routes, Setup, Standing};
pub(crate) use saved::{Left, rehearse};

/// How long the supervisor waits at most for its commands to be carried out.
const SETTLE_WAIT: Duration = Duration::from_secs(1);

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct DataPlane {
    commands: mpsc::Sender<Command>,
    waker: Arc<OwnedFd>,
    /// None once it has ended.
    thread: Option<thread::JoinHandle<()>>,
    /// What it has left where it has panicked.
    remains: Remains,
    /// It was told something since it was last told to rest.
    is_behind: AtomicBool,
}

/// The thread ends with the supervisor, however that ends.
impl Drop for DataPlane {
    fn drop(&mut self) {
        self.finish();
    }
}

impl DataPlane {
    /// Starts the thread, which goes on with what was left if anything was. If it panics, all that it had is closed when that is told, but for
    /// [what remains](Self::remains).
    pub(crate) fn start(
        setup: Setup,
        left: Option<Left>,
        facts: Sink<Billed>,
        panicked: Sink<Panicked>,
    ) -> io::Result<Self> {
        let waker = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (commands, received) = mpsc::channel();
        let inbox = Inbox { commands: received, waker: Arc::clone(&waker) };
        let reactor = Reactor::new(&waker)?;
        let (said, built) = mpsc::channel();
        let remains = Remains::default();
        let sockets = Some(remains.clone()).filter(|_| setup.begins_anew);
        let thread = thread::Builder::new()
            .name("recluster-dataplane".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                guarded(PART, &panicked, || match State::build(setup, left, facts, reactor) {
                    Ok(mut state) => {
                        // Whoever starts it waits for this.
                        let _ = said.send(Ok(()));
                        if let Err(panic) = attempt(PART, || event_loop::run(&mut state, &inbox)) {
                            if let Some(sockets) = &sockets {
                                sockets.take(&state);
                            }
                            drop(state);
                            panicked.send(panic);
                        }
                    }
                    Err(error) => drop(said.send(Err(error))),
                });
            })?;
        let is_behind = AtomicBool::new(false);
        let dataplane = Self { commands, waker, thread: Some(thread), remains, is_behind };
        // It may have panicked.
        let built = built.recv().unwrap_or(Ok(()));
        built.map(|()| dataplane).map_err(io::Error::other)
    }

    /// Has it rest, and leave all that another program needs to go on: nothing is accepted, read or written until it is told to
    /// [go on](Self::go_on). What it has told the supervisor by then is with the supervisor. What it is told meanwhile waits; that is lost where
    /// another program begins: see [`is_behind`](Self::is_behind). Where it does not come to rest in time, it goes on.
    pub(crate) fn rest(&self, patience: Duration) -> Result<Saving, SaveError> {
        let (reply, saved) = mpsc::channel();
        self.tell(Command::Rest(reply));
        self.is_behind.store(false, Ordering::Relaxed);
        let saved = saved.recv_timeout(patience).unwrap_or_else(|_| {
            Err(SaveError::Refused(format!("{} does not come to rest within {patience:?}", PART.name)))
        });
        if saved.is_err() {
            self.go_on();
        }
        saved
    }

    /// What it would leave, for a program that only tries: it goes on meanwhile. Later commands find it as if it had not been asked.
    pub(crate) fn preview(&self, patience: Duration) -> Result<Saving, SaveError> {
        let (reply, saved) = mpsc::channel();
        self.tell(Command::Preview(reply));
        saved.recv_timeout(patience).unwrap_or_else(|_| {
            Err(SaveError::Refused(format!("{} does not answer within {patience:?}", PART.name)))
        })
    }

    /// The sockets at which clients arrive, where it has panicked and they were to stay.
    pub(crate) fn remains(&self) -> Option<Saving> {
        self.remains.saving()
    }

    /// Closes what remains: it does not begin anew.
    pub(crate) fn close_remains(&self) {
        self.remains.close();
    }

    /// Whether it was told something since it rests. It does that when it is had rest once more, or goes on.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Has it go on as if it had not rested.
    pub(crate) fn go_on(&self) {
        self.tell(Command::GoOn);
    }

    /// Waits until all earlier commands are carried out, for at most [`SETTLE_WAIT`].
    pub(crate) fn settle(&self) {
        let (done, settled) = mpsc::channel();
        self.tell(Command::Settle(done));
        // It takes microseconds, unless the machine has no time for the thread.
        let _ = settled.recv_timeout(SETTLE_WAIT);
    }

    /// What was bound for workers and none of them has asked for.
    pub(crate) fn unused(&self) -> Vec<Address> {
        let (ask, answer) = mpsc::channel();
        self.tell(Command::NameUnused(ask));
        answer.recv_timeout(SETTLE_WAIT).unwrap_or_default()
    }

    /// Ends the thread, and waits until it has closed everything: the process may exit at once afterwards, and the files of
    /// unix sockets are to be gone by then.
    pub(crate) fn finish(&mut self) {
        self.tell(Command::Finish);
        if let Some(thread) = self.thread.take() {
            // It takes one turn of its loop.
            let _ = thread.join();
        }
    }

    pub(crate) fn tell(&self, command: Command) {
        // Both fail only when the thread has ended, and then the command has no purpose.
        self.is_behind.store(true, Ordering::Relaxed);
        if self.commands.send(command).is_ok() {
            let _ = rustix::io::write(&self.waker, &1_u64.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use recluster_core::WorkerId;

    use super::*;
    use crate::config::balance::{Balance, PeekLimits};
    use crate::config::messages::Messages;
    use crate::upgrade::Inheritance;
    use crate::upgrade::envelope::Envelope;
    use recluster_wire::env::Serialization;
    use recluster_wire::node::Payload;

    /// For what takes milliseconds.
    const DEADLINE: Duration = Duration::from_secs(60);

    fn setup() -> Setup {
        let config = Config {
            balance: Balance::RoundRobin,
            peek: PeekLimits::default(),
            workers_accept: false,
            is_hosted: false,
            messages: Messages::Heard,
        };
        Setup::new(config, &[], crate::socket::lend::Lender::default()).unwrap()
    }

    /// Lets a worker say that it is online.
    fn is_online(dataplane: &DataPlane) -> UnixStream {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let admission = Admission {
            worker: WorkerId::from_number(1),
            slot: 0,
            generation: 1,
            pid: None,
            channel: near.into(),
            is_node: true,
            serialization: Serialization::Json,
            answers: false,
        };
        dataplane.tell(Command::Admit(admission));
        dataplane.settle();
        far.write_all(b"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\",\"seq\":0}\n").unwrap();
        far
    }

    #[test]
    fn a_thread_that_panics_tells_so_and_holds_nobody_up() {
        let (sender, told) = mpsc::channel();
        let told_of = Sink::new(move |panicked| drop(sender.send(panicked)));
        let facts = Sink::new(|_| panic!("the test has panicked on purpose"));
        let dataplane = DataPlane::start(setup(), None, facts, told_of).unwrap();
        let mut worker = is_online(&dataplane);
        let Panicked { part, reason, .. } = told.recv_timeout(DEADLINE).unwrap();
        assert_eq!((part, reason.as_str()), (PART, "the test has panicked on purpose"));
        assert_eq!(worker.read(&mut [0]).unwrap(), 0, "its channel is closed");
        dataplane.settle();
        assert!(dataplane.unused().is_empty());
        drop(dataplane);
    }

    #[test]
    fn the_thread_hears_workers_and_ends_with_the_supervisors_end() {
        let (sender, facts) = mpsc::channel();
        let sink = Sink::new(move |fact| drop(sender.send(fact)));
        let dataplane = DataPlane::start(setup(), None, sink, Sink::new(|_| {})).unwrap();
        let worker = WorkerId::from_number(1);
        let _far = is_online(&dataplane);
        assert!(
            matches!(facts.recv_timeout(DEADLINE), Ok(Billed { fact: Fact::Online(id), .. }) if id == worker)
        );
        drop(dataplane);
        let gone = Some(mpsc::TryRecvError::Disconnected);
        assert_eq!(facts.try_recv().err(), gone, "the thread has ended, and its sink with it");
    }

    /// A data plane, what it reports, and its only worker.
    fn with_worker() -> (DataPlane, mpsc::Receiver<Billed>, UnixStream) {
        let (sender, facts) = mpsc::channel();
        let sink = Sink::new(move |fact| drop(sender.send(fact)));
        let dataplane = DataPlane::start(setup(), None, sink, Sink::new(|_| {})).unwrap();
        let far = is_online(&dataplane);
        assert!(matches!(facts.recv_timeout(DEADLINE).unwrap().fact, Fact::Online(_)));
        (dataplane, facts, far)
    }

    const READY: &[u8] = b"{\"cmd\":\"ready\"}\n";

    fn is_ready(fact: &Fact) -> bool {
        matches!(fact, Fact::SaidReady(_))
    }

    fn send(dataplane: &DataPlane, text: &str) {
        let (reply, _) = tokio::sync::oneshot::channel();
        let said = Payload::Json(recluster_wire::Json::parse(text).unwrap());
        let worker = WorkerId::from_number(1);
        dataplane.tell(Command::Send { worker, said, handle: None, reply });
    }

    fn hears(far: &mut UnixStream, line: &str) {
        let mut bytes = vec![0; line.len()];
        far.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), line);
    }

    #[test]
    fn at_rest_nothing_is_read_nor_written_and_then_all_of_it() {
        let (dataplane, facts, mut far) = with_worker();
        for text in ["1", "2"] {
            dataplane.rest(DEADLINE).unwrap();
            assert!(!dataplane.is_behind());
            far.write_all(READY).unwrap();
            send(&dataplane, text);
            assert!(dataplane.is_behind());
            // It reads and writes in its next turn, which does not begin.
            assert!(facts.recv_timeout(Duration::from_millis(20)).is_err());
            far.set_nonblocking(true).unwrap();
            assert!(far.read(&mut [0]).is_err());
            far.set_nonblocking(false).unwrap();
            dataplane.go_on();
            hears(&mut far, &format!("{text}\n"));
            while !is_ready(&facts.recv_timeout(DEADLINE).unwrap().fact) {}
        }
    }

    #[test]
    fn what_it_would_leave_is_said_while_it_goes_on() {
        let (dataplane, facts, mut far) = with_worker();
        let preview = dataplane.preview(DEADLINE).unwrap();
        assert!(preview.into_envelope().0.see::<serde_json::Value>("dataplane").unwrap().is_some());
        far.write_all(READY).unwrap();
        while !is_ready(&facts.recv_timeout(DEADLINE).unwrap().fact) {}
    }

    #[test]
    fn what_it_is_told_at_rest_is_done_when_it_is_to_rest_once_more() {
        let (dataplane, _facts, mut far) = with_worker();
        dataplane.rest(DEADLINE).unwrap();
        send(&dataplane, "1");
        dataplane.rest(DEADLINE).unwrap();
        assert!(!dataplane.is_behind());
        hears(&mut far, "1\n");
        send(&dataplane, "2");
        // It ends at rest as well.
        drop(dataplane);
        assert_eq!(far.read(&mut [0; 8]).unwrap(), 2, "what it was told comes first");
        assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn where_it_cannot_rest_or_not_in_time_it_goes_on() {
        let (dataplane, facts, mut far) = with_worker();
        let error = dataplane.rest(Duration::ZERO).map(drop);
        dataplane.settle();
        far.write_all(READY).unwrap();
        while !is_ready(&facts.recv_timeout(DEADLINE).unwrap().fact) {}
        if let Err(error) = error {
            assert_eq!(error.to_string(), "the data plane does not come to rest within 0ns");
        }
        dataplane.tell(Command::CloseListeners { kept: std::collections::BTreeSet::new() });
        assert_eq!(dataplane.rest(DEADLINE).unwrap_err().to_string(), "everything stops");
        far.write_all(READY).unwrap();
        while !is_ready(&facts.recv_timeout(DEADLINE).unwrap().fact) {}
    }

    #[test]
    fn another_one_goes_on_with_what_it_has_left() {
        let (dataplane, _facts, mut far) = with_worker();
        far.write_all(&READY[..5]).unwrap();
        dataplane.settle();
        let text = dataplane.rest(DEADLINE).unwrap().into_envelope().0.write().unwrap();
        // What it had is the next one's from here on, and it is never told to go on.
        std::mem::forget(dataplane);
        let mut inheritance = Inheritance::take(Envelope::read(&text).unwrap()).unwrap();
        let left = Left::take(&mut inheritance).unwrap();
        assert!(Left::take(&mut inheritance).is_err(), "workers without channels are no cluster");
        let (sender, facts) = mpsc::channel();
        let sink = Sink::new(move |fact| drop(sender.send(fact)));
        let dataplane = DataPlane::start(setup(), Some(left), sink, Sink::new(|_| {})).unwrap();
        drop(inheritance);
        far.write_all(&READY[5..]).unwrap();
        while !is_ready(&facts.recv_timeout(DEADLINE).unwrap().fact) {}
        send(&dataplane, "1");
        hears(&mut far, "1\n");
        drop(dataplane);
        assert_eq!(far.read(&mut [0]).unwrap(), 0, "nobody else has the channel");
    }
}
