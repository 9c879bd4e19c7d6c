//! The watchdog (`--watchdog`, or a worker's own `WATCHDOG_USEC=`): a worker that no longer reports is ended and replaced.

use std::time::{Duration, Instant};

use recluster_e2e::{Event, Launch, Master, Puppet, Stage, eventually, on};
use rustix::process::Signal;
use serde_json::json;

/// Programs that are ready when they say so.
fn by_notify(stage: &Stage, workers: u32) -> Launch {
    stage.launch_program().workers(workers).option("--ready-when", "notify")
}

/// One of them, which has said so.
#[track_caller]
fn ready(stage: &Stage, launch: Launch) -> (Master, Puppet) {
    let master = launch.start();
    let mut puppet = stage.next();
    puppet.notify("READY=1");
    master.wait(on("started"));
    (master, puppet)
}

#[track_caller]
fn ended_by(master: &Master, id: u64, signal: Signal) -> Event {
    let exit = master.wait(on("exit").id(id));
    assert_eq!(exit.at("/exit"), &json!({ "signal": signal.as_raw() }));
    exit
}

#[test]
fn a_worker_that_falls_silent_is_ended_and_replaced() {
    let stage = Stage::new();
    let (master, puppet) = ready(&stage, by_notify(&stage, 1).option("--watchdog", "1s"));
    assert_eq!(puppet.var("WATCHDOG_USEC"), "1000000");
    assert_eq!(puppet.var("WATCHDOG_PID"), puppet.pid.to_string());
    let hung = master.wait(on("hung"));
    assert_eq!((hung.id(), hung.at("/silent_seconds")), (1, &json!(1.0)));
    ended_by(&master, 1, Signal::ABORT);
    stage.next().notify("READY=1");
    master.wait(on("serving").id(2));
}

/// Two workers; one speaks until the other one is given up.
#[test]
fn a_worker_that_speaks_lives_on() {
    let stage = Stage::new();
    let master = by_notify(&stage, 2).option("--watchdog", "5s").start();
    let (mut speaks, mut silent) = (stage.next(), stage.next());
    speaks.notify("READY=1");
    silent.notify("READY=1");
    master.wait_all(2, on("ready"));
    while master.seen(&on("hung")).is_empty() {
        speaks.notify_and_wait("WATCHDOG=1");
    }
    assert_eq!(master.wait(on("hung")).pid(), silent.pid);
}

/// What they said meanwhile lies in their sockets; nobody is to blame that it was not read.
#[test]
fn a_master_that_was_stopped_blames_no_worker() {
    let stage = Stage::new();
    let patience = Duration::from_secs(3);
    let master = by_notify(&stage, 3).option("--watchdog", "3s").start();
    let mut puppets = [stage.next(), stage.next(), stage.next()];
    for puppet in &mut puppets {
        puppet.notify("READY=1");
    }
    master.wait(on("started"));
    master.signal(Signal::STOP);
    let stopped = Instant::now();
    for tenth in 1..=20 {
        for puppet in &mut puppets {
            puppet.notify("WATCHDOG=1");
        }
        eventually("a tenth of the interval is over", || stopped.elapsed() > tenth * patience / 10);
    }
    master.signal(Signal::CONT);
    let continued = Instant::now();
    while continued.elapsed() < 2 * patience {
        for puppet in &mut puppets {
            puppet.notify_and_wait("WATCHDOG=1");
        }
    }
    assert!(master.seen(&on("hung")).is_empty());
    // Who is silent from now on is found out as ever.
    let [speaks, silent, _silent] = &mut puppets;
    silent.notify_and_wait("WATCHDOG=1");
    while master.seen(&on("hung")).len() < 2 {
        speaks.notify_and_wait("WATCHDOG=1");
    }
    assert!(master.seen(&on("hung")).iter().all(|hung| hung.pid() != speaks.pid));
}

#[test]
fn the_watchdog_begins_when_the_worker_is_ready() {
    let stage = Stage::new();
    let master = by_notify(&stage, 1).option("--watchdog", "200ms").start();
    let mut puppet = stage.next();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        puppet.notify_and_wait("STATUS=loading");
    }
    assert!(master.seen(&on("hung")).is_empty());
    puppet.notify("READY=1");
    master.wait(on("hung"));
}

#[test]
fn a_worker_that_survives_the_first_signal_is_killed() {
    let stage = Stage::new();
    let launch = by_notify(&stage, 1).env("PUPPET_IGNORES", "ABRT").option("--kill-timeout", "300ms");
    let (master, _puppet) = ready(&stage, launch.option("--watchdog", "300ms"));
    master.wait(on("hung"));
    ended_by(&master, 1, Signal::KILL);
    assert_eq!(master.seen(&on("hung").id(1)).len(), 1);
}

#[test]
fn a_worker_may_set_its_own_watchdog() {
    let stage = Stage::new();
    let (master, mut puppet) = ready(&stage, by_notify(&stage, 1));
    puppet.notify("WATCHDOG_USEC=400000");
    assert_eq!(master.wait(on("hung")).at("/silent_seconds"), &json!(0.4));
    ended_by(&master, 1, Signal::ABORT);
}

#[test]
fn a_worker_may_turn_it_off() {
    let stage = Stage::new();
    let (master, mut puppet) = ready(&stage, by_notify(&stage, 1).option("--watchdog", "5s"));
    puppet.notify_and_wait("WATCHDOG_USEC=0");
    // The second one is held to it all the same.
    let reload = master.begin_client(&["reload"]);
    let mut second = stage.next();
    second.notify("READY=1");
    reload.finish().expect_code(0);
    assert_eq!(master.wait(on("hung")).id(), 2);
}

#[test]
fn a_worker_may_say_that_it_hangs() {
    let stage = Stage::new();
    let (master, mut puppet) = ready(&stage, by_notify(&stage, 1));
    puppet.notify("WATCHDOG=trigger");
    master.wait(on("hung"));
    ended_by(&master, 1, Signal::ABORT);
}

/// It is held to its word, so it is told where to say it.
#[test]
fn a_node_worker_with_a_watchdog_can_speak() {
    let master = Launch::fixture("server.js").workers(1).option("--watchdog", "1h").serve();
    let env = master.get("/").json()["env"].clone();
    assert_eq!(env["WATCHDOG_USEC"], "3600000000");
    assert!(env["NOTIFY_SOCKET"].is_string(), "{env}");
    let master = Launch::fixture("server.js").workers(1).serve();
    assert!(master.get("/").json()["env"]["NOTIFY_SOCKET"].is_null(), "it has its channel");
}

/// Whoever finishes what it has may have ended what used to speak. It has a deadline anyway.
#[test]
fn a_worker_that_drains_may_fall_silent() {
    let stage = Stage::new();
    let launch = by_notify(&stage, 1).option("--watchdog", "4s").option("--timeout", "9s");
    let launch = launch.env("PUPPET_IGNORES", "INT").option("--drain-signal", "INT");
    let (master, mut old) = ready(&stage, launch);
    let reload = master.begin_client(&["reload"]);
    let mut new = stage.next();
    new.notify("READY=1");
    while master.seen(&on("reloaded")).is_empty() {
        old.notify_and_wait("WATCHDOG=1");
        new.notify_and_wait("WATCHDOG=1");
    }
    reload.finish().expect_code(0);
    // Until its deadline the old one says no more than this.
    old.notify("WATCHDOG=1");
    while master.seen(&on("exit").id(1)).is_empty() {
        new.notify_and_wait("WATCHDOG=1");
    }
    ended_by(&master, 1, Signal::TERM);
    assert!(master.seen(&on("hung")).is_empty());
}
