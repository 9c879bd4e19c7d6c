//! A master that has nothing to do does nothing.

use std::fs;

use recluster_e2e::{Home, Launch, Master, eventually};

/// A cluster with a socket of each kind.
fn cluster(balance: &str) -> Master {
    let home = Home::new();
    let launch = Launch::fixture("idle.js").home(&home).option("--balance", balance);
    launch.env("SOCKET", home.join("idle.sock")).serve()
}

/// How often the threads of the master have given way so far: each time it wakes up.
fn switches(master: &Master) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", master.process().pid())).expect("the master lives");
    let status = tasks.map(|task| fs::read_to_string(task.expect("a thread").path().join("status")));
    let counts = status.flat_map(|status| {
        // One that has just ended is counted no more: then it is looked again.
        let status = status.unwrap_or_default();
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect::<Vec<u64>>()
    });
    counts.sum()
}

/// While a worker takes its time to answer on an open connection, its master sleeps, and so do those of which nobody wants anything.
/// (Shortly after the start they are still told of what has come.) What is tested is a time without a wake-up; it may be any
/// such time, so a busy machine makes the test longer and no other.
#[test]
fn nothing_wakes_a_master_of_which_nobody_wants_anything() {
    let masters = ["round-robin", "shared", "kernel"].map(cluster);
    let mut connection = masters[0].connect();
    let wakes = || masters.iter().map(switches).collect::<Vec<_>>();
    eventually("all masters sleep for as long as an answer takes", || {
        let before = wakes();
        assert_eq!(connection.get("/later").expect("an answer").body, "later");
        before == wakes()
    });
}
