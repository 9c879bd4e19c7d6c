//! The messages that a worker gets on its channel, field by field: Node relies on them.

use std::net::TcpListener;

use recluster_e2e::{Launch, Master, Puppet, Stage, eventually, get, on};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A cluster of one puppet that is online.
fn lone_puppet(stage: &Stage) -> (Master, Puppet) {
    let master = stage.launch().workers(1).start();
    let mut puppet = stage.next();
    puppet.online();
    (master, puppet)
}

#[test]
fn a_listen_is_answered_with_a_key_an_address_and_the_data_of_the_first() {
    let stage = Stage::new();
    let master = stage.launch().workers(2).start();
    let (mut first, mut second) = (stage.next(), stage.next());
    first.online();
    second.online();
    let reply = first.query(&json!({ "data": { "ticketKeys": "aa" } }));
    assert_eq!(reply["errno"], Value::Null);
    assert_eq!(reply["data"], json!({ "ticketKeys": "aa" }));
    assert_eq!(reply["sockname"]["address"], "127.0.0.1");
    assert_eq!(reply["sockname"]["family"], "IPv4");
    assert!(reply["key"].as_str().is_some_and(|key| !key.is_empty()));
    let other = second.query(&json!({ "data": { "ticketKeys": "bb" } }));
    assert_eq!(other["sockname"], reply["sockname"], "one socket for both");
    assert_eq!(other["data"], reply["data"], "TLS sessions are good at every worker");
    drop(master);
}

#[test]
fn the_keys_of_one_worker_are_all_different() {
    let stage = Stage::new();
    let (_master, mut puppet) = lone_puppet(&stage);
    let keys = [0, 1, 2].map(|index| puppet.query(&json!({ "index": index }))["key"].to_string());
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2], "{keys:?}");
}

#[test]
fn an_error_is_a_negative_number_and_comes_with_the_data() {
    let stage = Stage::new();
    let (_master, mut puppet) = lone_puppet(&stage);
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = occupied.local_addr().expect("it is bound").port();
    let reply = puppet.query(&json!({ "port": port, "data": { "ticketKeys": "aa" } }));
    assert_eq!(reply["errno"], json!(-98), "EADDRINUSE");
    assert_eq!(reply["data"], json!({ "ticketKeys": "aa" }), "without it a TLS worker would die");
    assert!(reply["key"].as_str().is_some_and(|key| !key.is_empty()));
}

#[test]
fn a_worker_that_leaves_is_answered() {
    let stage = Stage::new();
    let (_master, mut puppet) = lone_puppet(&stage);
    let seq = puppet.say_cluster(json!({ "act": "exitedAfterDisconnect" }));
    puppet.reply_to(seq);
}

#[test]
fn questions_about_handed_sockets_are_answered() {
    let stage = Stage::new();
    let (_master, mut puppet) = lone_puppet(&stage);
    puppet.say(&json!({ "cmd": "NODE_SOCKET_GET_COUNT", "key": "k1" }));
    let count = puppet.hear(|message| message["cmd"] == "NODE_SOCKET_COUNT");
    assert_eq!((&count["key"], &count["count"]), (&json!("k1"), &json!(0)));
    puppet.say(&json!({ "cmd": "NODE_SOCKET_NOTIFY_CLOSE", "key": "k2" }));
    let closed = puppet.hear(|message| message["cmd"] == "NODE_SOCKET_ALL_CLOSED");
    assert_eq!(closed["key"], "k2");
}

#[test]
fn a_worker_is_told_to_disconnect_once() {
    let stage = Stage::new();
    let mut master = stage.launch().workers(1).start();
    let mut puppet = stage.next();
    puppet.serve();
    master.wait(on("started"));
    puppet.say(&json!({ "cmd": "disconnect" }));
    puppet.hear(|message| message["act"] == "disconnect");
    master.signal(Signal::TERM);
    let mut next = stage.next();
    next.online();
    next.hear(|message| message["act"] == "disconnect");
    next.exit(0);
    let seq = puppet.say_cluster(json!({ "act": "exitedAfterDisconnect" }));
    puppet.reply_to(seq);
    assert_eq!(puppet.unheard(|message| message["act"] == "disconnect"), 0);
    puppet.exit(0);
    master.expect_end(0);
}

