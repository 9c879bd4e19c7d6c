//! What a worker can say by `sd_notify`, and which senders are ignored.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use recluster_e2e::{Home, Launch, Master, Puppet, Stage, eventually, fixture, on};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Programs that are ready when they say so.
fn by_notify(stage: &Stage, workers: u32) -> Launch {
    stage.launch_program().workers(workers).option("--ready-when", "notify")
}

/// One of them, which has said so.
fn ready() -> (Stage, Master, Puppet) {
    let stage = Stage::new();
    let master = by_notify(&stage, 1).start();
    let mut puppet = stage.next();
    puppet.notify("READY=1");
    master.wait(on("started"));
    (stage, master, puppet)
}

/// What the status says of the oldest worker.
fn worker(master: &Master) -> Value {
    master.status()["workers"][0].clone()
}

/// Waits until so many notifications were ignored; whoever sent them is not told.
fn wait_ignored(master: &Master, count: u64) {
    eventually("a notification is ignored", || worker(master)["notifications_ignored"] == count);
}

#[test]
fn a_worker_is_ready_when_it_says_so() {
    let stage = Stage::new();
    let master = by_notify(&stage, 1).start();
    let mut puppet = stage.next();
    puppet.notify_and_wait("STATUS=loading");
    assert_eq!(worker(&master)["state"], "starting");
    puppet.notify("STATUS=serving\nREADY=1");
    master.wait(on("ready"));
    master.wait(on("started"));
}

#[test]
fn the_socket_is_the_masters_own() {
    let stage = Stage::new();
    let master = by_notify(&stage, 1).env("NOTIFY_SOCKET", "/run/systemd/notify").start();
    let puppet = stage.next();
    let path = Path::new(puppet.var("NOTIFY_SOCKET"));
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with(&format!("{}-", master.process().pid())), "{}", path.display());
}

#[test]
fn the_status_of_a_worker_is_shown() {
    let (_stage, master, mut puppet) = ready();
    puppet.notify_and_wait("STATUS=answers \x1b[31m questions");
    assert_eq!(worker(&master)["status"], "answers  [31m questions", "without control characters");
    let table = master.client(&["status"]).stdout;
    assert!(table.contains("SAYS") && table.contains("questions"), "{table}");
    puppet.notify_and_wait("STATUS=");
    assert_eq!(worker(&master)["status"], Value::Null);
}

#[test]
fn a_worker_that_reloads_itself_says_so_and_stays() {
    let (_stage, master, mut puppet) = ready();
    puppet.notify_and_wait("RELOADING=1\nMONOTONIC_USEC=1");
    assert_eq!(
        (&worker(&master)["status"], &worker(&master)["state"]),
        (&json!("reloading"), &json!("serving"))
    );
    puppet.notify_and_wait("READY=1");
    assert_eq!(worker(&master)["status"], Value::Null);
    assert!(master.seen(&on("draining")).is_empty());
}

#[test]
fn a_worker_that_stops_is_replaced() {
    let (stage, master, mut puppet) = ready();
    puppet.notify("STOPPING=1");
    master.wait(on("respawning").id(1));
    let mut next = stage.next();
    next.notify("READY=1");
    master.wait(on("serving").id(2));
    master.wait(on("draining").id(1));
    drop(puppet);
}

#[test]
fn a_worker_that_is_not_ready_in_time_fails_the_reload() {
    let stage = Stage::new();
    let master = by_notify(&stage, 1).config("ready-timeout = \"1h\"").start();
    stage.next().notify("READY=1");
    master.wait(on("started"));
    master.configure("ready-timeout = \"3s\"");
    let reload = master.begin_client(&["reload"]);
    stage.next().notify("STATUS=still loading");
    let finished = reload.finish();
    finished.expect_code(1);
    let verdict = master.wait(on("reloaded"));
    assert_eq!(verdict.text("/verdict"), "rolled_back");
    assert_eq!(verdict.text("/failure/reason"), "was not ready within 3s");
    assert!(verdict.text("/failure/hint").contains("never said READY=1"), "{verdict}");
    assert_eq!(worker(&master)["state"], "serving", "the old one goes on");
}

