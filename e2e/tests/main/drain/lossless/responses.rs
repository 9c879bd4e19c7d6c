//! Responses during a drain: each says `Connection: close`, whatever headers the application sets.

use std::fmt::Write as _;

use super::{answered, answered_last, cluster, drain, ended, last_answer, left};

#[test]
fn a_response_in_progress_leaves_its_connection_open_for_the_next_request() {
    let master = cluster().serve();
    let mut connection = master.connect();
    connection
        .send("POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n")
        .expect("it is open");
    let head = connection.head().expect("a head");
    assert_eq!(connection.read(5).expect("the first part"), b"begin");
    drain(&master);
    connection.send("end").expect("it is open");
    assert_eq!(connection.read(3).expect("the rest"), b"end");
    assert_ne!(head.header("connection").as_deref(), Some("close"));
    answered_last(connection);
    left(&master);
}

/// Whatever the application says about the connection, the answer says that it closes, once.
#[test]
fn every_head_says_that_the_connection_closes() {
    let heads = [
        ("keep-alive", "close"),
        ("removed", "close"),
        ("object", "close"),
        ("array", "close"),
        ("pairs", "close"),
        ("token", "close, X-Hop"),
        ("close", "close"),
        ("chunked", "close"),
        ("304", "close"),
        ("flushed", "close"),
    ];
    let master = cluster().serve();
    let mut connections = heads.map(|_| master.connect());
    answered(&mut connections[heads.len() - 1]);
    drain(&master);
    for (mut connection, (name, expected)) in connections.into_iter().zip(heads) {
        connection.send(format!("GET /head/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n")).expect("it is open");
        let head = connection.head().expect("an answer");
        assert_eq!(head.header("connection").as_deref(), Some(expected), "{name}: {head:?}");
        assert_eq!(head.header("keep-alive"), None, "{name}");
        let body = connection.read_to_end().expect("an end and no reset");
        assert_eq!(body.contains("body"), name != "304", "{name}: {body:?}");
    }
    left(&master);
}

#[test]
fn a_head_that_changes_the_protocol_is_left_alone() {
    let master = cluster().serve();
    let mut connection = master.connect();
    answered(&mut connection);
    drain(&master);
    connection.send("GET /head/101 HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
    assert_eq!(connection.head().expect("an answer").header("connection").as_deref(), Some("Upgrade"));
    drop(connection);
    left(&master);
}

#[test]
fn clients_that_neither_close_nor_finish_do_not_hold_the_worker() {
    let master = cluster().option("--idle-grace", "5s").serve();
    let (mut sending, mut open) = (master.connect(), master.connect());
    answered(&mut open);
    drain(&master);
    sending.send("POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n").expect("it is open");
    assert_eq!(sending.response().expect("an answer").body.len(), 1 << 20);
    assert_eq!(open.get("/").expect("an answer").header("connection").as_deref(), Some("close"));
    assert_eq!(open.read_to_end().expect("an end and no reset"), "");
    left(&master);
}

#[test]
fn an_answer_without_a_body_ends_its_connection_too() {
    let master = cluster().serve();
    let mut connection = master.connect();
    answered(&mut connection);
    drain(&master);
    connection.send("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
    let head = connection.head().expect("an answer");
    assert_eq!(head.header("connection").as_deref(), Some("close"));
    ended(connection);
    left(&master);
}

#[test]
fn a_client_of_http_1_0_is_answered_as_ever() {
    let master = cluster().serve();
    let (mut plain, mut kept) = (master.connect(), master.connect());
    kept.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").expect("it is open");
    let before = kept.response().expect("an answer");
    assert_eq!(before.header("connection").as_deref(), Some("keep-alive"));
    drain(&master);
    plain.send("GET / HTTP/1.0\r\n\r\n").expect("it is open");
    last_answer(plain);
    kept.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").expect("it is open");
    last_answer(kept);
    left(&master);
}

#[test]
fn only_the_last_of_several_pipelined_requests_ends_the_connection() {
    let master = cluster().serve();
    let mut gate = master.connect();
    gate.send("POST /gate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n").expect("it is open");
    let mut connection = master.connect();
    answered(&mut connection);
    let mut requests = String::new();
    for _ in 0..4 {
        write!(requests, "GET /gated HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a string takes anything");
    }
    connection.send(requests).expect("it is open");
    // The worker has read them when it answers what came later.
    answered(&mut master.connect());
    drain(&master);
    gate.send("end").expect("it is open");
    last_answer(gate);
    for _ in 0..3 {
        let response = connection.response().expect("an answer");
        assert_ne!(response.header("connection").as_deref(), Some("close"), "there are more to come");
    }
    last_answer(connection);
    left(&master);
}

/// To close at once, while the client still sends, would reset the connection, and the client might lose the answer.
#[test]
fn a_client_that_still_sends_can_read_an_early_answer() {
    let master = cluster().serve();
    let mut connection = master.connect();
    answered(&mut connection);
    drain(&master);
    let length = 64 << 20;
    connection
        .send(format!("POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"))
        .expect("it is open");
    let some = vec![b'.'; 1 << 20];
    for _ in 0..63 {
        connection.send(&some).expect("it is read, or left in peace");
    }
    let response = connection.response().expect("an answer");
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    assert_eq!(response.body.len(), 1 << 20);
    connection.send(&some).expect("nobody has reset it");
    ended(connection);
    left(&master);
}

#[test]
fn a_worker_without_connections_leaves_at_once() {
    let master = cluster().option("--idle-grace", "1h").serve();
    master.get("/");
    drain(&master);
    left(&master);
}
