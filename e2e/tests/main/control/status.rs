//! What `status` and `reload` print, for people and as JSON.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use std::sync::mpsc::channel;

use recluster_e2e::{DEADLINE, Home, Launch, Stage, command, eventually, get, on};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

#[test]
fn the_status_is_there_for_programs() {
    let master = Launch::fixture("server.js").serve();
    master.get("/");
    let status = master.status();
    assert_eq!(status["pid"], master.process().pid());
    assert_eq!(status["phase"], "running");
    assert_eq!(status["generation"], 1);
    assert_eq!(status["slots"].as_array().map(Vec::len), Some(2));
    for (slot, worker) in status["workers"].as_array().expect("workers").iter().enumerate() {
        assert_eq!(worker["slot"], slot);
        assert_eq!(worker["state"], "serving");
        assert!(worker["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{worker}");
        assert!(worker["cpu_seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0), "{worker}");
        assert!(worker["uptime_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{worker}");
    }
    let listeners = status["listeners"].as_array().expect("listeners");
    assert!(listeners.iter().any(|it| it["address"] == master.address().to_string()), "{status}");
}

/// It does nothing, and the kernel says so.
#[test]
fn a_worker_that_is_stopped_is_shown_as_that() {
    let master = Launch::fixture("server.js").workers(1).with_admin().serve();
    let worker = master.worker(&master.wait(on("spawned")));
    worker.signal(Signal::STOP);
    eventually("a stopped worker", || master.status()["workers"][0]["stopped"] == true);
    assert_eq!(master.status()["workers"][0]["state"], "serving");
    let shown = master.client(&["status"]).stdout;
    assert!(shown.contains(" stopped ") && !shown.contains(" serving "), "{shown}");
    let counted = |state: &str, number: u32| {
        let metrics = get(master.admin(), "/metrics").expect("an answer").body;
        metrics.lines().any(|line| line == format!("recluster_workers{{state=\"{state}\"}} {number}"))
    };
    eventually("a scrape that counts it", || counted("stopped", 1) && counted("serving", 0));
    worker.signal(Signal::CONT);
    eventually("a scrape that counts one that goes on", || counted("stopped", 0) && counted("serving", 1));
    eventually("a worker that goes on", || master.status()["workers"][0].get("stopped").is_none());
}

#[test]
fn the_status_is_there_for_people() {
    let master = Launch::fixture("server.js").option("--name", "shop").serve();
    let status = master.client(&["status"]);
    status.expect_code(0);
    assert!(
        status.stdout.starts_with("shop: running, "),
        "its own name, wherever its socket is: {status:#?}"
    );
    for worker in master.seen(&on("spawned")) {
        assert!(status.stdout.contains(&worker.pid().to_string()), "{status:#?}");
    }
    assert!(status.stdout.contains("serving"), "{status:#?}");
    assert!(!status.stdout.contains('\u{1b}'), "no colours in a pipe: {status:#?}");
}

#[test]
fn status_ends_with_1_where_a_slot_has_no_active_worker() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    stage.next().online();
    master.wait(on("online"));
    master.client(&["status"]).expect_code(1);
}

#[test]
fn the_status_tells_how_long_a_draining_worker_has() {
    let master = Launch::fixture("stubborn.js")
        .workers(1)
        .option("--exit-grace", "1h")
        .option("--timeout", "1h")
        .serve();
    master.reload().expect_code(0);
    let status = master.status();
    let draining =
        status["workers"].as_array().expect("workers").iter().find(|it| it["state"] == "draining").cloned();
    let left = draining.expect("the old worker still drains")["seconds_left"].as_f64();
    // Once its handlers of SIGTERM have run, the next signal is SIGKILL, a kill timeout later.
    assert!(left.is_some_and(|left| (0.0..=7200.0).contains(&left)), "{status}");
}

#[test]
fn the_status_can_be_watched_until_the_master_goes() {
    let master = Launch::fixture("server.js").workers(1).serve();
    let watching = master.begin_client(&["status", "--watch", "--json"]);
    watching.wait_stdout("running");
    master.signal(Signal::TERM);
    let finished = watching.finish();
    let first: Value = serde_json::from_str(finished.stdout.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["pid"], master.process().pid());
}

/// What was on the terminal before is there again afterwards.
#[test]
fn the_watched_status_has_a_screen_of_its_own_and_gives_it_back() {
    for signal in [Signal::INT, Signal::TERM] {
        let master = Launch::fixture("server.js").workers(1).serve();
        let (terminal, screen) = terminal();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).expect("it is ours");
        let mut status = command(master.home().path());
        status.args(["status", "--watch", "--control"]).arg(master.control()).stdout(screen);
        let mut watching = status.spawn().expect("the command runs");
        drop(status);
        let (show, shown) = channel();
        let reader = std::thread::spawn(move || read_to(terminal, |text| drop(show.send(text.to_owned()))));
        while !shown.recv_timeout(DEADLINE).expect("it shows the status").contains("serving") {}
        let pid = Pid::from_child(&watching);
        rustix::process::kill_process(pid, signal).expect("it lives");
        assert_eq!(watching.wait().expect("it ends").code(), Some(0));
        let shown = reader.join().expect("no panic");
        assert!(shown.starts_with("\u{1b}[?1049h") && shown.ends_with("\u{1b}[?1049l"), "{shown:?}");
        let rows = shown.split("\u{1b}[K").filter(|row| row.contains("serving"));
        for row in rows.map(str::trim_start) {
            let plain = row.replace("\u{1b}[32m", "").replace("\u{1b}[0m", "");
            assert!(plain.chars().count() <= 80, "{plain:?}");
        }
    }
}

/// Whoever looks an hour later sees how it ended, and a rollback has not restarted anything.
#[test]
fn the_status_tells_how_the_last_reload_ended() {
    let home = Home::new();
    home.release("good", "server.js");
    home.release("bad", "second-slot-fails.js");
    home.switch("good");
    let launch = Launch::of(home.join("current/server.js")).home(&home);
    let master = launch.option("--attempts", "2").serve();
    assert_eq!(master.status()["last_reload"], Value::Null);
    home.switch("bad");
    master.reload().expect_code(1);
    let status = master.status();
    let last = &status["last_reload"];
    assert_eq!(
        (&last["verdict"], &last["generation"]),
        (&Value::from("rolled_back"), &Value::from(2)),
        "{status}"
    );
    assert!(last["failure"]["reason"].is_string() && last["seconds_ago"].is_f64(), "{status}");
    for slot in status["slots"].as_array().expect("slots") {
        assert_eq!(slot["restarts"], 0, "{status}");
    }
    let table = master.client(&["status"]).stdout;
    assert!(table.contains("last reload: generation 2 was rolled back"), "{table}");
}

#[test]
fn a_reload_is_told_to_programs_as_json() {
    let master = Launch::fixture("server.js").serve();
    let reload = master.client(&["reload", "--json"]);
    reload.expect_code(0);
    let lines: Vec<Value> =
        reload.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert_eq!(lines.last().map(|last| last["verdict"].clone()), Some(Value::from("done")), "{reload:#?}");
}

#[test]
fn a_reload_is_shown_to_people_as_a_line_that_changes() {
    let master = Launch::fixture("server.js").serve();
    let (terminal, screen) = terminal();
    let mut reload = command(master.home().path());
    reload.arg("reload").arg("--control").arg(master.control()).stdout(Stdio::null()).stderr(screen);
    let shown = std::thread::spawn(move || read_all(terminal));
    let status = reload.status().expect("the command runs");
    drop(reload);
    assert!(status.success());
    let shown = shown.join().expect("no panic");
    assert!(shown.contains('\r'), "{shown:?}");
    assert!(shown.contains("1 of 2") && shown.contains("2 of 2"), "{shown:?}");
}

/// Both ends of a terminal: who looks at it, and who writes on it.
fn terminal() -> (File, OwnedFd) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("the machine has terminals");
    unlockpt(&terminal).expect("it is ours");
    let name = ptsname(&terminal, Vec::new()).expect("it has a name");
    let path = std::path::Path::new(name.to_str().expect("a plain name"));
    let screen = File::options().read(true).write(true).open(path).expect("it is unlocked");
    (File::from(terminal), screen.into())
}

fn read_all(terminal: File) -> String {
    read_to(terminal, |_| {})
}

/// A terminal ends with an error when the last writer is gone. `show` is given all that has come, again and again.
fn read_to(mut terminal: File, show: impl Fn(&str)) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = terminal.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..count]);
        show(&String::from_utf8_lossy(&bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_closed_stdout_is_no_error() {
    let master = Launch::fixture("server.js").workers(1).serve();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut status = command(master.home().path());
    status.arg("status").arg("--control").arg(master.control()).stdout(writer).stderr(Stdio::piped());
    let output = status.output().expect("the command runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_reload_command_prints_its_progress() {
    let master = Launch::fixture("server.js").serve();
    let reload = master.reload();
    reload.expect_code(0);
    let shown = format!("{}{}", reload.stdout, reload.stderr);
    for part in ["1 of 2", "2 of 2"] {
        assert!(shown.contains(part), "{part:?} in {reload:#?}");
    }
}
