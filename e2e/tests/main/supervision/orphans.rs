//! Processes whose parent has ended are reaped where the master is who adopts them, and nobody else's child is.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use recluster_e2e::{Event, Home, Launch, Running, command, eventually, fixture, get, on};

/// Crashes a worker; the connection is lost with it.
fn crash(address: SocketAddr) {
    let _ = get(address, "/exit");
}

/// Leaves 120 processes behind, while four workers crash, one after the other. In the end no zombie is left.
fn leave_orphans(address: SocketAddr, crashed: impl Fn(usize)) {
    let ask = |path| get(address, path).expect("an answer").body;
    assert_eq!(ask("/adopted"), "true", "orphans become the master's children");
    for round in 0..4 {
        for _ in 0..10 {
            assert_eq!(ask("/"), "orphaned");
        }
        crash(address);
        crashed(round + 1);
    }
    eventually("every orphan is reaped", || ask("/zombies") == "0");
}

fn ended_as_they_say(exits: &[Event]) {
    assert_eq!(exits.len(), 4);
    assert!(exits.iter().all(|exit| exit.at("/exit/code") == 7), "{exits:?}");
}

#[test]
fn a_subreaper_reaps_orphans_and_hears_how_its_workers_ended() {
    // The checks of the workers are processes of the master, too.
    let launch = Launch::fixture("orphans.js").flag("--subreaper").option("--ready-check", "exec:exit 0");
    let master = launch.option("--check-interval", "20ms").serve();
    leave_orphans(master.address(), |crashed| {
        master.wait_all(crashed, on("exit"));
        master.wait_all(2 + crashed, on("serving"));
    });
    ended_as_they_say(&master.seen(&on("exit")));
    assert!(master.seen(&on("unhealthy")).is_empty());
}

/// Where nobody has asked for it, they are adopted by whoever is there for that.
#[test]
fn without_it_orphans_are_somebody_else_s() {
    let master = Launch::fixture("orphans.js").serve();
    assert_eq!(master.get("/adopted").body, "false");
}

/// What a shell has started before it becomes the master by `exec` is the master's child, and no worker.
#[test]
fn a_child_from_before_the_master_began_is_reaped_and_disturbs_nothing() {
    for is_subreaper in [false, true] {
        let launch = Launch::fixture("orphans.js").started_by("with-a-child.py");
        let launch = if is_subreaper { launch.flag("--subreaper") } else { launch };
        let mut master = launch.serve();
        let home = master.home().clone();
        eventually("the child has said who it is", || home.join("child").exists());
        let stat = Path::new("/proc").join(home.read("child")).join("stat");
        let child = fs::read_to_string(&stat).expect("it lives");
        let parent = child.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        assert_eq!(parent, Some(master.process().pid().to_string().as_str()), "it is the master's");
        home.write("end", "");
        eventually("it is reaped", || !stat.exists());
        assert!(master.seen(&on("exit")).is_empty(), "no worker has ended");
        crash(master.address());
        assert_eq!(master.wait(on("exit")).at("/exit/code"), 7);
        master.wait_all(3, on("serving"));
        master.client(&["stop"]).expect_code(0);
        master.expect_end(0);
    }
}

/// What is signalled, and what pids mean, is another namespace's here: the cluster is only asked by its sockets.
#[test]
#[cfg_attr(not(has = "pid-namespaces"), ignore = "this machine makes no PID namespaces")]
fn the_first_process_of_a_container_reaps_orphans() {
    let home = Home::new();
    let control = home.join("control.sock");
    let inner = command(home.path());
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(inner.get_program());
    for (name, value) in inner.get_envs() {
        value.map(|value| unshare.env(name, value));
    }
    unshare.args([
        "run",
        "--workers",
        "2",
        "--bake",
        "100ms",
        "--respawn",
        "50ms",
        "--log-format",
        "json",
        "--control",
    ]);
    unshare
        .arg(&control)
        .arg("--node")
        .arg(&recluster_e2e::Node::under_test().path)
        .arg(fixture("orphans.js"));
    let running = Running::start(unshare);
    let line = running.wait_stdout("listens ");
    let port: u16 = line.trim_start_matches("listens ").parse().expect("a port");
    let control = control.to_string_lossy().into_owned();
    let all_serve = || home.recluster(&["status", "--control", &control]).code() == 0;
    leave_orphans(([127, 0, 0, 1], port).into(), |_| eventually("all serve", all_serve));
    home.recluster(&["stop", "--control", &control]).expect_code(0);
    let finished = running.finish();
    finished.expect_code(0);
    let events = finished.stderr.lines().filter_map(Event::parse);
    let exits: Vec<Event> =
        events.filter(|event| on("exit").with("/expected", false).matches(event)).collect();
    ended_as_they_say(&exits);
}
