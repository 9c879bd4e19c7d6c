//! Servers that keep idle connections for longer than Node does by itself, as is advised behind a load balancer: a reload
//! keeps the promise, a stop does not wait for it.

use std::time::{Duration, Instant};

use recluster_e2e::{Connection, Launch, Master, on};

use super::{answered, answered_last, ended, left};

/// A server that keeps connections for so many milliseconds, in a cluster that otherwise spares them for a moment only.
fn cluster(keeps: &str) -> Launch {
    let launch =
        Launch::fixture("cleans-up.js").workers(1).option("--bake", "100ms").option("--timeout", "1h");
    launch.option("--idle-grace", "300ms").env("KEEPS", keeps)
}

/// A connection that has been used, and one that has not.
fn connections(master: &Master) -> [Connection<std::net::TcpStream>; 2] {
    let (mut used, fresh) = (master.connect(), master.connect());
    answered(&mut used);
    [used, fresh]
}

#[test]
fn a_connection_is_open_for_as_long_as_its_server_promised() {
    for when in ["before", "after"] {
        let master = cluster("60000").env("WHEN", when).serve();
        let [used, fresh] = connections(&master);
        master.reload().expect_code(0);
        // Nothing was promised to this one: when it is closed, the idle grace is over.
        ended(fresh);
        answered_last(used);
        left(&master);
    }
}

/// A server's own timer closes it, or a second later the drain.
#[test]
fn a_connection_is_closed_when_that_time_is_over() {
    let master = cluster("1000").serve();
    let [used, fresh] = connections(&master);
    let begin = Instant::now();
    master.reload().expect_code(0);
    ended(fresh);
    ended(used);
    assert!(begin.elapsed() >= Duration::from_millis(900), "closed after {:?}", begin.elapsed());
    left(&master);
}

#[test]
fn a_stop_does_not_wait_for_what_a_server_promised() {
    let mut master = cluster("3600000").option("--stop-timeout", "1h").serve();
    let [used, fresh] = connections(&master);
    master.client(&["stop"]).expect_code(0);
    ended(fresh);
    ended(used);
    master.expect_end(0);
}

/// The old worker drains by the terms of a reload already.
#[test]
fn a_stop_does_not_wait_for_what_a_server_of_an_old_worker_promised() {
    let mut master = cluster("3600000").option("--stop-timeout", "1h").serve();
    let [used, fresh] = connections(&master);
    master.reload().expect_code(0);
    ended(fresh);
    assert!(master.seen(&on("exit").generation(1)).is_empty());
    master.client(&["stop"]).expect_code(0);
    ended(used);
    master.expect_end(0);
}

#[test]
fn no_promise_outlasts_the_drain_timeout() {
    let master = cluster("3600000").option("--timeout", "1s").serve();
    let [used, _fresh] = connections(&master);
    master.reload().expect_code(0);
    ended(used);
    // On a busy machine it may not be gone in the rest of its second.
    master.wait(on("exit").generation(1).with("/expected", true));
}

#[test]
fn a_server_that_promises_more_than_a_drain_can_keep_is_told_of_once() {
    for when in ["before", "after"] {
        let master = cluster("65000").env("WHEN", when).workers(2).option("--timeout", "30s").serve();
        let warning = master.wait(on("keep_alive_too_long"));
        assert_eq!(warning.at("/keep_alive_seconds"), 65.0);
        assert_eq!(warning.at("/timeout_seconds"), 30.0);
        master.reload().expect_code(0);
        assert_eq!(master.seen(&on("keep_alive_too_long")).len(), 1, "{when}");
    }
}

#[test]
fn a_server_whose_promise_can_be_kept_is_not_told_of() {
    let master = cluster("65000").option("--timeout", "66s").serve();
    master.reload().expect_code(0);
    assert!(master.seen(&on("keep_alive_too_long")).is_empty());
}
