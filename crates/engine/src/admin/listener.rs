//! Taking the address of the admin listener, before anything is started.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::{io, net, os};

use crate::admin::hosts::Hosts;
use crate::admin::token::{self, TokenError};
use crate::admin::{keeper, leaving};
use crate::config::admin::AdminAddress;
use crate::config::listen::Listen;
use crate::report::error::StartError;
use crate::report::worker::Address;
use crate::socket::bind::{self, Bound};
use crate::socket::file::SocketFile;
use crate::socket::kept::Pool;
use crate::upgrade::{AdoptError, Inheritance};

/// What an admin listener is to be.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) address: AdminAddress,
    pub(super) hosts: Vec<String>,
    pub(super) token_file: Option<PathBuf>,
}

impl Options {
    /// A listener at this address, from which everything can be read and nothing changed.
    pub fn at(address: AdminAddress) -> Self {
        Self { address, hosts: Vec::new(), token_file: None }
    }

    /// One more name that requests may have in `Host`, beside addresses and `localhost`: a web page elsewhere must not read the
    /// answers by way of somebody's browser.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// Allows changes to those who know the token that this file holds. It is read again for each of them.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token_file = Some(path.into());
        self
    }
}

/// Why there is no admin listener.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Its address cannot be had.
    #[error("the admin listener: {0}")]
    Listen(#[source] StartError),
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The machine refused something.
    #[error("the admin listener cannot be started: {0}")]
    System(#[from] io::Error),
}

/// A bound admin listener. Clients that connect wait until it answers.
#[derive(Debug)]
pub struct Admin {
    pub(super) socket: Socket,
    pub(super) address: Address,
    /// Removed with the listener.
    pub(super) file: Option<Arc<SocketFile>>,
    /// How it was bound.
    pub(super) listen: Listen,
    /// None on a unix socket.
    pub(super) hosts: Option<Hosts>,
    pub(super) token_file: Option<PathBuf>,
    is_exposed: bool,
    /// What the program before has kept, and its lines.
    pub(super) history: Option<(keeper::Saved, OwnedFd)>,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(net::TcpListener),
    Unix(os::unix::net::UnixListener),
}

impl Socket {
    /// One more descriptor for it.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(OwnedFd::from),
            Self::Unix(listener) => listener.try_clone().map(OwnedFd::from),
        }
    }
}

impl Admin {
    /// Binds the address, and looks at the token. Waits a few seconds for an address in use: its owner may be about to end.
    /// Must be called in a tokio runtime with time enabled.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or there is no token in the file that is to hold it.
    pub async fn bind(options: Options) -> Result<Self, AdminError> {
        let Options { address, hosts, token_file } = options;
        token_file.as_deref().map(token::read).transpose()?;
        let bound = bind::bind_all(Vec::new(), std::slice::from_ref(&address.0), &mut Pool::default()).await;
        let bound = bound.map_err(AdminError::Listen)?.pop();
        let Some(Bound { socket, address: at, file, .. }) = bound else {
            return Err(io::Error::from(io::ErrorKind::AddrNotAvailable).into());
        };
        let socket = if address.is_unix() { Socket::Unix(socket.into()) } else { Socket::Tcp(socket.into()) };
        match &socket {
            Socket::Tcp(listener) => listener.set_nonblocking(true)?,
            Socket::Unix(listener) => listener.set_nonblocking(true)?,
        }
        let hosts = (!address.is_unix()).then(|| Hosts::new(hosts));
        let is_exposed = address.is_exposed();
        Ok(Self {
            socket,
            address: at,
            file,
            listen: address.0,
            hosts,
            token_file,
            is_exposed,
            history: None,
        })
    }

    /// The one that the program before has left, if it had one. The token is looked at when it is needed.
    ///
    /// # Errors
    ///
    /// When what was left cannot be gone on with.
    pub fn adopt(options: Options, inheritance: &mut Inheritance) -> Result<Option<Self>, AdoptError> {
        let Some(leaving::Saved { address: at, file, history }) = inheritance.part(leaving::PART)? else {
            return Ok(None);
        };
        let Options { address, hosts, token_file } = options;
        let socket = inheritance.descriptor(leaving::SOCKET)?;
        let socket = if address.is_unix() { Socket::Unix(socket.into()) } else { Socket::Tcp(socket.into()) };
        let hosts = (!address.is_unix()).then(|| Hosts::new(hosts));
        let is_exposed = address.is_exposed();
        let file = file.map(|file| Arc::new(SocketFile::inherit(file)));
        let history = history.zip(inheritance.optional(leaving::HISTORY)?);
        Ok(Some(Self {
            socket,
            address: at,
            file,
            listen: address.0,
            hosts,
            token_file,
            is_exposed,
            history,
        }))
    }

    /// Whether [`bind`](Self::bind) would succeed now, without waiting. Leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As those of [`bind`](Self::bind).
    pub async fn check(options: &Options) -> Result<(), AdminError> {
        options.token_file.as_deref().map(token::read).transpose()?;
        let listens = std::slice::from_ref(&options.address.0);
        bind::preview_all(&[], listens).await.map_err(AdminError::Listen)
    }

    /// Where it listens; a port of the kernel's choice is known.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether other machines may reach it: everything that can be read there can be read by all of them.
    pub fn is_exposed(&self) -> bool {
        self.is_exposed
    }
}
