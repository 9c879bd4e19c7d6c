//! A program that cannot go on with what it was left goes back to the one before.

use recluster_e2e::{Home, Launch, Load, eventually, get, on};

use super::{NEXT, VERSION, next, upgrade, variant};

/// It reads all that it is to be left, and does not find the descriptor of this purpose when it is.
#[track_caller]
fn goes_back(purpose: &str, other: &str) {
    let home = Home::new();
    let fails = variant(&home, "fails", &[(VERSION, NEXT), (purpose, other)]);
    let master = Launch::fixture("server.js").serve();
    let address = master.address();
    let workers = master.active_pids();
    let files = master.process().open_files();
    let load = Load::begin(4, move || get(address, "/").map(|answer| answer.text("generation")));
    load.go_on(20);
    let failed = upgrade(&master, &fails);
    failed.expect_code(1);
    let reply = failed.json();
    let reason = reply["reason"].as_str().expect("a reason");
    assert!(reason.contains("could not take over") && reason.contains(other), "{reason}");
    master.wait(on("upgrade_failed"));
    load.go_on(20);
    let next = next(&home);
    upgrade(&master, &next).expect_code(0);
    load.go_on(20);
    let tally = load.end();
    assert!(tally.lost.is_empty(), "lost: {:?}", tally.lost);
    assert_eq!(master.active_pids(), workers);
    let status = master.status();
    assert_eq!((&status["master"]["version"], &status["master"]["upgrades"]), (&NEXT.into(), &1.into()));
    eventually("it has no more descriptors than before", || master.process().open_files() <= files);
}

#[test]
fn one_that_fails_at_once_goes_back() {
    goes_back("control/socket", "control/sockeT");
}

#[test]
fn one_that_fails_at_last_goes_back() {
    goes_back("worker/", "workeR/");
}
