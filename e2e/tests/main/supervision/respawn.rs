//! A worker that ends or fails by itself is replaced in its slot; respawns are spaced.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use recluster_e2e::{Event, Home, Launch, Master, Node, Stage, fixture, on};
use rustix::process::Signal;
use serde_json::json;

/// Waits until the slot of this worker is held by another one of its generation that serves.
fn wait_replaced(master: &Master, old: &Event) -> Event {
    let respawning = master.wait(on("respawning").id(old.id()));
    assert_eq!(respawning.slot(), old.slot());
    let spawned = &master.wait_all(2, on("spawned").slot(old.slot()))[1];
    assert_eq!(spawned.at("/worker/generation"), old.at("/worker/generation"));
    assert!(spawned.id() > old.id(), "a number is never used again");
    master.wait(on("serving").id(spawned.id()))
}

/// Starts a cluster of one, lets its worker do what this path asks for, and waits until it was replaced.
fn replaced_after(path: &str) -> (Master, Event) {
    let master = Launch::fixture("server.js").workers(1).serve();
    let old = master.wait(on("spawned"));
    // The answer may be lost with the worker.
    let _ = master.try_get(path);
    let new = wait_replaced(&master, &old);
    assert_eq!(master.get("/").json()["pid"], new.pid(), "the new worker answers at the old address");
    (master, old)
}

#[test]
fn a_worker_that_exits_is_replaced() {
    let (master, old) = replaced_after("/exit");
    let exit = master.wait(on("exit").id(old.id()));
    assert_eq!(exit.at("/exit"), &json!({ "code": 7 }));
    assert_eq!(exit.at("/expected"), false);
}

#[test]
fn a_worker_that_throws_is_replaced() {
    let (master, old) = replaced_after("/throw");
    assert_eq!(master.wait(on("exit").id(old.id())).at("/exit"), &json!({ "code": 1 }));
    master.wait_stderr("asked to throw");
}

#[test]
fn a_worker_that_is_killed_is_replaced() {
    let master = Launch::fixture("server.js").workers(2).serve();
    let old = master.wait(on("spawned").slot(1));
    master.worker(&old).signal(Signal::KILL);
    assert_eq!(master.wait(on("exit").id(old.id())).at("/exit"), &json!({ "signal": 9 }));
    wait_replaced(&master, &old);
    assert_eq!(master.seen(&on("spawned").slot(0)).len(), 1, "the other slot was left alone");
}

#[test]
fn a_worker_that_closes_its_channel_is_replaced() {
    let (master, old) = replaced_after("/disconnect");
    master.wait(on("disconnect").id(old.id()));
    assert_eq!(master.wait(on("exit").id(old.id())).at("/exit"), &json!({ "code": 0 }));
}

#[test]
fn a_worker_that_leaves_the_cluster_is_replaced() {
    let (master, old) = replaced_after("/leave");
    master.wait(on("exit").id(old.id()));
    assert_eq!(master.wait(on("exit").id(old.id())).at("/exit"), &json!({ "code": 0 }));
}

#[test]
fn a_worker_that_kills_itself_by_the_cluster_module_is_replaced() {
    let (master, old) = replaced_after("/kill");
    assert_eq!(master.wait(on("exit").id(old.id())).at("/exit"), &json!({ "code": 0 }));
}

#[test]
fn a_worker_that_says_it_is_failing_is_replaced_and_drained() {
    let (master, old) = replaced_after("/retire");
    master.wait(on("draining").id(old.id()));
    let exit = master.wait(on("exit").id(old.id()));
    assert_eq!(exit.at("/exit"), &json!({ "code": 0 }));
    assert_eq!(exit.at("/expected"), true);
}

