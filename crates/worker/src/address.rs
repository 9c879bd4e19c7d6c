//! How an address is written, and which sockets it means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use recluster_wire::node::{QueryServer, SocketKind};

use crate::Error;

/// libuv's flag for a socket of IPv6 alone.
const IPV6_ONLY: u32 = 1;

/// What a program asks for: `ADDRESS`, `NAME` or `NAME=ADDRESS`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: Option<String>,
    /// In the order in which they are tried; none for a name alone.
    pub(crate) places: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Every address of the machine, of both families where it has both.
    Everywhere(u16),
    One(SocketAddr),
}

impl Wanted {
    /// A name has no colon, and is no number, so that it cannot be mistaken for an address.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let invalid = || Error::NoAddress(text.to_owned());
        if let Some((name, address)) = text.split_once('=') {
            let name = Some(name.to_owned()).filter(|name| !name.is_empty()).ok_or_else(invalid)?;
            return Ok(Self { name: Some(name), places: places(address).ok_or_else(invalid)? });
        }
        match places(text) {
            Some(places) => Ok(Self { name: None, places }),
            None if text.is_empty() || text.contains(':') => Err(invalid()),
            None => Ok(Self { name: Some(text.to_owned()), places: Vec::new() }),
        }
    }
}

fn places(address: &str) -> Option<Vec<Place>> {
    if let Ok(port) = address.strip_prefix("*:").unwrap_or(address).parse() {
        return Some(vec![Place::Everywhere(port)]);
    }
    let found: Vec<_> = address.to_socket_addrs().ok()?.map(Place::One).collect();
    Some(found).filter(|places| !places.is_empty())
}

impl Place {
    /// Whether a socket that is bound there is what was asked for. Port 0 asks for one of one's own.
    pub(crate) fn is(self, bound: SocketAddr) -> bool {
        match self {
            Self::Everywhere(port) => port != 0 && port == bound.port() && bound.ip().is_unspecified(),
            Self::One(address) => address.port() != 0 && address == bound,
        }
    }

    /// The addresses to bind, in the order in which they are tried, and whether IPv6 is to be for itself.
    pub(crate) fn candidates(self) -> Vec<(SocketAddr, bool)> {
        match self {
            Self::Everywhere(port) => {
                let (both, v4) = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                vec![((both, port).into(), false), ((v4, port).into(), false)]
            }
            Self::One(address) => vec![(address, address.is_ipv6())],
        }
    }

    /// The requests to the master, in the order in which they are tried.
    pub(crate) fn queries(self, kind: Kind) -> Vec<QueryServer> {
        match self {
            // Without an address the master takes both families, or the one that there is; of UDP, what is asked for.
            Self::Everywhere(port) => {
                let families: &[bool] = if kind == Kind::Tcp { &[false] } else { &[true, false] };
                let query = |&v6| QueryServer { port: Some(port), ..blank(kind.socket_kind(v6)) };
                families.iter().map(query).collect()
            }
            Self::One(address) => vec![QueryServer {
                address: Some(text_of(address)),
                port: Some(address.port()),
                flags: if address.is_ipv6() { IPV6_ONLY } else { 0 },
                ..blank(kind.socket_kind(address.is_ipv6()))
            }],
        }
    }
}

/// The IP address, with the number of its zone where it has one.
fn text_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => address.ip().to_string(),
    }
}

/// A kind of socket that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
}

impl Kind {
    pub(crate) fn socket_kind(self, v6: bool) -> SocketKind {
        match (self, v6) {
            (Self::Tcp, false) => SocketKind::Tcp4,
            (Self::Tcp, true) => SocketKind::Tcp6,
            (Self::Udp, false) => SocketKind::Udp4,
            (Self::Udp, true) => SocketKind::Udp6,
        }
    }
}

/// The request for a unix socket.
pub(crate) fn unix_query(path: &str) -> QueryServer {
    QueryServer { address: Some(path.to_owned()), ..blank(SocketKind::Unix) }
}

fn blank(kind: SocketKind) -> QueryServer {
    QueryServer {
        seq: 0,
        index: 0,
        address: None,
        port: None,
        kind: Some(kind),
        fd: None,
        flags: 0,
        backlog: None,
        readable_all: false,
        writable_all: false,
        data: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn wanted(text: &str) -> (Option<String>, Vec<Place>) {
        let wanted = Wanted::parse(text).expect(text);
        (wanted.name, wanted.places)
    }

    #[test]
    fn addresses_and_names() {
        let one = |text| vec![Place::One(address(text))];
        assert_eq!(wanted("8080"), (None, vec![Place::Everywhere(8080)]));
        assert_eq!(wanted("*:8080"), (None, vec![Place::Everywhere(8080)]));
        assert_eq!(wanted("127.0.0.1:8080"), (None, one("127.0.0.1:8080")));
        assert_eq!(wanted("[::1]:0"), (None, one("[::1]:0")));
        assert_eq!(wanted("http"), (Some("http".into()), vec![]));
        assert_eq!(wanted("http=127.0.0.1:80"), (Some("http".into()), one("127.0.0.1:80")));
        assert!(wanted("localhost:80").1.contains(&Place::One(address("127.0.0.1:80"))));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["", ":", ":80", "127.0.0.1:", "127.0.0.1:99999", "=80", "http=", "http=other"] {
            let error = Wanted::parse(text).expect_err(text);
            assert!(matches!(&error, Error::NoAddress(of) if of == text), "{error}");
        }
    }

    #[test]
    fn a_socket_is_what_was_asked_for_only_at_the_same_place() {
        let everywhere = Place::Everywhere(80);
        assert!(everywhere.is(address("[::]:80")) && everywhere.is(address("0.0.0.0:80")));
        assert!(!everywhere.is(address("127.0.0.1:80")) && !everywhere.is(address("0.0.0.0:81")));
        let local = Place::One(address("127.0.0.1:80"));
        assert!(local.is(address("127.0.0.1:80")));
        assert!(!local.is(address("0.0.0.0:80")), "a wider one serves people who were not asked in");
        assert!(!Place::One(address("127.0.0.1:0")).is(address("127.0.0.1:0")));
    }
}
