//! How long the master keeps a listening socket open: as long as any slot may use it.

use std::net::TcpStream;

use recluster_e2e::{Connection, Home, Launch, Stage, eventually, get, on};
use serde_json::json;

use super::node::servers;

#[test]
fn an_address_that_only_the_old_code_used_is_closed() {
    let home = Home::new();
    let server = home.release("old", "server.js");
    let master = Launch::of(server).home(&home).workers(1).serve();
    let old = master.address();
    home.release("new", "elsewhere.js");
    master.reload().expect_code(0);
    master.wait(on("exit").generation(1));
    eventually("the old address is closed", || TcpStream::connect(old).is_err());
    let new = master.address_of(&master.wait(on("listening").generation(2)));
    assert_eq!(get(new, "/").expect("an answer").body, "elsewhere");
}

#[test]
fn a_server_that_closes_leaves_the_address_to_the_others() {
    let two = json!({ "one": { "port": 0, "host": "127.0.0.1" }, "two": { "port": 0, "host": "127.0.0.1" } });
    let master = servers(&two).serve();
    let closed = master.get("/close").text("name");
    master.wait_stdout(&format!("closed {closed}"));
    let answers: Vec<_> = (0..10).map(|_| master.get("/").text("slot")).collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "only the other worker has it: {answers:?}");
}

#[test]
fn an_address_that_no_worker_wants_any_more_is_closed() {
    let two = json!({ "one": { "port": 0, "host": "127.0.0.1" }, "two": { "port": 0, "host": "127.0.0.1" } });
    let master = servers(&two).workers(1).serve();
    let address = master.address();
    master.get("/close");
    eventually("the port is closed", || TcpStream::connect(address).is_err());
}

#[test]
fn a_queue_outlives_the_workers_of_a_reload() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    stage.next().serve();
    let before = master.address();
    master.wait(on("started"));
    master.signal(rustix::process::Signal::USR2);
    let mut new = stage.next();
    new.serve();
    master.wait(on("reloaded").with("/verdict", "done"));
    let mut connection = Connection::open(before).expect("the address stays open");
    connection.send("GET / HTTP/1.1\r\n\r\n").expect("it is connected");
    let handed = new.handed();
    new.take(&handed, true);
    new.answer(&handed, "new");
    assert_eq!(connection.response().expect("an answer").body, "new");
}
