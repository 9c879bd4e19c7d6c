//! Leftovers: processes that a worker has started and that are still there when it has ended.

use recluster_e2e::{Launch, Master, Process, Stage, eventually, on};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A program whose first process ends at once when it is told to go, and whose second one goes on.
fn program(options: &[(&'static str, &str)]) -> (Master, Process) {
    let launch = Launch::fixture("leaves-its-children.py").workers(1);
    let master = with(launch, options).start();
    let child = child(&master);
    master.wait(on("started"));
    (master, child)
}

fn with(launch: Launch, options: &[(&'static str, &str)]) -> Launch {
    options.iter().fold(launch, |launch, (name, value)| launch.option(name, value))
}

/// What the status shows of those who were left behind.
fn leftovers(status: &Value) -> Vec<Value> {
    let workers = status["workers"].as_array().expect("workers").iter();
    workers.filter(|worker| worker["state"] == "leftover").cloned().collect()
}

/// The second process of the first worker.
fn child(master: &Master) -> Process {
    let line = master.wait_stdout("child ");
    let pid = line.trim_start_matches("child ").parse().expect("a process id");
    Process::open(pid).expect("it lives")
}

/// Reloads, and waits for the end of the old worker's first process.
fn replaced(master: &Master) {
    master.reload().expect_code(0);
    master.wait(on("exit").id(1));
}

#[test]
fn leftovers_are_sent_term_once() {
    let (master, child) = program(&[]);
    replaced(&master);
    assert!(child.lives(), "it has time");
    // Of two signals that wait, the lower number is delivered first, and that is TERM.
    child.signal(Signal::WINCH);
    assert_eq!(master.wait_stdout("child counts"), "child counts 1");
    child.signal(Signal::USR1);
    child.wait_end();
    assert!(master.seen(&on("overdue")).is_empty(), "it ended in time");
}

#[test]
fn leftovers_are_killed_when_their_time_is_over() {
    let (master, child) = program(&[("--timeout", "500ms"), ("--kill-timeout", "200ms")]);
    replaced(&master);
    let overdue = master.wait(on("overdue").id(1));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("rest", "SIGKILL"));
    child.wait_end();
    let told = master.wait(on("draining").id(1));
    // Both spans, and not the first one alone. A line of the log has its time a little later than what it tells of began.
    assert!(overdue.since(&told).as_millis() >= 600, "{:?}", overdue.since(&told));
}

/// Whoever was let go by another signal is sent TERM at the drain timeout, as a whole worker would be.
#[test]
fn leftovers_that_ignore_another_drain_signal_are_sent_term_first() {
    let options = [("--drain-signal", "INT"), ("--timeout", "500ms"), ("--kill-timeout", "1h")];
    let launch = Launch::fixture("leaves-its-children.py").workers(1).env("IGNORES", "INT");
    let master = with(launch, &options).serve();
    let child = child(&master);
    replaced(&master);
    let overdue = master.wait(on("overdue").id(1));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("rest", "SIGTERM"));
    assert_eq!(master.wait_stdout("child was sent TERM"), "child was sent TERM");
    child.signal(Signal::USR1);
    child.wait_end();
}

#[test]
fn leftovers_of_a_crash_are_killed() {
    let (master, child) = program(&[("--timeout", "300ms"), ("--kill-timeout", "200ms")]);
    master.worker(&master.wait(on("spawned"))).signal(Signal::KILL);
    master.wait(on("serving").id(2));
    assert_eq!(master.wait(on("overdue").id(1)).text("/due"), "rest");
    child.wait_end();
}

/// The cluster is not over before the last process of it is.
#[test]
fn a_stop_waits_for_leftovers() {
    let (mut master, child) = program(&[]);
    master.signal(Signal::TERM);
    master.wait(on("exit").id(1));
    assert!(child.lives() && master.process().lives());
    child.signal(Signal::USR1);
    master.expect_end(0);
    assert!(!child.lives());
}

#[test]
fn a_stop_kills_leftovers_at_its_timeout() {
    let (mut master, child) = program(&[("--stop-timeout", "300ms"), ("--kill-timeout", "200ms")]);
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!child.lives());
}

#[test]
fn a_stop_shortens_the_time_of_leftovers() {
    let (mut master, child) = program(&[("--stop-timeout", "300ms"), ("--kill-timeout", "200ms")]);
    replaced(&master);
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!child.lives());
}

#[test]
fn a_second_signal_kills_leftovers_at_once() {
    let (mut master, child) = program(&[]);
    master.signal(Signal::TERM);
    master.wait(on("exit").id(1));
    master.wait(on("stop_waits"));
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!child.lives());
}