#[test]
fn a_failing_worker_that_does_not_leave_is_told_to_and_then_killed() {
    let stage = Stage::new();
    let launch = stage.launch().workers(1).env("PUPPET_IGNORES_TERM", "1");
    let master = launch.option("--timeout", "300ms").option("--kill-timeout", "300ms").start();
    let mut failing = stage.next();
    failing.serve();
    let old = master.wait(on("serving"));
    failing.say(&json!({ "cmd": "disconnect" }));
    stage.next().serve();
    wait_replaced(&master, &old);
    let drain = master.wait(on("overdue").id(old.id()).with("/due", "drain"));
    assert_eq!(drain.text("/signal"), "SIGTERM");
    let kill = master.wait(on("overdue").id(old.id()).with("/due", "kill"));
    assert_eq!(kill.text("/signal"), "SIGKILL");
    assert_eq!(master.wait(on("exit").id(old.id())).at("/exit"), &json!({ "signal": 9 }));
}

#[test]
fn a_worker_that_closes_its_channel_but_lives_is_replaced_and_ended() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).option("--exit-grace", "300ms").start();
    let mut mute = stage.next();
    mute.serve();
    let old = master.wait(on("serving"));
    mute.close();
    master.wait(on("disconnect").id(old.id()));
    stage.next().serve();
    wait_replaced(&master, &old);
    let overdue = master.wait(on("overdue").id(old.id()));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("exit", "SIGTERM"));
    assert_eq!(master.wait(on("exit").id(old.id())).at("/exit"), &json!({ "signal": 15 }));
}

#[test]
fn respawns_are_spaced_for_the_whole_cluster() {
    let stage = Stage::new();
    let master = stage.launch().workers(2).option("--respawn", "2s").start();
    let (mut one, mut two) = (stage.next(), stage.next());
    one.serve();
    two.serve();
    master.wait(on("started"));
    one.exit(1);
    two.exit(1);
    let spawned = master.wait_all(4, on("spawned"));
    let gap = spawned[3].since(&spawned[2]);
    assert!(gap > Duration::from_millis(1500), "one limiter for both slots: {gap:?}");
}

#[test]
fn the_spacing_of_respawns_doubles_where_backoff_is_set() {
    let stage = Stage::new();
    let launch = stage.launch().workers(1).option("--bake", "0");
    let master = launch.option("--respawn", "800ms").option("--backoff", "3200ms").start();
    let mut puppet = stage.next();
    puppet.serve();
    master.wait(on("started"));
    for _ in 0..4 {
        puppet.exit(1);
        puppet = stage.next();
    }
    let spawned = master.wait_all(5, on("spawned"));
    let gaps: Vec<Duration> = spawned.windows(2).map(|pair| pair[1].since(&pair[0])).collect();
    let at_least = [1200, 2400].map(Duration::from_millis);
    assert!(gaps[2] > at_least[0] && gaps[3] > at_least[1], "from 800 to 1600, then to 3200 ms: {gaps:?}");
}

#[test]
fn a_crash_long_after_the_last_one_is_mended_at_once() {
    let master = Launch::fixture("server.js").workers(1).option("--respawn", "1ms").serve();
    let old = master.wait(on("spawned"));
    master.worker(&old).signal(Signal::KILL);
    assert_eq!(master.wait(on("respawning")).at("/delay_seconds").as_f64(), Some(0.0));
}

#[test]
fn a_worker_that_served_once_is_respawned_without_end() {
    let home = Home::new();
    let gate = home.write("gate", "");
    let launch = Launch::fixture("gate.js").home(&home).workers(1).env("GATE", &gate);
    let master = launch.option("--attempts", "1").option("--respawn", "10ms").serve();
    fs::remove_file(&gate).expect("the gate is ours");
    master.worker(&master.wait(on("spawned"))).signal(Signal::KILL);
    master.wait_all(4, on("respawning"));
    home.write("gate", "");
    master.wait_all(2, on("serving"));
}

#[test]
fn a_connection_made_while_no_worker_lives_waits_for_the_next_one() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    let mut first = stage.next();
    first.serve();
    master.wait(on("started"));
    first.exit(1);
    master.wait(on("exit"));
    let mut connection = master.connect();
    connection.send("GET / HTTP/1.1\r\n\r\n").expect("it is connected");
    let mut second = stage.next();
    second.serve();
    let handed = second.handed();
    second.take(&handed, true);
    second.answer(&handed, "worth the wait");
    assert_eq!(connection.response().expect("an answer").body, "worth the wait");
}

