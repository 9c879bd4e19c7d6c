//! What a config file says anew when a reload begins: whom it holds for, and what a rollback puts back.

use recluster_e2e::{Home, Launch, Master, Stage, eventually, fixture, on};
use rustix::process::Signal;
use serde_json::json;

/// A cluster with a config file in `home`, and nothing said elsewhere of the number of workers.
fn configured(launch: Launch, home: &Home, config: &str) -> Launch {
    let path = home.write("recluster.toml", config);
    launch.without("--workers").option("--config", &path.to_string_lossy())
}

/// A cluster of a release that can be switched to one that ends at once.
fn with_a_bad_release(home: &Home, config: &str) -> Master {
    let server = home.release("good", "server.js");
    home.release("bad", "syntax-error.js");
    home.switch("good");
    let launch = Launch::of(server).home(home).option("--attempts", "1");
    configured(launch, home, config).serve()
}

/// Reloads by another config and to the bad release, which must be rolled back.
#[track_caller]
fn rolled_back(master: &Master, config: &str) {
    master.home().write("recluster.toml", config);
    master.home().switch("bad");
    master.reload().expect_code(1);
    assert_eq!(master.wait(on("reloaded")).text("/verdict"), "rolled_back");
}

/// Waits until there are so many slots, and an active worker in each.
#[track_caller]
fn settled(master: &Master, slots: usize) {
    eventually("every slot has an active worker", || {
        let status = master.status();
        let active = status["slots"].as_array().expect("slots").iter().filter(|it| it["active"].is_u64());
        active.count() == slots && status["slots"].as_array().is_some_and(|all| all.len() == slots)
    });
}

#[test]
fn a_rollback_takes_new_slots_back() {
    let master = with_a_bad_release(&Home::new(), "workers = 2");
    let before = master.active_pids();
    rolled_back(&master, "workers = 4");
    settled(&master, 2);
    assert_eq!(master.active_pids(), before, "the same workers as before");
}

#[test]
fn a_rollback_brings_slots_back() {
    let master = with_a_bad_release(&Home::new(), "workers = 3");
    let before = master.active_pids();
    rolled_back(&master, "workers = 1");
    settled(&master, 3);
    assert_eq!(master.active_pids()[..1], before[..1], "who was left alone goes on");
    assert!(master.seen(&on("serving")).iter().all(|it| it.number("/worker/generation") == 1));
}

#[test]
fn a_rollback_keeps_what_a_scale_said() {
    let master = with_a_bad_release(&Home::new(), "workers = 1");
    master.client(&["scale", "3"]).expect_code(0);
    settled(&master, 3);
    let before = master.active_pids();
    rolled_back(&master, "workers = 1");
    settled(&master, 3);
    assert_eq!(master.active_pids(), before, "nobody was touched");
}

/// A change of the number that a scale had overruled: the way back is the number of slots, not the file's word.
#[test]
fn a_rollback_after_a_scale_and_another_number_touches_nobody_in_vain() {
    let master = with_a_bad_release(&Home::new(), "workers = 1");
    master.client(&["scale", "3"]).expect_code(0);
    settled(&master, 3);
    let before = master.active_pids();
    rolled_back(&master, "workers = 2");
    settled(&master, 3);
    assert_eq!(master.active_pids()[..2], before[..2], "only the third slot was given up");
    // The file says again what it said at first, so the scale holds.
    master.home().switch("good");
    master.home().write("recluster.toml", "workers = 1");
    master.reload().expect_code(0);
    settled(&master, 3);
}

/// How a worker is let go was fixed when it was begun, like all that its generation is.
#[test]
fn a_worker_is_let_go_by_the_signal_of_its_own_generation() {
    let stage = Stage::new();
    let launch = stage.launch_program().server(fixture("puppet-program"));
    let master = configured(launch, stage.home(), "workers = 1\ndrain-signal = \"INT\"").start();
    let _first = stage.next();
    master.wait(on("started"));
    let mut puppets = Vec::new();
    for (generation, next, signal) in [(1, "QUIT", Signal::INT), (2, "USR1", Signal::QUIT)] {
        stage.home().write("recluster.toml", &format!("workers = 1\ndrain-signal = \"{next}\""));
        master.reload().expect_code(0);
        puppets.push(stage.next());
        let exit = master.wait(on("exit").generation(generation));
        assert_eq!(exit.at("/exit"), &json!({ "signal": signal.as_raw() }));
    }
    assert!(master.seen(&on("overdue")).is_empty());
}
