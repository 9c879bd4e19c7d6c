//! Sockets that the master has bound before any worker asked (`--listen`, socket activation), and which of them a worker means
//! that asks for an address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use recluster_wire::node::{ListenerKey, QueryServer, SocketKind};

use crate::config::address::BindAddress;
use crate::report::worker::Address;
use crate::socket::kept::{KeptName, Other};

/// By the number that workers know them by.
pub(super) type AllInherited = BTreeMap<i32, Inherited>;

/// One of them.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) socket: OwnedFd,
    pub(crate) address: Address,
    /// Its address as `--listen` would say it.
    pub(crate) place: Option<BindAddress>,
    /// By which name a service manager keeps it.
    pub(crate) kept: Option<KeptName>,
    /// Sockets of a group that came back with it, and are not needed.
    pub(crate) others: Vec<Other>,
    /// A worker has asked for it.
    pub(crate) is_used: bool,
    /// A worker that was started with it, and did not have to ask, has said that it listens there.
    pub(crate) is_announced: bool,
}

/// How well a socket suits a worker that asks for an address, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// It is at this very address.
    Exact,
    /// It is at all addresses of the machine, and so is what the worker asks for, if in another family as well, or in one alone.
    Everywhere,
    /// The worker asks for a port and names no address, and the socket has that port. A second socket at all addresses could not be bound
    /// beside it.
    Port,
}

/// The socket that a worker means, by its number: by the `fd` that it names, or by the address. A port alone, where several
/// sockets have it at different addresses, means none of them.
pub(super) fn meant_by(query: &QueryServer, all: &AllInherited) -> Option<i32> {
    if let Some(fd) = query.fd {
        return i32::try_from(fd).ok().filter(|number| all.contains_key(number));
    }
    let fits: Vec<(Fit, i32)> =
        all.iter().filter_map(|(number, inherited)| Some((inherited.fit(query)?, *number))).collect();
    let (best, number) = *fits.iter().min()?;
    (best != Fit::Port || fits.len() == 1).then_some(number)
}

/// What other workers ask for when they mean this socket, whether by its number or by its address.
pub(super) fn identity(number: i32) -> ListenerKey {
    ListenerKey { address: None, port: None, kind: None, fd: u32::try_from(number).ok(), index: None }
}

impl Inherited {
    fn fit(&self, query: &QueryServer) -> Option<Fit> {
        let kind = query.kind?;
        match &self.address {
            Address::Unix(_) if kind == SocketKind::Unix => self.fit_path(query),
            Address::Tcp(own) if matches!(kind, SocketKind::Tcp4 | SocketKind::Tcp6) => {
                self.fit_tcp(*own, query)
            }
            Address::Udp(own) if kind.is_udp() => fit_udp(*own, kind, query),
            Address::Tcp(_) | Address::Udp(_) | Address::Unix(_) | Address::Fd(_) => None,
        }
    }

    fn fit_path(&self, query: &QueryServer) -> Option<Fit> {
        let asked = BindAddress::Unix(query.address.as_deref()?.into());
        self.place.as_ref()?.overlaps(&asked).then_some(Fit::Exact)
    }

    fn fit_tcp(&self, own: SocketAddr, query: &QueryServer) -> Option<Fit> {
        if query.port? != own.port() {
            return None;
        }
        let is_dual = matches!(self.place, Some(BindAddress::Everywhere { .. }));
        let Some(text) = &query.address else {
            return Some(match own.ip().is_unspecified() {
                true if is_dual => Fit::Exact,
                true => Fit::Everywhere,
                false => Fit::Port,
            });
        };
        let asked = ip_of(text)?.to_canonical();
        if asked == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && asked == own.ip() {
            // Without `ipv6Only` it means every address of both families.
            return match (is_dual, query.ipv6_only()) {
                (true, false) | (false, true) => Some(Fit::Exact),
                (false, false) => Some(Fit::Everywhere),
                (true, true) => None,
            };
        }
        if asked == own.ip().to_canonical() {
            Some(Fit::Exact)
        } else {
            (is_dual && asked == IpAddr::V4(Ipv4Addr::UNSPECIFIED)).then_some(Fit::Everywhere)
        }
    }
}

/// A socket for datagrams must be of the family that the worker knows it by, or it could not send from it.
fn fit_udp(own: SocketAddr, kind: SocketKind, query: &QueryServer) -> Option<Fit> {
    let any: IpAddr =
        if kind == SocketKind::Udp6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let asked = query.address.as_deref().map_or(Some(any), ip_of)?;
    (query.port? == own.port() && asked == own.ip()).then_some(Fit::Exact)
}

