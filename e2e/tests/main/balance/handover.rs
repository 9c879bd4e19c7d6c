//! `--balance round-robin`: which worker a connection is given to, and where it goes when that worker dies.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};

use recluster_e2e::{Connection, Home, Launch, Response, Stage, get, on};
use rustix::process::Signal;
use serde_json::json;

/// Requests that are all under way at once, each on a connection of its own.
fn burst(count: usize, address: SocketAddr) -> Vec<JoinHandle<io::Result<Response>>> {
    (0..count).map(|_| thread::spawn(move || get(address, "/"))).collect()
}

#[track_caller]
fn all_answered(requests: Vec<JoinHandle<io::Result<Response>>>) -> Vec<Response> {
    let answers = requests.into_iter().map(|request| request.join().expect("no panic"));
    answers.map(|answer| answer.expect("every connection is answered")).collect()
}

#[test]
fn round_robin_is_even() {
    let master = Launch::fixture("server.js").handing_over().workers(4).serve();
    let mut answers = BTreeMap::new();
    for _ in 0..40 {
        *answers.entry(master.get("/").text("slot")).or_insert(0) += 1;
    }
    assert_eq!(answers.len(), 4, "{answers:?}");
    assert!(answers.values().all(|count| (5..=20).contains(count)), "each about a quarter: {answers:?}");
}

#[test]
fn a_shared_socket_serves_everybody() {
    let master = Launch::fixture("server.js").workers(3).option("--balance", "shared").serve();
    all_answered(burst(60, master.address()));
    master.reload().expect_code(0);
    // Until they are gone, the kernel may give connections to old workers as well.
    master.wait_all(3, on("exit").generation(1));
    for answer in all_answered(burst(20, master.address())) {
        assert_eq!(answer.text("generation"), "2");
    }
}

#[test]
fn a_respawned_worker_is_given_nothing_before_it_serves() {
    let stage = Stage::new();
    let master = stage.launch_beside("server.js", 2).option("--bake", "5s").start();
    let mut first = stage.next();
    first.serve();
    master.wait(on("started"));
    first.exit(1);
    stage.next().serve();
    master.wait_all(2, on("ready").slot(1));
    for _ in 0..10 {
        assert_eq!(master.get("/").text("slot"), "0");
    }
}

#[test]
fn a_worker_of_a_reload_is_given_nothing_before_it_serves() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).config("bake = \"100ms\"").start();
    let mut old = stage.next();
    old.serve();
    master.wait(on("started"));
    master.configure("bake = \"5s\"");
    master.signal(Signal::USR2);
    let mut new = stage.next();
    new.serve();
    master.wait(on("ready").generation(2));
    for _ in 0..4 {
        let request = burst(1, master.address());
        let handed = old.handed();
        old.take(&handed, true);
        old.answer(&handed, "old");
        assert_eq!(all_answered(request)[0].body, "old");
    }
    master.wait(on("reloaded").with("/verdict", "done"));
    let request = burst(1, master.address());
    let handed = new.handed();
    new.take(&handed, true);
    new.answer(&handed, "new");
    assert_eq!(all_answered(request)[0].body, "new");
}

#[test]
fn a_worker_that_takes_nothing_keeps_no_more_than_its_window() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_server();
    let requests = burst(80, master.address());
    let held = puppet.handed();
    eventually_finished(&requests, 80 - 16);
    puppet.take(&held, true);
    puppet.answer(&held, "late");
    puppet.exit(0);
    all_answered(requests);
}

fn eventually_finished(requests: &[JoinHandle<io::Result<Response>>], count: usize) {
    recluster_e2e::eventually("the other worker answers", || {
        requests.iter().filter(|request| request.is_finished()).count() >= count
    });
}

#[test]
fn connections_that_a_dead_worker_had_not_taken_go_to_another() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_server();
    let requests = burst(40, master.address());
    puppet.handed();
    puppet.handed();
    puppet.exit(1);
    for answer in all_answered(requests) {
        assert_eq!(answer.text("slot"), "0");
    }
}

#[test]
fn connections_by_unix_socket_that_a_dead_worker_had_not_taken_go_to_another() {
    let stage = Stage::new();
    let home = Home::new();
    let path = home.join("server.sock");
    let launch = stage.launch_beside("server.js", 2).env("LISTEN", json!({ "path": path }).to_string());
    let master = launch.start();
    let mut puppet = stage.next();
    puppet.online();
    let unix = json!({ "address": path, "port": -1, "addressType": -1 });
    let reply = puppet.query(&unix);
    assert_eq!(reply["errno"], json!(null), "{reply}");
    puppet.say_cluster(json!({
        "act": "listening", "index": 0, "data": null, "address": path, "port": -1, "addressType": -1,
    }));
    master.wait(on("started"));
    let requests: Vec<_> = (0..20)
        .map(|_| {
            let path = path.clone();
            thread::spawn(move || Connection::open_unix(&path)?.get("/"))
        })
        .collect();
    puppet.handed();
    puppet.exit(1);
    for answer in all_answered(requests) {
        assert_eq!(answer.text("slot"), "0");
    }
}

