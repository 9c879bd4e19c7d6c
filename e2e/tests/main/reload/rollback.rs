//! New code that does not work is rolled back: its workers end, and the old ones go on serving.

use std::fs;
use std::net::TcpStream;

use recluster_e2e::{Finished, Home, Launch, Master, Stage, eventually, on};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A cluster of a good release, and the switch to one that is not.
fn cluster_with_bad_release(home: &Home, bad: &str) -> Launch {
    let server = home.release("good", "server.js");
    home.release("bad", bad);
    home.switch("good");
    Launch::of(server).home(home)
}

/// Reloads to the bad release, which must be rolled back and leave the workers of the good one as they are.
fn rolled_back(launch: Launch) -> (Master, Finished) {
    to_the_bad_release(launch.serve())
}

fn to_the_bad_release(master: Master) -> (Master, Finished) {
    let before = master.active_pids();
    master.home().switch("bad");
    let reload = master.reload();
    reload.expect_code(1);
    let verdict = master.wait(on("reloaded"));
    assert_eq!(verdict.text("/verdict"), "rolled_back");
    assert_eq!(master.active_pids(), before, "the same workers as before");
    assert!(master.seen(&on("draining").generation(1)).is_empty(), "none was asked to go");
    assert_eq!(master.get("/").text("release"), "good");
    (master, reload)
}

#[test]
fn code_with_a_syntax_error_is_rolled_back() {
    let home = Home::new();
    let (_master, reload) = rolled_back(cluster_with_bad_release(&home, "syntax-error.js"));
    assert!(reload.stderr.contains("SyntaxError"), "the tail of the worker's stderr: {reload:#?}");
}

/// The master does not see what it writes: the worker tells.
#[test]
fn with_raw_stdio_the_verdict_has_what_node_workers_tell() {
    for drain_http in ["on", "off"] {
        let home = Home::new();
        let launch = cluster_with_bad_release(&home, "syntax-error.js").flag("--raw-stdio");
        let (master, reload) = rolled_back(launch.option("--drain-http", drain_http));
        assert!(reload.stderr.contains("SyntaxError"), "{reload:#?}");
        master.wait_stderr("Node.js v");
    }
}

#[test]
fn code_that_throws_half_a_bake_time_after_it_listens_is_rolled_back() {
    let home = Home::new();
    let launch = cluster_with_bad_release(&home, "throws-late.js");
    let master = launch.config("bake = \"100ms\"").option("--attempts", "2").serve();
    master.configure("bake = \"1h\"");
    let (master, reload) = to_the_bad_release(master);
    assert!(!master.seen(&on("ready").generation(2)).is_empty(), "it was ready");
    assert!(master.seen(&on("serving").generation(2)).is_empty(), "it never served");
    assert!(reload.stderr.contains("died young"), "{reload:#?}");
}

#[test]
fn code_that_never_gets_ready_is_rolled_back() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).config("ready-timeout = \"1h\"").start();
    stage.next().serve();
    master.wait(on("started"));
    master.configure("ready-timeout = \"3s\"");
    let before = master.active_pids();
    let reload = master.begin_client(&["reload"]);
    stage.next().online();
    let reload = reload.finish();
    reload.expect_code(1);
    assert!(reload.stderr.contains("not ready"), "{reload:#?}");
    let verdict = master.wait(on("reloaded").with("/verdict", "rolled_back"));
    assert_eq!(verdict.number("/failure/failures"), 1, "a ready timeout is not tried again");
    assert_eq!(master.active_pids(), before);
    master.wait(on("exit").generation(2));
}

#[test]
fn the_verdict_names_the_worker_its_exit_and_what_it_wrote() {
    let home = Home::new();
    let (master, reload) = rolled_back(cluster_with_bad_release(&home, "second-slot-fails.js"));
    let verdict = master.wait(on("reloaded"));
    assert_eq!(verdict.number("/failure/worker/slot"), 1);
    assert_eq!(verdict.number("/failure/worker/generation"), 2);
    assert_eq!(verdict.number("/failure/failures"), 3);
    assert_eq!(verdict.at("/failure/stderr"), &json!(["slot 1 has no licence"]));
    let pid = verdict.number("/failure/worker/pid").to_string();
    for part in ["slot 1", &pid, "status 5", "slot 1 has no licence"] {
        assert!(reload.stderr.contains(part), "{part:?} in {reload:#?}");
    }
}

#[test]
fn a_slot_has_its_attempts_before_the_code_is_given_up() {
    let home = Home::new();
    let (master, _) =
        rolled_back(cluster_with_bad_release(&home, "second-slot-fails.js").option("--attempts", "2"));
    assert_eq!(master.seen(&on("spawned").generation(2).slot(1)).len(), 2);
    assert_eq!(master.seen(&on("spawned").generation(2).slot(0)).len(), 1);
    let failed: Vec<Value> =
        master.seen(&on("failed")).iter().map(|event| event.at("/failure/failures").clone()).collect();
    assert_eq!(failed, [1, 2]);
}

#[test]
fn a_port_that_only_the_rolled_back_code_opened_is_closed_again() {
    let home = Home::new();
    let launch = cluster_with_bad_release(&home, "opens-another-port.js").workers(1);
    let master = launch.config("bake = \"100ms\"").serve();
    master.configure("bake = \"1h\"");
    let (master, _) = to_the_bad_release(master);
    let opened = master.seen(&on("listening").generation(2));
    let addresses = opened.iter().map(|event| master.address_of(event));
    let other =
        addresses.clone().find(|address| address.ip().to_string() == "127.0.0.2").expect("it was open");
    eventually("the port is closed", || TcpStream::connect(other).is_err());
    assert_eq!(master.get("/").text("release"), "good");
}

#[test]
fn mended_code_comes_in_with_the_next_reload() {
    let home = Home::new();
    let (master, _) = rolled_back(cluster_with_bad_release(&home, "syntax-error.js"));
    home.release("mended", "server.js");
    master.reload().expect_code(0);
    assert_eq!(master.get("/").text("release"), "mended");
}

#[test]
fn after_a_rollback_a_crash_respawns_the_old_code() {
    let home = Home::new();
    let (master, _) = rolled_back(cluster_with_bad_release(&home, "syntax-error.js").workers(1));
    master.worker(&master.wait(on("spawned").generation(1))).signal(Signal::KILL);
    master.wait_all(2, on("serving").generation(1));
    assert_eq!(master.get("/").text("release"), "good");
}

#[test]
fn a_reload_of_a_file_that_is_gone_changes_nothing() {
    let home = Home::new();
    let server = home.release("good", "server.js");
    let master = Launch::of(server).home(&home).serve();
    let before = master.active_pids();
    fs::remove_file(home.join("current")).expect("the directory is ours");
    let reload = master.reload();
    reload.expect_code(1);
    assert!(reload.stderr.contains("current/server.js"), "which file is missing: {reload:#?}");
    assert_eq!(master.active_pids(), before);
    assert_eq!(master.get("/").text("release"), "good");
}

#[test]
fn a_signalled_reload_of_bad_code_changes_nothing_either() {
    let home = Home::new();
    let master = cluster_with_bad_release(&home, "syntax-error.js").serve();
    let before = master.active_pids();
    home.switch("bad");
    master.signal(Signal::USR2);
    master.wait(on("reloaded").with("/verdict", "rolled_back"));
    assert_eq!(master.active_pids(), before);
}
