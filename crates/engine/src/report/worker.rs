//! Which worker is meant, what it still has, and where it listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which worker an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Worker {
    /// Its number: counts from 1, never used again.
    pub id: u64,
    /// Its slot, zero-based: the worker's `WORKER_ID`.
    pub slot: u32,
    /// Its generation.
    pub generation: u64,
    /// Its process; none where the process could not be started.
    pub pid: Option<u32>,
}

/// What a draining Node worker still has, as it reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// Open connections.
    pub connections: u32,
    /// How many of these are upgraded (WebSocket), or speak something else than HTTP.
    pub upgraded: u32,
    /// Requests that have not been answered whole.
    pub requests: u32,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, upgraded, requests } = self;
        write!(
            f,
            "{connections} open connections, {upgraded} of them upgraded, {requests} requests in progress"
        )
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
    /// A unix socket; an abstract one begins with a NUL.
    Unix(PathBuf),
    /// A descriptor that the master was started with.
    Fd(i32),
}

impl Address {
    /// Where to connect over IP, or to send to.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
            Self::Unix(_) | Self::Fd(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display().to_string().replace('\0', "@")),
            Self::Fd(number) => write!(f, "fd:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_given() {
        let ip: SocketAddr = "[::1]:8080".parse().unwrap();
        let forms = [
            (Address::Tcp(ip), "[::1]:8080", Some(ip)),
            (Address::Udp(ip), "udp:[::1]:8080", Some(ip)),
            (Address::Unix("/run/it.sock".into()), "unix:/run/it.sock", None),
            (Address::Unix("\0it".into()), "unix:@it", None),
            (Address::Fd(3), "fd:3", None),
        ];
        for (address, text, ip) in forms {
            assert_eq!((address.to_string().as_str(), address.ip()), (text, ip));
        }
    }

    #[test]
    fn what_a_worker_still_has_is_one_line() {
        let held = Held { connections: 3, upgraded: 1, requests: 2 };
        assert_eq!(held.to_string(), "3 open connections, 1 of them upgraded, 2 requests in progress");
    }
}
