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
use std::time::Instant;

use recluster_core::WorkerId;
use socket2::{Domain, Protocol, Socket, Type};

use super::bpf::Program;
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
}

impl Member {
    fn vacant(socket: Rc<OwnedFd>) -> Self {
        Self { socket, holder: None, is_overdue: false, is_timed: false }
    }
}

/// A place that the kernel may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The slot of the worker that accepts there.
    pub(super) slot: u32,
    /// Its number in the group.
    pub(super) number: u32,
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
}

impl Group {
    /// A group of one vacant socket.
    pub(super) fn new(spot: Spot, first: Rc<OwnedFd>) -> Self {
        Self { spot, members: vec![Member::vacant(first)], steered: Vec::new(), retry_at: None }
    }

    /// Gives a worker a place: a vacant one, or a new one behind the others.
    pub(super) fn occupy(&mut self, worker: WorkerId) -> io::Result<usize> {
        let vacant = self.members.iter().position(|member| member.holder.is_none());
        let place = vacant.unwrap_or(self.members.len());
        if vacant.is_none() {
            self.members.push(Member::vacant(Rc::new(self.spot.listen()?)));
        }
        if let Some(member) = self.members.get_mut(place) {
            (member.holder, member.is_overdue) = (Some(worker), false);
        }
        Ok(place)
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
