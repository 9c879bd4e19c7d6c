//! Signals that come together: what sends them means one thing. A person who insists takes a moment.

use std::fs::{self, DirEntry};
use std::path::Path;

use recluster_e2e::{Launch, Master, Stage, eventually, on};
use rustix::process::{Pid, Signal, kill_process_group};

const REPEATED: &str = "the same as the one just before";

/// A cluster in a process group of its own, as a shell's job is.
fn job() -> Launch {
    Launch::fixture("server.js").started_by("in-its-own-group.py")
}

fn signal_group(master: &Master, signal: Signal) {
    let group = i32::try_from(master.process().pid()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process_group(group, signal).expect("the group lives");
}

/// A request that is being answered is answered, whoever says twice that the cluster is to stop.
fn is_one_wish(signals: impl FnOnce(&Master)) {
    let mut master = job().serve();
    let mut connection = master.begin_request();
    signals(&master);
    master.wait(on("stop_waits"));
    assert_eq!(connection.finish_request().expect("an answer").status, 200);
    master.expect_end(0);
    assert!(master.seen(&on("signal").with("/meaning", "terminate")).is_empty());
    assert!(master.seen(&on("exit").with("/exit/signal", 9)).is_empty());
}

/// A thread that is sent a signal while the master becomes another one would be the end of it: they wait until they are read.
#[test]
fn no_thread_is_sent_a_signal_and_the_first_one_starts_workers() {
    let master = Launch::fixture("server.js").serve();
    let pid = master.process().pid();
    let threads = Path::new("/proc").join(pid.to_string()).join("task");
    let takes_term = |thread: &DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).expect("a thread that lives");
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("a mask");
        let blocked = u64::from_str_radix(blocked.trim(), 16).expect("a number");
        blocked & 1 << (Signal::TERM.as_raw() - 1) == 0
    };
    let all = fs::read_dir(&threads).expect("its threads").map(|thread| thread.expect("a thread"));
    assert_eq!(all.filter(takes_term).count(), 0);
    let children = fs::read_to_string(threads.join(pid.to_string()).join("children"));
    let children = children.expect("a kernel that tells of children");
    let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect();
    assert_eq!(children, master.active_pids());
}

/// As `timeout` does it: the program, then its group.
#[test]
fn a_program_and_its_group_are_told_to_stop() {
    is_one_wish(|master| {
        master.signal(Signal::TERM);
        signal_group(master, Signal::TERM);
    });
}

/// As a terminal does it, and a manager that ends what it has started.
#[test]
fn the_terminal_and_a_manager_tell_it_to_stop() {
    is_one_wish(|master| {
        signal_group(master, Signal::INT);
        master.signal(Signal::TERM);
        master.wait(on("signal").with("/meaning", REPEATED));
    });
}

#[test]
fn the_log_says_what_a_stop_waits_for_and_then_another_signal_ends_it() {
    let mut master = Launch::fixture("server.js").workers(1).serve();
    let _connection = master.begin_request();
    master.signal(Signal::INT);
    let waits = master.wait(on("stop_waits"));
    assert_eq!(waits.at("/workers/0/pid"), master.wait(on("spawned")).at("/worker/pid"));
    assert_eq!(waits.number("/others"), 0);
    let patience = waits.at("/seconds_left").as_f64().expect("its stop timeout");
    assert!((60.0..=3600.0).contains(&patience), "{patience}");
    master.signal(Signal::TERM);
    master.expect_end(0);
    master.wait(on("signal").with("/meaning", "terminate"));
    master.wait(on("exit").with("/exit/signal", 9));
}

/// A stop that begins later says so then: until then nobody is waited for.
#[test]
fn the_log_says_what_a_stop_waits_for_when_it_has_begun() {
    let master = Launch::fixture("server.js").workers(1).option("--accept-after-stop", "1s").serve();
    let _connection = master.begin_request();
    master.signal(Signal::TERM);
    master.wait(on("stop_waits"));
    let names: Vec<String> = master.log().iter().map(|event| event.name().to_owned()).collect();
    let place = |name: &str| names.iter().position(|other| other == name).expect("it was logged");
    assert!(place("draining") < place("stop_waits"), "{names:?}");
}

#[test]
fn quit_ends_it_at_once_right_behind_a_stop() {
    let mut master = Launch::fixture("server.js").serve();
    let _connection = master.begin_request();
    master.signal(Signal::TERM);
    master.signal(Signal::QUIT);
    master.expect_end(0);
    master.wait(on("exit").with("/exit/signal", 9));
}

#[test]
fn whoever_hammers_on_ctrl_c_gets_through() {
    let mut master = Launch::fixture("server.js").serve();
    let _connection = master.begin_request();
    eventually("it ends", || {
        master.signal(Signal::INT);
        !master.process().lives()
    });
    master.expect_end(0);
}

/// A shell that goes sends HUP, and so does its terminal.
#[test]
fn two_signals_of_one_moment_are_one_reload() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    stage.next().serve();
    master.wait(on("started"));
    master.signal(Signal::HUP);
    master.signal(Signal::USR2);
    master.wait(on("signal").with("/meaning", REPEATED));
    stage.next().serve();
    master.wait(on("reloaded").with("/generation", 2).with("/verdict", "done"));
    assert!(master.seen(&on("superseded")).is_empty());
    let next = master.begin_client(&["reload"]);
    stage.next().serve();
    next.finish().expect_code(0);
    assert_eq!(master.wait_all(3, on("generation_began"))[2].number("/generation"), 3, "there was no other");
}

/// What a service manager, a shell or a runtime blocks and ignores for itself is not the cluster's concern.
#[test]
fn signals_that_were_blocked_by_who_started_the_master_are_heard_by_it_and_by_its_workers() {
    let launch = Launch::fixture("server.js").server("/bin/sleep").arg("1000000").workers(1);
    let checked =
        launch.option("--ready-check", "exec:grep -q '^SigBlk:.*[1-9a-f]' /proc/$$/status && exit 1; exit 0");
    let mut master = checked.started_by("with-signals-blocked.py").serve();
    let pid = master.wait(on("spawned")).number("/worker/pid");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    for set in ["SigBlk", "SigIgn"] {
        let line = status.lines().find(|line| line.starts_with(set)).expect("the kernel tells it");
        let all = u64::from_str_radix(line.split_whitespace().last().expect("a set"), 16).expect("a number");
        // The C library keeps the first two or three of the real-time signals to itself.
        assert_eq!(all & !(0b111 << 31), 0, "{line}");
    }
    master.signal(Signal::USR2);
    master.wait(on("reloaded").with("/verdict", "done"));
    master.signal(Signal::TERM);
    master.expect_end(0);
    master.wait_all(2, on("exit").with("/exit/signal", 15));
}
