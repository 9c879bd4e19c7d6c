//! A stop behind a load balancer: the cluster goes on accepting for a while (`--accept-after-stop`), and clients that
//! move to another cluster lose nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use recluster_e2e::{Connection, DEADLINE, eventually, on};
use rustix::process::Signal;

use crate::drain::lossless::{answered, cluster};

#[test]
fn new_connections_are_accepted_after_a_stop_was_asked_for() {
    let master = cluster().option("--accept-after-stop", "1h").serve();
    master.signal(Signal::TERM);
    master.wait(on("accepting_until_stop"));
    answered(&mut master.connect());
    assert!(master.seen(&on("draining")).is_empty());
}

/// So that a probe takes it out of the balancer.
#[test]
fn the_status_says_that_it_stops_from_when_that_was_asked_for() {
    let master = cluster().option("--accept-after-stop", "1h").serve();
    assert_eq!(master.client(&["status"]).code(), 0);
    let _stop = master.begin_client(&["stop"]);
    master.wait(on("accepting_until_stop"));
    let status = master.client(&["status", "--json"]);
    assert_eq!((status.code(), status.json()["phase"].as_str()), (3, Some("stopping")));
    assert!(master.client(&["status"]).stdout.contains(": stopping, "));
    answered(&mut master.connect());
}

#[test]
fn the_status_says_that_it_stops_while_workers_drain() {
    let master = cluster().serve();
    let _connection = master.begin_request();
    master.signal(Signal::TERM);
    master.wait(on("draining"));
    let status = master.client(&["status", "--json"]);
    assert_eq!((status.code(), status.json()["phase"].as_str()), (3, Some("stopping")));
}

#[test]
fn a_stop_begins_when_the_time_to_accept_is_over() {
    let mut master = cluster().option("--accept-after-stop", "1s").serve();
    master.signal(Signal::TERM);
    let asked = master.wait(on("accepting_until_stop"));
    let draining = master.wait(on("draining"));
    assert!(draining.since(&asked) >= Duration::from_millis(950), "{:?}", draining.since(&asked));
    master.expect_end(0);
}

#[test]
fn a_second_term_ends_a_cluster_that_still_accepts() {
    let mut master = cluster().option("--accept-after-stop", "1h").serve();
    let _connection = master.begin_request();
    master.signal(Signal::TERM);
    master.wait(on("accepting_until_stop"));
    // One that comes right behind the first is the same wish.
    eventually("it ends", || {
        master.signal(Signal::TERM);
        !master.process().lives()
    });
    master.expect_end(0);
    master.wait(on("exit").with("/exit/signal", 9));
}

#[test]
fn a_reload_is_refused_while_a_stop_is_awaited() {
    let master = cluster().option("--accept-after-stop", "1h").serve();
    master.signal(Signal::TERM);
    master.wait(on("accepting_until_stop"));
    let refused = master.client(&["reload"]);
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(refused.stderr.contains("was told to end"), "{refused:?}");
    assert_eq!(master.get("/").text("generation"), "1");
}

/// What a client of two clusters saw, the first of which it prefers.
#[derive(Debug, Default)]
struct Tally {
    answered: u32,
    elsewhere: u32,
    lost: Vec<io::Error>,
}

/// Uses each connection for as long as the server lets it, until told to end; says so when it was answered first.
fn client(addresses: [SocketAddr; 2], begun: &Sender<()>, over: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !over.load(Ordering::SeqCst) {
        let mut connection = Connection::open(addresses[0]).unwrap_or_else(|_| {
            tally.elsewhere += 1;
            Connection::open(addresses[1]).expect("the other cluster stays")
        });
        while !over.load(Ordering::SeqCst) {
            match connection.get("/") {
                Ok(answer) => {
                    tally.answered += 1;
                    // Nobody may be left to hear it.
                    let _ = begun.send(());
                    if answer.header("connection").as_deref() == Some("close") {
                        break;
                    }
                }
                Err(error) => {
                    tally.lost.push(error);
                    break;
                }
            }
        }
    }
    tally
}

#[test]
fn a_stop_under_clients_that_go_elsewhere_cuts_nothing_off() {
    let mut leaving = cluster().workers(2).serve();
    let staying = cluster().serve();
    let addresses = [leaving.address(), staying.address()];
    let over = Arc::new(AtomicBool::new(false));
    let (begun, answers) = mpsc::channel();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (begun, over) = (begun.clone(), Arc::clone(&over));
            thread::spawn(move || client(addresses, &begun, &over))
        })
        .collect();
    for _ in 0..200 {
        answers.recv_timeout(DEADLINE).expect("the load goes on");
    }
    leaving.signal(Signal::TERM);
    leaving.expect_end(0);
    over.store(true, Ordering::SeqCst);
    for client in clients {
        let tally = client.join().expect("no panic");
        assert!(tally.lost.is_empty() && tally.elsewhere > 0 && tally.answered > 0, "{tally:?}");
    }
    assert!(leaving.seen(&on("overdue")).is_empty(), "nobody was sent a signal");
}
