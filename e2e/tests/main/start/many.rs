//! Many workers at once: whoever asks the master something meanwhile is answered, and whoever stops it does not wait for
//! them.

use recluster_e2e::{Launch, Master, on};
use rustix::process::Signal;

/// A cluster of programs that do nothing, of which there can be many.
fn sleepers() -> Launch {
    Launch::of("/bin/sleep").arg("100000")
}

/// How many slots there are, and how many of them have an active worker.
fn slots(master: &Master) -> (usize, usize) {
    let status = master.status();
    let slots = status["slots"].as_array().expect("the status has slots");
    (slots.len(), slots.iter().filter(|slot| !slot["active"].is_null()).count())
}

#[test]
fn the_status_is_there_while_many_workers_are_started() {
    let master = sleepers().workers(1).serve();
    master.client(&["scale", "500"]).expect_code(0);
    let (all, active) = slots(&master);
    assert!(all == 500 && active < 500, "{active} of {all}");
    master.wait_all(500, on("serving"));
    assert_eq!(slots(&master), (500, 500));
    assert!(master.seen(&on("events_missed")).is_empty());
}

#[test]
fn a_stop_overtakes_what_is_still_to_be_started() {
    let mut master = sleepers().workers(1000).start();
    master.wait(on("spawned"));
    master.signal(Signal::TERM);
    master.expect_end(0);
    let spawned = master.seen(&on("spawned")).len();
    assert!(spawned < 1000, "all were started");
    assert_eq!(master.seen(&on("exit")).len(), spawned, "whoever was started has ended");
    assert!(master.live_pids().is_empty());
    assert!(master.seen(&on("failed")).is_empty(), "nobody failed");
}

#[test]
fn a_termination_overtakes_what_is_still_to_be_started() {
    let mut master = sleepers().workers(1).serve();
    master.client(&["scale", "1000"]).expect_code(0);
    master.client(&["terminate"]).expect_code(0);
    master.expect_end(0);
    assert!(master.seen(&on("spawned")).len() < 1000, "all were started");
    assert!(master.live_pids().is_empty());
}

#[test]
fn fewer_workers_overtake_what_is_still_to_be_started() {
    let master = sleepers().workers(1).serve();
    master.client(&["scale", "1000"]).expect_code(0);
    master.client(&["scale", "2"]).expect_code(0);
    // Both of them serve, and nobody else is left.
    master.wait(on("serving").slot(1));
    recluster_e2e::eventually("the others are gone", || {
        master.status()["workers"].as_array().is_some_and(|workers| workers.len() == 2)
    });
    assert!(master.seen(&on("spawned")).len() < 1000, "all were started");
}
