//! Balance `kernel`, and `sticky` by address: one socket for each worker at one address (`SO_REUSEPORT`). The kernel
//! spreads new connections over the sockets of those who may take some, by a small program that is put in its place
//! whenever that changes (`SO_ATTACH_REUSEPORT_CBPF`); a worker accepts from its own socket without anybody's help.
//!
//! All sockets are the master's, and outlive workers. The kernel knows them by their places in the order in which they
//! began to listen, so a socket stays until its listener is closed, and a new worker takes one that no process holds any
//! more. Nobody is steered to the others, and what still comes there (a handshake that was under way) is accepted here
//! and handed over.
//!
//! A worker that is busy does not accept. When connections have waited for [`PATIENCE`] in its socket, the others are asked
//! whether their loops turn: whoever answers at once (the preload does) and has nothing to accept itself is handed one, and
//! another one when it has taken that. So nothing is given to a worker that stands still, or is as busy. Under `sticky` by address the kernel
//! chooses by that and not by chance, and nothing is taken from a busy worker.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use recluster_wire::node::ToWorker;
use rustix::event::epoll::{self, EventFlags};

use crate::dataplane::balance::round_robin::{ACCEPT_PAUSE, accept, is_passing};
use crate::dataplane::bpf::Program;
use crate::dataplane::client_hash::Table;
use crate::dataplane::listener::{Listener, ListenerId, Spot, Taker};
use crate::dataplane::state::{State, Timer, Token};
use crate::dataplane::worker::Worker;
use crate::sys::{self, Hook};

/// How long connections wait in the socket of a busy worker before an idle one is given them.
const PATIENCE: Duration = Duration::from_millis(1);

/// How long until the kernel is told again what it has refused to be told.
const ANOTHER_TRY: Duration = Duration::from_secs(1);
/// What people are told, once, when it has.
const UNSTEERED: &str = "the kernel refuses the program by which it chooses a worker's socket (net.core.optmem_max may be \
                         too low for it): new connections may wait for a moment, or reach another slot";
/// How many connections are taken from sockets that nobody is steered to, and wait here until somebody has room.
const TAKEN_OVER: usize = 8;

/// How soon an idle worker answers. One that takes longer has enough to do, and so has the machine.
const PROMPT: Duration = Duration::from_millis(1);

/// A socket of a group, at its place.
#[derive(Debug)]
pub(in crate::dataplane) struct Member {
    pub(in crate::dataplane) socket: Rc<OwnedFd>,
    /// Whose process holds a copy.
    holder: Option<WorkerId>,
    /// Something has waited in it for too long.
    overdue: bool,
    /// It will be looked at again soon.
    due: bool,
}

/// A place that the kernel may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The slot of the worker that accepts there.
    slot: u32,
    /// Its number in the group.
    number: u32,
}

/// The sockets of one listener, at their places.
#[derive(Debug)]
pub(in crate::dataplane) struct Group {
    pub(in crate::dataplane) spot: Spot,
    pub(in crate::dataplane) members: Vec<Member>,
    /// What the kernel chooses from; nothing while nobody may take connections.
    steered: Vec<Place>,
    /// The kernel has refused to be told, and is not asked again before then.
    rests_until: Option<Instant>,
}

impl Group {
    /// A group of one socket, which nobody holds yet.
    pub(in crate::dataplane) fn new(spot: Spot, first: Rc<OwnedFd>) -> Self {
        Self {
            spot,
            members: vec![Member { socket: first, holder: None, overdue: false, due: false }],
            steered: Vec::new(),
            rests_until: None,
        }
    }

    fn place_of(&self, worker: WorkerId) -> Option<usize> {
        self.members.iter().position(|member| member.holder == Some(worker))
    }

    fn attach(&self, mut program: Program) -> io::Result<()> {
        let Some(first) = self.members.first() else { return Ok(()) };
        sys::attach(first.socket.as_fd(), Hook::Group, program.instructions())
    }

    /// Where the kernel goes on as before, it may choose sockets that nobody holds any more: what comes there is taken over.
    fn forget_vacated(&mut self) {
        let Self { members, steered, .. } = self;
        steered
            .retain(|place| members.get(place.number as usize).is_some_and(|member| member.holder.is_some()));
    }

    fn is_steered(&self, place: usize) -> bool {
        self.steered.iter().any(|steered| steered.number as usize == place)
    }
}

