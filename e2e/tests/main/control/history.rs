//! What the master keeps of the last ten minutes for its page, and what many clients at once cost.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use recluster_e2e::{Home, Launch, Master, eventually, get, on};
use recluster_json_page::Page;
use rustix::process::Signal;
use serde_json::Value;

fn asked(master: &Master, path: &str) -> Value {
    get(master.admin(), path).expect("an answer").json()
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
    let launch = Launch::of(home.join("current/server.js")).home(&home).workers(1).with_admin();
    let master = launch.option("--attempts", "1").serve();
    master.reload().expect_code(0);
    home.switch("bad");
    master.reload().expect_code(1);
    // Who waits for the verdict may hear it first.
    eventually("both verdicts are marked", || {
        let marks = list(&asked(&master, "/history"), "marks");
        let verdicts: Vec<_> = marks.iter().filter_map(|mark| mark.get("verdict").cloned()).collect();
        verdicts == ["done", "rolled_back"]
    });
    // A sample comes soon now that somebody looks.
    eventually("connections are in a sample", || {
        assert_eq!(master.get("/").status, 200);
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
            get(master.admin(), &format!("/history?since={wrong}")).expect("an answer").status,
            400,
            "{wrong}"
        );
    }
}

#[test]
fn a_worker_that_dies_is_marked_with_what_it_died_of() {
    let master = Launch::fixture("server.js").workers(1).with_admin().serve();
    master.worker(&master.wait(on("spawned").slot(0))).signal(Signal::KILL);
    master.wait(on("respawning").slot(0));
    eventually("the mark is there", || {
        let marks = list(&asked(&master, "/history"), "marks");
        marks.iter().any(|mark| {
            mark.get("event") == Some(&"exit".into()) && mark.pointer("/exit/signal") == Some(&9.into())
        })
    });
}

/// Connects as often as its machine lets one process do, ten thousand times at most, says how often, and stays until its stdin ends.
const CROWD: &str = "
import resource, socket, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
many = 10000 if hard == resource.RLIM_INFINITY else min(10000, hard - 50)
crowd = [socket.create_connection(('127.0.0.1', int(sys.argv[1]))) for _ in range(many)]
print(len(crowd), flush=True)
sys.stdin.read()
";

#[test]
fn ten_thousand_clients_cost_the_service_and_the_metrics_nothing() {
    let master = Launch::fixture("server.js").workers(1).with_admin().serve();
    let at = master.admin();
    let mut python = Command::new("python3");
    python.args(["-c", CROWD, &at.port().to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut crowd = python.spawn().expect("it runs");
    let stdout = BufReader::new(crowd.stdout.take().expect("a pipe"));
    let (tell, said) = mpsc::channel();
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let serves = || {
        assert_eq!(get(at, "/metrics").expect("an answer").status, 200);
        assert_eq!(master.get("/").status, 200);
    };
    let mut line = None;
    eventually("all of them are there", || {
        serves();
        line = said.try_recv().ok();
        line.is_some()
    });
    let many: usize = line.and_then(|line| line.parse().ok()).expect("a number");
    assert!(many > 500, "{many}");
    serves();
    assert_eq!(get(at, "/").expect("an answer").status, 200);
    master.reload().expect_code(0);
    serves();
    drop(crowd.stdin.take());
    assert!(crowd.wait().expect("it ends").success());
}
