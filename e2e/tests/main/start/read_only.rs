//! A cluster where next to nothing can be written to, as in many a container.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use recluster_e2e::{Home, Launch, on};
use rustix::process::Signal;
use serde_json::Value;

/// Anybody may look into it.
fn open_home() -> Home {
    let home = Home::new();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    home
}

fn preloads_in(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("drain-")).count()
    })
}

#[test]
#[cfg_attr(not(has = "mounts"), ignore = "no file system can be mounted here")]
fn what_workers_load_is_beside_the_control_socket_where_nothing_else_can_be_written_to() {
    let home = open_home();
    let writable = home.path().to_owned();
    let launch = Launch::fixture("server.js").home(&home).workers(1).started_by("read-only.py");
    let mut master = launch.env("WRITABLE", &writable).serve();
    assert!(master.seen(&on("preload_missing")).is_empty());
    assert_eq!(preloads_in(&home.join("recluster-workers")), 1);
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
}

#[test]
#[cfg_attr(not(has = "mounts"), ignore = "no file system can be mounted here")]
fn a_program_notifies_where_nothing_can_be_written_to_and_there_is_no_control_socket() {
    let home = open_home();
    let server = home.program(
        "server",
        "#!/usr/bin/env python3
import os, signal, socket
name = os.environ['NOTIFY_SOCKET']
print('at ' + name, flush=True)
name = '\\0' + name[1:] if name.startswith('@') else name
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', name)
signal.pause()
",
    );
    let launch = Launch::of(server).home(&home).workers(1).started_by("read-only.py").discoverable();
    let master = launch.option("--control", "none").option("--ready-when", "notify").serve();
    master.wait_stdout("at @recluster-");
    assert_eq!(master.seen(&on("ready")).len(), 1);
}

#[test]
#[cfg_attr(not(has = "mounts"), ignore = "no file system can be mounted here")]
fn what_a_container_lacks_is_said_and_no_reason_not_to_serve() {
    let home = open_home();
    let launch =
        Launch::fixture("server.js").home(&home).workers(1).started_by("read-only.py").discoverable();
    let mut master = launch.serve();
    assert_eq!(master.wait(on("starting")).at("/control"), &Value::Null);
    for missing in ["control_missing", "preload_missing"] {
        assert!(master.wait(on(missing)).text("/reason").contains("Read-only file system"));
    }
    assert_eq!(master.get("/").status, 200);
    master.signal(Signal::HUP);
    master.wait(on("reloaded").with("/verdict", "done"));
    master.signal(Signal::TERM);
    master.expect_end(0);
}

#[test]
#[cfg_attr(not(has = "mounts"), ignore = "no file system can be mounted here")]
fn a_control_socket_that_was_said_is_not_done_without() {
    let home = open_home();
    let launch = Launch::fixture("server.js").home(&home).started_by("read-only.py").discoverable();
    let refused = launch.option("--control", &home.join("it.sock").to_string_lossy()).refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains("it.sock"), "{refused:#?}");
}

#[test]
#[cfg_attr(not(has = "mounts"), ignore = "no file system can be mounted here")]
fn where_shared_memory_alone_can_be_written_to_the_control_socket_is_there() {
    let home = open_home();
    let launch = Launch::fixture("server.js").home(&home).workers(1).started_by("read-only.py");
    let master = launch.discoverable().env("SHARED_MEMORY", "yes").serve();
    let control = master.wait(on("starting")).text("/control").to_owned();
    assert!(control.starts_with("/dev/shm/recluster-"), "{control}");
    assert!(master.seen(&on("preload_missing")).is_empty());
}
