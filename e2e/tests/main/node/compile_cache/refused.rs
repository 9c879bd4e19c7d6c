//! Where nothing can or may be kept, a line says why, and the cluster runs all the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use recluster_e2e::{Home, Launch, Master, eventually, fixture, on};

use super::{cluster, own, seen};

/// Starts it, and returns why its workers keep nothing.
#[track_caller]
fn reason(launch: Launch) -> (Master, String) {
    let master = launch.workers(2).serve();
    let event = master.wait(on("compile_cache_off"));
    assert_eq!(seen(&master, "/").0, None);
    let reason = event.text("/reason").to_owned();
    assert!(master.reload().status.success());
    assert_eq!(master.seen(&on("compile_cache_off")).len(), 1, "it is said once");
    (master, reason)
}

#[test]
#[cfg_attr(has = "node-22.8", ignore = "this Node has a compile cache")]
fn an_old_node_has_no_cache_which_is_said_once() {
    let home = Home::new();
    let (_master, reason) = reason(cluster(&home, "cache"));
    assert!(reason.contains("has no module.enableCompileCache"), "{reason}");
    assert!(!home.join("cache").exists());
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn where_others_may_write_nothing_is_read_or_written() {
    for (open, directory) in [("cache", "cache"), ("parent", "parent/cache"), ("own", "own")] {
        let home = Home::new();
        let own = own(&home, directory);
        fs::create_dir_all(&own).expect("the directory is ours");
        let path = if open == "own" { own.clone() } else { home.join(open) };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is ours");
        let (_master, reason) = reason(cluster(&home, directory));
        assert_eq!(reason, format!("{} is writable by others (mode 777)", path.display()));
        assert_eq!(fs::read_dir(own).expect("it is ours").count(), 0);
    }
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn a_place_where_everybody_has_something_is_no_cache_and_may_hold_one() {
    let home = Home::new();
    fs::create_dir(home.join("tmp")).expect("the directory is ours");
    fs::set_permissions(home.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("it is ours");
    let (master, reason) = reason(cluster(&home, "tmp"));
    assert_eq!(reason, format!("{} is writable by others (mode 1777)", home.join("tmp").display()));
    drop(master);
    assert!(seen(&cluster(&home, "tmp/cache").serve(), "/").0.is_some());
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn what_is_no_directory_keeps_nothing() {
    let home = Home::new();
    home.write("cache", "a file");
    let (_master, reason) = reason(cluster(&home, "cache"));
    assert_eq!(reason, format!("{} is no directory", home.join("cache").display()));
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
#[cfg_attr(not(has = "root"), ignore = "only root can give a directory away")]
fn what_another_user_owns_or_leads_to_keeps_nothing() {
    let home = Home::new();
    fs::create_dir(home.join("theirs")).expect("the directory is ours");
    std::os::unix::fs::chown(home.join("theirs"), Some(12_345), None).expect("we are root");
    fs::create_dir(home.join("ours")).expect("the directory is ours");
    home.link("link", "ours");
    std::os::unix::fs::lchown(home.join("link"), Some(12_345), None).expect("we are root");
    for (name, directory) in [("theirs", "theirs/cache"), ("theirs", "theirs"), ("link", "link")] {
        let (_master, reason) = reason(cluster(&home, directory));
        let path = home.join(name);
        assert_eq!(reason, format!("{} belongs to another user (uid 12345)", path.display()));
    }
    assert!(fs::read_dir(home.join("theirs")).expect("we are root").next().is_none());
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
#[cfg_attr(not(has = "mounts"), ignore = "file systems cannot be mounted here")]
fn a_disk_that_is_small_or_read_only_keeps_nothing() {
    for (options, expected) in [("size=1m", "less than 64 MB are free"), ("ro", "read-only file system")] {
        let home = Home::new();
        fs::create_dir(home.join("disk")).expect("the directory is ours");
        let launch = cluster(&home, "disk/cache").started_by("on-a-disk.py");
        let (_master, reason) = reason(launch.env("DISK", home.join("disk")).env("OPTIONS", options));
        assert!(reason.contains(expected), "{options}: {reason}");
    }
}

/// Node leaves files open that it could not write: a thousand modules would take every descriptor of the worker.
#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
#[cfg_attr(not(has = "mounts"), ignore = "file systems cannot be mounted here")]
fn a_disk_that_is_full_after_all_costs_no_descriptors() {
    let home = Home::new();
    fs::create_dir(home.join("disk")).expect("the directory is ours");
    let launch = cluster(&home, "disk/cache").started_by("on-a-disk.py");
    let room = format!("--require={}", fixture("says-there-is-room.cjs").display());
    let launch = launch.env("DISK", home.join("disk")).env("OPTIONS", "size=4k").env("NODE_OPTIONS", room);
    let master = launch.serve();
    let disk = || serde_json::from_str::<serde_json::Value>(&master.get("/disk").body).expect("JSON");
    eventually("what was compiled is written", || disk()["entries"] != 0);
    assert_eq!(disk()["open"], 0, "{}", disk());
    assert!(master.reload().status.success());
}
