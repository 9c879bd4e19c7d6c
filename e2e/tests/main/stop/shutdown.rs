//! How a cluster ends: it drains at the first signal, kills at the second, and leaves nothing when the master is killed.

use std::fs;
use std::net::TcpStream;

use recluster_e2e::{Connection, Home, Launch, Load, Master, Process, Stage, on};
use rustix::process::Signal;
use serde_json::json;

fn ends_in_good_order(end: impl FnOnce(&Master)) {
    let mut master = Launch::fixture("server.js").serve();
    let address = master.address();
    let mut connection = master.begin_request();
    end(&master);
    master.wait_all(2, on("draining"));
    assert_eq!(connection.finish_request().expect("an answer").status, 200, "the request was finished");
    master.expect_end(0);
    master.wait(on("over"));
    assert!(master.live_pids().is_empty());
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    for exit in master.seen(&on("exit")) {
        assert_eq!(exit.at("/expected"), true);
    }
}

#[test]
fn term_ends_it_in_good_order() {
    ends_in_good_order(|master| master.signal(Signal::TERM));
}

#[test]
fn int_ends_it_in_good_order() {
    ends_in_good_order(|master| master.signal(Signal::INT));
}

#[test]
fn the_client_command_ends_it_in_good_order() {
    let mut master = Launch::fixture("server.js").serve();
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    assert!(master.live_pids().is_empty());
}

#[test]
fn a_second_int_ends_it_at_once() {
    let mut master = Launch::fixture("server.js").serve();
    let _connection = master.begin_request();
    master.signal(Signal::INT);
    // The one without a request is done soon.
    master.wait(on("exit"));
    master.wait(on("stop_waits"));
    master.signal(Signal::INT);
    master.expect_end(0);
    assert!(master.live_pids().is_empty());
    assert_eq!(
        master.seen(&on("exit").with("/exit/signal", 9)).len(),
        1,
        "the one with the request was killed"
    );
}

#[test]
fn a_second_term_ends_it_at_once() {
    let mut master = Launch::fixture("server.js").workers(1).serve();
    let _connection = master.begin_request();
    master.signal(Signal::TERM);
    master.wait(on("stop_waits"));
    master.signal(Signal::TERM);
    master.expect_end(0);
    master.wait(on("exit").with("/exit/signal", 9));
}

#[test]
fn quit_ends_it_at_once() {
    let mut master = Launch::fixture("server.js").serve();
    let _connection = master.begin_request();
    master.signal(Signal::QUIT);
    master.expect_end(0);
    master.wait_all(2, on("exit").with("/exit/signal", 9));
    assert!(master.live_pids().is_empty());
}

#[test]
fn the_client_command_ends_it_at_once() {
    let mut master = Launch::fixture("server.js").serve();
    let _connection = master.begin_request();
    master.client(&["terminate"]).expect_code(0);
    master.expect_end(0);
    master.wait_all(2, on("exit").with("/exit/signal", 9));
}

#[test]
fn workers_that_do_not_finish_are_sent_term() {
    let mut master = Launch::fixture("server.js").workers(1).option("--stop-timeout", "300ms").serve();
    let _connection = master.begin_request();
    master.signal(Signal::TERM);
    let overdue = master.wait(on("overdue"));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("drain", "SIGTERM"));
    master.expect_end(0);
}

#[test]
fn workers_that_ignore_the_signal_are_killed() {
    let launch =
        Launch::fixture("stubborn.js").option("--exit-grace", "200ms").option("--kill-timeout", "200ms");
    let mut master = launch.option("--stop-timeout", "200ms").serve();
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert_eq!(master.wait_all(2, on("overdue").with("/due", "kill")).len(), 2);
    master.wait_all(2, on("exit").with("/exit/signal", 9));
}

#[test]
fn a_stop_during_the_first_start_ends_it_in_good_order() {
    let stage = Stage::new();
    let mut master = stage.launch().workers(1).option("--stop-timeout", "200ms").start();
    stage.next().online();
    master.wait(on("online"));
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(master.seen(&on("start_failed")).is_empty(), "nobody failed");
}

#[test]
fn nothing_is_respawned_during_a_stop() {
    let mut master = Launch::fixture("server.js").serve();
    let mut connection = master.begin_request();
    master.signal(Signal::TERM);
    master.wait(on("exit"));
    connection.finish_request().expect("an answer");
    master.expect_end(0);
    assert_eq!(master.seen(&on("spawned")).len(), 2);
}

#[test]
fn connections_that_wait_when_it_is_stopped_are_served_first() {
    let stage = Stage::new();
    let mut master = stage.launch().workers(1).start();
    let mut puppet = stage.next();
    puppet.serve();
    master.wait(on("started"));
    let mut connections: Vec<_> = (0..30).map(|_| master.connect()).collect();
    for connection in &mut connections {
        connection.send("GET / HTTP/1.1\r\n\r\n").expect("it is connected");
    }
    let first = puppet.handed();
    master.signal(Signal::TERM);
    master.wait(on("draining"));
    puppet.take(&first, true);
    puppet.answer(&first, "served");
    for _ in 1..30 {
        let handed = puppet.handed();
        puppet.take(&handed, true);
        puppet.answer(&handed, "served");
    }
    for connection in &mut connections {
        assert_eq!(connection.response().expect("an answer").body, "served");
    }
    puppet.hear(|message| message["act"] == "disconnect");
    puppet.exit(0);
    master.expect_end(0);
}

