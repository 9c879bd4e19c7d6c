//! Upgraded connections (WebSocket) during a drain: they stay open until the application closes them.

use std::net::TcpStream;

use recluster_e2e::{Connection, Launch, modules, on};
use serde_json::json;

use super::{answered, cluster, drain, ended, left, tell};

fn upgrade(connection: &mut Connection<TcpStream>) {
    let head = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let websocket = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    connection.send(format!("{head}{websocket}")).expect("it is open");
    let answer = connection.head().expect("an answer");
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("connection").map(|value| value.to_lowercase()).as_deref(), Some("upgrade"));
}

/// Sends a text of a WebSocket, masked with zeros, and reads it back.
fn echo(connection: &mut Connection<TcpStream>) {
    connection.send(b"\x81\x85\0\0\0\0hello").expect("it is open");
    assert_eq!(connection.read(7).expect("an echo"), b"\x81\x05hello");
}

fn websockets() -> Launch {
    cluster().server(recluster_e2e::fixture("frameworks/ws-echo.js")).env("NODE_PATH", modules())
}

#[test]
fn a_websocket_stays_open_until_the_application_closes_it() {
    let master = websockets().option("--idle-grace", "200ms").serve();
    let mut websocket = master.connect();
    upgrade(&mut websocket);
    tell(&master);
    master.wait(on("draining"));
    echo(&mut websocket);
    // The fixture says goodbye to whoever says so.
    websocket.send(b"\x81\x83\0\0\0\0bye").expect("it is open");
    assert_eq!(websocket.read(4).expect("a farewell"), b"\x88\x02\x03\xe9", "closed with 1001");
    websocket.send(b"\x88\x82\0\0\0\0\x03\xe9").expect("it is open");
    ended(websocket);
    left(&master);
}

#[test]
fn a_connection_may_be_upgraded_during_the_drain() {
    let master = cluster().serve();
    let mut connection = master.connect();
    answered(&mut connection);
    drain(&master);
    upgrade(&mut connection);
    connection.send("hello").expect("it is open");
    assert_eq!(connection.read(5).expect("an echo"), b"hello");
    drop(connection);
    left(&master);
}

#[test]
fn the_log_says_what_a_worker_had_at_its_timeout() {
    let master = websockets().option("--timeout", "1s").option("--idle-grace", "200ms").serve();
    let (mut upgraded, mut requesting) = (master.connect(), master.connect());
    upgrade(&mut upgraded);
    requesting.begin_request().expect("a worker should take the request");
    tell(&master);
    let overdue = master.wait(on("overdue"));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("drain", "SIGTERM"));
    assert_eq!(overdue.at("/held"), &json!({ "connections": 2, "upgraded": 1, "requests": 1 }));
    assert_eq!(master.wait(on("exit")).at("/exit"), &json!({ "signal": 15 }));
}
