//! What an upgrade needs is not to be had: memory, processes, a system call. The master goes on as it was, and is upgraded when it is.

use std::fs;
use std::path::Path;

use recluster_e2e::{Home, Launch, Master, eventually, on, recluster};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::{next, that_does, upgrade};

/// It is refused for this reason, and nothing has changed.
#[track_caller]
fn refused(master: &Master, binary: &Path, reasons: &[&str]) {
    let (pids, files) = (master.active_pids(), master.process().open_files());
    let refused = upgrade(master, binary);
    refused.expect_code(1);
    let reply = refused.json();
    let said = reply["reason"].as_str().expect("a reason");
    assert!(said.lines().count() == 1 && reasons.iter().any(|reason| said.contains(reason)), "{said}");
    assert_eq!(master.active_pids(), pids);
    assert_eq!(master.get("/").status, 200);
    // A client may not have been gone yet when they were counted first.
    eventually("it has no more descriptors than before", || master.process().open_files() <= files);
    assert_eq!(master.status()["master"]["upgrades"], 0);
}

#[test]
fn a_system_call_that_is_forbidden_is_a_reason() {
    let home = Home::new();
    let next = next(&home);
    for (forbidden, reason) in [("memfd_create", "memfd_create"), ("execveat", "execveat")] {
        let master = Launch::fixture("server.js").started_by("forbids.py").env("FORBIDS", forbidden).serve();
        refused(&master, &next, &[reason]);
        master.reload().expect_code(0);
    }
}

/// More than the master has by now. Beyond it the kernel gives no memory: neither for a thread, nor for a program that begins.
fn limit_memory(master: &Master, more: Option<u64>) {
    let pid = i32::try_from(master.process().pid()).ok().and_then(Pid::from_raw);
    let maximum = getrlimit(Resource::As).maximum;
    let text = master.process().status_line("VmSize");
    let has: u64 = text.split_whitespace().next().and_then(|size| size.parse().ok()).expect("kilobytes");
    let current = more.map_or(maximum, |more| Some(has * 1024 + more));
    prlimit(pid, Resource::As, Rlimit { current, maximum }).expect("a process of the same user");
}

/// A worker needs more than there is. (What the master itself needs beyond that ends it: it is a program in Rust.)
#[test]
fn without_memory_nothing_that_runs_ends_and_what_failed_is_tried_again() {
    let home = Home::new();
    let next = next(&home);
    let master = Launch::fixture("server.js").option("--respawn", "50ms").serve();
    limit_memory(&master, Some(16 << 20));
    let [gone, stays] = master.active_pids()[..] else { panic!("there are two") };
    recluster_e2e::Process::open(gone).expect("it lives").signal(Signal::KILL);
    // The worker that comes next as well.
    master.wait_all(2, on("respawning"));
    assert_ne!(master.client(&["reload"]).code(), 0, "no worker of the next generation can begin");
    assert_eq!(master.get("/").status, 200);
    assert_eq!(master.active_pids(), [stays]);
    assert!(master.seen(&on("panicked")).is_empty());
    limit_memory(&master, None);
    eventually("every slot serves again", || master.active_pids().len() == 2);
    master.reload().expect_code(0);
    upgrade(&master, &next).expect_code(0);
}

/// In a control group whose `pids.max` the test sets.
fn in_a_group(home: &Home) -> Master {
    let launch = Launch::fixture("server.js").home(home).started_by("in-a-pids-group.py");
    launch.env("GROUP", home.join("group")).serve()
}

fn group(home: &Home) -> std::path::PathBuf {
    Path::new(home.read("group").trim()).join("pids.max")
}

#[cfg_attr(not(has = "pids-groups"), ignore = "no control group for processes can be made")]
#[test]
fn without_processes_it_is_refused_and_works_later() {
    let home = Home::new();
    let (next, master) = (next(&home), in_a_group(&home));
    fs::write(group(&home), "1").expect("it may be written");
    refused(&master, &next, &["temporarily unavailable", "cannot be done now"]);
    fs::write(group(&home), "max").expect("it may be written");
    upgrade(&master, &next).expect_code(0);
}

/// The new program can start no thread, and neither can the old one when it is gone back to: it waits until it can.
#[cfg_attr(not(has = "pids-groups"), ignore = "no control group for processes can be made")]
#[test]
fn without_threads_the_way_back_is_taken_and_tried_until_there_are_some() {
    let home = Home::new();
    let master = in_a_group(&home);
    let (pids, files) = (master.active_pids(), master.process().open_files());
    let limit = group(&home);
    let things = format!("write {} 1\nbecome {}\n", limit.display(), recluster().display());
    let fails = that_does(&home, "fails", &things);
    let asked = master.begin_client(&["upgrade", "--json", "--binary", fails.to_str().expect("text")]);
    let begun_with = || fs::read(format!("/proc/{}/environ", master.process().pid())).unwrap_or_default();
    let is_back = |environment: Vec<u8>| {
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(b"RECLUSTER_UPGRADE_BACK="))
    };
    eventually("it has gone back", || is_back(begun_with()));
    fs::write(&limit, "max").expect("it may be written");
    asked.finish().expect_code(1);
    master.wait(on("upgrade_failed"));
    assert_eq!(master.active_pids(), pids);
    assert_eq!(master.get("/").status, 200);
    eventually("it has no more descriptors than before", || master.process().open_files() <= files);
    upgrade(&master, &next(&home)).expect_code(0);
}
