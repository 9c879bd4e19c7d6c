//! Workers that are to be debugged: each has an inspector, at a port of its own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use recluster_e2e::{Launch, Master, eventually, on};

/// The first of some ports that are free now. They are none that the kernel gives to others, and no other test's here.
fn base() -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let asked = ASKED.fetch_add(1, Ordering::Relaxed);
    let are_free = |first: &u16| (0..8).all(|next| TcpListener::bind(("127.0.0.1", first + next)).is_ok());
    let first = 10_000 + u16::try_from(std::process::id() % 1_000).expect("a small number") * 16;
    // Far enough from each other that a search for free ones does not meet another.
    (first + 1_000 * asked..30_000).step_by(8).find(are_free).expect("some ports are free")
}

/// The port of each worker's inspector, by the worker's process. Every worker must have one.
fn inspectors(master: &Master, workers: usize) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    eventually("each worker has answered", || {
        let body = master.get("/").json();
        let url = body["inspector"].as_str().expect("it listens for a debugger").to_owned();
        let port = url.split('/').nth(2).and_then(|place| place.rsplit(':').next()).expect("a port");
        found.insert(body["pid"].as_u64().expect("a pid"), port.to_owned());
        found.len() == workers
    });
    found
}

fn are_distinct(found: &BTreeMap<u64, String>) {
    let mut ports: Vec<&String> = found.values().collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), found.len(), "{found:?}");
}

#[test]
fn each_worker_has_its_port_and_so_have_old_and_new_ones_in_a_reload() {
    let base = base();
    let launch = Launch::fixture("server.js").workers(2).node_arg(&format!("--inspect=127.0.0.1:{base}"));
    let master = launch.serve();
    let mut all = inspectors(&master, 2);
    are_distinct(&all);
    assert!(
        all.values().any(|port| *port == base.to_string()),
        "the first slot has the port itself: {all:?}"
    );
    // An old worker has a request until the end, and keeps its inspector.
    let mut request = master.begin_request();
    let reload = master.begin_client(&["reload"]);
    master.wait_all(2, on("serving").generation(2));
    reload.finish().expect_code(0);
    // Each new worker whose port an old one still has says where it is to be found.
    let moved = master.wait(on("inspector_moved").slot(0).generation(2));
    assert_eq!(moved.number("/taken"), u64::from(base));
    all.extend(inspectors(&master, 2));
    assert_eq!(all.get(&u64::from(moved.pid())), Some(&moved.number("/port").to_string()));
    are_distinct(&all);
    request.finish_request().expect("an answer");
}

#[test]
fn node_options_and_port_zero_do_the_same() {
    let file = recluster_e2e::Home::new();
    let variables = file.write("app.env", &format!("NODE_OPTIONS=--inspect={}\n", base()));
    let path = variables.to_str().expect("a plain path");
    let by_file = Launch::fixture("server.js").workers(2).option("--env-file", path).serve();
    are_distinct(&inspectors(&by_file, 2));
    let by_kernel = Launch::fixture("server.js").workers(2).node_arg("--inspect=0").serve();
    are_distinct(&inspectors(&by_kernel, 2));
}
