//! `--surge`: a reload that starts only a few extra workers at a time, slot after slot.

use recluster_e2e::{Event, Home, Launch, Master, Stage, on};
use rustix::process::Signal;

/// The most workers that were alive at once and not on their way out, by the log.
fn most_at_once(master: &Master) -> usize {
    let mut live: Vec<u64> = Vec::new();
    let mut most = 0;
    for event in master.log() {
        match event.name() {
            "spawned" => live.push(event.id()),
            "draining" | "exit" => live.retain(|id| *id != event.id()),
            _ => {}
        }
        most = most.max(live.len());
    }
    most
}

#[test]
fn one_extra_worker_is_enough_to_replace_all() {
    let master = Launch::fixture("server.js").workers(3).option("--surge", "1").serve();
    master.reload().expect_code(0);
    let order: Vec<u64> = master.wait_all(3, on("draining").generation(1)).iter().map(Event::slot).collect();
    assert_eq!(order, [0, 1, 2], "slot after slot");
    assert_eq!(most_at_once(&master), 4);
    assert_eq!(master.get("/").text("generation"), "2");
}

#[test]
fn without_a_bound_all_new_workers_start_at_once() {
    let master = Launch::fixture("server.js").workers(3).serve();
    master.reload().expect_code(0);
    assert_eq!(most_at_once(&master), 6);
}

#[test]
fn code_that_fails_at_the_second_slot_is_stopped_part_way() {
    let home = Home::new();
    let server = home.release("good", "server.js");
    home.release("bad", "second-slot-fails.js");
    home.switch("good");
    let master = Launch::of(server).home(&home).workers(3).option("--surge", "1").serve();
    let before = master.active_pids();
    home.switch("bad");
    let reload = master.reload();
    reload.expect_code(1);
    assert!(reload.stderr.contains("1 of 3"), "{reload:#?}");
    let verdict = master.wait(on("reloaded"));
    assert_eq!(verdict.text("/verdict"), "stopped_part_way");
    assert_eq!((verdict.number("/replaced"), verdict.number("/of")), (1, 3));
    let after = master.active_pids();
    assert_ne!(after[0], before[0], "slot 0 keeps the new code");
    assert_eq!(after[1..], before[1..], "the others were not touched");
    assert!(master.seen(&on("spawned").generation(2).slot(2)).is_empty(), "no further slot was tried");
}

#[test]
fn after_a_stop_part_way_each_slot_respawns_what_it_runs() {
    let stage = Stage::new();
    let master = stage.launch().workers(2).option("--surge", "1").option("--attempts", "1").start();
    let mut puppets = [stage.next(), stage.next()];
    puppets.sort_by_key(|puppet| puppet.slot);
    for puppet in &mut puppets {
        puppet.serve();
    }
    master.wait(on("started"));
    master.signal(Signal::USR2);
    let mut replaced = stage.next();
    replaced.serve();
    stage.next().exit(1);
    master.wait(on("reloaded").with("/verdict", "stopped_part_way"));
    replaced.exit(1);
    stage.next().serve();
    let slot_0 = &master.wait_all(3, on("spawned").slot(0))[2];
    assert_eq!(slot_0.number("/worker/generation"), 2);
    puppets[1].exit(1);
    stage.next().serve();
    let slot_1 = &master.wait_all(3, on("spawned").slot(1))[2];
    assert_eq!(slot_1.number("/worker/generation"), 1);
}

#[test]
fn code_that_fails_at_the_first_slot_is_rolled_back() {
    let home = Home::new();
    let server = home.release("good", "server.js");
    home.release("bad", "syntax-error.js");
    home.switch("good");
    let master = Launch::of(server).home(&home).option("--surge", "1").serve();
    let before = master.active_pids();
    home.switch("bad");
    master.reload().expect_code(1);
    assert_eq!(master.wait(on("reloaded")).text("/verdict"), "rolled_back");
    assert_eq!(master.active_pids(), before);
}
