//! Workers that SIGKILL does not end: that is said, and nothing waits for them.

use recluster_e2e::{Event, Home, Launch, Master, eventually, fixture, on};
use rustix::process::Signal;
use serde_json::json;

/// A program that cannot be killed while `home` has the file `hold` and not `let-go`. Nobody has to wait for the kill.
fn held(home: &Home) -> Launch {
    let launch = Launch::fixture("cannot-be-killed.py").home(home).env("DIRECTORY", home.path());
    let launch = launch.option("--timeout", "100ms").option("--stop-timeout", "100ms");
    launch.option("--kill-timeout", "100ms").option("--bake", "100ms").option("--ready-when", "started")
}

/// One such program that runs, the process that cannot be killed, and which one keeps it.
fn one(home: &Home, launch: Launch) -> (Master, [Option<u32>; 2]) {
    home.write("hold", "");
    let master = launch.workers(1).serve();
    let line = master.wait_stdout("held ");
    master.wait_stdout("runs");
    let pid = |place: usize| line.split(' ').nth(place).and_then(|pid| pid.parse().ok());
    (master, [pid(1), pid(3)])
}

fn is_held(told: &Event, [held, tracer]: [Option<u32>; 2]) {
    assert_eq!((told.at("/process"), told.text("/state")), (&json!(held), "Z"), "{told}");
    assert_eq!(told.at("/traced_by"), &json!(tracer), "{told}");
    assert!(held.is_some() && tracer.is_some());
}

#[test]
#[cfg_attr(not(has = "ptrace"), ignore = "this machine does not let a process trace another one")]
fn a_stop_gives_up_a_worker_that_cannot_be_killed() {
    for signal in [Signal::TERM, Signal::QUIT] {
        let home = Home::new();
        let (mut master, processes) = one(&home, held(&home));
        assert_eq!(processes[0], Some(master.wait(on("spawned")).pid()));
        master.signal(signal);
        is_held(&master.wait(on("unkillable").id(1)), processes);
        master.expect_end(1);
        assert!(master.seen(&on("exit")).is_empty());
        home.write("let-go", "");
    }
}

/// As one that waits for a file system that is frozen: it sleeps where no signal wakes it.
#[test]
#[cfg_attr(not(has = "freezer"), ignore = "this machine makes no control groups that can be frozen")]
fn a_stop_gives_up_a_worker_that_sleeps_in_the_kernel() {
    let home = Home::new();
    let launch = held(&home).server(fixture("frozen.py"));
    let mut master = launch.listen("127.0.0.1:0").workers(1).serve();
    let worker = master.worker(&master.wait(on("spawned")));
    eventually("it is frozen", || home.join("frozen").exists());
    master.signal(Signal::TERM);
    let told = master.wait(on("unkillable").id(1));
    assert_eq!((told.text("/state"), told.at("/process")), ("D", &json!(worker.pid())), "{told}");
    // What the worker has open is open still, the output that is read here among it.
    assert_eq!(master.wait_end().code(), Some(1));
    assert!(worker.lives());
    home.write("let-go", "");
    worker.wait_end();
}

#[test]
#[cfg_attr(not(has = "ptrace"), ignore = "this machine does not let a process trace another one")]
fn a_reload_and_a_later_stop_do_not_wait_for_an_old_worker_that_cannot_be_killed() {
    let home = Home::new();
    let (mut master, processes) = one(&home, held(&home));
    std::fs::remove_file(home.join("hold")).unwrap();
    master.reload().expect_code(0);
    is_held(&master.wait(on("unkillable").id(1)), processes);
    let status = master.status();
    assert_eq!((&status["phase"], &status["workers"][0]["state"]), (&json!("running"), &json!("unkillable")));
    assert_eq!(status["workers"][0]["seconds_left"], json!(null));
    master.reload().expect_code(0);
    home.write("let-go", "");
    master.wait(on("exit").id(1));
    eventually("it is gone", || master.status()["workers"][0]["id"] != json!(1));
    master.signal(Signal::TERM);
    master.expect_end(0);
}

#[test]
#[cfg_attr(not(has = "ptrace"), ignore = "this machine does not let a process trace another one")]
fn a_scale_down_leaves_a_worker_behind_that_cannot_be_killed() {
    let home = Home::new();
    home.write("hold", "");
    let mut master = held(&home).workers(2).serve();
    for spawned in master.wait_all(2, on("spawned")) {
        master.wait_stdout(&format!("held {} by", spawned.pid()));
    }
    master.client(&["scale", "1"]).expect_code(0);
    let left = master.wait(on("unkillable").slot(1));
    master.signal(Signal::QUIT);
    master.wait(on("unkillable").slot(0));
    master.expect_end(1);
    assert_eq!(left.slot(), 1);
    home.write("let-go", "");
}

#[test]
#[cfg_attr(not(has = "ptrace"), ignore = "this machine does not let a process trace another one")]
fn what_a_worker_has_left_behind_may_be_what_cannot_be_killed() {
    let home = Home::new();
    let (mut master, processes) = one(&home, held(&home).env("CHILD", "1"));
    master.signal(Signal::TERM);
    master.wait(on("exit").id(1));
    is_held(&master.wait(on("unkillable").id(1)), processes);
    master.expect_end(1);
    home.write("let-go", "");
}
