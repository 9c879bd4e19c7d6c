//! `sd_notify` and socket activation with systemd's own library and command in the worker.

use std::process::{Command, Stdio};

use recluster_e2e::{Launch, not_installed, on};
use rustix::process::Signal;

/// Whether this command succeeds here; where it does not, the test is over.
fn has(what: &str, command: &mut Command) -> bool {
    let has =
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !has {
        not_installed(what);
    }
    has
}

fn has_command() -> bool {
    has("systemd-notify", Command::new("systemd-notify").arg("--version"))
}

#[test]
fn by_the_library() {
    let load = ["-c", "import ctypes; ctypes.CDLL('libsystemd.so.0').sd_notify_barrier"];
    if !has("libsystemd", Command::new("python3").args(load)) {
        return;
    }
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
fn by_the_command() {
    if !has_command() {
        return;
    }
    let launch = Launch::fixture("systemd-notify.sh").workers(2).option("--ready-when", "notify");
    let master = launch.serve();
    assert_eq!(master.status()["workers"][1]["status"], "started by hand");
    master.reload().expect_code(0);
}

#[test]
fn a_node_worker_by_the_command() {
    if !has_command() {
        return;
    }
    let launch = Launch::fixture("notifies.js").workers(1).option("--ready-when", "notify");
    let master = launch.serve();
    assert_eq!(master.get("/").status, 200);
    assert_eq!(master.status()["workers"][0]["status"], "listens");
}
