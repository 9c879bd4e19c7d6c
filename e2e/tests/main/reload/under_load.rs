//! Reloads under load: every new connection is served.

use recluster_e2e::{Launch, Load, Node, get, on};
use rustix::process::Signal;

/// How many clients there are at once.
const CLIENTS: usize = 4;

/// Reloads so many times under load. No more than `losable` connections may be lost at each reload.
fn reloads_under_load(launch: Launch, reloads: usize, losable: usize) {
    let master = launch.serve();
    let address = master.address();
    // Each request on a new connection.
    let load = Load::begin(CLIENTS, move || get(address, "/").map(|answer| answer.text("generation")));
    for reload in 0..reloads {
        load.go_on(50);
        master.signal(Signal::USR2);
        master.wait_all(reload + 1, on("reloaded").with("/verdict", "done"));
    }
    load.go_on(50);
    let tally = load.end();
    assert!(tally.lost.len() <= losable * reloads, "lost: {:?}", tally.lost);
    let last = (1 + reloads).to_string();
    assert!(tally.answers.contains("1") && tally.answers.contains(&last), "{:?}", tally.answers);
    for old in master.wait_all(2 * reloads, on("draining")) {
        master.wait(on("exit").id(old.id()));
    }
    assert_eq!(master.live_pids().len(), 2);
}

#[test]
fn usr2_under_load_replaces_every_worker_and_drops_no_new_connection() {
    reloads_under_load(Launch::fixture("server.js"), 4, 0);
}

#[test]
fn reloads_with_one_extra_worker_drop_no_new_connection() {
    reloads_under_load(Launch::fixture("server.js").option("--surge", "1"), 2, 0);
}

/// Under `shared` the master cannot know what a worker has just accepted, and Node 26 cuts connections without a
/// request when it is told to disconnect: each client can lose one at each of the two old workers.
#[test]
fn reloads_with_a_shared_socket_drop_only_what_node_26_cuts() {
    let losable = if Node::under_test().major < 26 { 0 } else { 2 * CLIENTS };
    reloads_under_load(Launch::fixture("server.js").option("--balance", "shared"), 2, losable);
}
