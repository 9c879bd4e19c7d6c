//! Clients that send requests without waiting for the answers (pipelining). Such a client takes what is behind an answer
//! with `Connection: close` for lost: so only the last answer may say that.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use recluster_e2e::{Connection, Launch, Response, on};

use super::{Tunnel, answered, answered_last, cluster, drain, ended, last_answer, left};

/// How a handler may answer: see `ways` in the fixture.
const WAYS: [&str; 10] =
    ["end", "head", "parts", "tick", "turn", "later", "flushed", "mixed", "read", "large"];

/// The Nth request that is to be answered in this way, with a body of so many bytes.
fn request(way: &str, number: usize, body: usize) -> String {
    let head = format!("POST /way/{way}/{number} HTTP/1.1\r\nHost: localhost\r\nX-User: 1\r\n");
    format!("{head}Content-Length: {body}\r\n\r\n{}", "x".repeat(body))
}

fn requests(way: &str, count: usize, body: usize) -> String {
    (0..count).map(|number| request(way, number, body)).collect()
}

/// The answer to the Nth request.
#[track_caller]
fn answer(connection: &mut Connection<impl Read + Write>, way: &str, number: usize) -> Response {
    let response = connection.response().expect("an answer");
    assert_eq!(response.body.trim_end_matches('.'), format!("/way/{way}/{number}"));
    response
}

/// Reads an answer to each of so many requests, and the end of the connection, which only the last answer announces.
#[track_caller]
fn all_answered(mut connection: Connection<impl Read + Write>, way: &str, count: usize) {
    for number in 0..count {
        let response = answer(&mut connection, way, number);
        let says_close = response.header("connection").as_deref() == Some("close");
        assert_eq!(says_close, number + 1 == count, "{way}: {number} of {count}");
    }
    ended(connection);
}

#[test]
fn all_are_answered_however_their_handler_answers() {
    let master = cluster().serve();
    let bursts = WAYS.iter().flat_map(|way| [2, 5, 100].map(|count| (*way, count)));
    let mut bursts: Vec<_> = bursts.map(|(way, count)| (master.connect(), way, count)).collect();
    answered(&mut bursts[0].0);
    drain(&master);
    for (mut connection, way, count) in bursts {
        connection.send(requests(way, count, count % 3 * 10)).expect("it is open");
        all_answered(connection, way, count);
    }
    left(&master);
}

/// An answer is held back for a moment, and is with its client all the same.
#[test]
fn an_answer_is_sent_whatever_its_handler_does_behind_it() {
    for way in
        ["socket-end", "destroy-soon", "destroy", "destroy-request", "destroy-response", "exit", "throw"]
    {
        let master = cluster().serve();
        let mut connection = master.connect();
        answered(&mut connection);
        drain(&master);
        connection.send(request(way, 0, 0)).expect("it is open");
        answer(&mut connection, way, 0);
    }
}

/// Node destroys the connection on which that comes.
#[test]
fn an_answer_is_sent_before_what_is_behind_its_request_is_found_to_be_no_request() {
    let master = cluster().serve();
    let mut connection = master.connect();
    answered(&mut connection);
    drain(&master);
    connection.send(format!("{}no request\r\n\r\n", request("end", 0, 0))).expect("it is open");
    answer(&mut connection, "end", 0);
    left(&master);
}

/// More than Node reads of a request that nobody wants.
#[test]
fn requests_with_long_bodies_are_answered() {
    let master = cluster().serve();
    let mut bursts = ["end", "read", "later", "large"].map(|way| (master.connect(), way));
    answered(&mut bursts[0].0);
    drain(&master);
    for (mut connection, way) in bursts {
        connection.send(requests(way, 4, 100_000)).expect("it is open");
        all_answered(connection, way, 4);
    }
    left(&master);
}

#[test]
fn a_request_of_which_a_byte_has_arrived_is_answered() {
    let master = cluster().serve();
    let whole = request("end", 1, 3);
    let cuts = [1, 10, whole.len() - 5, whole.len() - 1];
    let mut connections = cuts.map(|cut| (master.connect(), cut));
    answered(&mut connections[0].0);
    drain(&master);
    for (mut connection, cut) in connections {
        let (begin, rest) = whole.split_at(cut);
        connection.send(request("end", 0, 0) + begin).expect("it is open");
        if cut < whole.len() - 3 {
            let first = answer(&mut connection, "end", 0);
            assert_ne!(first.header("connection").as_deref(), Some("close"), "cut at {cut}");
            connection.send(rest).expect("it is open");
            assert_eq!(answer(&mut connection, "end", 1).header("connection").as_deref(), Some("close"));
            ended(connection);
        } else {
            connection.send(rest).expect("it is open");
            all_answered(connection, "end", 2);
        }
    }
    left(&master);
}