/// An IP address, whatever its zone.
fn ip_of(text: &str) -> Option<IpAddr> {
    text.split('%').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::query;
    use super::*;
    use crate::config::address::Kind;
    use crate::config::listen::Listen;
    use crate::socket::bind::{self, Bound};

    /// Sockets at these addresses, with a port that the kernel chose.
    fn all(addresses: &[&str]) -> (AllInherited, u16) {
        let port = std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        let numbered = (3..).zip(addresses).map(|(number, text)| {
            let listen: Listen = text.replace("PORT", &port.to_string()).parse().unwrap();
            let Bound { socket, .. } = bind::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
            let ip = |ip: IpAddr, kind| match kind {
                Kind::Tcp => Address::Tcp((ip, port).into()),
                Kind::Udp => Address::Udp((ip, port).into()),
            };
            let address = match &listen.at {
                BindAddress::Everywhere { kind, .. } => ip(Ipv6Addr::UNSPECIFIED.into(), *kind),
                BindAddress::One { address, kind } => ip(address.ip(), *kind),
                BindAddress::Unix(path) => Address::Unix(path.clone()),
            };
            (
                number,
                Inherited {
                    socket,
                    address,
                    place: Some(listen.at),
                    kept: None,
                    others: Vec::new(),
                    is_used: false,
                    is_announced: false,
                },
            )
        });
        (numbered.collect(), port)
    }

    fn asks(kind: SocketKind, address: Option<&str>, port: u16) -> QueryServer {
        let port = (kind != SocketKind::Unix).then_some(port);
        QueryServer { kind: Some(kind), address: address.map(str::to_owned), port, ..query(1) }
    }

    #[test]
    fn an_address_means_the_socket_that_is_there() {
        use SocketKind::{Tcp4, Tcp6, Udp4, Udp6, Unix};
        for (given, kind, asked, fits) in [
            ("127.0.0.1:PORT", Tcp4, Some("127.0.0.1"), true),
            ("127.0.0.1:PORT", Tcp4, Some("127.0.0.2"), false),
            ("127.0.0.1:PORT", Tcp4, None, true),
            ("127.0.0.1:PORT", Tcp4, Some("0.0.0.0"), false),
            ("127.0.0.1:PORT", Udp4, Some("127.0.0.1"), false),
            ("127.0.0.1:PORT", Tcp6, Some("::ffff:127.0.0.1"), true),
            ("[::ffff:127.0.0.1]:PORT", Tcp4, Some("127.0.0.1"), true),
            ("[::1]:PORT", Tcp6, Some("::1"), true),
            ("[::1]:PORT", Tcp4, Some("127.0.0.1"), false),
            ("PORT", Tcp4, None, true),
            ("PORT", Tcp6, Some("::"), true),
            ("PORT", Tcp4, Some("0.0.0.0"), true),
            // What is to be for this machine alone is not opened to all.
            ("PORT", Tcp4, Some("127.0.0.1"), false),
            ("0.0.0.0:PORT", Tcp4, Some("0.0.0.0"), true),
            ("0.0.0.0:PORT", Tcp4, None, true),
            ("0.0.0.0:PORT", Tcp6, Some("::"), false),
            ("[::]:PORT", Tcp6, Some("::"), true),
            ("[::]:PORT", Tcp4, None, true),
            ("[::]:PORT", Tcp4, Some("0.0.0.0"), false),
            ("web=127.0.0.1:PORT?backlog=9", Tcp4, Some("127.0.0.1"), true),
            ("udp:127.0.0.1:PORT", Udp4, Some("127.0.0.1"), true),
            ("udp:127.0.0.1:PORT", Tcp4, Some("127.0.0.1"), false),
            ("udp:127.0.0.1:PORT", Udp6, Some("::ffff:127.0.0.1"), false),
            ("udp:0.0.0.0:PORT", Udp4, None, true),
            ("udp:PORT", Udp6, Some("::"), true),
            ("udp:PORT", Udp4, Some("0.0.0.0"), false),
            ("unix:/nowhere/a.sock", Unix, Some("/nowhere/a.sock"), true),
            ("unix:/nowhere/a.sock", Unix, Some("/nowhere/b.sock"), false),
            ("unix:/nowhere/a.sock", Tcp4, None, false),
        ] {
            let (all, port) = all(&[given]);
            let meant = meant_by(&asks(kind, asked, port), &all);
            assert_eq!(meant, fits.then_some(3), "{given} {kind:?} {asked:?}");
            assert_eq!(
                meant_by(&asks(kind, asked, port ^ 1), &all).filter(|_| kind != Unix),
                None,
                "another port"
            );
        }
    }

    #[test]
    fn for_ipv6_alone_is_only_what_is_for_ipv6_alone() {
        for (given, fits) in [("PORT", false), ("[::]:PORT", true)] {
            let (all, port) = all(&[given]);
            let asked = QueryServer { flags: 1, ..asks(SocketKind::Tcp6, Some("::"), port) };
            assert_eq!(meant_by(&asked, &all).is_some(), fits, "{given}");
        }
    }

    #[test]
    fn the_best_of_several_is_meant() {
        let (both, port) = all(&["0.0.0.0:PORT", "[::]:PORT", "127.0.0.1:PORT"]);
        let meant = |address, kind| meant_by(&asks(kind, address, port), &both);
        assert_eq!(meant(Some("127.0.0.1"), SocketKind::Tcp4), Some(5));
        assert_eq!(meant(Some("0.0.0.0"), SocketKind::Tcp4), Some(3));
        assert_eq!(meant(None, SocketKind::Tcp4), Some(3));
        let (two, port) = all(&["127.0.0.1:PORT", "127.0.0.2:PORT"]);
        assert_eq!(meant_by(&asks(SocketKind::Tcp4, None, port), &two), None, "either may be meant");
    }

    #[test]
    fn a_number_means_its_socket() {
        let (all, _) = all(&["127.0.0.1:PORT"]);
        let by_number =
            |number| QueryServer { fd: Some(number), kind: None, address: None, port: None, ..query(1) };
        assert_eq!(meant_by(&by_number(3), &all), Some(3));
        assert_eq!(meant_by(&by_number(4), &all), None);
        assert_eq!(identity(3), ListenerKey::from(&by_number(3)));
    }

    #[test]
    fn a_random_port_means_none() {
        let (all, _) = all(&["127.0.0.1:PORT"]);
        assert_eq!(meant_by(&asks(SocketKind::Tcp4, Some("127.0.0.1"), 0), &all), None);
    }
}
