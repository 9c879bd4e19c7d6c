//! `--balance kernel`: each worker accepts from a socket of its own, and connections that wait for a busy worker go to an
//! idle one.

use std::collections::BTreeMap;
use std::net::TcpStream;

use recluster_e2e::{Connection, Launch, Load, Master, get, on};
use rustix::process::Signal;
use serde_json::json;

fn launch() -> Launch {
    Launch::fixture("server.js").option("--balance", "kernel")
}

#[test]
fn every_worker_serves() {
    let master = launch().workers(4).serve();
    let mut answers = BTreeMap::new();
    for _ in 0..200 {
        *answers.entry(master.get("/").text("slot")).or_insert(0) += 1;
    }
    // On a busy machine idle workers take over what waits for one that does not get to run.
    let stolen = master.status()["stolen"].as_u64().expect("a number");
    // With a fair die, a slot has fewer than 20 of 200 once in two million times.
    let of = |slot: u64| answers.get(&slot.to_string()).copied().unwrap_or(0);
    assert!((0..4).all(|slot| of(slot) + stolen >= 20), "{answers:?}, stolen: {stolen}");
    recluster_e2e::eventually("every worker answers", || {
        let slot = master.get("/").text("slot");
        *answers.entry(slot).or_insert(0) += 1;
        answers.len() == 4
    });
}

#[test]
fn what_waits_for_a_stopped_worker_goes_to_another() {
    let master = launch().serve();
    let stopped = master.worker(&master.wait(on("spawned").slot(1)));
    stopped.signal(Signal::STOP);
    // The first ones are handed out. When the workers have counted that they are short, the kernel spreads them.
    recluster_e2e::eventually("something waits for the stopped one, and goes to the other", || {
        for _ in 0..40 {
            assert_eq!(master.get("/").text("slot"), "0");
        }
        master.status()["stolen"].as_u64() > Some(0)
    });
    stopped.signal(Signal::CONT);
}

#[test]
fn a_stopped_worker_is_not_given_what_waits_for_another() {
    let master = launch().serve();
    let workers: Vec<_> = (0..2).map(|slot| master.worker(&master.wait(on("spawned").slot(slot)))).collect();
    for worker in &workers {
        worker.signal(Signal::STOP);
    }
    let mut waiting: Vec<Connection<TcpStream>> = (0..20).map(|_| master.connect()).collect();
    for connection in &mut waiting {
        connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is connected");
    }
    // Nobody has answered that it is there, so nothing was given to anybody, and all of it goes to the first who is.
    assert_eq!(master.status()["stolen"], 0);
    workers[0].signal(Signal::CONT);
    for connection in &mut waiting {
        assert_eq!(connection.response().expect("an answer").text("slot"), "0");
    }
    workers[1].signal(Signal::CONT);
}

#[test]
fn what_waited_for_a_killed_worker_is_served_by_the_next_one() {
    let master = launch().workers(1).serve();
    let victim = master.worker(&master.wait(on("spawned")));
    victim.signal(Signal::STOP);
    let mut waiting: Vec<Connection<TcpStream>> = (0..20).map(|_| master.connect()).collect();
    for connection in &mut waiting {
        connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is connected");
    }
    victim.signal(Signal::KILL);
    for connection in &mut waiting {
        assert_eq!(connection.response().expect("an answer").text("slot"), "0");
    }
}

#[test]
fn a_worker_that_does_not_serve_yet_is_given_nothing() {
    let master = launch().config("bake = \"100ms\"").serve();
    master.configure("bake = \"5s\"");
    master.signal(Signal::USR2);
    master.wait_all(2, on("ready").generation(2));
    for _ in 0..20 {
        assert_eq!(master.get("/").text("generation"), "1");
    }
    master.wait(on("reloaded").with("/verdict", "done"));
    for _ in 0..20 {
        assert_eq!(master.get("/").text("generation"), "2");
    }
}

#[test]
fn a_removed_slot_gets_no_connections_and_a_new_slot_does() {
    let master = launch().workers(3).serve();
    master.client(&["scale", "1"]).expect_code(0);
    for _ in 0..30 {
        assert_eq!(master.get("/").text("slot"), "0");
    }
    master.client(&["scale", "2"]).expect_code(0);
    master.wait_all(4, on("serving"));
    recluster_e2e::eventually("the new slot serves", || master.get("/").text("slot") == "1");
}

#[test]
fn nothing_is_lost_under_reloads_and_crashes() {
    let master = launch().workers(3).serve();
    let address = master.address();
    let load = Load::begin(4, move || get(address, "/").map(|answer| answer.text("generation")));
    for reload in 0..4 {
        load.go_on(50);
        master.signal(Signal::USR2);
        master.wait_all(reload + 1, on("reloaded").with("/verdict", "done"));
    }
    load.go_on(50);
    let tally = load.end();
    assert!(tally.lost.is_empty(), "lost: {:?}", tally.lost);
    assert!(tally.answers.contains("5"), "{:?}", tally.answers);
    for old in master.wait_all(12, on("draining")) {
        master.wait(on("exit").id(old.id()));
    }
}

#[test]
fn an_address_of_another_program_is_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let master = launch().workers(1).option("--attempts", "1").env("PORT", port.to_string()).start();
    let failed = master.wait(on("start_failed")).text("/failure/stderr/0").to_owned();
    assert!(failed.contains("EADDRINUSE"), "{failed:?}");
}

#[test]
fn an_address_of_another_master_is_in_use() {
    let first = launch().workers(1).serve();
    let port = first.address().port();
    let second = launch().workers(1).option("--attempts", "1").env("PORT", port.to_string()).start();
    let failed = second.wait(on("start_failed")).text("/failure/stderr/0").to_owned();
    assert!(failed.contains("EADDRINUSE"), "{failed:?}");
}

/// Workers accept, and do not count: any number would be wrong.
#[test]
fn how_many_connections_there_were_is_not_said_where_nobody_knows() {
    for (balance, drain, said) in [
        ("kernel", "off", json!([null, null])),
        ("shared", "off", json!([null, null])),
        ("kernel", "on", json!([0, 0])),
        ("round-robin", "off", json!([0, 0])),
    ] {
        let launch = Launch::fixture("server.js").workers(1).option("--balance", balance);
        let master = launch.option("--drain-http", drain).serve();
        let said_of = |master: &Master| {
            let status = master.status();
            json!([status["slots"][0]["connections"], status["workers"][0]["connections"]])
        };
        assert_eq!(said_of(&master), said, "{balance}, --drain-http {drain}");
    }
}
