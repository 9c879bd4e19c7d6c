//! For unit tests: a data plane without a thread, in virtual time, and the far ends of its workers' channels.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use recluster_core::WorkerId;
use recluster_wire::env::Serialization;
use recluster_wire::node::worker::{FromPrimary, Reply};
use recluster_wire::node::{FromWorker, QueryServer, SocketKind};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::channel::{Channel, Limits, ProtocolViolation};
use super::commands::obey;
use super::connection::Connection;
use super::event_loop::{finish_turn, note, note_acceptable, note_worker};
use super::listener::Listener;
use super::messages::{Admission, Billed, Command, Config, Fact, Routes, Setup, Standing};
use super::protocol::hear;
use super::reactor::{ListenerId, Reactor};
use super::saved::{Left, save};
use super::state::State;
use super::worker::Worker;
use crate::config::balance::{Balance, PeekLimits};
use crate::config::messages::Messages;
use crate::report::worker::Address;
use crate::sink::Sink;
use crate::upgrade::Inheritance;
use crate::upgrade::envelope::Envelope;

pub(super) fn id(number: u64) -> WorkerId {
    WorkerId::from_number(number)
}

pub(super) fn reactor() -> Reactor {
    Reactor::new(&eventfd(0, EventfdFlags::NONBLOCK).unwrap()).unwrap()
}

/// A moment less.
pub(super) fn just_before(span: Duration) -> Duration {
    span.saturating_sub(Duration::from_millis(1))
}

/// A channel beside no data plane, and its far end.
pub(super) fn channel(limits: Limits) -> (Channel, FarEnd) {
    let (near, far) = FarEnd::pair();
    (Channel::new(near, limits, Serialization::Json), far)
}

/// A connection to nowhere, and its client.
pub(super) fn connection() -> (Connection, UnixStream) {
    let (near, client) = UnixStream::pair().unwrap();
    (Connection::new(near.into()), client)
}

/// A request to listen on any port of 127.0.0.1.
pub(super) fn query(seq: u64) -> QueryServer {
    QueryServer {
        seq,
        index: 0,
        address: Some("127.0.0.1".to_owned()),
        port: Some(0),
        kind: Some(SocketKind::Tcp4),
        fd: None,
        flags: 0,
        backlog: None,
        readable_all: false,
        writable_all: false,
        data: None,
    }
}

/// What a worker's process has of its channel.
pub(super) struct FarEnd {
    pub(super) socket: UnixStream,
    /// Descriptors that came with messages.
    pub(super) fds: Vec<OwnedFd>,
}

impl FarEnd {
    fn pair() -> (OwnedFd, Self) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        (near.into(), Self { socket: far, fds: Vec::new() })
    }

    pub(super) fn say(&mut self, line: &str) {
        writeln!(self.socket, "{line}").unwrap();
    }

    /// Sends a line and a descriptor with it.
    pub(super) fn send_with(&self, line: &str, fd: &impl AsFd) {
        let line = format!("{line}\n");
        let fds = [fd.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&self.socket, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::empty()).unwrap();
    }

    /// All that has come, a line each.
    pub(super) fn lines(&mut self) -> Vec<String> {
        let mut text = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let parts = &mut [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(got) if got.bytes > 0 => {
                    for message in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(fds) = message {
                            self.fds.extend(fds);
                        }
                    }
                    text.extend_from_slice(&bytes[..got.bytes]);
                }
                Ok(_) | Err(_) => break,
            }
        }
        String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
    }

    pub(super) fn messages(&mut self) -> Vec<FromPrimary> {
        self.lines().iter().map(|line| FromPrimary::parse(line.as_bytes())).collect()
    }

    /// All that has come, out of the envelopes of handles.
    fn unwrapped(&mut self) -> impl Iterator<Item = FromPrimary> {
        self.messages()
            .into_iter()
            .map(|message| if let FromPrimary::Handle(inner) = message { *inner } else { message })
    }

    /// The answers to queries that have come: to which, and with what outcome.
    pub(super) fn replies(&mut self) -> Vec<(u64, Result<(), i32>)> {
        let reply = |message| {
            let FromPrimary::Reply(Reply { ack, outcome, .. }) = message else { return None };
            Some((ack, outcome))
        };
        self.unwrapped().filter_map(reply).collect()
    }

    /// The numbers of connections that have come.
    pub(super) fn connections(&mut self) -> Vec<u64> {
        let number = |message| {
            let FromPrimary::NewConnection { seq, .. } = message else { return None };
            Some(seq)
        };
        self.unwrapped().filter_map(number).collect()
    }
}

fn config(balance: Balance) -> Config {
    let peek = PeekLimits { connections: 2, ..PeekLimits::default() };
    Config { balance, peek, workers_accept: true, is_hosted: false, messages: Messages::Heard }
}

/// What the data plane has left, without the descriptors.
fn part(text: &[u8]) -> serde_json::Value {
    Envelope::read(text).unwrap().take("dataplane").unwrap().expect("there is such a part")
}

