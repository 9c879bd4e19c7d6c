//! Reloads under load: every new connection is served, whoever serves it.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use recluster_e2e::{Launch, Node, eventually, get, on};
use rustix::process::Signal;

/// How many clients there are at once.
const CLIENTS: usize = 4;

/// Clients that make one request after the other, each on a new connection, until told to end.
struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Tally>>,
}

/// What the clients saw.
#[derive(Debug, Default)]
struct Tally {
    generations: BTreeSet<String>,
    lost: Vec<io::Error>,
}

impl Load {
    fn begin(address: SocketAddr) -> Self {
        let (over, answered) = (Arc::default(), Arc::default());
        let clients = (0..CLIENTS).map(|_| client(address, &over, &answered)).collect();
        Self { over, answered, clients }
    }

    /// Waits until so many more requests were answered.
    fn go_on(&self, requests: usize) {
        let goal = self.answered.load(Ordering::SeqCst) + requests;
        eventually("the load goes on", || self.answered.load(Ordering::SeqCst) >= goal);
    }

    fn end(self) -> Tally {
        self.over.store(true, Ordering::SeqCst);
        let mut all = Tally::default();
        for client in self.clients {
            let tally = client.join().expect("no panic");
            all.generations.extend(tally.generations);
            all.lost.extend(tally.lost);
        }
        all
    }
}

fn client(address: SocketAddr, over: &Arc<AtomicBool>, answered: &Arc<AtomicUsize>) -> JoinHandle<Tally> {
    let (over, answered) = (Arc::clone(over), Arc::clone(answered));
    thread::spawn(move || {
        let mut tally = Tally::default();
        while !over.load(Ordering::SeqCst) {
            match get(address, "/") {
                Ok(answer) => _ = tally.generations.insert(answer.text("generation")),
                Err(error) => tally.lost.push(error),
            }
            answered.fetch_add(1, Ordering::SeqCst);
        }
        tally
    })
}

/// Reloads so many times under load. No more than `losable` connections may be lost at each reload.
fn reloads_under_load(launch: Launch, reloads: usize, losable: usize) {
    let master = launch.serve();
    let load = Load::begin(master.address());
    for reload in 0..reloads {
        load.go_on(50);
        master.signal(Signal::USR2);
        master.wait_all(reload + 1, on("reloaded").with("/verdict", "done"));
    }
    load.go_on(50);
    let tally = load.end();
    assert!(tally.lost.len() <= losable * reloads, "lost: {:?}", tally.lost);
    let last = (1 + reloads).to_string();
    assert!(tally.generations.contains("1") && tally.generations.contains(&last), "{:?}", tally.generations);
    for old in master.wait_all(2 * reloads, on("draining")) {
        master.wait(on("exit").id(old.id()));
    }
    assert_eq!(master.live_pids().len(), 2);
}

#[test]
fn usr2_under_load_replaces_every_worker_and_drops_no_new_connection() {
    reloads_under_load(Launch::fixture("server.js"), 4, 0);
}

#[test]
fn the_same_with_one_extra_worker() {
    reloads_under_load(Launch::fixture("server.js").option("--surge", "1"), 2, 0);
}

/// Under `shared` the master cannot know what a worker has just accepted, and Node 26 cuts connections without a
/// request when it is told to disconnect: each client can lose one at each of the two old workers.
#[test]
fn the_same_with_a_shared_socket() {
    let losable = if Node::under_test().major < 26 { 0 } else { 2 * CLIENTS };
    reloads_under_load(Launch::fixture("server.js").option("--balance", "shared"), 2, losable);
}