#[test]
fn a_connection_that_a_dead_worker_had_taken_is_not_served_again() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_server();
    let requests = burst(12, master.address());
    let taken = puppet.handed();
    puppet.take(&taken, true);
    puppet.exit(1);
    let answers: Vec<_> = requests.into_iter().map(|request| request.join().expect("no panic")).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1, "{answers:?}");
}

/// The master does not know whether this worker's acknowledgements were on their way: it had just passed on a handle
/// of its own, and Node sends nothing else until that is acknowledged.
#[test]
fn a_connection_that_may_have_been_read_is_closed_and_an_untouched_one_is_served() {
    let stage = Stage::new();
    let (master, mut puppet) = stage.beside_a_good_server();
    let requests = burst(12, master.address());
    let read = puppet.handed();
    assert!(puppet.read(&read).starts_with("GET / "));
    puppet.handed();
    puppet.pass("{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{}}\n", 1);
    puppet.exit(1);
    let answers: Vec<_> = requests.into_iter().map(|request| request.join().expect("no panic")).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1, "{answers:?}");
}

#[test]
fn a_burst_on_a_stopped_worker_that_is_killed_is_answered() {
    for balance in ["round-robin", "shared"] {
        let master = Launch::fixture("server.js").option("--balance", balance).serve();
        let victim = master.worker(&master.wait(on("spawned").slot(1)));
        victim.signal(Signal::STOP);
        let requests = burst(40, master.address());
        eventually_finished(&requests, 20);
        victim.signal(Signal::KILL);
        all_answered(requests);
    }
}

#[test]
fn when_the_only_worker_is_killed_what_it_had_not_taken_waits_for_the_next_one() {
    let master = Launch::fixture("server.js").handing_over().workers(1).serve();
    let victim = master.worker(&master.wait(on("spawned")));
    victim.signal(Signal::STOP);
    let mut connections: Vec<Connection<TcpStream>> = (0..20).map(|_| master.connect()).collect();
    for connection in &mut connections {
        connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is connected");
    }
    victim.signal(Signal::KILL);
    for connection in &mut connections {
        assert_eq!(connection.response().expect("an answer").text("slot"), "0");
    }
}

/// What a worker accepted dies with it; whatever else was on its way must be answered. Workers write down each
/// connection as soon as they have accepted it; one may have been accepted and not yet written down.
#[test]
fn a_worker_killed_under_load_loses_only_what_it_had_accepted() {
    for balance in ["round-robin", "kernel"] {
        loses_only_what_it_had_accepted(balance);
    }
}

fn loses_only_what_it_had_accepted(balance: &str) {
    let home = Home::new();
    let launch = Launch::fixture("writes-down.js").home(&home).env("ACCEPTED", home.path());
    let launch = launch.option("--balance", balance);
    let master = launch.serve();
    let victim = master.wait(on("spawned").slot(1));
    let address = master.address();
    let clients: Vec<_> = (0..16).map(|_| thread::spawn(move || lost_ports(address, 60))).collect();
    let accepted = home.join(&format!("accepted-{}", victim.pid()));
    recluster_e2e::eventually("the worker is busy", || {
        std::fs::read_to_string(&accepted).is_ok_and(|ports| ports.lines().count() > 50)
    });
    master.worker(&victim).signal(Signal::KILL);
    let lost: Vec<u16> = clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect();
    let accepted = std::fs::read_to_string(&accepted).expect("it was written");
    let accepted: Vec<u16> = accepted.lines().filter_map(|port| port.parse().ok()).collect();
    let never_accepted: Vec<_> = lost.iter().filter(|port| !accepted.contains(port)).collect();
    assert!(never_accepted.len() <= 1, "lost, but never accepted: {never_accepted:?}");
}

/// Makes so many requests on new connections; the ports of those that were not answered.
fn lost_ports(address: SocketAddr, times: u32) -> Vec<u16> {
    let mut lost = Vec::new();
    for _ in 0..times {
        let mut connection = Connection::open(address).expect("somebody listens");
        if connection.get("/").is_err() {
            lost.push(connection.local_port());
        }
    }
    lost
}