/// A data plane without a thread. Time stands still but for [`pass`](Self::pass).
pub(super) struct Harness {
    pub(super) state: State,
    facts: mpsc::Receiver<Billed>,
    queries: u64,
}

impl Harness {
    pub(super) fn new(balance: Balance) -> Self {
        let (sender, facts) = mpsc::channel();
        let sink = Sink::new(move |fact| drop(sender.send(fact)));
        let setup = Setup::new(config(balance), &[], crate::socket::lend::Lender::default()).unwrap();
        Self { state: State::new(setup, sink, reactor()), facts, queries: 0 }
    }

    /// Another program goes on with it, as after an `exec`: what the first one had is open for as long as that does not work, and not
    /// used. What the second one would leave is the same.
    pub(super) fn inherited(self) -> Self {
        let (text, memories) = self.saved();
        let mut next = Self::new(Balance::RoundRobin);
        let mut reactor = reactor();
        reactor.now = self.state.reactor.now;
        let is_hosted = self.state.config.is_hosted;
        // The numbers are the inheritance's from here on.
        std::mem::forget((self, memories));
        let mut inheritance = Inheritance::take(Envelope::read(&text).unwrap()).unwrap();
        let left = Left::take(&mut inheritance).unwrap();
        let (sender, facts) = mpsc::channel();
        let sink = Sink::new(move |fact| drop(sender.send(fact)));
        let config = Config { is_hosted, ..config(Balance::RoundRobin) };
        let setup = Setup::new(config, &[], crate::socket::lend::Lender::default()).unwrap();
        next.state = State::build(setup, Some(left), sink, reactor).unwrap();
        next.facts = facts;
        assert_eq!(part(&next.saved().0), part(&text));
        next
    }

    /// What it leaves, and what has to stay open for that.
    fn saved(&self) -> (Vec<u8>, Vec<OwnedFd>) {
        let (saving, memories) = save(&self.state).unwrap();
        (saving.into_envelope().0.write().unwrap(), memories)
    }

    /// What is ready is noted, and acted on.
    pub(super) fn look(&mut self) {
        self.state.reactor.mark_unread(id(u64::MAX));
        let now = self.state.reactor.now;
        let ready = self.state.reactor.wait();
        self.state.reactor.now = now.max(self.state.reactor.now);
        for token in ready {
            note(&mut self.state, token);
        }
        self.turn();
    }

    /// Admits a worker that serves in this slot.
    pub(super) fn serving(&mut self, number: u64, slot: u32) -> FarEnd {
        let far = self.admitted(number, slot);
        self.set_standing(number, Some(Standing::Serving));
        far
    }

    /// Admits a worker that may be given nothing yet.
    pub(super) fn admitted(&mut self, number: u64, slot: u32) -> FarEnd {
        let (channel, far) = FarEnd::pair();
        self.obey(Command::Admit(Admission {
            worker: id(number),
            slot,
            generation: 1,
            pid: None,
            channel,
            is_node: true,
            serialization: Serialization::Json,
            answers: false,
        }));
        far
    }

    pub(super) fn set_standing(&mut self, number: u64, standing: Option<Standing>) {
        let mut routes = self.state.routes.clone();
        routes.standing.remove(&id(number));
        routes.standing.extend(standing.map(|standing| (id(number), standing)));
        self.obey(Command::Route(routes));
    }

    /// Nothing is pending any more: listeners that no worker uses may be closed.
    pub(super) fn settle(&mut self) {
        let routes = Routes { settled: true, ..self.state.routes.clone() };
        self.obey(Command::Route(routes));
    }

    pub(super) fn obey(&mut self, command: Command) {
        obey(&mut self.state, command);
    }

    /// Everything stops, and nobody keeps anything.
    pub(super) fn close_listeners(&mut self) {
        self.obey(Command::CloseListeners { kept: BTreeSet::new() });
    }

    /// A worker says something.
    pub(super) fn hear(&mut self, number: u64, message: FromWorker) {
        hear(&mut self.state, id(number), message).unwrap();
    }

    pub(super) fn violation(&mut self, number: u64, message: FromWorker) -> Option<ProtocolViolation> {
        hear(&mut self.state, id(number), message).err()
    }

    /// A worker asks for the first listener, and has the socket if it is sent one; returns the listener.
    pub(super) fn listen(&mut self, number: u64, far: &mut FarEnd) -> ListenerId {
        self.queries += 1;
        self.ask(number, far, query(self.queries))
    }

    /// The same for any listener.
    pub(super) fn ask(&mut self, number: u64, far: &mut FarEnd, query: QueryServer) -> ListenerId {
        self.hear(number, FromWorker::QueryServer(query));
        let handles = far.lines().iter().filter(|line| line.contains("NODE_HANDLE")).count();
        for _ in 0..handles {
            self.hear(number, FromWorker::HandleAck);
        }
        let server = self.state.workers[&id(number)].servers.values().max_by_key(|server| server.number);
        server.expect("the worker has a server").listener
    }