#[test]
fn a_barrier_is_passed_when_what_came_before_is_dealt_with() {
    let (_stage, master, mut puppet) = ready();
    for number in 0..100 {
        puppet.notify(&format!("STATUS={number}"));
    }
    puppet.notify_with("BARRIER=1", 1);
    puppet.wait_released();
    assert_eq!(worker(&master)["status"], "99");
}

#[test]
fn descriptors_are_not_kept() {
    let (_stage, master, mut puppet) = ready();
    puppet.notify_with("FDSTORE=1\nFDNAME=mine", 2);
    puppet.wait_released();
    puppet.wait_released();
    assert_eq!(master.wait(on("not_stored")).id(), 1);
    assert_eq!(worker(&master)["state"], "serving");
}

#[test]
fn nonsense_is_ignored_and_counted() {
    let (_stage, master, mut puppet) = ready();
    puppet.notify(&format!("STATUS={}", "x".repeat(5000)));
    puppet.notify("STATUS=a\0b");
    puppet.notify_with("BARRIER=1\nSTATUS=in company", 1);
    puppet.wait_released();
    puppet.notify_and_wait("X_UNKNOWN=1\n\nREADY\n=\nSTOPPING=yes\nSTATUS=unharmed");
    assert_eq!(worker(&master)["notifications_ignored"], 3);
    assert_eq!(worker(&master)["status"], "unharmed");
}

#[test]
fn a_stranger_is_not_heard() {
    let stage = Stage::new();
    let master = by_notify(&stage, 1).start();
    let mut puppet = stage.next();
    let stranger = UnixDatagram::unbound().expect("a socket");
    stranger.send_to(b"READY=1\nSTATUS=of a stranger", puppet.var("NOTIFY_SOCKET")).expect("root may send");
    wait_ignored(&master, 1);
    assert_eq!(worker(&master)["state"], "starting");
    assert_eq!(worker(&master)["status"], Value::Null);
    puppet.notify("READY=1");
    master.wait(on("started"));
}

/// As `systemd-notify` in a script: by the time that the master hears of it, it may be gone.
#[test]
fn a_helper_that_ends_at_once_is_heard() {
    let stage = Stage::new();
    let master = by_notify(&stage, 1).start();
    let mut puppet = stage.next();
    puppet.run(&format!("python3 '{}' \"$NOTIFY_SOCKET\" READY=1", fixture("says.py").display()));
    master.wait(on("started"));
    assert_eq!(worker(&master)["notifications_ignored"], 0);
}

#[test]
fn a_stranger_that_says_ready_and_a_helper_in_a_session_of_its_own_are_named_in_the_verdict() {
    let stage = Stage::new();
    let master = by_notify(&stage, 1).config("ready-timeout = \"1h\"").start();
    stage.next().notify("READY=1");
    master.wait(on("started"));
    master.configure("ready-timeout = \"3s\"");
    let hint = |count: usize, speak: &dyn Fn(&mut Puppet)| {
        let reload = master.begin_client(&["reload"]);
        speak(&mut stage.next());
        reload.finish().expect_code(1);
        master.wait_all(count, on("reloaded")).pop().expect("so many").text("/failure/hint").to_owned()
    };
    // It is the worker's child, in a session of its own.
    let said = hint(1, &|puppet| {
        let says = fixture("says.py");
        puppet.run(&format!("setsid python3 '{}' \"$NOTIFY_SOCKET\" READY=1 stays & wait", says.display()));
    });
    assert!(said.contains("another process (process ") && said.contains(": python3)"), "{said}");
    // It is this one.
    let said = hint(2, &|puppet| {
        let stranger = UnixDatagram::unbound().expect("a socket");
        stranger.send_to(b"READY=1", puppet.var("NOTIFY_SOCKET")).expect("root may send");
    });
    let own = format!("another process (process {}: ", std::process::id());
    assert!(said.contains(&own), "{said}");
}

/// Every worker has a socket of its own, on which its neighbours are strangers too.
#[test]
fn a_worker_speaks_for_itself_alone() {
    let stage = Stage::new();
    let master = by_notify(&stage, 2).start();
    let (mut one, other) = (stage.next(), stage.next());
    let theirs = other.var("NOTIFY_SOCKET");
    assert_ne!(one.var("NOTIFY_SOCKET"), theirs);
    // What it starts stays in its process group, and is there to be looked at.
    one.run(&format!("exec python3 '{}' '{theirs}' READY=1 stays", fixture("says.py").display()));
    let ignored = |status: &Value| {
        let workers = status["workers"].as_array().expect("workers").iter();
        workers.filter_map(|worker| worker["notifications_ignored"].as_u64()).sum::<u64>()
    };
    eventually("it is ignored", || ignored(&master.status()) == 1);
    assert!(master.seen(&on("ready")).is_empty());
}

