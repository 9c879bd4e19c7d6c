//! What the preload does in a worker outside of drains, under a master of `node:cluster`.

use std::net::{SocketAddr, TcpStream};

use std::fs;

use recluster_e2e::{Connection, Home, Node, Running, eventually, repository};

use crate::drain::lossless::{answered, ended, last_answer};

/// A worker with the preload, and its master.
struct Worker {
    master: Running,
    _home: Home,
    address: SocketAddr,
}

impl Worker {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut command = Node::under_test().client("node-master.cjs");
        let home = Home::new();
        let parts = [
            "drain.cjs",
            "responses.cjs",
            "pipelines.cjs",
            "http2.cjs",
            "goodbye.cjs",
            "queues.cjs",
            "cache.cjs",
        ]
        .map(|part| {
            let path = repository().join("crates/engine/preload").join(part);
            fs::read_to_string(path).expect("a part of the preload")
        });
        command.env("PRELOAD", home.write("preload.cjs", &parts.concat()));
        command.env("SETTINGS", "3600000,3600000,3600000").env("SINGLE", "0").envs(variables.iter().copied());
        let master = Running::start(command);
        let line = master.wait_stdout("listening ");
        let port = line.trim_start_matches("listening ").parse().expect("it prints the port");
        Self { master, _home: home, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    fn connect(&self) -> Connection<TcpStream> {
        Connection::open(self.address).expect("it listens")
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_connection_for_one_response_is_closed_behind_it_and_others_are_not() {
    let worker = Worker::start(&[("SINGLE", "1")]);
    let (mut single, mut other) = (worker.connect(), worker.connect());
    single.send(REQUEST).expect("it is open");
    last_answer(single);
    answered(&mut other);
    answered(&mut other);
}

#[test]
fn whatever_the_application_says_of_the_connection_one_response_is_the_last() {
    let heads =
        [("keep-alive", "close"), ("object", "close"), ("token", "close, X-Hop"), ("flushed", "close")];
    let worker = Worker::start(&[("SINGLE", "4")]);
    for (name, expected) in heads {
        let mut connection = worker.connect();
        connection.send(format!("GET /head/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n")).expect("it is open");
        let head = connection.head().expect("an answer");
        assert_eq!(head.header("connection").as_deref(), Some(expected), "{name}");
        assert_eq!(head.header("keep-alive"), None, "{name}");
        assert!(connection.read_to_end().expect("an end and no reset").contains("body"), "{name}");
    }
}

#[test]
fn a_connection_for_one_response_may_be_upgraded() {
    let worker = Worker::start(&[("SINGLE", "2")]);
    let mut plain = worker.connect();
    plain.send(REQUEST).expect("it is open");
    last_answer(plain);
    let mut upgraded = worker.connect();
    let head = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    upgraded.send(head).expect("it is open");
    assert_eq!(upgraded.head().expect("an answer").status, 101);
    for _ in 0..2 {
        upgraded.send("hello").expect("it is open");
        assert_eq!(upgraded.read(5).expect("an echo"), b"hello");
    }
}

/// The first of two requests cannot be the last, however long it takes.
#[test]
fn a_second_request_that_came_before_the_response_is_answered_too() {
    let worker = Worker::start(&[("SINGLE", "1")]);
    let (mut single, mut gate) = (worker.connect(), worker.connect());
    single.send("GET /gated HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2)).expect("it is open");
    // The worker has read them when it answers what came later.
    answered(&mut gate);
    gate.send("POST /gate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").expect("it is open");
    let first = single.response().expect("an answer");
    assert_ne!(first.header("connection").as_deref(), Some("close"), "there is more to come");
    last_answer(single);
}

#[test]
fn a_client_that_still_sends_can_read_the_one_response() {
    let worker = Worker::start(&[("SINGLE", "1")]);
    let mut single = worker.connect();
    let some = vec![b'.'; 1 << 20];
    let head = format!("POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 8 << 20);
    single.send(head).expect("it is open");
    for _ in 0..7 {
        single.send(&some).expect("it is read, or left in peace");
    }
    let response = single.response().expect("an answer");
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    assert_eq!(response.body.len(), 1 << 20);
    single.send(&some).expect("nobody has reset it");
    ended(single);
}

#[test]
fn a_client_that_does_not_close_its_end_is_cut_off_when_the_grace_is_over() {
    let worker = Worker::start(&[("SINGLE", "1"), ("SETTINGS", "200,200,3600000")]);
    let mut single = worker.connect();
    single.send(REQUEST).expect("it is open");
    assert_eq!(single.response().expect("an answer").header("connection").as_deref(), Some("close"));
    assert_eq!(single.read_to_end().expect("an end and no reset"), "");
    eventually("nobody takes what the client sends", || single.send("more").is_err());
}

#[test]
fn a_worker_tells_how_many_connections_it_has_got() {
    for balance in ["round-robin", "shared"] {
        for protocol in ["http", "https", "h2c", "h2+http1"] {
            let settings = ("SETTINGS", "3600000,3600000,3600000,count");
            let worker = Worker::start(&[settings, ("BALANCE", balance), ("PROTOCOL", protocol)]);
            let _first = [(); 3].map(|()| worker.connect());
            worker.master.wait_stdout("taken 3.");
            let _second = [(); 2].map(|()| worker.connect());
            worker.master.wait_stdout("taken 5.");
        }
    }
}

/// The count is due while the worker is busy, and is told to a channel that nobody reads any more.
#[test]
fn a_worker_whose_master_died_does_not_stumble_over_its_count() {
    let worker = Worker::start(&[("SETTINGS", "3600000,3600000,3600000,count")]);
    let (mut blocking, mut begun) = (worker.connect(), worker.connect());
    begun.begin_request().expect("it is open");
    blocking.send("GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
    worker.master.wait_stdout("blocks");
    drop(worker);
    assert_eq!(blocking.response().expect("an answer").status, 200);
    let last = begun.finish_request().expect("an answer");
    assert_eq!(last.header("connection").as_deref(), Some("close"));
    ended(begun);
}
