//! Programs of several processes whose first one ends before the others: what becomes of those.

use recluster_e2e::{Launch, Master, Process, on};
use rustix::process::Signal;

/// A program whose first process ends at once when it is told to go, and whose second one goes on.
fn program(options: &[(&'static str, &str)]) -> (Master, Process) {
    let launch = Launch::fixture("leaves-its-children.py").workers(1);
    let master = options.iter().fold(launch, |launch, (name, value)| launch.option(name, value)).start();
    let child = child(&master);
    master.wait(on("started"));
    (master, child)
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
fn the_rest_of_a_group_is_told_once() {
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
fn the_rest_of_a_group_is_killed_when_its_time_is_over() {
    let (master, child) = program(&[("--timeout", "500ms"), ("--kill-timeout", "200ms")]);
    replaced(&master);
    let overdue = master.wait(on("overdue").id(1));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("rest", "SIGKILL"));
    child.wait_end();
    let told = master.wait(on("draining").id(1));
    assert!(overdue.since(&told).as_millis() >= 700, "{:?}", overdue.since(&told));
}

/// Whoever was let go by another signal is sent TERM at the drain timeout, as a whole worker would be.
#[test]
fn the_rest_of_a_group_is_sent_term_first() {
    let options = [("--drain-signal", "INT"), ("--timeout", "500ms"), ("--kill-timeout", "1h")];
    let launch = Launch::fixture("leaves-its-children.py").workers(1).env("IGNORES", "INT");
    let master = options.iter().fold(launch, |launch, (name, value)| launch.option(name, value)).serve();
    let child = child(&master);
    replaced(&master);
    let overdue = master.wait(on("overdue").id(1));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("rest", "SIGTERM"));
    assert_eq!(master.wait_stdout("child was sent TERM"), "child was sent TERM");
    child.signal(Signal::USR1);
    child.wait_end();
}

#[test]
fn what_a_crash_leaves_is_killed_as_well() {
    let (master, child) = program(&[("--timeout", "300ms"), ("--kill-timeout", "200ms")]);
    master.worker(&master.wait(on("spawned"))).signal(Signal::KILL);
    master.wait(on("serving").id(2));
    assert_eq!(master.wait(on("overdue").id(1)).text("/due"), "rest");
    child.wait_end();
}

/// The cluster is not over before the last process of it is.
#[test]
fn a_stop_waits_for_the_rest_of_a_group() {
    let (mut master, child) = program(&[]);
    master.signal(Signal::TERM);
    master.wait(on("exit").id(1));
    assert!(child.lives() && master.process().lives());
    child.signal(Signal::USR1);
    master.expect_end(0);
    assert!(!child.lives());
}

#[test]
fn a_stop_ends_the_rest_of_a_group_in_time() {
    let (mut master, child) = program(&[("--stop-timeout", "300ms"), ("--kill-timeout", "200ms")]);
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!child.lives());
}

#[test]
fn a_stop_gives_what_drains_already_no_more_time() {
    let (mut master, child) = program(&[("--stop-timeout", "300ms"), ("--kill-timeout", "200ms")]);
    replaced(&master);
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!child.lives());
}

#[test]
fn a_second_signal_ends_the_rest_of_a_group_at_once() {
    let (mut master, child) = program(&[]);
    master.signal(Signal::TERM);
    master.wait(on("exit").id(1));
    master.signal(Signal::TERM);
    master.expect_end(0);
    child.wait_end();
}