impl State {
    /// The socket for a worker that comes to a listener: one that nobody holds, or a new one.
    pub(in crate::dataplane) fn seat(
        &mut self,
        id: ListenerId,
        worker: WorkerId,
    ) -> io::Result<Option<Rc<OwnedFd>>> {
        let Some(group) = self.listeners.get_mut(&id).and_then(|listener| listener.group.as_mut()) else {
            return Ok(None);
        };
        let vacant = group.members.iter().position(|member| member.holder.is_none());
        let place = vacant.unwrap_or(group.members.len());
        if vacant.is_none() {
            let socket = Rc::new(group.spot.listen()?);
            group.members.push(Member { socket, holder: None, overdue: false, due: false });
            self.watch_member(id, place)?;
        }
        let group = self.listeners.get_mut(&id).and_then(|listener| listener.group.as_mut());
        let member = group.and_then(|group| group.members.get_mut(place));
        Ok(member.map(|member| {
            (member.holder, member.overdue) = (Some(worker), false);
            Rc::clone(&member.socket)
        }))
    }

    /// The worker has closed its copy of a listener's socket.
    pub(in crate::dataplane) fn vacate(&mut self, id: ListenerId, worker: WorkerId) {
        let group = self.listeners.get_mut(&id).and_then(|listener| listener.group.as_mut());
        for member in group.into_iter().flat_map(|group| &mut group.members) {
            if member.holder == Some(worker) {
                member.holder = None;
            }
        }
        self.dirty.insert(id);
    }

    /// The worker's process has ended: nobody but the master holds its sockets now.
    pub(in crate::dataplane) fn unseat(&mut self, worker: WorkerId) {
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        for id in ids {
            self.vacate(id, worker);
        }
    }

    /// Has the kernel choose among those who may take connections now. Where nobody may, it goes on as before: what comes
    /// waits.
    pub(in crate::dataplane) fn steer(&mut self, id: ListenerId) {
        let places = self.places_to_take(id);
        let is_sticky = self.is_sticky(id);
        let group = self.listeners.get_mut(&id).and_then(|listener| listener.group.as_mut());
        let Some(group) = group.filter(|group| group.steered != places) else { return };
        if group.rests_until.is_none_or(|until| until <= self.now) {
            group.rests_until = None;
            let program = if is_sticky { by_client(&places) } else { at_random(&places) };
            if places.is_empty() || group.attach(program).is_ok() {
                group.steered = places;
            } else {
                let until = self.now + ANOTHER_TRY;
                group.rests_until = Some(until);
                self.set_timer(until, Timer::Listener(id));
                self.tell_caveat(UNSTEERED);
            }
        }
        let group = self.listeners.get_mut(&id).and_then(|listener| listener.group.as_mut());
        group.into_iter().for_each(Group::forget_vacated);
        self.arm_all(id);
    }

    /// The places of those who may take connections, in order.
    fn places_to_take(&self, id: ListenerId) -> Vec<Place> {
        let Some(listener) = self.listeners.get(&id) else { return Vec::new() };
        let Some(group) = &listener.group else { return Vec::new() };
        let place = |slot: u32, worker: WorkerId| {
            Some(Place { slot, number: u32::try_from(group.place_of(worker)?).ok()? })
        };
        if self.is_sticky(id) {
            return self
                .seats(listener)
                .into_iter()
                .filter_map(|(slot, worker)| place(slot, worker))
                .collect();
        }
        let may_take = self.may_take(listener);
        let takers = listener.takers.iter().filter_map(|taker| self.workers.get(&taker.worker));
        let takers = takers.filter(|peer| may_take(peer));
        let mut places: Vec<Place> = takers.filter_map(|peer| place(peer.slot, peer.id)).collect();
        places.sort_unstable();
        places
    }

    fn is_sticky(&self, id: ListenerId) -> bool {
        self.listeners.get(&id).is_some_and(|listener| self.sticky_by(listener).is_some())
    }

    /// Begins to watch a socket, for nothing yet.
    pub(in crate::dataplane) fn watch_member(&self, id: ListenerId, place: usize) -> io::Result<()> {
        let Some(socket) = self.member_socket(id, place) else { return Ok(()) };
        let token = Token::Member(id, place);
        Ok(epoll::add(&self.poll, &socket, token.into(), EventFlags::IN | EventFlags::ONESHOT)?)
    }

    /// Nobody watches sockets that are about to be closed here.
    pub(in crate::dataplane) fn unwatch_members(&self, listener: &Listener) {
        for member in listener.group.iter().flat_map(|group| &group.members) {
            // It fails for none that was watched.
            let _ = epoll::delete(&self.poll, &member.socket);
        }
    }

