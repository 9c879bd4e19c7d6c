//! Where a worker's sockets come from: inherited, from the master, or bound by the worker itself.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use recluster_wire::node::{Listening, QueryServer, SocketKind};
use socket2::SockRef;

use crate::Error;
use crate::address::{Kind, Wanted, unix_query};
use crate::channel::{Answer, Channel};
use crate::socket::{self, Bound, bound, lacks_family};
use crate::worker::Worker;

impl Worker {
    /// A socket for TCP or UDP at an address or with a name.
    pub(crate) fn listen(&self, text: &str, kind: Kind) -> Result<OwnedFd, Error> {
        let wanted = Wanted::parse(text)?;
        let fits = |bound: &Bound| matches!(bound, Bound::Inet(its_kind, _) if *its_kind == kind);
        let is_there = |bound: &Bound| matches!(bound, Bound::Inet(_, at) if wanted.places.iter().any(|place| place.is(*at)));
        let name = wanted.name.as_deref();
        let given = self.take(|its_name, bound| fits(bound) && name.is_some() && its_name == name);
        if let Some(given) = given.or_else(|| self.take(|_, bound| fits(bound) && is_there(bound))) {
            return self.ready_to_use(given, 0, text);
        }
        let refused = |error| Error::Listen { address: text.to_owned(), error };
        let mut refusal = Error::NoSocket(text.to_owned());
        for place in wanted.places {
            let attempt = match &self.channel {
                Some(channel) => self.ask_in_turn(channel, place.queries(kind), text, fits),
                None => socket::bind(place, kind)
                    .map_err(refused)
                    .and_then(|socket| self.ready_to_use(socket, 0, text)),
            };
            match attempt {
                Err(error @ Error::Listen { .. }) => refusal = error,
                settled => return settled,
            }
        }
        Err(refusal)
    }

    /// A unix stream socket at a path or with a name.
    pub(crate) fn listen_unix(&self, path: &Path) -> Result<OwnedFd, Error> {
        let text = path.to_string_lossy();
        let refused = |error| Error::Listen { address: text.clone().into_owned(), error };
        // The master may have another working directory.
        let as_given = path;
        let path = std::path::absolute(path).map_err(refused)?;
        let fits = |bound: &Bound| matches!(bound, Bound::Unix(_));
        let is_there = |bound: &Bound| matches!(bound, Bound::Unix(at) if *at == path);
        let given = self.take(|name, bound| fits(bound) && (name == Some(&*text) || is_there(bound)));
        if let Some(given) = given {
            return self.ready_to_use(given, 0, &text);
        }
        let Some(channel) = &self.channel else {
            return self.ready_to_use(socket::bind_unix(as_given).map_err(refused)?, 0, &text);
        };
        let path = path.to_str().ok_or_else(|| refused(io::ErrorKind::InvalidFilename.into()))?;
        self.ask(channel, unix_query(path), &text, fits)
    }

    /// Asks for one after the other, as long as it is the family of addresses that the machine lacks.
    fn ask_in_turn(
        &self,
        channel: &Channel,
        queries: Vec<QueryServer>,
        text: &str,
        fits: impl Fn(&Bound) -> bool,
    ) -> Result<OwnedFd, Error> {
        let mut refusal = Error::NoSocket(text.to_owned());
        for query in queries {
            match self.ask(channel, query, text, &fits) {
                Err(Error::Listen { address, error }) if lacks_family(&error) => {
                    refusal = Error::Listen { address, error };
                }
                settled => return settled,
            }
        }
        Err(refusal)
    }

    /// Asks the master for the socket that a query describes.
    fn ask(
        &self,
        channel: &Channel,
        mut query: QueryServer,
        text: &str,
        fits: impl Fn(&Bound) -> bool,
    ) -> Result<OwnedFd, Error> {
        query.index = self.indices.next(&query);
        let refused = |error| Error::Listen { address: text.to_owned(), error };
        match channel.ask(&mut query)? {
            Answer::Refused(errno) => Err(refused(io::Error::from_raw_os_error(errno))),
            Answer::Passing => Err(Error::NotShared(text.to_owned())),
            Answer::Socket(socket) if !bound(&socket).is_some_and(|bound| fits(&bound)) => {
                Err(refused(io::ErrorKind::InvalidData.into()))
            }
            Answer::Socket(socket) => {
                self.indices.used(&query);
                self.ready_to_use(socket, query.index, text)
            }
        }
    }

    /// Makes a socket non-blocking, as callers expect it, and reports its address to the master.
    fn ready_to_use(&self, socket: OwnedFd, index: u32, text: &str) -> Result<OwnedFd, Error> {
        let refused = |error| Error::Listen { address: text.to_owned(), error };
        SockRef::from(&socket).set_nonblocking(true).map_err(refused)?;
        if let (Some(channel), Some(bound)) = (&self.channel, bound(&socket)) {
            channel.announce(index, &listening(bound))?;
        }
        Ok(socket)
    }

    /// Takes the first inherited socket that fits. Each is given out once.
    fn take(&self, is_meant: impl Fn(Option<&str>, &Bound) -> bool) -> Option<OwnedFd> {
        let mut inherited = self.inherited();
        let found = inherited.iter().position(|given| is_meant(given.name.as_deref(), &given.bound))?;
        Some(inherited.remove(found).socket)
    }
}

fn listening(bound: Bound) -> Listening {
    match bound {
        Bound::Inet(kind, address) => Listening {
            address: Some(address.ip().to_string()),
            port: Some(address.port()),
            kind: Some(kind.socket_kind(address.is_ipv6())),
            fd: None,
        },
        Bound::Unix(path) => Listening {
            address: Some(path.to_string_lossy().into_owned()),
            port: None,
            kind: Some(SocketKind::Unix),
            fd: None,
        },
    }
}
