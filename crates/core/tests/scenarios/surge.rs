//! A reload under a bounded surge: a few slots at a time, each old worker replaced when its own successor serves.

use recluster_core::{Settings, SpawnFailure};

use crate::words::secs;
use crate::world::{NOTHING, World, surge};

#[test]
fn so_many_slots_are_replaced_at_a_time_in_their_order() {
    let mut world = World::serving(surge(4, 2));
    world.reload(7);
    assert_eq!(world.spawned(), ["5 in slot 0 of generation 2", "6 in slot 1 of generation 2"]);
    assert_eq!(world.staying(), 6);

    world.come_to_serve([6]);
    assert_eq!(world.drained(), ["2 until 131s"]);
    assert_eq!(world.spawned(), ["7 in slot 2 of generation 2"]);
    assert_eq!(world.staying(), 6);
}

#[test]
fn the_old_worker_of_a_slot_leaves_when_its_new_one_serves_and_not_before() {
    let mut world = World::serving(surge(2, 1));
    world.reload(7);
    world.pass(secs(20));
    assert_eq!(world.drained(), NOTHING);
    world.ready(3);
    assert_eq!(world.drained(), NOTHING);
    world.pass(secs(1));
    assert_eq!(world.drained(), ["1 until 151s"]);
    assert_eq!(world.servers(), [2, 3]);
}

#[test]
fn draining_workers_do_not_count_against_the_surge() {
    let mut world = World::serving(surge(3, 1));
    world.reload(7);
    for worker in [4, 5, 6] {
        world.come_to_serve([worker]);
    }
    assert_eq!(world.drained(), ["1 until 131s", "2 until 132s", "3 until 133s"]);
    assert_eq!(world.status().workers.len(), 6, "all three drain beside their successors");
}

#[test]
fn a_reload_is_done_when_every_slot_is_held_by_the_new_generation() {
    let mut world = World::serving(surge(2, 1));
    world.reload(7);
    world.come_to_serve([3]);
    assert_eq!(world.verdicts(), NOTHING);
    assert_eq!(world.status().generation.get(), 1);
    world.come_to_serve([4]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
    assert_eq!(world.status().generation.get(), 2);
}

#[test]
fn vacant_slots_are_filled_at_once_and_need_no_place_of_the_surge() {
    let mut world = World::serving(Settings { respawn: secs(30), ..surge(3, 1) });
    world.crashes(1);
    world.crashes(3);
    world.crashes(4);
    world.forget();
    world.reload(7);
    assert_eq!(
        world.spawned(),
        ["5 in slot 0 of generation 2", "6 in slot 1 of generation 2", "7 in slot 2 of generation 2"]
    );
    assert_eq!(world.staying(), 4);
}

#[test]
fn an_old_worker_that_dies_before_its_turn_is_followed_by_the_new_generation_at_once() {
    let mut world = World::serving(surge(3, 1));
    world.reload(7);
    world.forget();
    world.crashes(3);
    assert_eq!(world.spawned(), ["5 in slot 2 of generation 2"]);
}

#[test]
fn no_further_slot_is_touched_while_one_fails() {
    let mut world = World::serving(surge(3, 1));
    world.reload(7);
    world.forget();
    world.crashes(4);
    assert_eq!(world.spawned(), NOTHING, "slot 0 keeps its place of the surge");
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["5 in slot 0 of generation 2"]);
    assert_eq!(world.servers(), [1, 2, 3]);
}

#[test]
fn a_failure_in_the_first_slot_rolls_back_and_nothing_was_touched() {
    let mut world = World::serving(surge(3, 1));
    world.reload(7);
    for worker in [4, 5, 6] {
        world.crashes(worker);
        world.pass(secs(1));
    }
    assert_eq!(world.verdicts(), ["generation 2 for [7]: rolled back, 6 in slot 0 exit 1, failure 3"]);
    assert_eq!(world.servers(), [1, 2, 3]);
    assert_eq!(world.drained(), NOTHING);
}

#[test]
fn a_failure_later_stops_part_way_and_the_replaced_slots_keep_the_new_code() {
    let mut world = World::serving(surge(3, 1));
    world.reload(7);
    world.come_to_serve([4]);
    world.cannot_spawn(5, SpawnFailure::Hopeless);
    assert_eq!(
        world.verdicts(),
        ["generation 2 for [7]: stopped at 1 of 3, 5 in slot 1 not spawned ever, failure 1"]
    );
    assert_eq!(world.servers(), [2, 3, 4]);
    assert_eq!(world.status().generation.get(), 1, "most slots are still respawned with the old generation");

    world.pass(secs(10));
    world.forget();
    world.crashes(4);
    world.crashes(2);
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["6 in slot 0 of generation 2", "7 in slot 1 of generation 1"]);
}

#[test]
fn new_workers_that_do_not_serve_yet_leave_when_the_reload_fails() {
    let mut world = World::serving(surge(3, 2));
    world.reload(7);
    world.cannot_spawn(5, SpawnFailure::Hopeless);
    assert_eq!(world.drained(), ["4 until 130s"]);
    assert_eq!(world.servers(), [1, 2, 3]);
}

#[test]
fn a_vacant_slot_that_the_new_generation_filled_counts_as_replaced() {
    let mut world = World::serving(surge(2, 1));
    world.crashes(1);
    world.crashes(2);
    world.reload(7);
    assert_eq!(world.spawned()[1..], ["4 in slot 0 of generation 2", "5 in slot 1 of generation 2"]);
    world.come_to_serve([5]);
    world.cannot_spawn(4, SpawnFailure::Hopeless);
    assert_eq!(
        world.verdicts(),
        ["generation 2 for [7]: stopped at 1 of 2, 4 in slot 0 not spawned ever, failure 1"]
    );
}

#[test]
fn a_new_worker_that_took_over_and_dies_is_respawned_with_the_new_generation() {
    let mut world = World::serving(surge(2, 1));
    world.reload(7);
    world.come_to_serve([3]);
    world.forget();
    world.crashes(3);
    assert_eq!(world.notices_with("failed"), ["failed: 3 in slot 0 exit 1, failure 1"]);
    assert_eq!(world.spawned(), ["5 in slot 0 of generation 2"]);

    world.come_to_serve([4]);
    assert_eq!(world.verdicts(), NOTHING, "slot 0 does not serve");
    world.come_to_serve([5]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn a_new_generation_that_serves_and_crashes_again_and_again_is_stopped() {
    let mut world = World::serving(surge(2, 1));
    world.reload(7);
    for worker in [3, 5, 6] {
        world.come_to_serve([worker]);
        world.crashes(worker);
        world.pass(secs(1));
    }
    assert_eq!(world.verdicts(), ["generation 2 for [7]: stopped at 1 of 2, 6 in slot 0 exit 1, failure 3"]);
    assert_eq!(world.servers(), [2]);
    assert_eq!(world.drained(), ["1 until 131s", "4 until 135s"]);
    assert_eq!(world.spawned().last().map(String::as_str), Some("7 in slot 0 of generation 2"));
}

#[test]
fn a_surge_beyond_the_slots_replaces_all_of_them_at_the_same_time() {
    let mut world = World::serving(surge(2, 9));
    world.reload(7);
    assert_eq!(world.spawned().len(), 2);
    world.come_to_serve([4]);
    assert_eq!(world.drained(), ["2 until 131s"]);
}
