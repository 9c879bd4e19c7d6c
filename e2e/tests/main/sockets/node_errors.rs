//! A Node server that cannot listen gets its own `error` event, as without a cluster.

use std::net::{TcpListener, UdpSocket};

use recluster_e2e::{Home, Launch, on, renounce};
use rustix::thread::CapabilitySet;
use serde_json::json;

use super::node::{free_port, servers};

#[test]
fn an_invalid_descriptor_is_an_error_of_the_server() {
    let master = servers(&json!({ "fd": { "fd": 77 } })).workers(1).start();
    master.wait_stdout("error fd EINVAL");
}

#[test]
fn a_port_in_use_is_an_error_of_the_server() {
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = occupied.local_addr().expect("it is bound").port();
    let both =
        json!({ "taken": { "port": port, "host": "127.0.0.1" }, "free": { "port": 0, "host": "127.0.0.1" } });
    let master = servers(&both).workers(1).serve();
    master.wait_stdout(&format!("error taken EADDRINUSE bind {port}"));
    assert_eq!(master.get("/").text("name"), "free", "the worker goes on with its other server");
}

#[test]
fn the_same_port_twice_in_one_worker_is_an_error_of_the_second_server() {
    let where_both = json!({ "port": free_port("127.0.1.2"), "host": "127.0.1.2" });
    let master = servers(&json!({ "first": where_both, "second": where_both })).workers(1).start();
    master.wait_stdout("listens first");
    master.wait_stdout("error second EADDRINUSE");
}

#[test]
fn an_address_that_is_not_ours_is_an_error_of_the_server() {
    let master = servers(&json!({ "foreign": { "port": 0, "host": "192.0.2.1" } })).workers(1).start();
    master.wait_stdout("error foreign EADDRNOTAVAIL");
}

#[test]
fn a_unix_socket_in_no_directory_is_an_error_of_the_server() {
    let master = servers(&json!({ "lost": { "path": "/nowhere/server.sock" } })).workers(1).start();
    master.wait_stdout("error lost ENOENT");
}

#[test]
fn a_unix_socket_of_somebody_who_lives_is_left_alone() {
    let home = Home::new();
    let path = home.join("server.sock");
    let _other = std::os::unix::net::UnixListener::bind(&path).expect("the directory is ours");
    let master = servers(&json!({ "unix": { "path": path } })).home(&home).workers(1).start();
    master.wait_stdout("error unix EADDRINUSE");
    assert!(path.exists());
}

#[test]
fn udp_errors_are_errors_of_the_server() {
    let occupied = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = occupied.local_addr().expect("it is bound").port();
    let bind = json!({ "port": port, "address": "127.0.0.1" });
    let master = Launch::fixture("udp.js").workers(1).env("BIND", bind.to_string()).start();
    master.wait_stdout("error EADDRINUSE bind");
}

#[test]
#[cfg_attr(not(has = "privileged-ports"), ignore = "on this machine everyone may listen on every port")]
fn a_port_that_is_not_permitted_is_an_error_of_the_server() {
    renounce(&[CapabilitySet::NET_BIND_SERVICE]);
    let mut master =
        Launch::fixture("server.js").workers(1).option("--attempts", "1").env("PORT", "1").start();
    let verdict = master.wait(on("start_failed"));
    assert_eq!(verdict.at("/failure/stderr"), &json!(["cannot listen: EACCES bind"]));
    master.expect_end(3);
}
