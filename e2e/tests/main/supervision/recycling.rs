//! Workers that are too big or too old are replaced (`--max-memory`, `--max-lifetime`). The master looks at them every few
//! seconds.

use recluster_e2e::{Event, Launch, Master, Pattern, Puppet, Stage, on};

/// What a worker may use: much more than a puppet does, much less than a grown one.
const LIMIT: &str = "64M";
/// By how much a worker grows beyond it.
const GROWTH: u64 = 100 << 20;

/// Programs that may not grow much.
fn limited(stage: &Stage, workers: u32) -> Launch {
    stage.launch_program().workers(workers).option("--max-memory", LIMIT)
}

/// Waits until so many workers were renewed, and are gone.
#[track_caller]
fn renewed(master: &Master, count: usize) -> Vec<Event> {
    let recycling = master.wait_all(count, on("recycling"));
    for event in &recycling {
        master.wait(on("exit").id(event.id()));
    }
    recycling
}

/// The place of an event in the log.
#[track_caller]
fn place(log: &[Event], pattern: &Pattern) -> usize {
    let place = log.iter().position(|event| pattern.matches(event));
    place.expect("the log should have this event")
}

/// Each is let go when its replacement, which is the next worker of all, serves; and the next one is not begun before.
#[track_caller]
fn one_after_the_other_and_new_first(log: &[Event], recycling: &[Event], first_new: u64) {
    let mut done = 0;
    for (old, new) in recycling.iter().zip(first_new..) {
        let begun = place(log, &on("recycling").id(old.id()));
        assert!(begun >= done, "one at a time");
        let serves = place(log, &on("serving").id(new));
        done = place(log, &on("draining").id(old.id()));
        assert!(begun < serves && serves < done, "new first: {begun} {serves} {done}");
    }
}

#[test]
fn workers_that_use_too_much_memory_are_renewed_one_by_one() {
    let stage = Stage::new();
    let master = limited(&stage, 2).start();
    let mut puppets: Vec<Puppet> = (0..2).map(|_| stage.next()).collect();
    master.wait(on("started"));
    for puppet in &mut puppets {
        puppet.grow(GROWTH);
    }
    let recycling = renewed(&master, 2);
    for event in &recycling {
        assert_eq!(event.text("/reason"), "memory");
        assert!(event.number("/bytes") > GROWTH, "{event}");
        assert_eq!(event.number("/limit"), 64 << 20);
    }
    one_after_the_other_and_new_first(&master.log(), &recycling, 3);
    assert_ne!(recycling[0].id(), recycling[1].id());
}

#[test]
fn the_memory_of_child_processes_counts() {
    let stage = Stage::new();
    let master = limited(&stage, 1).start();
    let mut puppet = stage.next();
    master.wait(on("started"));
    // `tail` keeps a line until its end, which does not come.
    puppet.run("(head -c 100M /dev/zero; exec sleep 1000000) | tail");
    let recycling = renewed(&master, 1);
    assert_eq!(recycling[0].text("/reason"), "memory");
    one_after_the_other_and_new_first(&master.log(), &recycling, 2);
}

#[test]
fn workers_that_have_lived_long_enough_are_renewed_one_by_one() {
    let stage = Stage::new();
    let master = stage.launch_program().workers(2).option("--max-lifetime", "3s").start();
    let _puppets: Vec<Puppet> = (0..2).map(|_| stage.next()).collect();
    let recycling = renewed(&master, 2);
    for event in &recycling {
        assert_eq!(event.text("/reason"), "age");
        assert!(event.number("/seconds") >= 2, "up to a tenth less than three: {event}");
    }
    one_after_the_other_and_new_first(&master.log(), &recycling, 3);
}

/// The reload lasts for longer than the master takes from one look at its workers to the next.
#[test]
fn no_worker_is_recycled_during_a_reload() {
    let stage = Stage::new();
    let launch = limited(&stage, 1).option("--ready-when", "notify");
    let master = launch.config("ready-timeout = \"1h\"").start();
    let mut puppet = stage.next();
    puppet.notify("READY=1");
    master.wait(on("started"));
    master.configure("ready-timeout = \"8s\"");
    let reload = master.begin_client(&["reload"]);
    let never_ready = stage.next();
    puppet.grow(GROWTH);
    reload.finish().expect_code(1);
    drop(never_ready);
    assert!(master.wait(on("reloaded")).text("/verdict") == "rolled_back");
    master.wait(on("recycling").id(1));
    let log = master.log();
    assert!(place(&log, &on("reloaded")) < place(&log, &on("recycling")));
    stage.next().notify("READY=1");
    renewed(&master, 1);
}

/// The old one goes on, and is renewed at another time.
#[test]
fn a_replacement_that_fails_costs_nothing() {
    let stage = Stage::new();
    let master = limited(&stage, 1).option("--attempts", "1").start();
    let mut puppet = stage.next();
    master.wait(on("started"));
    puppet.grow(GROWTH);
    stage.next().exit(1);
    master.wait(on("replace_failed"));
    assert_eq!(master.active_pids(), [puppet.pid]);
    let _next = stage.next();
    master.wait(on("exit").id(1));
    assert_eq!(master.wait_all(2, on("recycling"))[1].id(), 1);
}

#[test]
fn invalid_sizes_are_refused() {
    for size in ["much", "1.5G", "0", "0%", "101%"] {
        let finished = Stage::new().launch_program().option("--max-memory", size).refused();
        finished.expect_code(2);
        assert!(finished.stderr.contains(&format!("'{size}' for '--max-memory <SIZE|N%>'")), "{finished:#?}");
    }
}
