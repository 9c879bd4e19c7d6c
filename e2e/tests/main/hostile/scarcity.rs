//! When the master runs out of descriptors, its workers go on serving, and what failed is tried again.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;

use recluster_e2e::{Connection, Home, Launch, Master, Stage, eventually, on};
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

/// The kernel spreads what comes then: what is handed out passes the master, which needs a descriptor for it.
#[test]
fn out_of_descriptors_nothing_is_handed_out_until_there_are_some_again() {
    let master = Launch::fixture("server.js").workers(4).serve();
    let is_handing_out = || master.status()["listeners"][0]["handing_out"] == true;
    eventually("connections are handed out", is_handing_out);
    limit_descriptors(&master, 0);
    let mut waiting = Vec::new();
    eventually("what comes is answered by a worker that needs no master for it", || {
        let mut client = TcpStream::connect(master.address()).expect("it listens");
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is connected");
        client.set_nonblocking(true).expect("a socket");
        waiting.push(client);
        // Whichever it is: the first ones wait for a descriptor of the master.
        waiting.iter().any(|client| client.peek(&mut [0]).is_ok())
    });
    set_limit(&master, getrlimit(Resource::Nofile));
    for client in waiting {
        client.set_nonblocking(false).expect("a socket");
        let answer = Connection::over(client).and_then(|mut client| client.response());
        assert_eq!(answer.expect("an answer").status, 200);
    }
    eventually("connections are handed out again", is_handing_out);
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

/// The log in a file, workers that are checked all the time, a pidfile, and a master that can be told to have nothing any more.
fn busy(launch: Launch) -> Launch {
    let launch = launch.option("--ready-check", "http:/").option("--check-interval", "50ms");
    launch.option("--respawn", "50ms").with_admin()
}

/// What a shortage costs while it lasts, for every act of the master that takes a descriptor: that act, and nothing that runs.
#[test]
fn out_of_descriptors_every_act_fails_by_itself_and_works_again_afterwards() {
    let master = busy(Launch::fixture("server.js")).serve();
    let before = master.active_pids();
    let mut kept = master.connect();
    assert_eq!(kept.get("/").expect("a worker has it").status, 200);
    set_limit(&master, Rlimit { current: Some(4), maximum: getrlimit(Resource::Nofile).maximum });
    // A worker is checked again and again, and no check can be made: that says nothing of the worker.
    let is_told = || master.seen(&on("caveat")).iter().any(|told| told.text("/caveat").contains("unchecked"));
    eventually("no check could be made", is_told);
    assert_eq!(kept.get("/").expect("workers go on").status, 200);
    // A client of the control socket waits in its queue.
    let (asks, scales) = (master.begin_client(&["status", "--json"]), master.begin_client(&["scale", "3"]));
    // A reload begins with a look at the server's file.
    master.signal(Signal::HUP);
    let refused = master.wait(on("reloaded"));
    assert!(refused.text("/reason").contains("Too many open files"), "{refused:?}");
    assert_eq!(kept.get("/").expect("workers go on").status, 200);
    assert!(master.seen(&on("unhealthy")).is_empty() && master.seen(&on("exit")).is_empty());
    set_limit(&master, getrlimit(Resource::Nofile));
    assert_eq!(asks.finish().json()["phase"], "running");
    scales.finish().expect_code(0);
    master.client(&["reload"]).expect_code(0);
    let after = master.active_pids();
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|pid| !after.contains(pid)));
}

/// `pids.max` of a control group, which counts threads as well, or `ulimit -u`.
#[cfg_attr(not(has = "pids-groups"), ignore = "no control group for processes can be made")]
#[test]
fn out_of_processes_nothing_that_runs_ends_and_what_failed_is_tried_again() {
    let home = Home::new();
    let (group, pidfile) = (home.join("group"), home.join("it.pid"));
    let launch = busy(Launch::fixture("server.js")).home(&home).started_by("in-a-pids-group.py");
    let launch = launch.env("GROUP", &group).option("--pidfile", &pidfile.to_string_lossy());
    let master = launch.serve();
    let set = |most: &str| {
        let directory = fs::read_to_string(&group).expect("the fixture has written it");
        fs::write(Path::new(directory.trim()).join("pids.max"), most).expect("it may be written");
    };
    let mut kept = master.connect();
    set("1");
    // The files by which the master is reached are looked at, which takes threads.
    fs::remove_file(&pidfile).expect("it is there");
    master.signal(Signal::USR1);
    master.wait(on("signal").with("/signal", "SIGUSR1"));
    master.signal(Signal::HUP);
    master.wait(on("failed"));
    assert_eq!(kept.get("/").expect("workers go on").status, 200);
    let old = master.wait(on("spawned").slot(1));
    master.worker(&old).signal(Signal::KILL);
    master.wait(on("respawning").slot(1));
    assert_eq!(master.get("/").status, 200, "the other one serves");
    assert_eq!(master.status()["phase"], "running");
    assert!(master.seen(&on("panicked")).is_empty());
    set("max");
    eventually("every slot serves again", || master.active_pids().len() == 2);
    master.signal(Signal::USR1);
    eventually("the pidfile is there again", || pidfile.exists());
    master.reload().expect_code(0);
}
