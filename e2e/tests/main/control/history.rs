//! What the master keeps of the last ten minutes for its page, and what many clients at once cost.

use std::net::{SocketAddr, TcpStream};

use recluster_e2e::{Connection, Home, Launch, Master, eventually, get, on};
use recluster_json_page::Page;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::Value;

fn with_admin(launch: Launch) -> Launch {
    launch.option("--admin", "127.0.0.1:0")
}

fn admin(master: &Master) -> SocketAddr {
    master.wait(on("starting")).text("/admin").parse().expect("a TCP address")
}

fn asked(master: &Master, path: &str) -> Value {
    get(admin(master), path).expect("an answer").json()
}

fn list(history: &Value, of: &str) -> Vec<Value> {
    history.get(of).and_then(Value::as_array).cloned().expect("a list")
}

/// Whoever looks sees what came before.
#[test]
fn samples_and_marks_are_kept_whether_anybody_looks_or_not() {
    let home = Home::new();
    home.release("good", "server.js");
    home.release("bad", "syntax-error.js");
    home.switch("good");
    let launch = with_admin(Launch::of(home.join("current/server.js")).home(&home).workers(1));
    let master = launch.option("--attempts", "1").serve();
    master.reload().expect_code(0);
    home.switch("bad");
    master.reload().expect_code(1);
    let history = asked(&master, "/history");
    let verdicts: Vec<_> =
        list(&history, "marks").iter().filter_map(|mark| mark.get("verdict").cloned()).collect();
    assert_eq!(verdicts, ["done", "rolled_back"]);
    for _ in 0..5 {
        assert_eq!(master.get("/").status, 200);
    }
    // It comes at once now that somebody looks.
    eventually("connections are in a sample", || {
        let samples = list(&asked(&master, "/history"), "samples");
        let counts = samples.iter().filter_map(|sample| sample.pointer("/slots/0/connections")?.as_u64());
        counts.sum::<u64>() >= 5
    });
    let mut whole = asked(&master, "/history");
    // The fields of each event are described with that event.
    let marks = whole.get_mut("marks").and_then(Value::as_array_mut).expect("a list");
    for mark in marks.iter_mut().filter_map(Value::as_object_mut) {
        mark.retain(|field, _| ["number", "at_seconds", "time", "level", "event"].contains(&field.as_str()));
    }
    assert_eq!(Page::read().check("History", "", &whole), [""; 0], "{whole}");
    let next = whole.get("next").and_then(Value::as_u64).expect("a number");
    eventually("a newer sample comes alone", || {
        let samples = list(&asked(&master, &format!("/history?since={next}")), "samples");
        let numbers: Vec<_> = samples.iter().filter_map(|sample| sample.get("number")?.as_u64()).collect();
        assert!(numbers.iter().all(|number| *number >= next), "{numbers:?}");
        !numbers.is_empty()
    });
    // What is not known yet is of a master before this one: its page begins anew.
    assert!(
        list(&asked(&master, "/history?since=99999999"), "samples").len() >= list(&whole, "samples").len()
    );
    for wrong in ["", "-1", "x", "1.5", "99999999999999999999999"] {
        assert_eq!(
            get(admin(&master), &format!("/history?since={wrong}")).expect("an answer").status,
            400,
            "{wrong}"
        );
    }
}

#[test]
fn a_worker_that_dies_is_marked_with_what_it_died_of() {
    let master = with_admin(Launch::fixture("server.js").workers(1)).serve();
    master.worker(&master.wait(on("spawned").slot(0))).signal(Signal::KILL);
    master.wait(on("respawning").slot(0));
    eventually("the mark is there", || {
        let marks = list(&asked(&master, "/history"), "marks");
        marks.iter().any(|mark| {
            mark.get("event") == Some(&"exit".into()) && mark.pointer("/exit/signal") == Some(&9.into())
        })
    });
}

/// As many as this machine lets one process have, at most ten thousand, all of them at once and silent.
#[test]
fn ten_thousand_clients_cost_the_service_and_the_metrics_nothing() {
    const MANY: usize = 10_000;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a soft limit can be raised");
    let master = with_admin(Launch::fixture("server.js").workers(1)).serve();
    let at = admin(&master);
    // Some descriptors are for the other tests.
    let room = maximum.map_or(MANY, |most| usize::try_from(most.saturating_sub(2_000)).unwrap_or(MANY));
    let mut crowd = Vec::new();
    for number in 0..room.min(MANY) {
        crowd.push(TcpStream::connect(at).expect("it listens"));
        if number % 500 == 0 {
            assert_eq!(get(at, "/metrics").expect("an answer").status, 200, "{number}");
            assert_eq!(master.get("/").status, 200, "{number}");
        }
    }
    assert!(crowd.len() > 1_000, "{}", crowd.len());
    let mut connection = Connection::open(at).expect("it listens");
    connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    assert_eq!(connection.response().expect("an answer").status, 200);
    master.reload().expect_code(0);
    assert_eq!(master.get("/").status, 200);
}