#[test]
fn a_crash_after_the_release_was_switched_respawns_the_old_release() {
    let home = Home::new();
    let server = home.release("release-1", "server.js");
    let master = Launch::of(server).home(&home).workers(1).serve();
    assert_eq!(master.get("/").text("release"), "release-1");
    home.release("release-2", "server.js");
    let old = master.wait(on("spawned"));
    master.worker(&old).signal(Signal::KILL);
    wait_replaced(&master, &old);
    assert_eq!(master.get("/").text("release"), "release-1", "release-2 was never proven");
}

#[test]
fn a_process_that_cannot_be_started_is_tried_again_while_the_others_serve() {
    let home = Home::new();
    let node = home.script("node", &format!("exec '{}' \"$@\"", Node::under_test().path));
    let launch =
        Launch::fixture("server.js").home(&home).workers(2).option("--node", &node.to_string_lossy());
    let master = launch.option("--respawn", "10ms").serve();
    let hidden = home.join("node.hidden");
    fs::rename(&node, &hidden).expect("the directory is ours");
    master.worker(&master.wait(on("spawned").slot(1))).signal(Signal::KILL);
    master.wait_all(3, on("respawning").slot(1));
    let failed = master.wait(on("failed").with("/failure/worker/slot", 1));
    assert!(failed.text("/failure/reason").contains(&*node.to_string_lossy()), "{failed}");
    assert_eq!(master.get("/").text("slot"), "0");
    fs::rename(&hidden, &node).expect("the directory is ours");
    master.wait_all(2, on("serving").slot(1));
}

#[test]
fn a_new_node_comes_in_with_a_reload_and_never_with_a_respawn() {
    let home = Home::new();
    for name in ["node-1", "node-2"] {
        home.script(name, &format!("NODE_RELEASE={name} exec '{}' \"$@\"", Node::under_test().path));
    }
    home.link("node", "node-1");
    let launch = Launch::fixture("server.js").home(&home).workers(1);
    let master = launch.option("--node", &home.join("node").to_string_lossy()).serve();
    home.link("node", "node-2");
    let old = master.wait(on("spawned"));
    master.worker(&old).signal(Signal::KILL);
    wait_replaced(&master, &old);
    assert_eq!(master.get("/").json()["env"]["NODE_RELEASE"], "node-1");
    master.reload().expect_code(0);
    assert_eq!(master.get("/").json()["env"]["NODE_RELEASE"], "node-2");
}

/// Keeps the kernel from running this file until it is killed.
fn keep_from_running(path: &Path) -> Child {
    let mut keeper = Command::new("python3");
    keeper.arg(fixture("keeps-from-running.py")).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut keeper = keeper.spawn().expect("python3 runs");
    let mut said = String::new();
    let stdout = keeper.stdout.as_mut().expect("it is piped");
    BufReader::new(stdout).read_line(&mut said).expect("a pipe");
    assert_eq!(said, "kept\n");
    keeper
}

#[test]
#[cfg_attr(not(has = "fanotify"), ignore = "this machine lets no process keep others from running a file")]
fn a_start_for_which_the_kernel_waits_is_told_with_the_file() {
    let home = Home::new();
    let server = home.program("server", "#!/bin/sh\nexec sleep 1000\n");
    let master = Launch::of(&server).home(&home).workers(2).option("--ready-when", "started").serve();
    let mut keeper = keep_from_running(&server);
    let old = master.wait(on("spawned").slot(1));
    master.worker(&old).signal(Signal::KILL);
    let hangs = master.wait(on("start_hangs").slot(1));
    assert_eq!(hangs.text("/program"), server.to_str().expect("a path of ours"));
    assert_eq!(hangs.text("/directory"), home.path().to_str().expect("a path of ours"));
    assert_eq!(master.status()["workers"][0]["state"], "serving", "the master answers meanwhile");
    keeper.kill().expect("it is a child");
    keeper.wait().expect("it is a child");
    master.wait(on("serving").id(hangs.id()));
    assert_eq!(master.seen(&on("start_hangs")).len(), 1, "the first starts took no time that is told");
}
