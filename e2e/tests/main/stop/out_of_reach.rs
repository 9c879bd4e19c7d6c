//! Workers that are not where signals for their group go: they have left it, or are stopped. They end all the same.

use recluster_e2e::{Event, Launch, Master, Process, Puppet, Stage, eventually, on};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A program in one slot, in the process group of the master. A puppet ends by whatever signal it is sent, if it does not
/// ignore it.
fn elsewhere(launch: impl FnOnce(&Stage) -> Launch, ignores: &str) -> (Stage, Master, Puppet) {
    let stage = Stage::new();
    let launch = launch(&stage).workers(1).env("PUPPET_IGNORES", ignores);
    let master = launch.option("--timeout", "1h").option("--kill-timeout", "200ms").start();
    let mut puppet = stage.next();
    puppet.leave_group();
    let process = Process::open(puppet.pid).expect("it lives");
    assert_ne!(process.group(), puppet.pid, "it has left");
    (stage, master, puppet)
}

fn program(ignores: &str) -> (Stage, Master, Puppet) {
    elsewhere(Stage::launch_program, ignores)
}

fn signal_of(exit: &Event) -> &Value {
    exit.at("/exit/signal")
}

#[test]
fn a_worker_that_has_left_its_group_ends_at_a_stop() {
    let (_stage, mut master, _puppet) = program("");
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert_eq!(signal_of(&master.wait(on("exit"))), &json!(Signal::TERM.as_raw()));
}

#[test]
fn one_that_ignores_it_is_killed() {
    let (_stage, mut master, _puppet) =
        elsewhere(|stage| stage.launch_program().option("--stop-timeout", "200ms"), "TERM");
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert_eq!(signal_of(&master.wait(on("exit"))), &json!(Signal::KILL.as_raw()));
}

#[test]
fn one_ends_at_a_termination() {
    let (_stage, mut master, _puppet) = program("TERM");
    master.signal(Signal::QUIT);
    master.expect_end(0);
}

#[test]
fn one_ends_in_a_reload() {
    let (stage, master, _puppet) = program("");
    master.reload().expect_code(0);
    drop(stage.next());
    assert_eq!(signal_of(&master.wait(on("exit").generation(1))), &json!(Signal::TERM.as_raw()));
}

/// What it has started stayed in the group that was made for it.
#[test]
fn those_that_it_leaves_in_its_group_end_with_it() {
    let stage = Stage::new();
    let mut master = stage.launch_program().workers(1).start();
    let mut puppet = stage.next();
    let child = Process::open(puppet.run("exec sleep 1000")).expect("it lives");
    puppet.leave_group();
    master.signal(Signal::TERM);
    master.expect_end(0);
    child.wait_end();
}

/// A Node worker that does not go is sent the same signals.
#[test]
fn a_node_worker_that_has_left_its_group_ends() {
    let (_stage, mut master, _puppet) =
        elsewhere(|stage| stage.launch().option("--stop-timeout", "200ms"), "");
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert_eq!(signal_of(&master.wait(on("exit"))), &json!(Signal::TERM.as_raw()));
}

#[test]
fn a_stopped_worker_ends_at_a_stop() {
    let stage = Stage::new();
    let launch = stage.launch_program().workers(1);
    let mut master = launch.option("--stop-timeout", "200ms").option("--kill-timeout", "200ms").start();
    let puppet = stage.next();
    let process = Process::open(puppet.pid).expect("it lives");
    process.signal(Signal::STOP);
    eventually("it stands still", || process.status_line("State").starts_with('T'));
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert_eq!(signal_of(&master.wait(on("exit"))), &json!(Signal::KILL.as_raw()));
}

/// A daemon's habit: forked twice, in a session of its own, with the pidfile open. Nothing of it waits for that file, or locks it.
#[test]
fn a_daemon_that_has_the_pidfile_open_holds_up_neither_the_end_nor_the_next_start() {
    let stage = Stage::new();
    let pidfile = stage.home().join("master.pid");
    let launch = || stage.launch_program().workers(1).option("--pidfile", &pidfile.to_string_lossy());
    let mut master = launch().start();
    let mut puppet = stage.next();
    let script = stage.home().script(
        "daemon.sh",
        &format!(
            "exec 9<>'{}'\nflock -n 9\nsleep 100000 >/dev/null 2>&1 &\necho $! >daemon",
            pidfile.display()
        ),
    );
    puppet.run(&format!("cd '{}'; exec setsid sh {}", stage.home().path().display(), script.display()));
    eventually("it has forked", || stage.home().read_if_there("daemon").ends_with('\n'));
    let pid = stage.home().read("daemon").trim().parse().expect("a process id");
    let daemon = Process::open(pid).expect("it lives");
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!pidfile.exists());
    let next = launch().start();
    drop(stage.next());
    assert_eq!(stage.home().read("master.pid").trim(), next.process().pid().to_string());
    // It is out of reach of its master, which may have ended it all the same.
    if daemon.lives() {
        daemon.signal(Signal::KILL);
    }
}

/// Its notifications are heard wherever it is.
#[test]
fn a_worker_that_has_left_its_group_is_heard() {
    let stage = Stage::new();
    let master = stage.launch_program().workers(1).option("--ready-when", "notify").start();
    let mut puppet = stage.next();
    puppet.leave_group();
    puppet.notify("READY=1");
    master.wait(on("started"));
}
