//! The dataplane's loop: wait, read, hand over, look at the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::Json;
use recluster_wire::node::ToWorker;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::balance::sticky::Peeks;
use super::channel::{Channel, Limits, ProtocolViolation, READ_BYTES, Read};
use super::listener::{Listener, ListenerId, Mode};
use super::reclaim::Reclaim;
use super::worker::{Drain, Server, TAKE_WAIT, Worker};
use super::{Admission, Command, Fact, Handle, Report, Routes, Setup, Tally};
use crate::report::error::SendError;
use crate::report::status::ListenerStatus;
use crate::sink::Sink;

/// How many ready descriptors are looked at in one turn.
const EVENTS_A_TURN: usize = 128;
/// How many reads one worker gets in one turn, so that a talkative one does not starve the others.
const READS_A_TURN: usize = 8;
/// How soon a channel is looked at again that was left unread because the supervisor has enough to do.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// How many bits say what a number is of.
const TAG_BITS: u32 = 3;
/// How many bits number the sockets of one listener: more than there can be workers.
const PLACE_BITS: u32 = 20;

/// What the dataplane's thread takes with it.
pub(super) struct Inbox {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) waker: Arc<OwnedFd>,
    pub(super) facts: Sink<Fact>,
}

/// The kernel's list of what is watched, with the supervisor's waker in it.
pub(super) fn poll(waker: &OwnedFd) -> io::Result<OwnedFd> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, waker, Token::Waker.into(), EventFlags::IN)?;
    Ok(poll)
}

/// Runs until the cluster is over.
pub(super) fn run(setup: Setup, inbox: Inbox, poll: OwnedFd) {
    let mut turns = State::new(setup, inbox, poll);
    while !turns.finished {
        turns.turn();
    }
}

/// Something that the clock will bring up again. Looking twice, or too early, does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Worker(WorkerId),
    Listener(ListenerId),
    /// A socket of a listener's group, by its place.
    Member(ListenerId, usize),
    /// Connections that are looked at.
    Peeks,
}

/// What a ready descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Waker,
    Listener(ListenerId),
    Member(ListenerId, usize),
    Worker(u64),
    Peek(u64),
}

pub(super) struct State {
    pub(super) poll: OwnedFd,
    commands: mpsc::Receiver<Command>,
    waker: Arc<OwnedFd>,
    facts: Sink<Fact>,
    pub(super) setup: Setup,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) listeners: BTreeMap<ListenerId, Listener>,
    pub(super) next_listener: ListenerId,
    /// The last word of the supervisor.
    pub(super) routes: Routes,
    /// Everything stops; no new listener, leftovers only.
    pub(super) closing: bool,
    /// Listeners that may have something for somebody.
    pub(super) dirty: BTreeSet<ListenerId>,
    /// Workers that have more to read.
    unread: BTreeSet<WorkerId>,
    timers: BTreeSet<(Instant, Timer)>,
    pub(super) scratch: Vec<u8>,
    pub(super) now: Instant,
    pub(super) peeks: Peeks,
    pub(super) tally: Tally,
    /// What people were told.
    caveats: BTreeSet<&'static str>,
    /// Who waits until this turn is over.
    settling: Vec<mpsc::Sender<()>>,
    finished: bool,
}

impl State {
    fn new(setup: Setup, inbox: Inbox, poll: OwnedFd) -> Self {
        Self {
            poll,
            commands: inbox.commands,
            waker: inbox.waker,
            facts: inbox.facts,
            setup,
            workers: BTreeMap::new(),
            listeners: BTreeMap::new(),
            next_listener: 0,
            routes: Routes::default(),
            closing: false,
            dirty: BTreeSet::new(),
            unread: BTreeSet::new(),
            timers: BTreeSet::new(),
            scratch: vec![0; READ_BYTES],
            now: Instant::now(),
            peeks: Peeks::default(),
            tally: Tally::default(),
            caveats: BTreeSet::new(),
            settling: Vec::new(),
            finished: false,
        }
    }