/// The time of a worker that drains is what the stop leaves of it, also for what it leaves behind later.
#[test]
fn a_stop_shortens_the_time_of_later_leftovers() {
    let options = [("--timeout", "1h"), ("--stop-timeout", "8s"), ("--kill-timeout", "200ms")];
    let launch = Launch::fixture("leaves-its-children.py").workers(1).env("LINGERS", "1");
    let mut master = with(launch, &options).serve();
    let child = child(&master);
    let first = master.worker(&master.wait(on("spawned")));
    master.reload().expect_code(0);
    master.wait(on("draining").id(1));
    master.signal(Signal::TERM);
    master.wait(on("draining").id(2));
    first.signal(Signal::USR2);
    assert_eq!(master.wait(on("overdue").id(1)).text("/due"), "rest");
    master.expect_end(0);
    assert!(!child.lives());
}

/// A worker that was not ready in time was sent TERM with its group: the rest is not told again, and has the kill timeout.
#[test]
fn leftovers_that_were_sent_term_have_the_kill_timeout() {
    let launch = Launch::fixture("leaves-its-children.py").workers(1).option("--attempts", "1");
    let options = [("--ready-when", "notify"), ("--ready-timeout", "5s"), ("--kill-timeout", "3s")];
    let mut master = with(launch, &options).option("--timeout", "1h").option("--stop-timeout", "1h").start();
    let child = child(&master);
    let overdue = master.wait_all(2, on("overdue").id(1));
    let due: Vec<_> = overdue.iter().map(|it| (it.text("/due"), it.text("/signal"))).collect();
    assert_eq!(due, [("ready", "SIGTERM"), ("rest", "SIGKILL")]);
    master.expect_end(3);
    assert!(!child.lives());
    let told = master.stdout().iter().filter(|line| *line == "child was sent TERM").count();
    assert_eq!(told, 1);
}

/// Its first process was told on its channel, the others were not told at all.
#[test]
fn leftovers_of_a_worker_that_drained_by_message_are_sent_term() {
    let launch = Launch::fixture("leaves-its-children.py").workers(1).env("SPEAKS", "1");
    let master = launch.option("--ready-when", "ready").option("--timeout", "1h").serve();
    let child = child(&master);
    replaced(&master);
    assert_eq!(master.wait_stdout("child was sent TERM"), "child was sent TERM");
    assert!(child.lives(), "it has time");
    child.signal(Signal::USR1);
    child.wait_end();
}

#[test]
fn leftovers_are_logged_and_shown() {
    let (mut master, child) = program(&[("--timeout", "1h")]);
    let first = master.wait(on("spawned"));
    replaced(&master);
    let left = master.wait(on("left_behind"));
    assert_eq!((left.id(), left.pid()), (1, first.pid()));
    assert!(left.at("/timeout_seconds").as_f64().is_some_and(|left| left > 3000.0), "{left}");
    let status = master.status();
    let shown = leftovers(&status);
    assert_eq!(shown.len(), 1, "{status}");
    assert_eq!((&shown[0]["id"], &shown[0]["pid"]), (&json!(1), &json!(first.pid())));
    assert!(shown[0]["seconds_left"].as_f64().is_some_and(|left| left > 3000.0), "{status}");
    let table = master.client(&["status"]).stdout;
    assert!(table.contains("leftover") && table.contains(&first.pid().to_string()), "{table}");
    child.signal(Signal::USR1);
    eventually("it is gone", || leftovers(&master.status()).is_empty());
    master.signal(Signal::QUIT);
    master.expect_end(0);
}

/// Who has no other process, or none that outlives it, leaves nothing behind.
#[test]
fn without_leftovers_nothing_is_logged() {
    let stage = Stage::new();
    let mut master = stage.launch_program().workers(1).start();
    let _puppets = [stage.next(), {
        master.wait(on("started"));
        replaced(&master);
        stage.next()
    }];
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(master.seen(&on("left_behind")).is_empty());
}

#[test]
fn a_cluster_that_waits_for_leftovers_is_stopping() {
    let (mut master, child) = program(&[]);
    master.signal(Signal::TERM);
    master.wait(on("left_behind").id(1));
    let status = master.status();
    assert_eq!(status["phase"], "stopping");
    assert_eq!(leftovers(&status).len(), 1, "{status}");
    child.signal(Signal::USR1);
    master.expect_end(0);
}

/// Between two workers of a crashing program there is none: a stop has nobody to wait for but whom the first has left.
#[test]
fn a_stop_without_a_worker_kills_leftovers_at_its_timeout() {
    let stop = [("--stop-timeout", "300ms"), ("--kill-timeout", "200ms")];
    let (mut master, child) = program(&[&stop[..], &[("--timeout", "1h"), ("--respawn", "1h")]].concat());
    master.worker(&master.wait(on("spawned"))).signal(Signal::KILL);
    master.wait(on("respawning").id(1));
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!child.lives());
}

/// What is killed may hold the sockets until it is gone.
#[test]
fn the_master_ends_after_the_leftovers_that_it_killed() {
    let launch = Launch::fixture("leaves-its-children.py").workers(1).env("HEAVY", "1");
    let mut master = launch.serve();
    let child = child(&master);
    master.signal(Signal::QUIT);
    master.expect_end(0);
    assert!(!child.lives());
}
