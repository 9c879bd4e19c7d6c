//! Listeners at real addresses of loopback.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV6, TcpListener};
use std::os::unix::fs::MetadataExt as _;

use super::super::fixtures::query;
use super::*;
use crate::socket::races::{Race, race};

fn bind(query: &QueryServer, mode: Mode) -> Listener {
    Listener::bind(query, mode, true).unwrap()
}

#[test]
fn a_unix_socket_has_the_permissions_asked_for_and_no_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = Some(path.to_string_lossy().into_owned());
    let unix = QueryServer { kind: Some(SocketKind::Unix), address, port: None, ..query(1) };
    let all = QueryServer { readable_all: true, writable_all: true, ..unix.clone() };
    let listener = bind(&all, Mode::Kernel);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o666, 0o666);
    assert_eq!((listener.mode, listener.sockname()), (Mode::RoundRobin, None));
    assert!(listener.is_stream() && !listener.has_handshakes());
    let error = Listener::bind(&unix, Mode::Shared, false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    drop(listener);
    assert!(!path.exists(), "the file goes with it");
}

#[test]
fn a_worker_opens_nothing_but_its_socket_to_everybody() {
    for kind in [Race::OfTheName, Race::OfTheDirectory] {
        race(kind, |path| {
            let address = Some(path.to_string_lossy().into_owned());
            let unix = QueryServer { kind: Some(SocketKind::Unix), address, port: None, ..query(1) };
            let all = QueryServer { readable_all: true, writable_all: true, ..unix };
            Listener::bind(&all, Mode::Shared, true)
        });
    }
}

#[test]
fn a_socket_that_the_master_was_started_with_is_used_as_it_is() {
    let tcp = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let listener = Listener::adopt(3, &tcp, Mode::Kernel).unwrap();
    assert!(listener.acceptable, "connections may wait in it");
    assert!(listener.sockname().is_some_and(|name| name.port() != 0));
    assert_eq!((listener.mode, listener.has_handshakes()), (Mode::RoundRobin, false));
    let udp = OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    assert_eq!(Listener::adopt(4, &udp, Mode::RoundRobin).unwrap().mode, Mode::Shared);
}

#[test]
fn without_an_address_it_is_every_address() {
    let everywhere = QueryServer { address: None, ..query(1) };
    let name = bind(&everywhere, Mode::RoundRobin).sockname().unwrap();
    assert!(name.ip().is_unspecified() && name.port() != 0);
    let udp = bind(&QueryServer { kind: Some(SocketKind::Udp4), ..everywhere }, Mode::RoundRobin);
    assert_eq!(udp.sockname().unwrap().ip(), IpAddr::from(Ipv4Addr::UNSPECIFIED));
    assert!(!udp.is_stream());
}

#[test]
fn a_group_does_not_join_another_programs_address() {
    let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    other.set_reuse_port(true).unwrap();
    other.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    other.listen(1).unwrap();
    let port = Some(other.local_addr().unwrap().as_socket().unwrap().port());
    let error = Listener::bind(&QueryServer { port, ..query(1) }, Mode::Kernel, true).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

/// Where the master accepts, or workers do on one socket, nobody else has a part of the connections.
#[test]
fn another_program_joins_no_socket_but_one_of_a_group() {
    let joins = |mode| {
        let listener = bind(&query(1), mode);
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        other.set_reuse_port(true).unwrap();
        let joined = other.bind(&listener.sockname().unwrap().into());
        joined.map_err(|error| error.kind())
    };
    for mode in [Mode::RoundRobin, Mode::Shared] {
        assert_eq!(joins(mode), Err(io::ErrorKind::AddrInUse), "{mode:?}");
    }
    assert_eq!(joins(Mode::Kernel), Ok(()));
}

#[test]
fn how_clients_are_known_is_decided_by_what_the_socket_is() {
    let by = |mode, balance: &str, kind: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = Some(directory.path().join("s").to_string_lossy().into_owned());
        let unix = QueryServer { kind: Some(SocketKind::Unix), address: path, ..query(1) };
        let mut listener = bind(&if kind == "unix" { unix } else { query(1) }, mode);
        listener.set_balance(&Balance::Sticky(balance.parse().unwrap()));
        (listener.balance(), listener.closes_after_response())
    };
    assert_eq!(by(Mode::RoundRobin, "ip", "tcp"), ("sticky", false));
    assert_eq!(by(Mode::RoundRobin, "ip", "unix"), ("round-robin", false));
    assert_eq!(by(Mode::RoundRobin, "cookie:sid", "unix"), ("sticky", true));
    assert_eq!(by(Mode::Shared, "cookie:sid", "tcp"), ("shared", false));
    assert_eq!(by(Mode::Kernel, "ip", "tcp"), ("sticky", false));
}

#[test]
fn addresses_may_have_a_zone() {
    let port = |text: &str| parse_address(text, 80).map(|address| address.port()).ok();
    assert_eq!(
        parse_address("fe80::1%7", 80).unwrap(),
        SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 0, 7).into()
    );
    assert_eq!((port("fe80::1%lo"), port("127.0.0.1")), (Some(80), Some(80)));
    for nonsense in ["localhost", "fe80::1%", "fe80::1%no/such", "fe80::1%..", "127.0.0.1%lo", ""] {
        assert_eq!(port(nonsense), None, "{nonsense}");
    }
}