    fn turn(&mut self) {
        for token in self.wait() {
            match token {
                Token::Waker => self.take_commands(),
                Token::Listener(id) => self.note_acceptable(id),
                Token::Member(id, place) => self.note_member(id, place),
                Token::Worker(number) => self.note_peer(number),
                Token::Peek(number) => self.note_peek(number),
            }
        }
        for worker in std::mem::take(&mut self.unread) {
            self.read_peer(worker);
        }
        self.look_at_the_clock();
        while let Some(id) = self.dirty.pop_first() {
            self.steer(id);
            self.dispatch(id);
        }
        for waiting in self.settling.drain(..) {
            // Whoever waits no longer does not need to know.
            let _ = waiting.send(());
        }
    }

    /// What is ready; waits no longer than the next timer.
    fn wait(&mut self) -> Vec<Token> {
        let span = if self.unread.is_empty() {
            self.timers.first().map(|(at, _)| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        // It is rounded up to whole milliseconds: waking early would only mean waking again.
        let timeout = span.and_then(|span| Timespec::try_from(span).ok());
        let mut events = Vec::with_capacity(EVENTS_A_TURN);
        // An interrupted wait has nothing to report; no other error is possible with descriptors that we own.
        let _count = epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
        self.now = Instant::now();
        events.iter().map(|event| Token::from(event.data)).collect()
    }

    fn take_commands(&mut self) {
        let _ = rustix::io::read(&self.waker, &mut [0_u8; 8]);
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(mpsc::TryRecvError::Empty) => return,
                Err(mpsc::TryRecvError::Disconnected) => {
                    self.finished = true;
                    return;
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Admit(admission) => self.admit(admission),
            Command::Route(routes) => {
                for peer in self.workers.values_mut() {
                    peer.standing = routes.standing.get(&peer.id).copied();
                }
                self.routes = routes;
                self.dirty.extend(self.listeners.keys().copied());
                self.close_unused();
            }
            Command::Drain { worker, until, grace } => self.begin_drain(worker, until, grace),
            Command::CloseListeners => self.close_for_good(),
            Command::Ended(worker) => self.bury(worker),
            Command::Disconnect { worker, grace } => self.disconnect(worker, grace),
            Command::Send { worker, json, handle, reply } => {
                // A caller that no longer waits does not need the answer.
                let _ = reply.send(self.send_message(worker, &json, handle));
            }
            Command::HandOver { worker, connection, reply } => {
                let _ = reply.send(self.hand_to(worker, &connection));
            }
            Command::Settle(done) => self.settling.push(done),
            Command::Report(reply) => {
                let _ = reply.send(self.report());
            }
            Command::Finish => self.finished = true,
        }
    }

    fn admit(&mut self, admission: Admission) {
        let Admission { worker, slot, channel: socket, is_node } = admission;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(error) = epoll::add(&self.poll, &socket, Token::Worker(worker.get()).into(), interest) {
            self.report_fact(Fact::CutOff(worker, format!("its channel cannot be watched: {error}")));
            self.report_fact(Fact::Disconnected { worker, finishing: false });
            return;
        }
        let room = if self.setup.means.is_hosted { Limits::AMPLE } else { Limits::USUAL };
        let mut peer = Worker::new(worker, slot, Channel::new(socket, room), is_node);
        peer.standing = self.routes.standing.get(&worker).copied();
        self.workers.insert(worker, peer);
    }

    fn begin_drain(&mut self, worker: WorkerId, until: Instant, grace: Option<Duration>) {
        self.let_go(worker, until, grace, true);
    }

    /// It may take what time it likes: it is its user who wants it to go.
    fn disconnect(&mut self, worker: WorkerId, grace: Option<Duration>) {
        self.let_go(worker, self.now + TAKE_WAIT, grace, false);
    }

    fn let_go(&mut self, worker: WorkerId, until: Instant, grace: Option<Duration>, says_so: bool) {
        let listeners = &self.listeners;
        let Some(peer) = self.workers.get_mut(&worker) else { return };
        let mut used = peer.servers.values().filter_map(|server| listeners.get(&server.listener));
        // When everything stops, nothing new begins on shared sockets either.
        let accepts_itself = !self.closing && used.any(|listener| listener.mode == Mode::Shared);
        let begun = if peer.drain == Drain::None {
            peer.begin_drain(self.now, until, grace, accepts_itself)
        } else {
            Ok(())
        };
        let told = begun.and_then(|()| if says_so { peer.tell_of_drain() } else { Ok(()) });
        self.dirty.extend(peer.servers.values().map(|server| server.listener));
        match told {
            Ok(()) => self.step_drain(worker),
            Err(violation) => self.cut_off(worker, &violation),
        }
    }

    /// Takes the next step of a worker's drain, or sets a timer for it.
    pub(super) fn step_drain(&mut self, worker: WorkerId) {
        let leftovers_wait = self.closing && self.listeners.values().any(Listener::has_leftovers);
        let Some(peer) = self.workers.get_mut(&worker) else { return };
        match peer.disconnect_at(leftovers_wait) {
            Some(at) if at <= self.now => {
                if let Err(violation) = peer.tell_to_disconnect() {
                    self.cut_off(worker, &violation);
                }
                self.give_up_leftovers();
            }
            Some(at) => self.set_timer(at, Timer::Worker(worker)),
            None => {}
        }
    }

    fn send_message(
        &mut self,
        worker: WorkerId,
        json: &Json,
        handle: Option<Handle>,
    ) -> Result<(), SendError> {
        let peer = self.workers.get_mut(&worker).ok_or(SendError::NoWorker(worker.get()))?;
        let sent = match handle {
            None => peer.channel.send(&ToWorker::User(json)),
            Some(Handle { kind, fd }) => peer.channel.send_handle(&ToWorker::UserHandle { kind, json }, fd),
        };
        sent.map_err(|_| SendError::Full(worker.get()))
    }

    /// Hands a connection to a worker whatever its load, on that of its servers that take connections which began to listen
    /// first.
    fn hand_to(&mut self, worker: WorkerId, connection: &OwnedFd) -> bool {
        let Some(peer) = self.workers.get_mut(&worker) else { return false };
        let is_stream =
            |server: &Server| self.listeners.get(&server.listener).is_some_and(Listener::is_stream);
        let streams = peer.servers.iter().filter(|(_, server)| is_stream(server));
        let key = streams.min_by_key(|(_, server)| server.number).map(|(key, _)| key.clone());
        key.is_some_and(|key| peer.channel.try_send_connection(&key, connection, false).is_some())
    }

    fn report(&self) -> Report {
        Report {
            listeners: self.listeners.values().map(|listener| self.balance_of(listener)).collect(),
            taken: self.workers.values().map(|peer| (peer.id, peer.connections())).collect(),
            tally: self.tally.clone(),
        }
    }

    /// Where it listens, and how connections reach workers from there.
    fn balance_of(&self, listener: &Listener) -> ListenerStatus {
        let balance = match listener.mode {
            Mode::Shared => "shared",
            Mode::RoundRobin | Mode::Kernel if self.sticky_by(listener).is_some() => "sticky",
            Mode::RoundRobin => "round-robin",
            Mode::Kernel => "kernel",
        };
        ListenerStatus { address: listener.address.to_string(), balance: balance.to_owned() }
    }

    fn note_acceptable(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.acceptable = true;
            self.dirty.insert(id);
        }
    }

    fn note_peer(&mut self, number: u64) {
        let worker = WorkerId::from_number(number);
        let Some(peer) = self.workers.get_mut(&worker) else { return };
        peer.channel.flush();
        self.dirty.extend(peer.servers.values().map(|server| server.listener));
        self.unread.insert(worker);
    }

    /// Reads what a worker says, up to its share of a turn.
    fn read_peer(&mut self, worker: WorkerId) {
        for _ in 0..READS_A_TURN {
            if self.workers.get(&worker).is_some_and(|peer| peer.backlog.is_full()) {
                self.set_timer(self.now + FULL_PAUSE, Timer::Worker(worker));
                return;
            }
            match self.read_once(worker) {
                Ok(Read::Bytes(_)) => {}
                Ok(Read::Nothing) => return,
                Ok(Read::Closed) => return self.disconnected(worker, Reclaim::Untouched),
                Err(violation) => return self.cut_off(worker, &violation),
            }
        }
        self.unread.insert(worker);
    }

    /// Reads once and handles every whole message.
    pub(super) fn read_once(&mut self, worker: WorkerId) -> Result<Read, ProtocolViolation> {
        let Some(peer) = self.workers.get_mut(&worker) else { return Ok(Read::Nothing) };
        let read = peer.channel.read(&mut self.scratch)?;
        loop {
            let Some(peer) = self.workers.get_mut(&worker) else { return Ok(Read::Nothing) };
            match peer.channel.next_message()? {
                Some(message) => self.hear(worker, message)?,
                None => return Ok(read),
            }
        }
    }

    /// The worker closed its end. Whatever it had not taken is somebody else's now.
    fn disconnected(&mut self, worker: WorkerId, rescue: Reclaim) {
        self.forget(worker, rescue);
    }

    /// The worker broke a rule that its channel rests on: close the channel, which ends a Node worker.
    pub(super) fn cut_off(&mut self, worker: WorkerId, violation: &ProtocolViolation) {
        self.report_fact(Fact::CutOff(worker, violation.to_string()));
        self.disconnected(worker, Reclaim::Nothing);
    }

    fn look_at_the_clock(&mut self) {
        while let Some(&(at, timer)) = self.timers.first() {
            if at > self.now {
                return;
            }
            self.timers.pop_first();
            match timer {
                Timer::Worker(worker) => self.revisit_peer(worker),
                Timer::Listener(id) => self.revisit_listener(id),
                Timer::Member(id, place) => self.revisit_member(id, place),
                Timer::Peeks => self.revisit_peeks(),
            }
        }
    }

    fn revisit_peer(&mut self, worker: WorkerId) {
        let Some(peer) = self.workers.get_mut(&worker) else { return };
        if peer.spared_until.is_some_and(|until| until <= self.now) {
            peer.spared_until = None;
        }
        peer.channel.flush();
        self.dirty.extend(peer.servers.values().map(|server| server.listener));
        self.unread.insert(worker);
        self.step_drain(worker);
    }

    fn revisit_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(&id) {
            if listener.paused_until.is_some_and(|until| until <= self.now) {
                listener.paused_until = None;
            }
            self.dirty.insert(id);
        }
        self.step_closing(id);
        self.close_unused();
    }

