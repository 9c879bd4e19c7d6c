//! An application cannot see the preload of its worker outside of drains, but for a short list of exceptions.

use std::collections::BTreeMap;

use recluster_e2e::{Home, Launch, Node, fixture, on};
use serde_json::Value;

use crate::drain::lossless::{answered, answered_last, cluster, drain, left};

/// What each process of a cluster sees, by the name of the moment and of the thing.
type Seen = BTreeMap<String, String>;

/// What is different after all: two listeners, of messages that Node keeps to itself and of the end of the channel; the
/// worker's `disconnect`; what closes the channel; what handles errors that nobody handles; the function by which a server gets its socket.
const EXCEPTIONS: [&str; 6] = [
    "listeners.disconnect",
    "listeners.internalMessage",
    "process._fatalException",
    "process.disconnect",
    "worker.disconnect",
    "cluster._getServer",
];

/// What a worker sees, and what it writes to its stderr when it fails.
fn seen(launch: Launch, drain_http: &str) -> (Seen, Vec<String>) {
    let launch = launch.workers(1).option("--respawn", "1h");
    let master = launch.option("--drain-http", drain_http).serve();
    let line = master.wait_stdout("seen ");
    let seen: Value = serde_json::from_str(line.trim_start_matches("seen ")).expect("JSON");
    let mut all = Seen::new();
    for (moment, things) in seen.as_object().expect("an object") {
        for (thing, text) in things.as_object().expect("an object") {
            all.insert(format!("{moment}/{thing}"), text.as_str().unwrap_or_default().to_owned());
        }
    }
    all.insert("request/stack".to_owned(), master.get("/throw").text("stack"));
    master.wait(on("exit"));
    master.wait_stderr("Node.js v");
    (all, master.stderr().into_iter().map(without_pid).collect())
}

/// A line of the stderr, without the number of the process that a warning begins with.
fn without_pid(line: String) -> String {
    let warning = line.strip_prefix("(node:").and_then(|rest| rest.split_once(") "));
    warning.map(|(_, text)| text.to_owned()).unwrap_or(line)
}

/// Starts the same cluster with and without the preload, and compares.
#[track_caller]
fn sees_the_same(launch: impl Fn(&Home) -> Launch) {
    let home = Home::new();
    compare(["on", "off"].map(|drain_http| seen(launch(&home), drain_http)), &EXCEPTIONS);
}

#[track_caller]
fn compare([(with, stderr), (without, expected)]: [(Seen, Vec<String>); 2], exceptions: &[&str]) {
    assert!(with.len() > 1000, "it looks at much: {}", with.len());
    let names = with.keys().chain(without.keys().filter(|name| !with.contains_key(*name)));
    let different: Vec<_> = names.filter(|name| with.get(*name) != without.get(*name)).collect();
    for name in different {
        let thing = name.split_once('/').map_or("", |(_, thing)| thing);
        assert!(
            exceptions.contains(&thing),
            "{name}: {:?}, but {:?} without",
            with.get(name),
            without.get(name)
        );
    }
    assert_eq!(stderr, expected);
}

#[test]
fn an_application_sees_the_same() {
    sees_the_same(|home| Launch::fixture("unseen/entry.cjs").home(home));
}

/// Such a worker tells what it writes.
#[test]
fn an_application_whose_stderr_is_not_seen_sees_the_same() {
    let home = Home::new();
    let launch = || Launch::fixture("unseen/entry.cjs").home(&home);
    let sees = [seen(launch().flag("--raw-stdio"), "on"), seen(launch(), "off")];
    compare(sees, &[&EXCEPTIONS[..], &["process.stderr"]].concat());
}

/// Such a worker counts its connections.
#[test]
fn an_application_that_accepts_by_itself_sees_the_same() {
    sees_the_same(|home| Launch::fixture("unseen/entry.cjs").home(home).option("--balance", "shared"));
}

/// Such a worker hears of them by diagnostics channels.
#[test]
fn an_application_whose_requests_are_counted_sees_the_same() {
    let home = Home::new();
    let launch = || Launch::fixture("unseen/entry.cjs").home(&home);
    let sees = [seen(launch().option("--worker-metrics", "http"), "on"), seen(launch(), "off")];
    compare(sees, &[&EXCEPTIONS[..], &["listeners.exit"]].concat());
}

#[test]
fn an_application_of_modules_sees_the_same() {
    sees_the_same(|home| Launch::fixture("unseen/entry.mjs").home(home));
}

#[test]
#[cfg_attr(not(has = "node-22.18"), ignore = "Node runs TypeScript from 22.18 on")]
fn an_application_in_typescript_sees_the_same() {
    sees_the_same(|home| Launch::fixture("unseen/entry.ts").home(home));
}

#[test]
fn an_application_with_arguments_of_node_sees_the_same() {
    let preload = fixture("unseen/preload.cjs");
    sees_the_same(|home| {
        let launch =
            Launch::fixture("unseen/entry.cjs").home(home).arg("--own").node_arg("--enable-source-maps");
        launch.node_arg(&format!("--require={}", preload.display()))
    });
}

#[test]
fn an_application_with_options_in_its_environment_sees_the_same() {
    let options = format!("--enable-source-maps --require={}", fixture("frameworks/package.json").display());
    sees_the_same(|home| Launch::fixture("unseen/entry.mjs").home(home).env("NODE_OPTIONS", &options));
}

/// The preload itself may be read, whatever else may.
#[test]
#[cfg_attr(not(has = "node-20"), ignore = "Node has permissions from 20 on")]
fn an_application_with_few_permissions_sees_the_same() {
    let permission = if Node::under_test().major < 22 { "--experimental-permission" } else { "--permission" };
    sees_the_same(|home| {
        // A worker that listens by itself would need --allow-net, which only Node 25 and later have.
        let launch = Launch::fixture("unseen/entry.cjs").handing_over().home(home).node_arg(permission);
        let readable = format!("--allow-fs-read={}", fixture("unseen").join("*").display());
        launch.node_arg("--allow-worker").node_arg("--allow-child-process").node_arg(&readable)
    });
}

#[test]
fn node_warns_of_nothing_during_a_drain() {
    for protocol in ["http", "h2c"] {
        let launch = cluster().env("PROTOCOL", protocol).node_arg("--throw-deprecation");
        let master = launch.node_arg("--pending-deprecation").node_arg("--trace-warnings").serve();
        if protocol == "http" {
            let mut idle = master.connect();
            answered(&mut idle);
            drain(&master);
            answered_last(idle);
        } else {
            drain(&master);
        }
        left(&master);
        assert_eq!(master.stderr(), [""; 0]);
    }
}
