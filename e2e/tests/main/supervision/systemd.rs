//! `sd_notify` and socket activation with systemd's own library and command in the worker.

use recluster_e2e::{Launch, on};
use rustix::process::Signal;

#[test]
#[cfg_attr(not(has = "libsystemd"), ignore = "libsystemd0 is not installed")]
fn by_the_library() {
    let launch = Launch::fixture("libsystemd.py").workers(1).option("--ready-when", "notify");
    let mut master = launch.option("--watchdog", "1h").listen("web=127.0.0.1:0").serve();
    for line in [
        "sockets: 1 ['web']",
        "listens: 1",
        "watchdog: 1 3600000000",
        "status: 1",
        "store: 1",
        "barrier: 1",
        "ready: 1",
    ] {
        master.wait_stdout(line);
    }
    master.wait(on("not_stored"));
    assert_eq!(master.status()["workers"][0]["status"], "serves");
    master.signal(Signal::TERM);
    master.expect_end(0);
    master.wait_stdout("stopping: 1");
}

/// The command is a process of its own, in the worker's group, and waits until it was heard.
#[test]
#[cfg_attr(not(has = "systemd-notify"), ignore = "systemd-notify is not installed")]
fn by_the_command() {
    let launch = Launch::fixture("systemd-notify.sh").workers(2).option("--ready-when", "notify");
    let master = launch.serve();
    assert_eq!(master.status()["workers"][1]["status"], "started by hand");
    master.reload().expect_code(0);
}

#[test]
#[cfg_attr(not(has = "systemd-notify"), ignore = "systemd-notify is not installed")]
fn a_node_worker_by_the_command() {
    let launch = Launch::fixture("notifies.js").workers(1).option("--ready-when", "notify");
    let master = launch.serve();
    assert_eq!(master.get("/").status, 200);
    assert_eq!(master.status()["workers"][0]["status"], "listens");
}