    pub(super) fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// Tells people, once, of something that the cluster cannot do.
    pub(super) fn tell_caveat(&mut self, caveat: &'static str) {
        if self.caveats.insert(caveat) {
            self.report_fact(Fact::Caveat(caveat));
        }
    }

    pub(super) fn report_fact(&self, fact: Fact) {
        self.facts.send(fact);
    }

    /// Nobody watches a socket that is about to be closed here: its description may live on elsewhere, and the kernel
    /// would go on watching that.
    pub(super) fn unwatch_listener(&self, listener: &Listener) {
        if let Some(socket) = listener.fd() {
            // It fails where the socket was never watched, because the workers accept.
            let _ = epoll::delete(&self.poll, socket);
        }
        self.unwatch_members(listener);
    }

    pub(super) fn watch_listener(&self, id: ListenerId, listener: &Listener) -> io::Result<()> {
        let Some(socket) = listener.fd() else { return Ok(()) };
        let interest = EventFlags::IN | EventFlags::ET;
        Ok(epoll::add(&self.poll, socket, Token::Listener(id).into(), interest)?)
    }
}

impl From<Token> for EventData {
    fn from(token: Token) -> Self {
        Self::new_u64(match token {
            Token::Waker => 0,
            Token::Listener(id) => id << TAG_BITS | 1,
            Token::Worker(number) => number << TAG_BITS | 2,
            Token::Member(id, place) => (id << PLACE_BITS | place as u64) << TAG_BITS | 3,
            Token::Peek(number) => number << TAG_BITS | 4,
        })
    }
}

impl From<EventData> for Token {
    fn from(data: EventData) -> Self {
        let number = data.u64() >> TAG_BITS;
        match data.u64() & ((1 << TAG_BITS) - 1) {
            1 => Self::Listener(number),
            2 => Self::Worker(number),
            3 => Self::Member(number >> PLACE_BITS, (number & ((1 << PLACE_BITS) - 1)) as usize),
            4 => Self::Peek(number),
            _ => Self::Waker,
        }
    }
}
