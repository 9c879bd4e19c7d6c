//! The log (`--log-format`, `--log-file`), and the file with the master's process id (`--pidfile`).

use std::fs;

use recluster_e2e::{Home, Launch, Process, on};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn the_log_for_people_names_the_worker_and_says_when_the_next_one_comes() {
    let launch = Launch::fixture("server.js").workers(1).without("--log-format").without("-v");
    let master = launch.start();
    recluster_e2e::eventually("it serves", || master.client(&["status"]).code() == 0);
    let pid = master.active_pids()[0];
    Process::open(pid).expect("the worker lives").signal(Signal::KILL);
    let line = master.wait_stderr("must be replaced");
    let words = format!("[{pid}] worker 1 (slot 0) must be replaced, respawning ");
    let (_, when) = line.split_once(&words).unwrap_or_else(|| panic!("{line}"));
    assert!(when.starts_with("at once") || when.ends_with(" ms") || when.ends_with(" s"), "{line}");
}

#[test]
fn with_quiet_the_log_is_empty_where_nothing_fails() {
    let home = Home::new();
    let launch =
        Launch::fixture("server.js").home(&home).without("--log-format").without("-v").flag("--quiet");
    let log = home.join("log");
    let mut master = launch.option("--log-file", &log.to_string_lossy()).start();
    recluster_e2e::eventually("it serves", || master.client(&["status"]).code() == 0);
    master.client(&["reload"]).expect_code(0);
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert_eq!(fs::read_to_string(&log).expect("the log"), "");
}

#[test]
fn usr1_opens_the_log_file_anew_and_does_not_reach_the_workers() {
    let home = Home::new();
    let log = home.join("log");
    let launch =
        Launch::fixture("server.js").home(&home).workers(1).option("--log-file", &log.to_string_lossy());
    let mut master = launch.start();
    recluster_e2e::eventually("it serves", || home.read_if_there("log").contains("\"started\""));
    fs::rename(&log, home.join("log.1")).expect("the directory is ours");
    master.signal(Signal::USR1);
    recluster_e2e::eventually("the log is there again", || log.exists());
    master.client(&["reload"]).expect_code(0);
    recluster_e2e::eventually("the log goes on", || home.read("log").contains("\"reloaded\""));
    assert!(!home.read("log.1").contains("\"reloaded\""));
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(master.stderr().iter().all(|line| !line.contains("Debugger")), "the inspector was opened");
}

#[test]
fn a_pidfile_of_a_process_that_lives_is_an_error() {
    let home = Home::new();
    let pidfile = home.write("pid", &format!("{}\n", std::process::id()));
    let refused =
        Launch::fixture("server.js").home(&home).option("--pidfile", &pidfile.to_string_lossy()).refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains(&std::process::id().to_string()), "{refused:#?}");
    assert_eq!(home.read("pid").trim(), std::process::id().to_string(), "it was left alone");
}

#[test]
fn a_pidfile_of_a_process_that_is_gone_is_replaced() {
    let home = Home::new();
    let mut gone = std::process::Command::new("true").spawn().expect("the command is everywhere");
    gone.wait().expect("it ends at once");
    let pidfile = home.write("pid", &format!("{}\n", gone.id()));
    let launch = Launch::fixture("server.js").home(&home).workers(1);
    let master = launch.option("--pidfile", &pidfile.to_string_lossy()).serve();
    assert_eq!(home.read("pid").trim(), master.process().pid().to_string());
}

/// Whoever looks at a start that takes long sees what it waits for.
#[test]
fn a_start_that_takes_long_is_told_of_with_the_workers_that_do_not_listen() {
    let home = Home::new();
    let server = home.write("server.js", "setInterval(() => {}, 1e9)");
    let master = Launch::of(&server).home(&home).workers(1).start();
    let waits = master.wait(on("start_waits"));
    assert_eq!((waits.number("/generation"), waits.at("/reload")), (1, &Value::from(false)));
    assert_eq!(waits.text("/workers/0/lacks"), "listening", "{waits}");
    assert_eq!(waits.number("/workers/0/pid"), u64::from(master.wait(on("spawned")).pid()));
}

/// A log on disk does not grow by three lines a second while a worker dies all the time.
#[test]
fn workers_that_die_all_the_time_are_summed_up() {
    let home = Home::new();
    let server = home.write(
        "server.js",
        // Behind the word of Node that it listens.
        "require('http').createServer().listen(0, () => setImmediate(() => process.send('ready', () => process.exit(1))))",
    );
    let launch = Launch::of(&server).home(&home).workers(1).option("--bake", "0").option("--respawn", "0");
    let master = launch.without("--log-format").without("-v").start();
    let line = master.wait_stderr("workers die again and again: 10 were replaced in ");
    assert!(line.contains("--backoff"), "{line}");
    let lines = master.stderr();
    let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!((count("must be replaced"), count("serves again")), (5, 5), "{lines:#?}");
}

/// What it was answering is lost then, and nothing else in the log says so.
#[test]
fn a_worker_that_fails_while_it_drains_is_told_once() {
    let home = Home::new();
    let server = home.write(
        "server.js",
        "process.on('message', () => { throw new Error('the pool is gone') })
        require('http').createServer().listen(0)",
    );
    let launch = Launch::of(&server).home(&home).workers(1);
    let mut master = launch.without("--log-format").without("-v").start();
    master.wait_stderr("1 worker serves");
    master.client(&["reload"]).expect_code(0);
    master.wait_stderr("worker 1 (slot 0) exited with status 1 when it was let go");
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    let lines = master.stderr();
    let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!(count(" exited with status 1 when it was let go"), 2, "{lines:#?}");
}

/// Such as that of a program which looks for a free port and finds its own taken. Clients go on asking at the old one.
#[test]
fn an_address_that_a_reload_leaves_is_told() {
    let home = Home::new();
    let server = home.write("server.js", "require('http').createServer().listen(0, '127.0.0.1')");
    let launch = Launch::of(&server).home(&home).workers(1);
    let master = launch.without("--log-format").without("-v").start();
    let line = master.wait_stderr("1 worker serves generation 1 on ");
    let (_, old) = line.rsplit_once(" on ").expect("an address");
    home.write("server.js", "require('http').createServer().listen(0, '127.0.0.2')");
    master.client(&["reload"]).expect_code(0);
    master.wait_stderr(&format!("{old} is closed, no worker uses it"));
}
