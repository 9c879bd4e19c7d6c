//! When the master runs out of descriptors, its workers go on serving, and what failed is tried again.

use std::net::TcpStream;

use recluster_e2e::{Connection, Launch, Master, Stage, on};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::json;

/// Lets the master open no more than so many descriptors beside those that it has.
fn limit_descriptors(master: &Master, more: usize) {
    let open = master.process().open_files() + more;
    set_limit(master, Rlimit { current: Some(open as u64), maximum: getrlimit(Resource::Nofile).maximum });
}

fn set_limit(master: &Master, limit: Rlimit) {
    let pid = i32::try_from(master.process().pid()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Nofile, limit).expect("a process of the same user");
}

#[test]
fn out_of_descriptors_connections_wait_and_are_served() {
    let master = Launch::fixture("server.js").serve();
    limit_descriptors(&master, 3);
    let mut connections: Vec<Connection<TcpStream>> = (0..100).map(|_| master.connect()).collect();
    for connection in &mut connections {
        connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is connected");
    }
    for connection in &mut connections {
        assert_eq!(connection.response().expect("an answer").status, 200);
    }
}

#[test]
fn out_of_descriptors_a_worker_is_respawned_later() {
    let master = Launch::fixture("server.js").option("--respawn", "50ms").serve();
    let old = master.wait(on("spawned").slot(1));
    let worker = master.worker(&old);
    set_limit(&master, Rlimit { current: Some(4), maximum: getrlimit(Resource::Nofile).maximum });
    worker.signal(Signal::KILL);
    master.wait_all(2, on("respawning").slot(1));
    set_limit(&master, getrlimit(Resource::Nofile));
    master.wait_all(2, on("serving").slot(1));
    assert_eq!(master.seen(&on("spawned").slot(0)).len(), 1, "the other worker served all the time");
}

#[test]
fn out_of_descriptors_what_waits_in_the_sockets_of_the_dead_stays_there() {
    let launch = Launch::fixture("server.js").option("--balance", "kernel").option("--respawn", "50ms");
    let master = launch.serve();
    let workers: Vec<_> = (0..2).map(|slot| master.worker(&master.wait(on("spawned").slot(slot)))).collect();
    for worker in &workers {
        worker.signal(Signal::STOP);
    }
    let mut connections: Vec<Connection<TcpStream>> = (0..100).map(|_| master.connect()).collect();
    for connection in &mut connections {
        connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is connected");
    }
    limit_descriptors(&master, 40);
    workers[0].signal(Signal::KILL);
    master.wait_all(2, on("serving").slot(0));
    assert!(master.seen(&on("failed")).is_empty(), "there were descriptors for the next worker");
    workers[1].signal(Signal::CONT);
    for connection in &mut connections {
        assert_eq!(connection.response().expect("an answer").status, 200);
    }
}

/// The lines of `/proc/PID/limits` have columns: a name, the soft limit, the hard one.
fn soft_and_hard(pid: u32) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("there is such a limit");
    let mut columns = line.split_whitespace().map(str::to_owned);
    columns.next().zip(columns.next()).expect("two numbers")
}

#[test]
fn the_master_has_all_the_descriptors_that_it_can_get_and_what_it_starts_has_what_it_was_given() {
    let launch = Launch::fixture("program.sh").started_by("few-files.py").workers(1);
    let master = launch.option("--ready-check", "exec:test $(ulimit -Sn) = 300").serve();
    let of = |pid| soft_and_hard(pid);
    assert_eq!(of(master.process().pid()), ("1024".to_owned(), "1024".to_owned()));
    assert_eq!(of(master.wait(on("spawned")).pid()), ("300".to_owned(), "1024".to_owned()));
}

#[test]
fn a_worker_that_listens_without_end_is_refused_and_nobody_else_notices() {
    let stage = Stage::new();
    let master = stage.launch_beside("server.js", 2).started_by("few-files.py").start();
    let mut puppet = stage.next();
    puppet.online();
    let good = master.wait(on("serving").slot(0));
    let errors = (1..=1000).map(|index| puppet.query(&json!({ "index": index }))["errno"].clone());
    let refused = errors.filter(|errno| *errno == -24).count();
    assert!((500..990).contains(&refused), "{refused}");
    assert!(master.process().open_files() < 700, "the rest is for others");
    assert_eq!(master.get("/").status, 200);
    assert_eq!(master.status()["phase"], "running");
    master.worker(&good).signal(Signal::KILL);
    master.wait_all(2, on("serving").slot(0));
    assert!(master.seen(&on("cut_off")).is_empty());
}