    /// Asks to be told of all sockets that are not to be looked at soon anyway.
    fn arm_all(&self, id: ListenerId) {
        let group = self.listeners.get(&id).and_then(|listener| listener.group.as_ref());
        for (place, member) in group.into_iter().flat_map(|group| group.members.iter().enumerate()) {
            if !member.due {
                self.arm(id, place);
            }
        }
    }

    /// Looks at a socket again when this has passed.
    fn look_again(&mut self, id: ListenerId, place: usize, span: Duration) {
        let group = self.listeners.get_mut(&id).and_then(|listener| listener.group.as_mut());
        if let Some(member) = group.and_then(|group| group.members.get_mut(place)) {
            member.due = true;
            self.set_timer(self.now + span, Timer::Member(id, place));
        }
    }

    /// Asks to be told, once, when something waits in the socket.
    fn arm(&self, id: ListenerId, place: usize) {
        if let Some(socket) = self.member_socket(id, place) {
            let token = Token::Member(id, place);
            // It is watched from its beginning, and that is all that this needs.
            let _ = epoll::modify(&self.poll, &socket, token.into(), EventFlags::IN | EventFlags::ONESHOT);
        }
    }

    fn member_socket(&self, id: ListenerId, place: usize) -> Option<Rc<OwnedFd>> {
        let group = self.listeners.get(&id)?.group.as_ref()?;
        Some(Rc::clone(&group.members.get(place)?.socket))
    }

    /// Something waits in a socket: its worker has a moment to accept it.
    pub(in crate::dataplane) fn note_member(&mut self, id: ListenerId, place: usize) {
        let group = self.listeners.get(&id).and_then(|listener| listener.group.as_ref());
        let Some(group) = group else { return };
        if !group.is_steered(place) {
            self.take_over(id, place);
        } else if !self.is_sticky(id) {
            // Else what waits there is that worker's clients', and nobody else's.
            self.look_again(id, place, PATIENCE);
        }
    }

    /// The worker has had its moment. If something still waits, the others are asked whether they can take it.
    pub(in crate::dataplane) fn revisit_member(&mut self, id: ListenerId, place: usize) {
        let Some(socket) = self.member_socket(id, place) else { return };
        // What cannot be asked is not known to wait.
        let overdue = sys::accept_queue(socket.as_fd()).is_ok_and(|waiting| waiting > 0);
        let Some(group) = self.listeners.get_mut(&id).and_then(|listener| listener.group.as_mut()) else {
            return;
        };
        let is_steered = group.is_steered(place);
        if let Some(member) = group.members.get_mut(place) {
            (member.due, member.overdue) = (false, overdue && is_steered);
        }
        if !is_steered {
            return self.take_over(id, place);
        }
        if !overdue || self.is_sticky(id) {
            return self.arm(id, place);
        }
        for worker in self.idle_beside(id, place) {
            self.ask(worker);
        }
        self.look_again(id, place, PATIENCE);
    }

    /// The other workers of a listener that seem to have nothing to do.
    fn idle_beside(&self, id: ListenerId, busy: usize) -> Vec<WorkerId> {
        let Some(listener) = self.listeners.get(&id) else { return Vec::new() };
        let takers = listener.takers.iter().map(|taker| taker.worker);
        takers
            .filter(|&worker| self.place_if_idle(listener, worker).is_some_and(|place| place != busy))
            .collect()
    }

    /// The place of a worker that may take connections and has none to take.
    fn place_if_idle(&self, listener: &Listener, worker: WorkerId) -> Option<usize> {
        let may_take = self.may_take(listener);
        let group = listener.group.as_ref()?;
        let is_free = |peer: &&Worker| may_take(peer) && peer.has_room() && peer.on_their_way.is_empty();
        let place = group.place_of(self.workers.get(&worker).filter(is_free)?.id)?;
        let waiting = sys::accept_queue(group.members.get(place)?.socket.as_fd());
        waiting.is_ok_and(|waiting| waiting == 0).then_some(place)
    }

    fn ask(&mut self, worker: WorkerId) {
        let now = self.now;
        let Some(peer) = self.workers.get_mut(&worker).filter(|peer| peer.asked.is_none()) else { return };
        peer.asked = Some(now);
        if let Err(violation) = peer.channel.send(&ToWorker::Ping) {
            self.cut_off(worker, &violation);
        }
    }

    /// The worker's loop turns.
    pub(in crate::dataplane) fn answered(&mut self, worker: WorkerId) {
        let Some(peer) = self.workers.get_mut(&worker) else { return };
        if !peer.asked.take().is_some_and(|asked| is_prompt(asked, self.now)) {
            return;
        }
        let ids: Vec<ListenerId> = peer.servers.values().map(|server| server.listener).collect();
        for id in ids {
            self.offer(id, worker);
        }
    }

