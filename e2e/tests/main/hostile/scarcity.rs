//! When the master runs out of descriptors, its workers go on serving, and what failed is tried again.

use std::net::TcpStream;

use recluster_e2e::{Connection, Launch, Master, on};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

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
