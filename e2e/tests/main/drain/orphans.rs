//! Node workers whose master was killed: they accept nothing new, answer the requests that they have, and end.

use std::fs::File;
use std::iter;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use recluster_e2e::{Connection, Home, Launch, Master, eventually};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use super::lossless::{Tunnel, answered, answered_last, cluster, drain, ended, tell};

/// Kills the master, and waits until its worker has closed its server because of that.
fn orphan(master: &mut Master) {
    master.signal(Signal::KILL);
    master.wait_end();
    master.wait_stdout("closing");
}

/// Waits until the workers have ended, as if they had nothing more to do.
fn left(master: &Master) {
    master.wait_workers_gone();
    master.wait_stdout("exit 0");
}

fn answers_what_it_has(master: &mut Master, open: impl Fn(&Master) -> Connection<TcpStream>) {
    let [mut posting, mut streaming, mut idle] = [open(master), open(master), open(master)];
    posting.begin_request().expect("a worker should take the request");
    let head = "POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n";
    streaming.send(head).expect("it is open");
    streaming.head().expect("a head");
    assert_eq!(streaming.read(5).expect("the first part"), b"begin");
    answered(&mut idle);
    let address = master.address();
    orphan(master);
    eventually("nobody listens any more", || TcpStream::connect(address).is_err());
    assert_eq!(posting.finish_request().expect("an answer").text("generation"), "1");
    ended(posting);
    answered_last(idle);
    streaming.send("end").expect("it is open");
    assert_eq!(streaming.read(3).expect("the rest"), b"end");
    answered_last(streaming);
    left(master);
}

#[test]
fn an_orphan_answers_what_it_has() {
    for balance in ["round-robin", "shared"] {
        let mut master = cluster().option("--balance", balance).serve();
        answers_what_it_has(&mut master, Master::connect);
    }
}

/// Their clients are connected when the master dies, and their worker, which is busy, has accepted none of them.
#[test]
fn an_orphan_answers_what_waits_for_it() {
    for balance in ["kernel", "shared"] {
        let home = Home::new();
        let gate = home.join("gate");
        mknodat(CWD, &gate, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe can be made");
        let launch = cluster().option("--balance", balance).env("BLOCK_ON", &gate);
        let mut master = launch.serve();
        let mut blocks = master.connect();
        blocks.send("GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
        // It can be opened when the worker has opened it, and stands still there.
        let opened = File::options().write(true).open(&gate).expect("the worker reads there");
        let mut waiting: Vec<_> = (0..40).map(|_| master.connect()).collect();
        for connection in &mut waiting {
            connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
        }
        master.signal(Signal::KILL);
        master.wait_end();
        drop(opened);
        // What comes in the same turn of its loop as the end of the master is answered before the worker knows of that.
        for mut connection in iter::once(blocks).chain(waiting) {
            assert_eq!(connection.response().expect("an answer").text("generation"), "1");
        }
        left(&master);
    }
}

#[test]
fn an_orphan_answers_what_it_has_by_tls() {
    let mut master = cluster().env("PROTOCOL", "https").serve();
    let tunnel = Tunnel::to(&master, "http/1.1");
    answers_what_it_has(&mut master, |master| tunnel.connect(master));
}

#[test]
fn an_orphan_closes_idle_connections_at_the_grace() {
    let mut master = cluster().option("--idle-grace", "500ms").serve();
    let (fresh, mut idle) = (master.connect(), master.connect());
    answered(&mut idle);
    orphan(&mut master);
    ended(fresh);
    ended(idle);
    left(&master);
}

/// Its stderr was read by the master, and its channel led to it.
#[test]
fn an_orphan_that_goes_on_talking_survives_that() {
    for talks in ["always", "alone"] {
        let mut master = cluster().env("TALKS", talks).serve();
        let mut connection = master.begin_request();
        orphan(&mut master);
        master.wait_stdout("still talks");
        assert_eq!(connection.finish_request().expect("an answer").text("generation"), "1");
        left(&master);
    }
}

#[test]
fn an_orphan_ends_at_the_drain_timeout_whatever_it_has() {
    for begin in [|_: &Master| (), drain] {
        let mut master = cluster().option("--timeout", "5s").serve();
        let _connection = master.begin_request();
        begin(&master);
        let killed = Instant::now();
        orphan(&mut master);
        left(&master);
        assert!(killed.elapsed() >= Duration::from_secs(5), "it ended after {:?}", killed.elapsed());
    }
}

#[test]
fn a_worker_that_drains_already_goes_on_when_it_is_orphaned() {
    for begin in [tell, drain] {
        let mut master = cluster().serve();
        let (mut posting, mut idle) = (master.connect(), master.connect());
        answered(&mut idle);
        posting.begin_request().expect("a worker should take the request");
        begin(&master);
        orphan(&mut master);
        assert_eq!(posting.finish_request().expect("an answer").text("generation"), "1");
        answered_last(idle);
        left(&master);
    }
}

#[test]
fn an_orphan_that_keeps_its_process_alive_ends_when_its_connections_have() {
    let mut master = Launch::fixture("lingers.js").workers(1).option("--idle-grace", "500ms").serve();
    let mut idle = master.connect();
    assert_eq!(idle.get("/").expect("an answer").status, 200);
    master.signal(Signal::KILL);
    master.wait_end();
    ended(idle);
    master.wait_workers_gone();
}
