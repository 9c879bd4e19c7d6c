//! A reload with the whole new generation beside the old one.

use recluster_core::{Event, Settings};

use crate::words::{millis, secs};
use crate::world::{NOTHING, World, slots};

#[test]
fn a_reload_starts_the_whole_new_generation_at_once() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    assert_eq!(world.notices(), ["generation 2 began"]);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 2", "4 in slot 1 of generation 2"]);
}

#[test]
fn no_old_worker_leaves_before_every_slot_has_a_new_one_that_serves() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.come_to_serve([3]);
    world.pass(secs(30));
    assert_eq!(world.drained(), NOTHING);
    assert_eq!(world.servers(), [1, 2, 3]);

    world.come_to_serve([4]);
    assert_eq!(world.drained(), ["1 until 162s", "2 until 162s"]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
    assert_eq!(world.servers(), [3, 4]);
}

#[test]
fn a_ready_worker_that_still_bakes_does_not_complete_a_reload() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.ready(2);
    world.pass(millis(999));
    assert_eq!(world.drained(), NOTHING);
    world.pass(millis(1));
    assert_eq!(world.drained(), ["1 until 131s"]);
}

#[test]
fn a_server_on_two_ports_counts_once() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.all_ready([3, 3]);
    world.pass(secs(2));
    assert_eq!(world.drained(), NOTHING);
    assert_eq!(world.notices_with("serves"), ["3 serves, 1 of 2"]);
}

#[test]
fn an_old_worker_that_becomes_ready_does_not_count_as_a_new_one() {
    let mut world = World::serving(slots(2));
    world.crashes(2);
    world.pass(secs(1));
    world.reload(7);
    world.come_to_serve([3, 4]);
    assert_eq!(world.verdicts(), NOTHING);
    assert_eq!(world.drained(), NOTHING);
}

#[test]
fn after_a_reload_respawns_belong_to_the_new_generation() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.come_to_serve([2]);
    world.forget();
    world.crashes(2);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 2"]);
    assert_eq!(world.status().generation.get(), 2);
}

#[test]
fn an_old_worker_that_exits_when_it_is_let_go_is_not_replaced() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.come_to_serve([2]);
    world.forget();
    world.exits(1);
    world.pass(secs(10));
    assert_eq!(world.spawned(), NOTHING);
    assert_eq!(world.notices(), ["1 is gone as expected, exit 0"]);
}

#[test]
fn a_reload_cancels_the_respawns_that_wait() {
    let mut world = World::serving(slots(2));
    world.crashes(1);
    world.crashes(2);
    world.forget();
    world.reload(7);
    assert_eq!(world.spawned(), ["4 in slot 0 of generation 2", "5 in slot 1 of generation 2"]);
    world.pass(secs(10));
    assert_eq!(world.spawned(), NOTHING);
}

#[test]
fn an_old_worker_that_dies_during_a_reload_is_not_respawned_with_old_code() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.forget();
    world.crashes(1);
    world.pass(secs(10));
    assert_eq!(world.spawned(), NOTHING);
    assert_eq!(world.notices(), ["1 is gone, exit 1"], "its successor is there");

    world.come_to_serve([3, 4]);
    assert_eq!(world.drained(), ["2 until 141s"]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn a_new_worker_that_fails_is_tried_again_by_the_limiter() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.forget();
    world.crashes(4);
    assert_eq!(
        world.notices(),
        ["4 is gone, exit 1", "failed: 4 in slot 1 exit 1, failure 1", "4 must be replaced in slot 1, in 1s"]
    );
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["5 in slot 1 of generation 2"]);

    world.come_to_serve([3, 5]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn a_reload_that_nobody_waits_for_has_a_verdict_too() {
    let mut world = World::serving(slots(1));
    world.happens(Event::Reload { caller: None, config: None });
    world.come_to_serve([2]);
    assert_eq!(world.verdicts(), ["generation 2 for []: done"]);
}

#[test]
fn a_new_worker_that_served_and_dies_before_the_reload_is_done_must_be_replaced_first() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.come_to_serve([3]);
    world.crashes(3);
    world.forget();
    world.come_to_serve([4]);
    assert_eq!(world.verdicts(), NOTHING);
    world.come_to_serve([5]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn two_reloads_one_after_the_other_both_hear_their_own_verdict() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.come_to_serve([2]);
    world.reload(8);
    world.come_to_serve([3]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done", "generation 3 for [8]: done"]);
    assert_eq!(world.drained(), ["1 until 131s", "2 until 132s"]);
}

#[test]
fn status_shows_a_reload_in_progress() {
    let mut world = World::serving(Settings { bake: secs(0), ..slots(2) });
    world.reload(7);
    world.ready(3);
    let status = world.status();
    let reload = status.reload.expect("a reload is running");
    assert_eq!((reload.generation.get(), reload.serving, reload.of), (2, 1, 2));
    assert_eq!(status.generation.get(), 1);
    assert!(!status.settled);
    world.ready(4);
    assert!(world.status().settled);
}
