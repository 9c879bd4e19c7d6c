//! What is kept, for whom and for how long.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use recluster_e2e::{Home, Launch, eventually, on};
use rustix::process::Signal;

use super::{cluster, entries, own, release, seen, that_tells};

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn a_worker_that_is_killed_has_left_what_it_compiled() {
    let home = Home::new();
    let master = that_tells(&home, "cache").serve();
    eventually("both files are kept", || entries(&own(&home, "cache")).len() >= 2);
    master.worker(&master.wait(on("spawned"))).signal(Signal::KILL);
    master.wait_all(2, on("serving"));
    master.wait_stderr("compiled-part.js was accepted");
    for directory in [home.join("cache"), own(&home, "cache")] {
        let mode = fs::metadata(&directory).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", directory.display());
    }
    let kept = seen(&master, "/").0.expect("a directory");
    assert!(kept.starts_with(&*own(&home, "cache").to_string_lossy()), "{kept}");
}

/// Writing takes a while, and a request would wait for it.
#[test]
#[cfg_attr(not(has = "node-22.10"), ignore = "Node can be told to write its compile cache from 22.10 on")]
fn what_was_compiled_is_written_before_the_first_request_can_come() {
    for (workers, ready_when) in [(1, "listening"), (1, "started"), (3, "listening")] {
        let home = Home::new();
        let launch = cluster(&home, "cache").workers(workers).option("--ready-when", ready_when);
        let master = launch.option("--boot-limit", "1").serve();
        let then: serde_json::Value = serde_json::from_str(&master.get("/then").body).expect("JSON");
        assert_eq!(then["entries"], 2, "{workers} {ready_when}: {then}");
    }
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn a_worker_that_is_ready_before_it_has_loaded_keeps_what_it_serves_with() {
    let home = Home::new();
    let master = cluster(&home, "cache").option("--ready-when", "started").serve();
    eventually("both files are kept", || entries(&own(&home, "cache")).len() >= 2);
    drop(master);
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn what_a_worker_starts_knows_nothing_of_it() {
    let home = Home::new();
    let master = cluster(&home, "cache").serve();
    assert!(seen(&master, "/").0.is_some());
    assert_eq!(seen(&master, "/").1, Vec::<String>::new());
    assert_eq!(seen(&master, "/child"), (None, Vec::new()));
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn what_a_user_says_of_a_cache_comes_first() {
    let home = Home::new();
    let master = cluster(&home, "cache").env("NODE_DISABLE_COMPILE_CACHE", "1").serve();
    assert_eq!(seen(&master, "/").0, None);
    drop(master);
    let other = home.join("other");
    let master = cluster(&home, "cache").env("NODE_COMPILE_CACHE", &other).serve();
    assert!(seen(&master, "/").0.expect("a directory").starts_with(&*other.to_string_lossy()));
    drop(master);
    assert!(!home.join("cache").exists());
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn an_application_may_have_its_own() {
    let home = Home::new();
    let launch = cluster(&home, "cache");
    let server = home.join("1/server.js");
    let text = fs::read_to_string(&server).expect("it is ours");
    let own = home.join("own");
    let first = format!("require('module').enableCompileCache({:?})\n", own.display().to_string());
    fs::write(&server, first + &text).expect("it is ours");
    let master = launch.serve();
    assert!(seen(&master, "/").0.expect("a directory").starts_with(&*own.to_string_lossy()));
    assert!(!home.join("cache").exists());
    assert!(master.seen(&on("compile_cache_off")).is_empty());
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn without_a_name_it_is_where_the_environment_says() {
    let home = Home::new();
    let cache = home.join("service");
    fs::create_dir(&cache).expect("the directory is ours");
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let launch = Launch::of(release(&home, "1")).home(&home).workers(1).flag("--compile-cache");
    let master = launch.env("CACHE_DIRECTORY", &cache).serve();
    assert!(
        seen(&master, "/").0.expect("a directory").starts_with(&*own(&home, "service").to_string_lossy())
    );
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn a_reload_begins_it_and_ends_it() {
    let home = Home::new();
    let master = cluster(&home, "none").serve();
    assert_eq!(seen(&master, "/").0, None);
    for (directory, has) in [("cache", true), ("none", false)] {
        master.configure(&format!("compile-cache = \"{directory}\"\n"));
        assert!(master.reload().status.success());
        assert_eq!(seen(&master, "/").0.is_some(), has, "{directory}");
    }
}

#[test]
#[cfg_attr(not(has = "node-22.8"), ignore = "Node has a compile cache from 22.8 on")]
fn what_is_too_much_goes_and_the_latest_stays() {
    let home = Home::new();
    let old = own(&home, "cache").join("v18.0.0-x64-00000000-0");
    fs::create_dir_all(&old).expect("the directory is ours");
    for directory in [home.join("cache"), own(&home, "cache")] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).expect("it is ours");
    }
    fs::write(old.join("0000000a"), vec![b'x'; 2 << 20]).expect("it is ours");
    let launch = cluster(&home, "cache").option("--compile-cache-size", "1M");
    let master = launch.serve();
    eventually("what was used least lately is gone", || !old.join("0000000a").exists());
    eventually("the new is kept", || entries(&own(&home, "cache")).len() >= 2);
    drop(master);
}

#[test]
#[cfg_attr(not(has = "node-24.12"), ignore = "Node knows modules by relative paths from 24.12 on")]
fn a_new_release_reads_what_the_old_one_has_compiled_where_it_links_to_one_cache() {
    let home = Home::new();
    fs::create_dir(home.join("shared")).expect("the directory is ours");
    for name in ["1", "2"] {
        release(&home, name);
        home.link(&format!("{name}/.cache"), "shared");
    }
    home.switch("1");
    let master = that_tells(&home, "current/.cache").serve();
    eventually("both files are kept", || entries(&own(&home, "shared")).len() >= 2);
    home.switch("2");
    assert!(master.reload().status.success());
    master.wait_stderr("/2/compiled-part.js was accepted");
    assert_eq!(entries(&own(&home, "shared")).len(), 2);
}