    /// Gives a worker whose loop turns something that waits for a busy one, if it has nothing to take itself.
    pub(in crate::dataplane) fn offer(&mut self, id: ListenerId, worker: WorkerId) {
        let Some(listener) = self.listeners.get(&id) else { return };
        let Some(group) = listener.group.as_ref().filter(|_| !self.is_sticky(id)) else { return };
        let overdue = |own: usize| {
            let members = group.members.iter().enumerate();
            members.filter(move |(place, member)| member.overdue && *place != own).map(|(_, member)| member)
        };
        let Some(own) = self.place_if_idle(listener, worker) else { return };
        let sockets: Vec<Rc<OwnedFd>> = overdue(own).map(|member| Rc::clone(&member.socket)).collect();
        let taker = listener.takers.iter().find(|taker| taker.worker == worker).cloned();
        let Some(taker) = taker else { return };
        for socket in sockets {
            if self.steal(id, &socket, &taker) {
                return;
            }
        }
    }

    /// Hands one connection of a busy worker to an idle one; false when there is none after all.
    fn steal(&mut self, id: ListenerId, socket: &OwnedFd, taker: &Taker) -> bool {
        let connection = loop {
            match accept(socket.as_fd()) {
                Ok(connection) => break connection,
                Err(error) if is_passing(&error) => {}
                Err(_) => return false,
            }
        };
        match self.hand_over(taker, id, connection) {
            Ok(()) => self.tally.stolen += 1,
            Err(connection) => {
                self.tally.requeued += 1;
                if let Some(listener) = self.listeners.get_mut(&id) {
                    listener.waiting.push_back(connection);
                }
                self.dirty.insert(id);
            }
        }
        true
    }

    /// Takes what waits in a socket that nobody is steered to, if there is somebody to give it to.
    fn take_over(&mut self, id: ListenerId, place: usize) {
        if self.places_to_take(id).is_empty() {
            // Steering anew arms it again.
            return;
        }
        let Some(socket) = self.member_socket(id, place) else { return };
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let before = listener.waiting.len();
        let taken = take(listener, &socket, TAKEN_OVER.saturating_sub(before));
        self.tally.requeued += (listener.waiting.len() - before) as u64;
        self.dirty.insert(id);
        match taken {
            Ok(Taken::All) => self.arm(id, place),
            // What is left is safe where it is, until there is room.
            Ok(Taken::Some) => self.look_again(id, place, PATIENCE),
            Err(_) => self.look_again(id, place, ACCEPT_PAUSE),
        }
    }

    /// Takes what waits in all sockets, before they are closed.
    pub(in crate::dataplane) fn take_over_all(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let members = listener.group.as_ref().map(|group| &group.members);
        let sockets: Vec<_> = members.into_iter().flatten().map(|member| Rc::clone(&member.socket)).collect();
        for socket in sockets {
            take_all(listener, &socket);
        }
    }
}

/// Whether a worker that was asked then, or given something, and answers now, is idle.
pub(in crate::dataplane) fn is_prompt(then: Instant, now: Instant) -> bool {
    now.saturating_duration_since(then) <= PROMPT
}

fn at_random(places: &[Place]) -> Program {
    Program::any_of(&places.iter().map(|place| place.number).collect::<Vec<u32>>())
}

fn by_client(places: &[Place]) -> Program {
    let table = Table::new(places.iter().map(|place| place.slot).collect());
    let number_of =
        |slot: &u32| places.iter().find(|place| place.slot == *slot).map_or(0, |place| place.number);
    Program::by_source(&table.owners().iter().map(number_of).collect::<Vec<u32>>())
}

/// Takes everything that waits in the kernel's queue of a socket, as far as there are descriptors.
pub(in crate::dataplane) fn take_all(listener: &mut Listener, socket: &OwnedFd) {
    let _ = take(listener, socket, usize::MAX);
}

/// How much was taken.
enum Taken {
    All,
    Some,
}

/// Takes so much of what waits in the kernel's queue of a socket.
fn take(listener: &mut Listener, socket: &OwnedFd, most: usize) -> io::Result<Taken> {
    let mut taken = 0;
    while taken < most {
        match accept(socket.as_fd()) {
            Ok(connection) => {
                listener.waiting.push_back(connection);
                taken += 1;
            }
            Err(error) if is_passing(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Taken::All),
            Err(error) => return Err(error),
        }
    }
    Ok(Taken::Some)
}
