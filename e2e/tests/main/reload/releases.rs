//! Releases that are switched by a symlink, and old ones that are removed: the server file and the working directory follow
//! the same symlink at the same moment.

use std::fs;
use std::path::{Path, PathBuf};

use recluster_e2e::{Home, Launch, Master, on};
use rustix::process::Signal;

/// A home with the release `release-1`, and its real path.
fn home() -> (Home, PathBuf) {
    let home = Home::new();
    home.release("release-1", "server.js");
    let real = fs::canonicalize(home.path()).expect("it is there");
    (home, real)
}

/// In which release the server file is, and in which one it runs.
fn where_it_is(master: &Master) -> (String, PathBuf) {
    let answer = master.get("/");
    (answer.text("release"), PathBuf::from(answer.json()["env"]["PWD"].as_str().expect("a directory")))
}

#[track_caller]
fn is_in(master: &Master, real: &Path, release: &str) {
    assert_eq!(where_it_is(master), (release.to_owned(), real.join(release)));
}

/// The status says which release is run, and by way of which link.
#[track_caller]
fn says_so(master: &Master, real: &Path, release: &str) {
    let (status, server) = (master.status(), real.join(release).join("server.js"));
    assert_eq!(status["server"].as_str().map(Path::new), Some(server.as_path()));
    let link = status["server_link"].as_str().expect("there is a link");
    assert!(link.ends_with("/current/server.js"), "{link}");
    let shown = master.client(&["status"]).stdout;
    assert!(shown.contains(&format!("runs {}, by way of {link}\n", server.display())), "{shown}");
}

/// Started by a shell that has gone into `current`.
fn from_within(home: &Home, server: &str) -> Launch {
    let current = home.join("current");
    Launch::of(server).home(home).workers(1).directory(&current).env("PWD", &current)
}

#[test]
fn a_reload_follows_the_link_of_the_directory_that_it_was_started_in() {
    for (server, by_signal) in [
        ("server.js", None),
        ("./server.js", Some(Signal::USR2)),
        ("../current/server.js", Some(Signal::HUP)),
    ] {
        let (home, real) = home();
        let master = from_within(&home, server).serve();
        is_in(&master, &real, "release-1");
        says_so(&master, &real, "release-1");
        for release in ["release-2", "release-3"] {
            home.release(release, "server.js");
            match by_signal {
                None => {
                    master.reload().expect_code(0);
                }
                Some(signal) => {
                    let before = master.seen(&on("reloaded")).len();
                    master.signal(signal);
                    master.wait_all(before + 1, on("reloaded").with("/verdict", "done"));
                }
            }
            is_in(&master, &real, release);
            says_so(&master, &real, release);
        }
    }
}

#[test]
fn so_does_a_server_that_the_config_file_in_it_names() {
    let (home, real) = home();
    fs::write(home.join("release-1/recluster.toml"), "server = 'server.js'").expect("it is ours");
    home.release("release-2", "server.js");
    fs::write(home.join("release-2/recluster.toml"), "server = 'server.js'\n[env]\nNEW = 'yes'")
        .expect("it is ours");
    home.switch("release-1");
    let config = home.join("current/recluster.toml");
    let master = from_within(&home, "server.js").option("--config", &config.to_string_lossy()).serve();
    home.switch("release-2");
    master.reload().expect_code(0);
    is_in(&master, &real, "release-2");
    assert_eq!(master.get("/").json()["env"]["NEW"], "yes");
}

/// As under a service manager, whose working directory has no name.
#[test]
fn the_directory_goes_with_a_server_file_whose_path_leads_to_it() {
    named_by_the_server(|launch| launch.env("PWD", "/"));
    named_by_the_server(|launch| launch.unset("PWD"));
}

fn named_by_the_server(shell: impl FnOnce(Launch) -> Launch) {
    let (home, real) = home();
    let launch = Launch::of(home.join("current/server.js")).home(&home).workers(1);
    let master = shell(launch.directory(&home.join("current"))).serve();
    is_in(&master, &real, "release-1");
    home.release("release-2", "server.js");
    master.reload().expect_code(0);
    is_in(&master, &real, "release-2");
    fs::remove_dir_all(home.join("release-1")).expect("it is ours");
    home.release("release-3", "server.js");
    master.reload().expect_code(0);
    is_in(&master, &real, "release-3");
}

#[test]
fn a_worker_whose_release_was_removed_is_respawned_from_where_the_path_leads_now() {
    let (home, real) = home();
    let master = from_within(&home, "server.js").serve();
    home.release("release-2", "server.js");
    fs::remove_dir_all(home.join("release-1")).expect("it is ours");
    is_in(&master, &real, "release-1");
    master.worker(&master.wait(on("spawned"))).signal(Signal::KILL);
    let moved = master.wait(on("moved"));
    assert_eq!(moved.text("/gone"), real.join("release-1/server.js").display().to_string());
    assert_eq!(moved.text("/server"), real.join("release-2/server.js").display().to_string());
    master.wait_all(2, on("serving"));
    is_in(&master, &real, "release-2");
    master.reload().expect_code(0);
    is_in(&master, &real, "release-2");
}

#[test]
fn what_is_missing_is_named_until_it_is_there_again() {
    let (home, real) = home();
    let master = from_within(&home, "server.js").serve();
    fs::remove_dir_all(home.join("release-1")).expect("it is ours");
    let failed = master.reload();
    failed.expect_code(1);
    let current = home.join("current");
    assert!(failed.stderr.contains(&current.display().to_string()), "{failed:?}");
    master.worker(&master.wait(on("spawned"))).signal(Signal::KILL);
    master.wait_all(3, on("respawning"));
    home.release("release-2", "server.js");
    master.wait_all(2, on("serving"));
    is_in(&master, &real, "release-2");
}

/// A rollback returns to workers that never ended, whatever became of their files.
#[test]
fn a_broken_release_leaves_the_workers_of_a_removed_one_alone() {
    let (home, real) = home();
    let master = from_within(&home, "server.js").option("--attempts", "1").serve();
    home.release("release-2", "syntax-error.js");
    fs::remove_dir_all(home.join("release-1")).expect("it is ours");
    master.reload().expect_code(1);
    is_in(&master, &real, "release-1");
    assert!(master.seen(&on("moved")).is_empty());
}