#[test]
fn a_worker_that_began_its_own_disconnect_is_not_told_to() {
    let stage = Stage::new();
    let launch = stage.launch().workers(1).env("PUPPET_IGNORES_TERM", "1");
    let master = launch.option("--timeout", "500ms").option("--kill-timeout", "1h").start();
    let mut puppet = stage.next();
    puppet.serve();
    master.wait(on("started"));
    let seq = puppet.say_cluster(json!({ "act": "exitedAfterDisconnect" }));
    puppet.reply_to(seq);
    // Its patience is longer than what the master waits before it says anything.
    master.wait(on("overdue").with("/due", "drain"));
    let seq = puppet.say_cluster(json!({ "act": "exitedAfterDisconnect" }));
    puppet.reply_to(seq);
    assert_eq!(puppet.unheard(|message| message["act"] == "disconnect"), 0);
}

#[test]
fn connections_do_not_block() {
    let stage = Stage::new();
    let (master, mut puppet) = lone_puppet(&stage);
    let reply = puppet.listen();
    master.wait(on("started"));
    let _connection = master.connect();
    let handed = puppet.handed();
    assert_eq!(handed.key, reply["key"]);
    assert!(!handed.blocks, "a connection that blocks would freeze its worker");
}

#[test]
fn a_shared_socket_does_not_block() {
    let stage = Stage::new();
    let _master = stage.launch().workers(1).option("--balance", "shared").start();
    let mut puppet = stage.next();
    puppet.online();
    let seq = puppet.say_cluster(json!({
        "act": "queryServer", "index": 0, "data": null,
        "address": "127.0.0.1", "port": 0, "addressType": 4,
    }));
    let (message, blocks) = puppet.hear_handle(|message| message["msg"]["ack"] == seq);
    assert_eq!(message["type"], "net.Native");
    assert_eq!(message["msg"]["errno"], json!(0));
    assert_eq!(blocks, Some(false));
}

/// Node takes at most 64 KiB at a time from its channel, and a handle whose message is cut there would be mistaken for
/// the one behind it.
#[test]
fn behind_many_messages_only_one_connection_is_under_way() {
    let stage = Stage::new();
    let (master, mut puppet) = lone_puppet(&stage);
    let _reply = puppet.listen();
    master.wait(on("started"));
    // Each reply has the data of its server.
    for index in 1..=33 {
        let reply = puppet.query(&json!({ "index": index, "data": "x".repeat(2_000) }));
        assert_eq!(reply["data"].as_str().map(str::len), Some(2_000));
    }
    let _connections = [master.connect(), master.connect()];
    let first = puppet.handed();
    puppet.query(&json!({ "index": 34 }));
    let newconn = |message: &Value| message["msg"]["act"] == "newconn";
    assert_eq!(puppet.unheard(newconn), 0, "the second one waits for the acknowledgement of the first");
    puppet.take(&first, true);
    puppet.handed();
}

#[test]
fn several_connections_are_under_way_at_once() {
    let stage = Stage::new();
    let (master, mut puppet) = lone_puppet(&stage);
    let _reply = puppet.listen();
    master.wait(on("started"));
    let _connections = [master.connect(), master.connect()];
    puppet.handed();
    puppet.handed();
}

#[test]
fn a_worker_that_never_stops_talking_keeps_nobody_else_from_being_served() {
    // Messages are not logged: the log would lose lines, and the test could wait for none of them.
    let master =
        Launch::fixture("floods.js").workers(2).option("--ready-when", "started").without("-v").start();
    let mut address = None;
    eventually("the other worker listens", || {
        address =
            master.status()["listeners"][0]["address"].as_str().and_then(|address| address.parse().ok());
        address.is_some()
    });
    for _ in 0..20 {
        let answer = get(address.expect("it listens"), "/").expect("an answer");
        assert_eq!(answer.text("slot"), "1");
    }
    master.client(&["terminate"]).expect_code(0);
}
