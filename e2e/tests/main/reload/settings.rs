//! A reload reads the config file again: when its new settings take effect and for which workers, and what a rollback
//! restores.

use recluster_e2e::{Home, Launch, Master, Puppet, Running, Stage, eventually, fixture, on};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A cluster with a config file in `home`, and nothing said elsewhere of the number of workers.
fn configured(launch: Launch, home: &Home, config: &str) -> Launch {
    launch.home(home).without("--workers").config(config)
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

/// A deploy script sees that its file is not wholly in force, and the log says first what was asked for.
#[test]
fn who_waits_is_told_what_only_a_restart_changes() {
    let master = Launch::fixture("server.js").workers(1).config("listen = []").serve();
    master.configure("listen = [\"127.0.0.1:0\"]\nname = \"other\"\nbake = \"150ms\"");
    let reload = master.client(&["reload", "--json"]);
    reload.expect_code(0);
    let verdict: Value =
        serde_json::from_str(reload.stdout.lines().last().expect("a verdict")).expect("JSON");
    assert_eq!(verdict["verdict"], "done");
    assert_eq!(verdict["needs_restart"], serde_json::json!(["listen", "name"]));
    let told = master.reload();
    told.expect_code(0);
    assert!(told.stderr.contains("a reload does not change listen, name: restart recluster"), "{told:#?}");
    let names: Vec<String> = master.log().iter().map(|event| event.name().to_owned()).collect();
    let order = ["asked", "configured", "generation_began"];
    let from = names.iter().position(|name| name == "asked").expect("it was asked for");
    assert_eq!(names[from..from + 3], order, "{names:?}");
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
fn fewer_workers_do_not_come_with_a_rollback() {
    let master = with_a_bad_release(&Home::new(), "workers = 3");
    let before = master.active_pids();
    rolled_back(&master, "workers = 1");
    assert_eq!(master.active_pids(), before, "the same workers as before");
    assert!(master.seen(&on("draining").generation(1)).is_empty(), "none was asked to go");
}

#[test]
fn fewer_workers_come_when_the_new_code_is_proven() {
    let master = with_a_bad_release(&Home::new(), "workers = 3");
    master.home().write("recluster.toml", "workers = 1");
    master.reload().expect_code(0);
    settled(&master, 1);
    assert_eq!(master.seen(&on("spawned").generation(2)).len(), 1, "none is started in vain");
    assert_eq!(master.get("/").json()["env"]["RECLUSTER_WORKERS"], "1");
}

#[test]
fn a_rollback_keeps_an_earlier_scale() {
    let master = with_a_bad_release(&Home::new(), "workers = 1");
    master.client(&["scale", "3"]).expect_code(0);
    settled(&master, 3);
    let before = master.active_pids();
    rolled_back(&master, "workers = 1");
    settled(&master, 3);
    assert_eq!(master.active_pids(), before, "nobody was touched");
}

#[test]
fn a_rollback_keeps_a_scale_during_the_reload() {
    let stage = Stage::new();
    let launch = stage.launch_program().option("--ready-when", "notify");
    let master = configured(launch, stage.home(), "workers = 1\nattempts = 1").start();
    let mut first = stage.next();
    first.notify("READY=1");
    master.wait(on("started"));
    let reload = master.begin_client(&["reload"]);
    let mut failing = stage.next();
    master.client(&["scale", "2"]).expect_code(0);
    let _beside = stage.next();
    failing.exit(1);
    reload.finish().expect_code(1);
    let mut respawned = stage.next();
    respawned.notify("READY=1");
    settled(&master, 2);
    assert_eq!(master.active_pids(), [first.pid, respawned.pid]);
}

/// A change of the number that a scale had overruled: the way back is the number of slots, not the file's word.
#[test]
fn a_rollback_after_a_scale_and_another_number_touches_nobody() {
    let master = with_a_bad_release(&Home::new(), "workers = 1");
    master.client(&["scale", "3"]).expect_code(0);
    settled(&master, 3);
    let before = master.active_pids();
    rolled_back(&master, "workers = 2");
    settled(&master, 3);
    assert_eq!(master.active_pids(), before, "nobody was touched");
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

/// A cluster of one puppet that serves. A reload during a reload waits for a minute.
fn served_by_a_puppet(stage: &Stage) -> (Master, Puppet) {
    let launch = stage.launch_program().option("--ready-when", "notify");
    let master = configured(launch, stage.home(), &letting_go_by("TERM")).start();
    let mut first = stage.next();
    first.notify("READY=1");
    master.wait(on("started"));
    (master, first)
}

fn letting_go_by(signal: &str) -> String {
    format!(
        "workers = 1\nattempts = 1\nrespawn = 60\ndrain-signal = \"{signal}\"\n[env]\nSIGNAL = \"{signal}\""
    )
}

/// Asks for a reload to another signal, and waits until the file has been read.
fn begin_reload(stage: &Stage, master: &Master, signal: &str) -> Running {
    stage.home().write("recluster.toml", &letting_go_by(signal));
    let before = master.seen(&on("configured")).len();
    let reload = master.begin_client(&["reload"]);
    master.wait_all(before + 1, on("configured"));
    reload
}

#[test]
fn a_waiting_reload_brings_its_own_settings_when_the_one_before_is_rolled_back() {
    let stage = Stage::new();
    let (master, _first) = served_by_a_puppet(&stage);
    let older = begin_reload(&stage, &master, "INT");
    let mut failing = stage.next();
    let newer = begin_reload(&stage, &master, "QUIT");
    failing.exit(1);
    older.finish().expect_code(1);
    let mut third = stage.next();
    assert_eq!(third.env["SIGNAL"], "QUIT");
    third.notify("READY=1");
    newer.finish().expect_code(0);
}

#[test]
fn a_rollback_restores_what_was_proven_while_the_reload_waited() {
    let stage = Stage::new();
    let (master, _first) = served_by_a_puppet(&stage);
    let older = begin_reload(&stage, &master, "INT");
    let mut second = stage.next();
    let newer = begin_reload(&stage, &master, "QUIT");
    second.notify("READY=1");
    older.finish().expect_code(0);
    stage.next().exit(1);
    newer.finish().expect_code(1);
    master.client(&["scale", "2"]).expect_code(0);
    stage.next().notify("READY=1");
    settled(&master, 2);
    master.client(&["scale", "1"]).expect_code(0);
    let exit = master.wait(on("exit").generation(2).slot(1));
    assert_eq!(exit.at("/exit"), &json!({ "signal": Signal::INT.as_raw() }));
}

#[test]
fn a_rollback_is_reported_with_the_settings_that_failed() {
    let stage = Stage::new();
    let launch = stage.launch_program().option("--ready-when", "notify");
    let master = configured(launch, stage.home(), "workers = 1\nready-timeout = \"1h\"").start();
    stage.next().notify("READY=1");
    master.wait(on("started"));
    stage.home().write("recluster.toml", "workers = 1\nready-timeout = \"300ms\"");
    let reload = master.reload();
    reload.expect_code(1);
    assert!(reload.stderr.contains("was not ready within 300ms"), "{reload:#?}");
}

/// The reload lasts for longer than the master takes from one look at its workers to the next.
#[test]
fn a_rollback_brings_back_the_limits_of_workers() {
    let stage = Stage::new();
    let launch = stage.launch_program().option("--ready-when", "notify");
    let first = "workers = 1\nready-timeout = \"1h\"\nmax-lifetime = \"8s\"";
    let master = configured(launch, stage.home(), first).start();
    stage.next().notify("READY=1");
    master.wait(on("started"));
    master.configure("workers = 1\nready-timeout = \"7s\"");
    master.reload().expect_code(1);
    assert_eq!(master.wait(on("recycling").id(1)).text("/reason"), "age");
}
