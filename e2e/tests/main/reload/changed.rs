//! `--reload-on`: a file changes in production, and every worker is replaced.

use std::fs;
use std::os::unix::fs::symlink;

use recluster_e2e::{Home, Launch, on};

#[test]
fn a_release_is_reloaded_when_its_symlink_is_switched_and_rolled_back_where_it_does_not_start() {
    let home = Home::new();
    let server = home.release("release-1", "server.js");
    let master =
        Launch::of(server).home(&home).option("--reload-on", &home.join("current").to_string_lossy()).serve();
    let old = master.active_pids();
    home.release("release-2", "server.js");
    master.wait(on("reloaded").with("/verdict", "done"));
    assert_eq!(master.get("/").text("release"), "release-2");
    assert!(master.active_pids().iter().all(|pid| !old.contains(pid)), "every worker was replaced");
    let changed = master.wait(on("files_changed"));
    assert!(changed.text("/files/0").ends_with("/current"), "the log says why: {changed:?}");

    home.release("release-3", "syntax-error.js");
    master.wait(on("reloaded").with("/verdict", "rolled_back"));
    assert_eq!(master.get("/").text("release"), "release-2");
}

#[test]
fn a_config_map_brings_its_settings_when_it_is_there_and_when_it_is_swapped() {
    let home = Home::new();
    let etc = home.join("etc");
    let version = |name: &str, workers: u32| {
        fs::create_dir_all(etc.join(name)).expect("the directory is ours");
        fs::write(etc.join(name).join("app.env"), format!("SIZE={workers}")).expect("the directory is ours");
    };
    home.write("empty.env", "");
    home.link("app.env", "empty.env");
    let master = Launch::fixture("server.js")
        .home(&home)
        .option("--env-file", &home.join("app.env").to_string_lossy())
        .option("--reload-on", &etc.join("app.env").to_string_lossy())
        .serve();
    let says = |size: &str| assert_eq!(master.get("/").json()["env"]["SIZE"], size);

    // It is mounted late.
    version("..one", 1);
    symlink("..one", etc.join("..data")).expect("the directory is ours");
    symlink("..data/app.env", etc.join("app.env")).expect("the directory is ours");
    home.link("app.env", "etc/app.env");
    master.wait(on("reloaded").with("/verdict", "done"));
    says("1");

    version("..two", 2);
    symlink("..two", etc.join("..data_tmp")).expect("the directory is ours");
    fs::rename(etc.join("..data_tmp"), etc.join("..data")).expect("the directory is ours");
    fs::remove_dir_all(etc.join("..one")).expect("the directory is ours");
    master.wait_all(2, on("reloaded").with("/verdict", "done"));
    says("2");
    assert_eq!(master.seen(&on("files_changed")).len(), 2, "a swap is one reload");
}
