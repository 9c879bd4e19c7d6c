//! When a worker counts as ready, and when a ready one serves.

use std::time::Duration;

use recluster_e2e::{Launch, Stage, on};
use serde_json::json;

#[test]
fn a_worker_is_ready_when_it_listens() {
    let master = Launch::fixture("server.js").workers(1).start();
    master.wait(on("ready"));
    assert_eq!(master.seen(&on("listening")).len(), 1, "it listened first");
}

#[test]
fn a_worker_may_be_ready_when_it_runs() {
    let master = Launch::fixture("never-listens.js").workers(1).option("--ready-when", "started").serve();
    assert!(master.seen(&on("listening")).is_empty());
    assert_eq!(master.seen(&on("online")).len(), 1);
}

/// Listens, says nothing for a while, then says that it is ready.
fn ready_by_message(message: &str) {
    let launch = Launch::fixture("ready.js").workers(1).option("--ready-when", "ready");
    let master = launch.env("READY_MESSAGE", message).start();
    master.wait(on("listening"));
    assert_eq!(master.status()["workers"][0]["state"], "starting", "listening is not enough");
    assert!(master.seen(&on("ready")).is_empty());
    master.get("/ready");
    master.wait(on("ready"));
}

#[test]
fn a_worker_may_be_ready_when_it_says_so() {
    ready_by_message(r#"{"cmd":"ready"}"#);
}

#[test]
fn a_worker_may_be_ready_when_it_says_so_as_under_pm2() {
    ready_by_message(r#""ready""#);
}

#[test]
fn a_ready_message_means_nothing_where_listening_counts() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    let mut puppet = stage.next();
    puppet.online();
    puppet.say(&json!({ "cmd": "ready" }));
    puppet.say(&json!({ "said": "afterwards" }));
    master.wait_all(2, on("message"));
    assert!(master.seen(&on("ready")).is_empty());
    let _reply = puppet.listen();
    master.wait(on("ready"));
}

#[test]
fn a_server_on_two_ports_is_ready_once_for_each_slot() {
    let master = Launch::fixture("two-ports.js").workers(2).start();
    master.wait_all(4, on("listening"));
    let started = master.wait(on("started"));
    assert_eq!(started.number("/workers"), 2);
    assert_eq!(master.seen(&on("ready")).len(), 2);
    assert_eq!(master.seen(&on("serving")).len(), 2);
    master.reload().expect_code(0);
    assert_eq!(master.seen(&on("ready").generation(2)).len(), 2);
}

#[test]
fn a_ready_worker_serves_when_it_has_lived_for_the_bake_time() {
    let master = Launch::fixture("server.js").workers(1).option("--bake", "2s").serve();
    let baked = master.wait(on("serving")).since(&master.wait(on("ready")));
    assert!(baked > Duration::from_millis(1500), "{baked:?}");
}

#[test]
fn the_bake_time_may_be_nothing() {
    let master = Launch::fixture("server.js").workers(1).option("--bake", "0").serve();
    assert_eq!(master.seen(&on("serving")).len(), 1);
}

#[test]
fn a_worker_that_is_not_ready_in_time_ends_the_first_start() {
    let mut master =
        Launch::fixture("never-listens.js").workers(1).option("--ready-timeout", "300ms").start();
    let overdue = master.wait(on("overdue"));
    assert_eq!(overdue.text("/due"), "ready");
    assert_eq!(overdue.text("/signal"), "SIGTERM");
    let verdict = master.wait(on("start_failed"));
    assert_eq!(verdict.number("/failure/failures"), 1, "a ready timeout is not tried again");
    master.expect_end(3);
}
