//! The sockets of one address (`SO_REUSEPORT`): one for each worker that accepts there.
//!
//! All of them are the master's and outlive workers. The kernel knows them by their *places*: their order of beginning to
//! listen. If one were closed, the places behind it would change, so none is closed before its listener is: a socket whose
//! worker has gone is *vacant*, and the next worker that comes takes it. So an old and a new worker of one slot never share
//! a socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::bpf::Program;
use super::lasting::Budget;
use super::reactor::{ListenerId, Reactor, Token};
use crate::socket::kept::Other;
use crate::sys::{self, Hook};

/// Where a TCP socket listens, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) address: SocketAddr,
    pub(super) only_v6: bool,
    pub(super) backlog: i32,
    /// Other sockets of ours listen there as well.
    pub(super) shared: bool,
}

impl Spot {
    pub(super) fn listen(&self) -> io::Result<OwnedFd> {
        let socket = self.bind()?;
        socket.listen(self.backlog)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    pub(super) fn bind(&self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if self.shared {
            socket.set_reuse_port(true)?;
        }
        if self.address.is_ipv6() {
            socket.set_only_v6(self.only_v6)?;
        }
        socket.bind(&self.address.into())?;
        Ok(socket)
    }
}

/// A socket of a group, at its place.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) socket: Rc<OwnedFd>,
    /// The worker whose process has a copy.
    pub(super) holder: Option<WorkerId>,
    /// A connection has waited in it for too long.
    pub(super) is_overdue: bool,
    /// A timer for it is set.
    pub(super) is_timed: bool,
    /// How long what waits in it waits for its worker, until the others are looked at (again).
    pub(super) patience: Duration,
}

impl Member {
    fn vacant(socket: Rc<OwnedFd>) -> Self {
        Self { socket, holder: None, is_overdue: false, is_timed: false, patience: Duration::ZERO }
    }
}

/// A place that the kernel may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    /// The slot of the worker that accepts there.
    pub(super) slot: u32,
    /// Its number in the group.
    pub(super) number: u32,
}

/// The place from which the master accepts, while it hands connections out.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) place: usize,
    /// The kernel puts new connections there alone.
    pub(super) is_open: bool,
    /// How many may wait there at most, so that none is refused.
    pub(super) room: u32,
    pub(super) waits: Option<Waits>,
    pub(super) budget: Budget,
}

/// Since when connections have waited at the desk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// The next one.
    pub(super) next: Instant,
    /// Any.
    pub(super) any: Instant,
}

/// The sockets of one listener, at their places.
#[derive(Debug)]
pub(super) struct Group {
    spot: Spot,
    pub(super) members: Vec<Member>,
    /// What the kernel chooses from; empty until the first worker may take connections.
    pub(super) steered: Vec<Place>,
    /// The kernel has refused the program, and is not asked again before then.
    pub(super) retry_at: Option<Instant>,
    /// None before the master is to hand connections out.
    pub(super) desk: Option<Desk>,
    /// When it is looked at again whether the master is to hand connections out.
    pub(super) recheck_at: Option<Instant>,
}

