//! A reload replaces every worker: all new ones serve before the first old one leaves.

use recluster_e2e::{Event, Home, Launch, Master, Stage, eventually, on};
use rustix::process::Signal;

/// Where in the log an event stands.
fn position(master: &Master, event: &Event) -> usize {
    let text = event.to_string();
    let position = master.log().iter().position(|other| other.to_string() == text);
    position.expect("the event was logged")
}

/// Waits until both workers of generation 1 were replaced, and the old ones are gone.
fn wait_both_replaced(master: &Master) {
    master.wait(on("reloaded").with("/verdict", "done").with("/generation", 2));
    for old in master.seen(&on("spawned").generation(1)) {
        let exit = master.wait(on("exit").id(old.id()));
        assert_eq!(exit.at("/expected"), true);
    }
    assert_eq!(master.live_pids().len(), 2);
    assert_eq!(master.get("/").text("generation"), "2");
}

#[test]
fn usr2_replaces_every_worker() {
    let master = Launch::fixture("server.js").serve();
    master.signal(Signal::USR2);
    wait_both_replaced(&master);
}

#[test]
fn hup_replaces_every_worker() {
    let master = Launch::fixture("server.js").serve();
    master.signal(Signal::HUP);
    wait_both_replaced(&master);
}

#[test]
fn the_client_command_replaces_every_worker_and_waits_for_it() {
    let master = Launch::fixture("server.js").serve();
    master.client(&["reload"]).expect_code(0);
    // Nothing is left to wait for but the old workers' end: the new ones serve already.
    assert_eq!(master.get("/").text("generation"), "2");
    wait_both_replaced(&master);
}

#[test]
fn the_client_command_need_not_wait() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    stage.next().serve();
    master.wait(on("started"));
    master.client(&["reload", "--no-wait"]).expect_code(0);
    assert!(
        master.seen(&on("reloaded")).is_empty(),
        "the new puppet says nothing, so nothing can be decided"
    );
    stage.next().serve();
    master.wait(on("reloaded").with("/verdict", "done"));
}

#[test]
fn no_old_worker_leaves_before_every_slot_has_a_new_one() {
    let master = Launch::fixture("server.js").workers(3).serve();
    master.reload().expect_code(0);
    let complete = master.wait(on("serving").generation(2).with("/serving", 3));
    let draining = master.wait_all(3, on("draining").generation(1));
    for event in &draining {
        assert!(position(&master, event) > position(&master, &complete), "{event}");
    }
}

#[test]
fn the_address_stays_the_same() {
    let master = Launch::fixture("server.js").serve();
    let before = master.address();
    master.reload().expect_code(0);
    for listening in master.seen(&on("listening").generation(2)) {
        assert_eq!(master.address_of(&listening), before);
    }
}

#[test]
fn a_new_release_comes_in() {
    let home = Home::new();
    let master = Launch::of(home.release("release-1", "server.js")).home(&home).serve();
    assert_eq!(master.get("/").text("release"), "release-1");
    home.release("release-2", "server.js");
    master.reload().expect_code(0);
    assert_eq!(master.get("/").text("release"), "release-2");
}

#[test]
fn a_newer_reload_supersedes_an_older_one_and_all_callers_hear_its_verdict() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).option("--timeout", "200ms").start();
    stage.next().serve();
    master.wait(on("started"));
    let first = master.begin_client(&["reload"]);
    let mut second_generation = stage.next();
    second_generation.online();
    let second = master.begin_client(&["reload"]);
    master.wait(on("superseded").with("/generation", 2));
    stage.next().serve();
    first.finish().expect_code(0);
    second.finish().expect_code(0);
    let reloaded = master.wait(on("reloaded"));
    assert_eq!(reloaded.number("/generation"), 3);
    assert_eq!(master.seen(&on("reloaded")).len(), 1, "one verdict for both");
    master.wait(on("exit").generation(2));
}

#[test]
fn a_storm_of_reloads_ends_with_every_slot_served_once() {
    let master = Launch::fixture("server.js").serve();
    let storm: Vec<_> = (0..8).map(|_| master.begin_client(&["reload"])).collect();
    for reload in storm {
        reload.finish().expect_code(0);
    }
    eventually("only the active workers live", || {
        let (mut live, mut active) = (master.live_pids(), master.active_pids());
        live.sort_unstable();
        active.sort_unstable();
        live == active && active.len() == 2
    });
}

#[test]
fn a_stop_during_a_reload_abandons_it() {
    let stage = Stage::new();
    let mut master = stage.launch().workers(1).option("--stop-timeout", "200ms").start();
    let mut old = stage.next();
    old.serve();
    master.wait(on("started"));
    let reload = master.begin_client(&["reload"]);
    stage.next().online();
    master.signal(Signal::TERM);
    master.wait(on("reloaded").with("/verdict", "abandoned"));
    reload.finish().expect_code(2);
    master.expect_end(0);
}

#[test]
fn a_crash_during_a_reload_is_mended_by_the_reload() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    let mut old = stage.next();
    old.serve();
    master.wait(on("started"));
    master.signal(Signal::USR2);
    let mut new = stage.next();
    old.exit(1);
    master.wait(on("exit").generation(1));
    new.serve();
    master.wait(on("reloaded").with("/verdict", "done"));
    assert_eq!(master.seen(&on("spawned")).len(), 2, "nobody was started beside the new one");
}
