//! What workers write to stdout and stderr: it passes through the master, and a slow or closed reader blocks no worker.

use std::io::Read;

use recluster_e2e::{Home, Launch, Process, eventually, on};
use rustix::process::Signal;

fn writes_both(home: &Home) -> Launch {
    let text = "console.log('to stdout'); console.error('to stderr'); setInterval(() => {}, 1e9)";
    let server = home.write("server.js", text);
    Launch::of(server).home(home).workers(1).option("--ready-when", "started")
}

#[test]
fn what_workers_write_passes_through() {
    let master = writes_both(&Home::new()).start();
    master.wait_stdout("to stdout");
    master.wait_stderr("to stderr");
}

#[test]
fn with_raw_stdio_it_passes_through_as_well() {
    let master = writes_both(&Home::new()).flag("--raw-stdio").start();
    master.wait_stdout("to stdout");
    master.wait_stderr("to stderr");
}

#[test]
fn with_raw_stdio_workers_have_the_master_s_stderr() {
    let master = writes_both(&Home::new()).flag("--raw-stdio").start();
    let worker = master.worker(&master.wait(on("online")));
    assert_eq!(worker.descriptor(2), master.process().descriptor(2));
    let other = writes_both(&Home::new()).start();
    let worker = other.worker(&other.wait(on("online")));
    assert_ne!(worker.descriptor(2), other.process().descriptor(2), "a pipe that the master reads");
}

#[test]
fn a_slow_reader_loses_lines_but_does_not_block_workers_and_is_told() {
    let home = Home::new();
    let (mut unread, stderr) = std::io::pipe().expect("a pipe");
    let launch = Launch::fixture("chatters.js").home(&home).workers(1).option("--ready-when", "started");
    let launch = launch.option("--log-file", &home.join("log").to_string_lossy()).stderr(stderr);
    let master = launch.start();
    let line = master.wait_stdout("said everything");
    std::thread::spawn(move || {
        let mut discarded = Vec::new();
        let _ = unread.read_to_end(&mut discarded);
    });
    let pid = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("the line ends with a pid");
    Process::open(pid).expect("the worker lives").signal(Signal::KILL);
    eventually("it is told", || home.read_if_there("log").contains("\"lines_lost\""));
}

#[test]
fn a_closed_reader_changes_nothing() {
    let home = Home::new();
    let (reader, stderr) = std::io::pipe().expect("a pipe");
    drop(reader);
    let launch = Launch::fixture("chatters.js").home(&home).workers(1).option("--ready-when", "started");
    let master = launch.option("--log-file", &home.join("log").to_string_lossy()).stderr(stderr).start();
    master.wait_stdout("said everything");
    master.client(&["status"]).expect_code(0);
}