impl Group {
    /// Why this kernel, or what emulates one, lets no program choose among sockets at such an address, where it does not. An error
    /// is a shortage, which passes.
    pub(super) fn refusal_at(address: SocketAddr) -> io::Result<Option<io::Error>> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        let attach = || sys::attach(socket.as_fd(), Hook::Group, Program::any_of(&[0]).instructions());
        match socket.set_reuse_port(true).and_then(|()| attach()) {
            Ok(()) => Ok(None),
            Err(error) if is_refusal(&error) => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// A group of one vacant socket.
    pub(super) fn new(spot: Spot, first: Rc<OwnedFd>) -> Self {
        let members = vec![Member::vacant(first)];
        Self { spot, members, steered: Vec::new(), retry_at: None, desk: None, recheck_at: None }
    }

    /// A group of vacant sockets, at the places that the kernel knows them by.
    pub(super) fn returned(spot: Spot, first: Rc<OwnedFd>, others: Vec<Other>) -> Self {
        let mut group = Self::new(spot, first);
        group.members.extend(others.into_iter().map(|(_, socket)| Member::vacant(Rc::new(socket))));
        group
    }

    /// Begins to watch all sockets.
    pub(super) fn watch(&self, id: ListenerId, reactor: &Reactor) -> io::Result<()> {
        let mut members = self.members.iter().enumerate();
        members.try_for_each(|(place, member)| reactor.watch(&member.socket, Token::Member(id, place)))
    }

    /// Gives a worker a place: a vacant one, or a new one behind the others.
    pub(super) fn occupy(
        &mut self,
        worker: WorkerId,
        id: ListenerId,
        reactor: &Reactor,
    ) -> io::Result<usize> {
        let place = self.vacant_place(id, reactor)?;
        if let Some(member) = self.members.get_mut(place) {
            (member.holder, member.is_overdue) = (Some(worker), false);
        }
        Ok(place)
    }

    /// Gives the master a place of its own, if it has none yet. An error means that there is no descriptor for it, or that the kernel does
    /// not say what waits there.
    pub(super) fn set_desk_up(&mut self, id: ListenerId, reactor: &Reactor) -> io::Result<usize> {
        if let Some(desk) = &self.desk {
            return Ok(desk.place);
        }
        let place = self.vacant_place(id, reactor)?;
        let Some(member) = self.members.get_mut(place) else { return Err(io::ErrorKind::NotFound.into()) };
        let room = sys::accept_limit(member.socket.as_fd())? / 2;
        member.is_overdue = false;
        self.desk = Some(Desk { place, is_open: false, room, waits: None, budget: Budget::new(reactor.now) });
        Ok(place)
    }

    /// A place that nobody has, behind the others if need be. One that could not be watched would be of no use: it is not kept.
    fn vacant_place(&mut self, id: ListenerId, reactor: &Reactor) -> io::Result<usize> {
        let desk = self.desk.as_ref().map(|desk| desk.place);
        let mut members = self.members.iter().enumerate();
        let vacant = members.position(|(place, member)| member.holder.is_none() && desk != Some(place));
        if let Some(place) = vacant {
            return Ok(place);
        }
        let place = self.members.len();
        let socket = self.spot.listen()?;
        reactor.watch(&socket, Token::Member(id, place))?;
        self.members.push(Member::vacant(Rc::new(socket)));
        Ok(place)
    }

    pub(super) fn is_desk(&self, place: usize) -> bool {
        self.desk.as_ref().is_some_and(|desk| desk.place == place)
    }

    /// Whether the kernel puts new connections where the master accepts.
    pub(super) fn is_desk_open(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| desk.is_open)
    }

    /// The worker has closed its copy of a socket, or its process has ended.
    pub(super) fn vacate(&mut self, worker: WorkerId) {
        for member in self.members.iter_mut().filter(|member| member.holder == Some(worker)) {
            member.holder = None;
        }
    }

    pub(super) fn place_of(&self, worker: WorkerId) -> Option<usize> {
        self.members.iter().position(|member| member.holder == Some(worker))
    }

    /// The place of a worker in a slot, as the kernel's program needs it.
    pub(super) fn steerable(&self, slot: u32, worker: WorkerId) -> Option<Place> {
        Some(Place { slot, number: u32::try_from(self.place_of(worker)?).ok()? })
    }

    pub(super) fn socket(&self, place: usize) -> Option<Rc<OwnedFd>> {
        self.members.get(place).map(|member| Rc::clone(&member.socket))
    }

    /// Has the kernel choose by this program from now on.
    pub(super) fn attach(&self, mut program: Program) -> io::Result<()> {
        let Some(first) = self.members.first() else { return Ok(()) };
        sys::attach(first.socket.as_fd(), Hook::Group, program.instructions())
    }

    /// Counts vacant sockets no longer among those from which the kernel is to choose. Where its program is still the old
    /// one, it may choose them all the same: what arrives there is taken over.
    pub(super) fn forget_vacated(&mut self) {
        let Self { members, steered, .. } = self;
        let is_held =
            |place: &Place| members.get(place.number as usize).is_some_and(|it| it.holder.is_some());
        steered.retain(is_held);
    }

    pub(super) fn is_steered(&self, place: usize) -> bool {
        self.steered.iter().any(|steered| steered.number as usize == place)
    }
}

/// Whether a kernel says by this that it cannot, or that it does not allow it.
fn is_refusal(error: &io::Error) -> bool {
    let refusals =
        [libc::ENOPROTOOPT, libc::EOPNOTSUPP, libc::EINVAL, libc::ENOSYS, libc::EPERM, libc::EACCES];
    error.raw_os_error().is_some_and(|errno| refusals.contains(&errno))
}