/// When the second is answered nothing is behind it; it is sent when something is.
#[test]
fn an_answer_that_waits_for_its_turn_does_not_say_too_early_that_it_is_the_last_one() {
    let master = cluster().serve();
    let mut gate = master.connect();
    gate.send("POST /gate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n").expect("it is open");
    let (mut connection, later) = (master.connect(), master.connect());
    answered(&mut connection);
    drain(&master);
    let gated = "GET /gated HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
    connection.send(gated + &request("end", 0, 0)).expect("it is open");
    connection.send(request("end", 1, 0)).expect("it is open");
    // The worker has read them when it answers what came later.
    answered_last(later);
    gate.send("end").expect("it is open");
    last_answer(gate);
    let first = connection.response().expect("an answer");
    assert_ne!(first.header("connection").as_deref(), Some("close"));
    all_answered(connection, "end", 2);
    left(&master);
}

#[test]
fn a_client_that_ends_its_side_is_answered() {
    let master = cluster().serve();
    let streams = [1, 5].map(|count| {
        let stream = TcpStream::connect(master.address()).expect("it listens");
        (stream.try_clone().expect("a descriptor"), Connection::over(stream).expect("it is open"), count)
    });
    answered(&mut master.connect());
    drain(&master);
    for (stream, mut connection, count) in streams {
        connection.send(requests("end", count, 0)).expect("it is open");
        stream.shutdown(Shutdown::Write).expect("it is open");
        all_answered(connection, "end", count);
    }
    left(&master);
}

#[test]
fn the_same_holds_for_clients_of_http_1_0_and_for_those_that_wait_to_be_asked_for_the_body() {
    let master = cluster().serve();
    let (mut old, mut waiting) = (master.connect(), master.connect());
    answered(&mut waiting);
    drain(&master);
    let of_old = requests("end", 5, 0).replace("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n");
    old.send(of_old).expect("it is open");
    all_answered(old, "end", 5);
    let expecting =
        requests("read", 3, 3).replace("Content-Length", "Expect: 100-continue\r\nContent-Length");
    waiting.send(expecting).expect("it is open");
    for number in 0..3 {
        assert_eq!(waiting.head().expect("a word").status, 100);
        let says = answer(&mut waiting, "read", number).header("connection");
        assert_eq!(says.as_deref() == Some("close"), number == 2, "{says:?}");
    }
    ended(waiting);
    left(&master);
}

#[test]
fn the_same_holds_under_tls() {
    let master = cluster().env("PROTOCOL", "https").serve();
    let tunnel = Tunnel::to(&master, "http/1.1");
    let mut bursts = [("end", 2), ("mixed", 30), ("large", 5)].map(|burst| (tunnel.connect(&master), burst));
    answered(&mut bursts[0].0);
    drain(&master);
    for (mut connection, (way, count)) in bursts {
        connection.send(requests(way, count, 10)).expect("it is open");
        all_answered(connection, way, count);
    }
    left(&master);
}

/// Not in a drain: a connection that its master chose a worker for by what the first request says.
#[test]
fn all_that_has_arrived_on_a_connection_for_one_response_is_answered() {
    let launch = Launch::fixture("drains.js").option("--balance", "sticky");
    let master = launch.option("--sticky-by", "header:x-user").option("--peek-timeout", "1h").serve();
    for way in ["end", "mixed", "read"] {
        let mut connection = master.connect();
        connection.send(requests(way, 20, 10)).expect("it is open");
        all_answered(connection, way, 20);
    }
}

/// Each burst is one packet.
#[test]
fn reloads_amid_bursts_lose_nothing() {
    let master = Launch::fixture("drains.js").workers(2).option("--bake", "100ms").serve();
    let address = master.address();
    let over = Arc::new(AtomicBool::new(false));
    let clients = ["end", "mixed"].map(|way| {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                bursts(Connection::open(address).expect("it listens"), way, &over);
            }
        })
    });
    for generation in 2..4 {
        master.reload().expect_code(0);
        master.wait_all(2, on("exit").generation(generation - 1));
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no answer is missing");
    }
}

/// Sends bursts until the last answer of one says that the connection closes.
fn bursts(mut connection: Connection<TcpStream>, way: &str, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        connection.send(requests(way, 5, 10)).expect("it is open");
        for number in 0..5 {
            let says = answer(&mut connection, way, number).header("connection");
            let says_close = says.as_deref() == Some("close");
            assert!(!says_close || number == 4, "{way}: {number} is not the last one");
            if says_close {
                return ended(connection);
            }
        }
    }
}
