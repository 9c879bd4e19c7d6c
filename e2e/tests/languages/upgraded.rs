//! `upgrade`, with workers that are not Node's: they do not notice, and nothing of theirs is lost or left behind.

use std::path::Path;

use recluster_e2e::{Launch, Master, Process, eventually, on, recluster, rust_example};

use crate::meter::{Meter, everybody};
use crate::programs::of_python;
use crate::servers::serving;

/// How often it is upgraded before a reload, and after it.
const UPGRADES: u64 = 3;
/// How many requests there are between two of them.
const REQUESTS: u64 = 50;

/// Upgrades it under load, reloads it when nobody asks (what a reload costs is the server's own business), and upgrades it again.
#[track_caller]
fn upgraded(launch: Launch) {
    let mut master = launch.workers(2).serve();
    for _ in 0..2 {
        upgrades(&master);
        master.reload().expect_code(0);
        let old = master.wait_all(2, on("draining"));
        for old in &old {
            master.wait(on("exit").id(old.id()));
        }
    }
    upgrades(&master);
    let status = master.status();
    let count = status.pointer("/master/upgrades").and_then(serde_json::Value::as_u64);
    assert_eq!(count, Some(3 * UPGRADES), "{status}");
    master.signal(rustix::process::Signal::TERM);
    master.expect_end(0);
}

#[track_caller]
fn upgrades(master: &Master) {
    let workers = master.active_pids();
    let all = || [master.process().pid()].into_iter().chain(workers.iter().copied());
    let files =
        || -> Vec<usize> { all().map(|pid| Process::open(pid).expect("it lives").open_files()).collect() };
    let begin = || Meter::begin(master.bound_ip(0), everybody());
    // A server may open something when it is first asked.
    let meter = begin();
    meter.go_on(REQUESTS);
    meter.end();
    let before = files();
    let meter = begin();
    for _ in 0..UPGRADES {
        meter.go_on(REQUESTS);
        upgrade(master, recluster());
    }
    meter.go_on(REQUESTS);
    let stories = meter.end().stories();
    assert!(stories.is_empty(), "{stories:#?}");
    assert_eq!(master.active_pids(), workers);
    // Clients may not have been gone yet, neither then nor now.
    eventually("nobody has more descriptors than before", || {
        files().iter().zip(&before).all(|(now, was)| now <= was)
    });
}

#[track_caller]
fn upgrade(master: &Master, binary: &Path) {
    master.client(&["upgrade", "--binary", binary.to_str().expect("a path of ours is text")]).expect_code(0);
}

#[test]
fn workers_in_rust_do_not_notice() {
    let launch = Launch::of(rust_example("threads")).listen("http=127.0.0.1:0");
    upgraded(launch.option("--ready-when", "notify"));
}

#[test]
#[cfg_attr(not(has = "python3-venv"), ignore = "python3-venv is not installed")]
fn workers_under_uvicorn_do_not_notice() {
    let args = ["--fd", "3", "--timeout-graceful-shutdown", "3", "--no-access-log", "hello:app"];
    upgraded(serving(of_python("uvicorn"), &args));
}