pub(super) mod saved;

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::super::fixtures::{id, reactor};
    use super::*;

    fn group() -> Group {
        let address = "127.0.0.1:0".parse().unwrap();
        let spot = Spot { address, only_v6: false, backlog: 8, shared: true };
        let first = Socket::from(spot.listen().unwrap());
        let address = first.local_addr().unwrap().as_socket().unwrap();
        Group::new(Spot { address, ..spot }, Rc::new(first.into()))
    }

    fn occupy(group: &mut Group, worker: u64) -> io::Result<usize> {
        group.occupy(id(worker), 1, &reactor())
    }

    #[test]
    fn a_shortage_is_no_refusal() {
        let is = |errno| is_refusal(&io::Error::from_raw_os_error(errno));
        assert!([libc::ENOPROTOOPT, libc::EPERM, libc::EINVAL].into_iter().all(is));
        assert!(![libc::EMFILE, libc::ENOMEM, libc::ENOBUFS, libc::EADDRINUSE].into_iter().any(is));
        assert!(!is_refusal(&io::ErrorKind::Other.into()));
    }

    #[test]
    fn each_worker_has_a_place_of_its_own() {
        let mut group = group();
        let places: Vec<usize> = (1..=3).map(|number| occupy(&mut group, number).unwrap()).collect();
        assert_eq!(places, [0, 1, 2]);
        let mut sockets: Vec<i32> = (0..3).map(|place| group.socket(place).unwrap().as_raw_fd()).collect();
        sockets.dedup();
        assert_eq!(sockets.len(), 3);
        let addresses = group.members.iter().map(|member| rustix::net::getsockname(&member.socket).unwrap());
        let ports: Vec<u16> = addresses.map(|it| SocketAddr::try_from(it).unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
        assert!(group.socket(3).is_none());
    }

    #[test]
    fn the_desk_is_no_workers_place() {
        let mut group = group();
        (1..=2).for_each(|number| drop(occupy(&mut group, number)));
        group.vacate(id(1));
        group.members[0].is_overdue = true;
        let reactor = reactor();
        assert_eq!(group.set_desk_up(1, &reactor).unwrap(), 0);
        assert!(!group.members[0].is_overdue, "that was its former worker's");
        assert_eq!(group.desk.as_ref().map(|desk| desk.room), Some(4), "half of its backlog");
        assert_eq!(occupy(&mut group, 3).unwrap(), 2);
        assert_eq!(group.set_desk_up(1, &reactor).unwrap(), 0, "it has one");
    }

    #[test]
    fn an_old_and_a_new_worker_of_a_slot_never_share_a_socket() {
        let mut group = group();
        occupy(&mut group, 1).unwrap();
        occupy(&mut group, 2).unwrap();
        assert_eq!(group.steerable(0, id(1)), Some(Place { slot: 0, number: 0 }));
        assert_eq!(group.steerable(0, id(2)), Some(Place { slot: 0, number: 1 }));
        assert_eq!(group.steerable(0, id(3)), None);
    }

    #[test]
    fn a_vacant_socket_keeps_its_place_and_is_the_next_workers() {
        let mut group = group();
        (1..=3).for_each(|number| drop(occupy(&mut group, number)));
        let second = group.socket(1).unwrap().as_raw_fd();
        group.vacate(id(2));
        assert_eq!((group.members.len(), group.place_of(id(2)), group.place_of(id(3))), (3, None, Some(2)));
        group.members[1].is_overdue = true;
        assert_eq!(occupy(&mut group, 4).unwrap(), 1);
        assert_eq!(group.socket(1).unwrap().as_raw_fd(), second);
        assert!(!group.members[1].is_overdue, "that was its former worker's");
        group.vacate(id(9));
        assert!(group.members.iter().all(|member| member.holder.is_some()));
    }

    #[test]
    fn vacant_places_are_no_longer_chosen() {
        let mut group = group();
        (1..=2).for_each(|number| drop(occupy(&mut group, number)));
        group.steered = (1..=2).filter_map(|number| group.steerable(0, id(number))).collect();
        assert!(group.is_steered(0) && group.is_steered(1) && !group.is_steered(2));
        group.vacate(id(1));
        group.forget_vacated();
        assert!(!group.is_steered(0) && group.is_steered(1));
    }

    #[test]
    fn a_place_that_cannot_be_had_is_an_error_and_changes_nothing() {
        let mut group = group();
        occupy(&mut group, 1).unwrap();
        // Without the option that lets sockets share an address.
        group.spot.shared = false;
        assert_eq!(occupy(&mut group, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!((group.members.len(), group.place_of(id(2))), (1, None));
    }
}
