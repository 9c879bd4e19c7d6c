//! `replace`: one worker gives way to a new one of the same code.

use recluster_e2e::{Home, Launch, Stage, on};

#[test]
fn a_worker_is_replaced_by_its_slot_or_by_its_pid_and_no_other_is() {
    let master = Launch::fixture("server.js").serve();
    let before = master.active_pids();
    let replaced = master.client(&["replace", "1", "--json"]);
    replaced.expect_code(0);
    let reply = replaced.json();
    assert_eq!((&reply["reply"], &reply["worker"]["pid"]), (&"replaced".into(), &before[1].into()));
    let after = master.active_pids();
    assert_eq!((after[0], &reply["by"]["pid"]), (before[0], &after[1].into()));
    assert_eq!(reply["by"]["generation"], 1);
    // A slot of that number is not there.
    let by_pid = master.client(&["replace", &after[0].to_string()]);
    by_pid.expect_code(0);
    let expected = format!("worker 1 (slot 0, pid {}) is replaced by worker 4 (slot 0, pid ", after[0]);
    assert!(by_pid.stdout.starts_with(&expected), "{by_pid:?}");
}

#[test]
fn a_worker_that_cannot_be_replaced_goes_on_and_whoever_waits_hears_why() {
    let home = Home::new();
    let gate = home.write("gate", "");
    let master = Launch::fixture("gate.js").env("GATE", &gate).option("--attempts", "1").workers(1).serve();
    let before = master.active_pids();
    std::fs::remove_file(&gate).expect("it is ours");
    let failed = master.client(&["replace", "slot:0"]);
    failed.expect_code(1);
    assert!(failed.stderr.contains("the old worker goes on"), "{failed:?}");
    assert_eq!(master.active_pids(), before);
    let absent = master.client(&["replace", "slot:7"]);
    absent.expect_code(2);
    assert!(absent.stderr.contains("there is no slot 7; the last one is 0"), "{absent:?}");
}

#[test]
fn a_reload_takes_the_place_of_a_replacement() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    // A puppet that nobody holds ends when the master says something to it, as it does where somebody asks for a status.
    let mut old = stage.next();
    old.serve();
    master.wait(on("started"));
    let waiting = master.begin_client(&["replace", "0"]);
    let _new = stage.next();
    master.client(&["reload", "--no-wait"]).expect_code(0);
    let told = waiting.finish();
    told.expect_code(2);
    assert!(told.stderr.contains("a reload has begun, which replaces every worker"), "{told:?}");
}