/// A cluster that has nothing to do ends at once.
#[test]
fn an_idle_cluster_waits_for_nothing() {
    for balance in ["round-robin", "shared", "kernel", "sticky"] {
        let launch = Launch::fixture("server.js").option("--balance", balance);
        let mut master = launch.option("--stop-timeout", "10m").option("--timeout", "10m").serve();
        master.signal(Signal::TERM);
        master.expect_end(0);
    }
}

/// A connection that was made is served: only making one may fail.
#[track_caller]
pub(crate) fn resets_no_connection(mut master: Master) {
    let address = master.address();
    let load = Load::begin(4, move || match Connection::open(address) {
        Ok(mut connection) => connection.get("/").map(|_| "served".to_owned()).map_err(Some),
        Err(_) => Err(None),
    });
    load.go_on(200);
    master.signal(Signal::TERM);
    master.expect_end(0);
    let reset: Vec<_> = load.end().lost.into_iter().flatten().collect();
    assert!(reset.is_empty(), "{reset:?}");
}

#[track_caller]
fn a_stop_resets_no_connection(balance: &str) {
    // Whoever waited for a part of the stop timeout would not end in time.
    let launch = Launch::fixture("server.js").workers(3).option("--balance", balance);
    resets_no_connection(launch.option("--stop-timeout", "10m").option("--timeout", "10m").serve());
}

#[test]
fn a_stop_resets_no_connection_with_round_robin() {
    a_stop_resets_no_connection("round-robin");
}

#[test]
fn a_stop_resets_no_connection_on_a_shared_socket() {
    a_stop_resets_no_connection("shared");
}

#[test]
fn a_stop_resets_no_connection_with_kernel() {
    a_stop_resets_no_connection("kernel");
}

#[test]
fn no_worker_outlives_a_master_that_is_killed() {
    let mut master = Launch::fixture("server.js").workers(3).serve();
    master.signal(Signal::KILL);
    master.wait_end();
    master.wait_workers_gone();
}

#[test]
fn a_program_that_is_not_node_does_not_outlive_a_master_that_is_killed() {
    let mut master = Launch::fixture("program.sh").serve();
    master.signal(Signal::KILL);
    master.wait_end();
    master.wait_workers_gone();
}

#[test]
fn a_worker_that_ignores_sigterm_does_not_outlive_a_master_that_is_killed() {
    let mut master = Launch::fixture("stubborn.js").workers(1).serve();
    master.signal(Signal::KILL);
    master.wait_end();
    master.wait_workers_gone();
}

#[test]
fn after_a_master_was_killed_another_can_start_at_once() {
    let home = Home::new();
    // Connections of other tests come from 127.0.0.1 and cannot take the port.
    let launch = || {
        Launch::fixture("server.js")
            .home(&home)
            .discoverable()
            .option("--name", "shop")
            .env("HOST", "127.0.1.3")
    };
    let mut first = launch().serve();
    let address = first.address();
    first.signal(Signal::KILL);
    first.wait_end();
    let second = launch().env("PORT", address.port().to_string()).serve();
    assert_eq!(second.address(), address);
    let status = home.recluster(&["status", "--name", "shop", "--json"]);
    assert_eq!(status.json()["pid"], second.process().pid(), "the stale control socket was replaced");
}

#[test]
fn after_a_master_was_killed_another_can_take_its_unix_socket() {
    let home = Home::new();
    let path = home.join("server.sock");
    let launch =
        || Launch::fixture("server.js").home(&home).env("LISTEN", json!({ "path": path }).to_string());
    let mut first = launch().serve();
    first.signal(Signal::KILL);
    first.wait_end();
    let _second = launch().serve();
    let mut connection = Connection::open_unix(&path).expect("somebody listens");
    assert_eq!(connection.get("/").expect("an answer").status, 200);
}

#[test]
fn a_stop_leaves_no_file_behind() {
    let home = Home::new();
    let pidfile = home.join("master.pid");
    let launch = Launch::fixture("server.js").home(&home).option("--pidfile", &pidfile.to_string_lossy());
    let mut master = launch.discoverable().option("--name", "shop").serve();
    assert_eq!(fs::read_to_string(&pidfile).expect("the pidfile").trim(), master.process().pid().to_string());
    assert!(home.join("recluster/shop.sock").exists());
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!pidfile.exists());
    assert!(!home.join("recluster/shop.sock").exists());
}

#[test]
fn children_of_workers_end_with_them() {
    let mut master = Launch::fixture("has-a-child.js").workers(1).option("--ready-when", "started").start();
    let line = master.wait_stdout("child ");
    let child = line.trim_start_matches("child ").parse().expect("a number");
    let child = Process::open(child).expect("it lives");
    assert!(child.lives());
    master.signal(Signal::QUIT);
    master.expect_end(0);
    child.wait_end();
}

/// So that a Ctrl-C on the terminal reaches the master alone, which then lets them go in order.
#[test]
fn each_worker_has_a_process_group_of_its_own() {
    let master = Launch::fixture("server.js").serve();
    for spawned in master.seen(&on("spawned")) {
        assert_eq!(master.worker(&spawned).group(), spawned.pid());
    }
}
