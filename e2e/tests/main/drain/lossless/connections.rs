//! Connections during a drain, by TCP, TLS and unix socket: each gets one more answer and is closed behind it, or is
//! closed when it has been idle for the grace.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use recluster_e2e::{Connection, Home, Launch, Master, Node};
use serde_json::json;

use super::{Tunnel, answered, answered_last, cluster, drain, ended, last_answer, left};

/// A grace that a test waits for.
const SHORT: Duration = Duration::from_secs(1);

fn short(launch: Launch) -> Launch {
    launch.option("--idle-grace", "1s")
}

fn of(protocol: &str) -> Launch {
    cluster().env("PROTOCOL", protocol)
}

fn unix(home: &Home) -> Launch {
    cluster().home(home).env("LISTEN", json!({ "path": home.join("server.sock") }).to_string())
}

/// Four connections, the last of which was used: the worker has them all then, since it takes them in order.
fn four<S: Read + Write>(open: impl Fn() -> Connection<S>) -> [Connection<S>; 4] {
    let mut connections = [open(), open(), open(), open()];
    connections[2].send("GET / HTTP/1.1\r\nHo").expect("it is open");
    connections[1].begin_request().expect("a worker should take the request");
    answered(&mut connections[3]);
    connections
}

/// Every connection gets one more answer: a fresh one, one whose request is still coming, one with half a head, and one
/// that is idle.
fn every_connection_gets_one_more_answer<S: Read + Write>(master: &Master, open: impl Fn() -> Connection<S>) {
    let [fresh, mut posting, mut half, idle] = four(open);
    drain(master);
    answered_last(fresh);
    assert_eq!(posting.finish_request().expect("an answer").text("generation"), "1");
    ended(posting);
    half.send("st: localhost\r\n\r\n").expect("it is open");
    last_answer(half);
    answered_last(idle);
    left(master);
}

/// Connections on which nothing comes are closed at the grace, and not before.
fn untouched_connections_are_closed_at_the_grace<S: Read + Write>(
    master: &Master,
    open: impl Fn() -> Connection<S>,
) {
    let (fresh, mut idle) = (open(), open());
    answered(&mut idle);
    let begin = Instant::now();
    drain(master);
    ended(fresh);
    ended(idle);
    assert!(begin.elapsed() >= SHORT, "closed after {:?}", begin.elapsed());
    left(master);
}

#[test]
fn every_connection_by_tcp_gets_one_more_answer() {
    let master = cluster().serve();
    every_connection_gets_one_more_answer(&master, || master.connect());
}

#[test]
fn every_connection_by_a_shared_socket_gets_one_more_answer() {
    let master = cluster().option("--balance", "shared").serve();
    every_connection_gets_one_more_answer(&master, || master.connect());
}

#[test]
fn every_connection_by_a_unix_socket_gets_one_more_answer() {
    let home = Home::new();
    let master = unix(&home).serve();
    let path = home.join("server.sock");
    every_connection_gets_one_more_answer(&master, || Connection::open_unix(&path).expect("it listens"));
}

#[test]
fn every_connection_by_tls_gets_one_more_answer() {
    let master = of("https").serve();
    let tunnel = Tunnel::to(&master, "http/1.1");
    every_connection_gets_one_more_answer(&master, || tunnel.connect(&master));
}

#[test]
fn every_connection_of_an_http2_server_that_speaks_http1_gets_one_more_answer() {
    let master = of("h2+http1").serve();
    let tunnel = Tunnel::to(&master, "http/1.1");
    every_connection_gets_one_more_answer(&master, || tunnel.connect(&master));
}

#[test]
fn untouched_connections_by_tcp_are_closed_at_the_grace() {
    let master = short(cluster()).serve();
    untouched_connections_are_closed_at_the_grace(&master, || master.connect());
}

#[test]
fn untouched_connections_by_a_shared_socket_are_closed_at_the_grace() {
    let master = short(cluster()).option("--balance", "shared").serve();
    untouched_connections_are_closed_at_the_grace(&master, || master.connect());
}

#[test]
fn untouched_connections_by_a_unix_socket_are_closed_at_the_grace() {
    let home = Home::new();
    let master = short(unix(&home)).serve();
    let path = home.join("server.sock");
    let open = || Connection::open_unix(&path).expect("it listens");
    untouched_connections_are_closed_at_the_grace(&master, open);
}

#[test]
fn untouched_connections_by_tls_are_closed_at_the_grace() {
    for protocol in ["https", "h2+http1"] {
        let master = short(of(protocol)).serve();
        let tunnel = Tunnel::to(&master, "http/1.1");
        untouched_connections_are_closed_at_the_grace(&master, || tunnel.connect(&master));
    }
}

#[test]
fn connections_that_never_began_their_handshake_are_closed_at_the_grace() {
    for protocol in ["https", "h2", "h2+http1"] {
        let master = short(of(protocol)).serve();
        let silent = master.connect();
        let tunnel = Tunnel::to(&master, "http/1.1");
        // The worker takes them in order.
        let later = (protocol != "h2").then(|| tunnel.connect(&master));
        drain(&master);
        ended(silent);
        drop(later);
        left(&master);
    }
}

/// What all this is about: Node alone cuts them off.
#[test]
fn without_the_lossless_drain_an_idle_connection_is_closed_at_once() {
    let master = cluster().without("--idle-grace").option("--drain-http", "off").serve();
    let mut idle = master.connect();
    answered(&mut idle);
    drain(&master);
    if Node::under_test().major < 20 {
        // Before Node 20 it was left open, and used for as long as the client wished.
        answered(&mut idle);
    } else {
        ended(idle);
        left(&master);
    }
}
