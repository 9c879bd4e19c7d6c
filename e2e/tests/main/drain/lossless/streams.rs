//! Clients of server-sent events, which come back when their stream ends: on a new connection, to a new worker.

use recluster_e2e::Response;

use super::{answered_last, cluster, ended, left, tell};

/// A stream that the application ends when it is let go, as its clients may be told to come back then.
#[track_caller]
fn is_followed_by_an_end(kind: &str) {
    let master = cluster().env("AT_DISCONNECT", "ends streams").serve();
    let mut connection = master.connect();
    connection.send(format!("GET /events/{kind} HTTP/1.1\r\nHost: localhost\r\n\r\n")).expect("it is open");
    let head: Response = connection.head().expect("a head");
    assert_ne!(head.header("connection").as_deref(), Some("close"), "nobody drains yet");
    tell(&master);
    let rest = connection.read_to_end().expect("an end and no reset");
    assert!(rest.contains("retry: 1") && rest.ends_with("0\r\n\r\n"), "{kind}: {rest:?}");
    // The server waits until its client closes, too.
    drop(connection);
    left(&master);
}

#[test]
fn a_stream_of_events_that_ends_closes_its_connection() {
    for kind in ["plain", "charset", "upper", "pairs", "compressed"] {
        is_followed_by_an_end(kind);
    }
}

/// A client that had sent its next request already would lose it.
#[test]
fn another_stream_that_ends_leaves_its_connection_open_for_one_more_request() {
    let master = cluster().env("AT_DISCONNECT", "ends streams").serve();
    let mut connection = master.connect();
    connection.send("GET /events/other HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
    connection.head().expect("a head");
    tell(&master);
    while !connection.chunk().expect("a chunk").is_empty() {}
    answered_last(connection);
    left(&master);
}

/// The head of a stream that begins during the drain says it.
#[test]
fn a_stream_of_events_that_begins_late_says_that_its_connection_closes() {
    let master = cluster().serve();
    let (mut late, mut idle) = (master.connect(), master.connect());
    super::answered(&mut late);
    super::answered(&mut idle);
    super::drain(&master);
    late.send("GET /events/short HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
    let head = late.head().expect("a head");
    assert_eq!(head.header("connection").as_deref(), Some("close"));
    ended_behind(late);
    answered_last(idle);
    left(&master);
}

#[track_caller]
fn ended_behind(mut connection: recluster_e2e::Connection<std::net::TcpStream>) {
    while !connection.chunk().expect("a chunk").is_empty() {}
    ended(connection);
}
