//! `scale`, `TTIN` and `TTOU` change the number of slots while the cluster runs.

use recluster_e2e::{Home, Launch, Master, Process, Tmux, eventually, fixture, on};
use rustix::process::Signal;

/// Waits until the cluster has changed to so many slots, and every one of them serves.
fn scaled(master: &Master, from: u64, to: u64) {
    master.wait(on("scaled").with("/from", from).with("/to", to));
    recluster_e2e::eventually("every slot has an active worker", || {
        let status = master.status();
        let slots = status["slots"].as_array().expect("slots").clone();
        slots.len() as u64 == to && slots.iter().all(|slot| slot["active"].is_u64())
    });
}

#[test]
fn more_workers() {
    let master = Launch::fixture("server.js").workers(1).serve();
    master.client(&["scale", "3"]).expect_code(0);
    scaled(&master, 1, 3);
    master.wait(on("serving").slot(2));
    assert_eq!(master.wait(on("spawned").slot(2)).number("/worker/generation"), 1);
}

#[test]
fn fewer_workers() {
    let master = Launch::fixture("server.js").workers(3).serve();
    master.client(&["scale", "1"]).expect_code(0);
    for slot in [1, 2] {
        assert_eq!(master.wait(on("exit").slot(slot)).at("/expected"), true);
    }
    scaled(&master, 3, 1);
    assert_eq!(master.live_pids().len(), 1);
    assert_eq!(master.get("/").text("slot"), "0");
}

#[test]
fn by_a_difference() {
    let master = Launch::fixture("server.js").workers(1).serve();
    master.client(&["scale", "+2"]).expect_code(0);
    scaled(&master, 1, 3);
    master.client(&["scale", "-1"]).expect_code(0);
    scaled(&master, 3, 2);
}

#[test]
fn at_least_one_slot_remains() {
    let master = Launch::fixture("server.js").workers(2).serve();
    master.client(&["scale", "-5"]).expect_code(0);
    scaled(&master, 2, 1);
}

#[test]
fn more_than_a_cluster_may_have_is_refused_with_the_limit() {
    let master = Launch::fixture("server.js").workers(2).serve();
    for (scale, workers) in
        [("5000", "5000"), ("1025", "1025"), ("+1023", "1025"), ("+2147483647", "2147483649")]
    {
        let refused = master.client(&["scale", scale]);
        refused.expect_code(2);
        let reason = format!("workers is {workers}: a cluster may have at most 1024");
        assert!(refused.stderr.contains(&reason), "{refused:#?}");
    }
    assert!(master.seen(&on("scaled")).is_empty());
    assert_eq!(master.live_pids().len(), 2);
}

/// Nobody is told of workers that will never be started.
#[test]
fn a_cluster_that_is_about_to_end_is_neither_scaled_nor_reloaded() {
    let master = Launch::fixture("stubborn.js").workers(1).serve();
    master.signal(Signal::TERM);
    master.wait(on("draining"));
    for command in [&["scale", "5"][..], &["scale", "+1"], &["reload", "--no-wait"]] {
        let refused = master.client(command);
        refused.expect_code(2);
        assert_eq!(refused.stdout, "");
        assert!(refused.stderr.contains("the cluster is about to end"), "{refused:#?}");
    }
    master.signal(Signal::TTIN);
    master.wait(on("not_scaled"));
}

#[test]
fn by_signals() {
    let master = Launch::fixture("server.js").workers(1).serve();
    master.signal(Signal::TTIN);
    scaled(&master, 1, 2);
    master.signal(Signal::TTOU);
    scaled(&master, 2, 1);
    master.wait(on("exit").slot(1).with("/expected", true));
}

#[test]
fn a_reload_keeps_the_number() {
    let master = Launch::fixture("server.js").workers(1).serve();
    master.client(&["scale", "2"]).expect_code(0);
    scaled(&master, 1, 2);
    master.reload().expect_code(0);
    assert_eq!(master.seen(&on("serving").generation(2)).len(), 2);
    assert_eq!(master.get("/").json()["env"]["RECLUSTER_WORKERS"], "2");
}

/// Two workers that a script on a terminal has started, and their control socket.
fn on_a_terminal(home: &Home, script: &str) -> (Tmux, String) {
    let control = home.join("it.sock").to_string_lossy().into_owned();
    let script = script.replace("SERVER", &fixture("server.js").to_string_lossy());
    let tmux = Tmux::start(home, (160, 40), &script.replace("CONTROL", &control));
    tmux.wait_for("2 workers serve generation 1");
    (tmux, control)
}

/// The process whose pid is in a file.
fn process(home: &Home, file: &str) -> Process {
    Process::open(home.read(file).trim().parse().expect("a pid")).expect("it lives")
}

/// A job in the background of a terminal where such jobs may not write.
const BACKGROUND: &str = r#"
set -m
stty tostop
"$RECLUSTER" SERVER --workers 2 --log-prefix --control CONTROL &
echo $! >pid
read line
cat
"#;

/// The kernel sends it to whoever writes there, and it is no wish of anybody.
#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn a_log_on_a_terminal_that_stops_background_jobs_is_written_and_costs_no_worker() {
    let home = Home::new();
    let (tmux, control) = on_a_terminal(&home, BACKGROUND);
    let status = home.recluster(&["status", "--json", "--control", &control]).json();
    assert_eq!(status["slots"].as_array().map(Vec::len), Some(2), "{status}");
    home.recluster(&["scale", "3", "--control", &control]).expect_code(0);
    let screen = tmux.wait_for("scaled from 2 to 3 workers");
    assert!(!screen.contains("SIGTTOU"), "{screen}");
    process(&home, "pid").signal(Signal::TTOU);
    let screen = tmux.wait_for("scaled from 3 to 2 workers");
    assert_eq!(screen.matches("SIGTTOU").count(), 1, "{screen}");
    home.recluster(&["terminate", "--control", &control]).expect_code(0);
}

/// A job in the background, with somebody in its group who reads from the terminal when he is told to.
const READS: &str = r#"
set -m
mkfifo now
{ { read line <now; exec cat /dev/tty; } & echo $! >reader; exec "$RECLUSTER" SERVER --workers 2 --control CONTROL; } &
echo $! >pid
read line
cat
"#;

/// The kernel stops the whole group of the one who reads, as it believes, and the master is in it.
#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn what_another_process_of_its_group_reads_from_the_terminal_starts_no_worker() {
    let home = Home::new();
    let (tmux, control) = on_a_terminal(&home, READS);
    let (master, reader) = (process(&home, "pid"), process(&home, "reader"));
    home.write("now", "\n");
    eventually("a reader that is stopped", || reader.status_line("State").contains("stopped"));
    // It is heard behind what the kernel has sent.
    master.signal(Signal::TTOU);
    let screen = tmux.wait_for("scaled from 2 to 1 workers");
    assert!(!screen.contains("SIGTTIN"), "{screen}");
    master.signal(Signal::TTIN);
    tmux.wait_for("scaled from 1 to 2 workers");
    home.recluster(&["terminate", "--control", &control]).expect_code(0);
}