/// Whoever talks without end is heard a little at a time: neither its neighbours nor the master wait for the end of it.
#[test]
fn a_flood_delays_nobody() {
    let stage = Stage::new();
    let master = by_notify(&stage, 2).start();
    let (mut floods, mut other) = (stage.next(), stage.next());
    floods.notify("READY=1");
    other.notify("READY=1");
    master.wait(on("started"));
    let of = |pid: u32| {
        let status = master.status();
        let workers = status["workers"].as_array().expect("workers").clone();
        workers.into_iter().find(|worker| worker["pid"] == pid).expect("it lives")
    };
    floods.run(&format!("exec python3 '{}' \"$NOTIFY_SOCKET\"", fixture("floods-notify.py").display()));
    eventually("the flood has begun", || of(floods.pid)["status"].is_string());
    let before = of(floods.pid)["status"].clone();
    let memory = resident(&master);
    for number in 0..200 {
        other.notify_and_wait(&format!("STATUS={number}"));
    }
    assert_eq!(of(other.pid)["status"], "199");
    eventually("the flood goes on, and is heard", || of(floods.pid)["status"] != before);
    let grown = resident(&master).saturating_sub(memory);
    assert!(grown < 16 << 10, "the master has grown by {grown} KiB");
    assert!(of(floods.pid)["notifications_ignored"].as_u64() > Some(0), "nonsense is part of it");
    master.client(&["scale", "3"]).expect_code(0);
    stage.next().notify("READY=1");
    master.wait(on("serving").slot(2));
}

/// The resident memory of the master, in KiB.
fn resident(master: &Master) -> u64 {
    let line = master.process().status_line("VmRSS");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number of KiB")
}

#[test]
fn the_sockets_are_removed() {
    let (stage, mut master, puppet) = ready();
    let beginning = format!("{}-", master.process().pid());
    let directory = Path::new(puppet.var("NOTIFY_SOCKET")).parent().expect("a directory").to_owned();
    let sockets = || {
        let is_own = |name: &OsStr| name.to_string_lossy().starts_with(&beginning);
        let entries = fs::read_dir(&directory).expect("it is ours").flatten();
        entries.filter(|entry| is_own(&entry.file_name())).count()
    };
    assert_eq!(sockets(), 1);
    let reload = master.begin_client(&["reload"]);
    stage.next().notify("READY=1");
    reload.finish().expect_code(0);
    master.wait(on("exit").id(1));
    eventually("the first worker's socket goes with it", || sockets() == 1);
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert_eq!(sockets(), 0);
}

/// What a master could not remove itself is removed by the next one.
#[test]
fn the_sockets_of_a_killed_master_are_removed() {
    let (stage, mut master, puppet) = ready();
    let socket = Path::new(puppet.var("NOTIFY_SOCKET"));
    master.signal(Signal::KILL);
    master.wait_end();
    assert!(socket.exists());
    let _next = by_notify(&stage, 1).start();
    stage.next();
    assert!(!socket.exists());
}

#[test]
fn notifications_are_heard_where_readiness_does_not_need_them() {
    let stage = Stage::new();
    let master = stage.launch_program().workers(1).start();
    let mut puppet = stage.next();
    master.wait(on("started"));
    puppet.notify_and_wait("READY=1\nSTATUS=idle");
    assert_eq!(worker(&master)["status"], "idle");
    assert_eq!(master.seen(&on("ready")).len(), 1);
    assert_eq!(puppet.env["WATCHDOG_USEC"], json!(null));
}

#[test]
#[cfg_attr(not(has = "root"), ignore = "only root can give up privileges")]
fn a_program_that_has_become_another_user_is_heard() {
    let home = Home::new();
    let server = home.program(
        "server",
        "#!/usr/bin/env python3
import os, signal, socket
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
signal.pause()
",
    );
    Launch::of(server).home(&home).workers(1).option("--ready-when", "notify").serve();
}