    pub(super) fn listener(&mut self, id: ListenerId) -> &mut Listener {
        self.state.listeners.get_mut(&id).expect("the listener is open")
    }

    pub(super) fn worker(&mut self, number: u64) -> &mut Worker {
        self.state.workers.get_mut(&id(number)).expect("the worker is there")
    }

    /// A client connects, and the master is told so; returns the client's end.
    pub(super) fn connect(&mut self, listener: ListenerId) -> TcpStream {
        let client = TcpStream::connect(self.address(listener)).unwrap();
        note_acceptable(&mut self.state, listener);
        client
    }

    pub(super) fn address(&mut self, listener: ListenerId) -> SocketAddr {
        let Address::Tcp(address) = self.listener(listener).address else { panic!("it is not TCP") };
        address
    }

    /// A worker's channel has something to read.
    pub(super) fn note_worker(&mut self, number: u64) {
        note_worker(&mut self.state, id(number));
    }

    /// Acts on what is due.
    pub(super) fn turn(&mut self) {
        finish_turn(&mut self.state);
    }

    /// Lets time pass, and acts on what is due then.
    pub(super) fn pass(&mut self, span: Duration) {
        self.state.reactor.now += span;
        self.turn();
    }

    /// The worker takes all connections that have come.
    pub(super) fn take(&mut self, number: u64, far: &mut FarEnd) -> usize {
        let connections = far.connections();
        for &ack in &connections {
            self.hear(number, FromWorker::HandleAck);
            self.hear(number, FromWorker::Ack { ack, accepted: true });
        }
        connections.len()
    }

    /// What was reported.
    pub(super) fn facts(&mut self) -> Vec<Fact> {
        self.billed().into_iter().map(|billed| billed.fact).collect()
    }

    /// What was reported, and not dealt with before it is dropped.
    pub(super) fn billed(&mut self) -> Vec<Billed> {
        self.facts.try_iter().collect()
    }

    /// What was reported, by its name and worker.
    pub(super) fn fact_names(&mut self) -> Vec<String> {
        let name = |fact: Fact| match fact {
            Fact::Online(id) => format!("online {}", id.get()),
            Fact::Listening(id, ..) => format!("listening {}", id.get()),
            Fact::FileRestored(path) => format!("restored {}", path.display()),
            Fact::FileLost(path, _) => format!("lost {}", path.display()),
            Fact::ListensNoMore(id) => format!("listens no more {}", id.get()),
            Fact::Closed(address) => format!("closed {address}"),
            Fact::SaidReady(id) => format!("ready {}", id.get()),
            Fact::Retiring(id) => format!("retiring {}", id.get()),
            Fact::Message { worker, .. } => format!("message {}", worker.get()),
            Fact::Sent { worker, bytes } => format!("sent {} {bytes}", worker.get()),
            Fact::Unheard { worker, kind } => format!("unheard {} {kind}", worker.get()),
            Fact::Skipped { worker, bytes, ended } => format!("skipped {} {bytes} {ended}", worker.get()),
            Fact::Held(id, _) => format!("held {}", id.get()),
            Fact::Farewell(id, _) => format!("farewell {}", id.get()),
            Fact::Stderr(id, text) => format!("stderr {} {text:?}", id.get()),
            Fact::Keeps(id, timeout) => format!("keeps {} {timeout:?}", id.get()),
            Fact::CacheOff(id, reason) => format!("cache off {} {reason}", id.get()),
            Fact::InTheWay(id, own) => format!("{own} in the way of {}", id.get()),
            Fact::CutOff(id, _) => format!("cut off {}", id.get()),
            Fact::Caveat(_) => "caveat".to_owned(),
            Fact::Disconnected { worker, finishing: false } => format!("disconnected {}", worker.get()),
            Fact::Disconnected { worker, finishing: true } => format!("finishing {}", worker.get()),
            Fact::Keep(name, _) => format!("keep {name}"),
            Fact::Forget(name) => format!("forget {name}"),
            Fact::ChannelDrained(id) => format!("drained {}", id.get()),
        };
        self.facts().into_iter().map(name).collect()
    }
}

/// A process of Python that waits on an `epoll` for connections of a socket of ours.
pub(super) struct Waiting(Child);

impl Waiting {
    /// It waits by `own.poll()`, whenever the program says so.
    pub(super) fn new(socket: &impl AsFd, program: &str) -> Self {
        let program = format!("import os, select\nown = select.epoll()\nown.register(0)\n{program}");
        let stdin = Stdio::from(socket.as_fd().try_clone_to_owned().unwrap());
        let mut command = std::process::Command::new("python3");
        let child = command.args(["-c", &program]).stdin(stdin).stdout(Stdio::piped()).spawn();
        Self(child.unwrap())
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// The next line that it prints.
    pub(super) fn says(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
