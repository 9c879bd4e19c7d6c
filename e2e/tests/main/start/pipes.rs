//! A pipe at whose other end nobody is, where a file is meant: nothing waits for it.

use std::fs;
use std::path::PathBuf;

use recluster_e2e::{Home, Launch, on};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

fn pipe(home: &Home, name: &str) -> PathBuf {
    let path = home.join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    path
}

#[test]
fn where_a_file_is_read_it_is_refused_and_named() {
    let home = Home::new();
    let path = pipe(&home, "pipe");
    for option in ["--pidfile", "--config", "--env-file"] {
        let launch = Launch::fixture("server.js").home(&home).option(option, &path.to_string_lossy());
        let refused = launch.refused();
        refused.expect_code(2);
        assert!(refused.stderr.contains(&*path.to_string_lossy()), "{option}: {refused:#?}");
    }
    let launch = Launch::fixture("server.js").home(&home).with_admin();
    let refused = launch.option("--admin-token-file", &path.to_string_lossy()).refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains(&*path.to_string_lossy()), "{refused:#?}");
    let refused = Launch::of(&path).home(&home).refused();
    refused.expect_code(126);
    assert!(refused.stderr.contains("it is no regular file"), "{refused:#?}");
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let home = Home::new();
    let path = pipe(&home, "log");
    let launch =
        Launch::fixture("server.js").home(&home).workers(1).option("--log-file", &path.to_string_lossy());
    let mut master = launch.start();
    master.wait_stdout("listens");
    for _ in 0..2 {
        master.signal(Signal::USR1);
        assert_eq!(master.status()["workers"].as_array().map(Vec::len), Some(1), "it answers");
    }
    master.signal(Signal::TERM);
    master.expect_end(0);
}

#[test]
fn one_that_is_to_be_watched_is_not_opened() {
    let home = Home::new();
    let path = pipe(&home, "watched");
    let launch = Launch::fixture("server.js").home(&home).workers(1);
    let mut master = launch.option("--reload-on", &path.to_string_lossy()).serve();
    master.reload().expect_code(0);
    fs::remove_file(&path).expect("it is there");
    // It may be told as a change before or after something else is there.
    pipe(&home, "watched");
    master.wait(on("files_changed"));
    master.signal(Signal::TERM);
    master.expect_end(0);
}

#[test]
fn a_lock_that_somebody_holds_for_ever_is_named() {
    let home = Home::new();
    let lock = std::fs::File::create(home.join(".recluster.lock")).expect("it is ours");
    lock.lock().expect("nobody has it");
    let refused = Launch::fixture("server.js")
        .home(&home)
        .workers(1)
        .option("--control", &home.join("c.sock").to_string_lossy())
        .refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains(".recluster.lock"), "{refused:#?}");
    drop(lock);
    Launch::fixture("server.js").home(&home).workers(1).start().wait(on("started"));
}
