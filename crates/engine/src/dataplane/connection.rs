//! A connection that the master holds: accepted, and not yet taken by a worker.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use recluster_core::WorkerId;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, getpeername};
use serde::{Deserialize, Serialize};

use super::client_hash::Client;
use super::passing::{Passing, Taking};
use crate::upgrade::{AdoptError, SaveError};

/// A connection that was accepted and belongs to no worker yet.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// How often all workers have refused it.
    pub(super) rounds: u32,
    /// The workers that have refused it in this round.
    pub(super) refused_by: Vec<WorkerId>,
    pub(super) owner: Owner,
}

/// Whose a connection is, where that decides which worker gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Owner {
    /// Not looked at yet.
    Unknown,
    Client(Client),
    /// The client cannot be known: any worker will do.
    Anybody,
}

/// One as it is left to the program after this one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedConnection {
    socket: String,
    rounds: u32,
    refused_by: Vec<WorkerId>,
    owner: Owner,
}

impl Connection {
    pub(super) fn save(&self, name: &str, passing: &mut Passing<'_>) -> Result<SavedConnection, SaveError> {
        let Self { socket, rounds, refused_by, owner } = self;
        let socket = passing.descriptor(socket, name)?;
        Ok(SavedConnection { socket, rounds: *rounds, refused_by: refused_by.clone(), owner: *owner })
    }

    pub(super) fn inherit(saved: SavedConnection, taking: &mut Taking) -> Result<Self, AdoptError> {
        let SavedConnection { socket, rounds, refused_by, owner } = saved;
        Ok(Self { socket: taking.descriptor(&socket)?, rounds, refused_by, owner })
    }

    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, rounds: 0, refused_by: Vec::new(), owner: Owner::Unknown }
    }

    /// Its owner by the address at the other end; a unix socket has none.
    pub(super) fn owner_by_address(&self) -> Owner {
        address_of(self.socket.as_fd()).map_or(Owner::Anybody, Owner::Client)
    }
}

fn address_of(socket: BorrowedFd<'_>) -> Option<Client> {
    let address = SocketAddr::try_from(getpeername(socket).ok()??).ok()?;
    Some(Client::at(address.ip()))
}

/// Accepts one connection; none if none waits. An error means that the master lacks descriptors or memory: the connection
/// stays in the kernel's queue.
///
/// The connection is non-blocking, because the worker's runtime does not make it so: a blocking one would freeze the whole
/// worker.
pub(super) fn accept(socket: BorrowedFd<'_>) -> io::Result<Option<Connection>> {
    loop {
        match accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => return Ok(Some(Connection::new(socket))),
            Err(Errno::AGAIN) => return Ok(None),
            // Interrupted, or this connection was gone before it was accepted: the next one may be fine.
            Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
