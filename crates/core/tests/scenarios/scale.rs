//! More slots, or fewer.

use recluster_core::{Config, Event, Settings, SpawnFailure, Time};

use crate::words::secs;
use crate::world::{NOTHING, World, slots, surge};

#[test]
fn new_slots_are_filled_at_once_with_the_proven_generation() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.come_to_serve([2]);
    world.forget();
    world.scale(3);
    assert_eq!(world.notices(), ["scaled from 1 to 3"]);
    assert_eq!(world.spawned(), ["3 in slot 1 of generation 2", "4 in slot 2 of generation 2"]);
}

#[test]
fn the_highest_slots_go_and_their_workers_are_drained() {
    let mut world = World::serving(slots(3));
    world.scale(1);
    assert_eq!(world.drained(), ["2 until 130s", "3 until 130s"]);
    world.exits(2);
    world.exits(3);
    world.at(200);
    assert_eq!(world.spawned(), NOTHING);
    assert_eq!(world.status().slots.len(), 1);
}

#[test]
fn a_slot_that_comes_back_has_a_new_worker() {
    let mut world = World::serving(slots(2));
    world.scale(1);
    world.scale(2);
    assert_eq!(world.drained(), ["2 until 130s"]);
    assert_eq!(world.spawned(), ["3 in slot 1 of generation 1"]);
    world.forget();
    world.exits(2);
    assert_eq!(world.spawned(), NOTHING, "the old worker of the slot is not its worker any more");
}

#[test]
fn to_the_number_there_is_changes_nothing() {
    let mut world = World::serving(slots(2));
    world.scale(2);
    assert_eq!(world.notices(), NOTHING);
}

#[test]
fn zero_is_taken_as_one() {
    let mut world = World::serving(slots(2));
    world.scale(0);
    assert_eq!(world.notices(), ["scaled from 2 to 1"]);
    assert_eq!(world.servers(), [1]);
}

#[test]
fn beyond_the_most_is_the_most() {
    let mut world = World::new(slots(1));
    world.scale(u32::MAX);
    assert_eq!(world.status().slots.len(), Config::MOST_WORKERS as usize);
}

#[test]
fn a_slot_added_during_a_reload_gets_the_new_generation() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.forget();
    world.scale(2);
    assert_eq!(world.spawned(), ["3 in slot 1 of generation 2"]);
    world.come_to_serve([2]);
    assert_eq!(world.verdicts(), NOTHING);
    world.come_to_serve([3]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn a_slot_added_during_a_reload_that_fails_gets_the_old_generation() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.scale(2);
    world.pass(secs(5));
    world.forget();
    world.cannot_spawn(2, SpawnFailure::Hopeless);
    assert_eq!(world.drained(), ["3 until 135s"]);
    assert_eq!(world.spawned(), ["4 in slot 1 of generation 1"]);
}

#[test]
fn a_slot_that_goes_during_a_reload_takes_both_its_workers_with_it() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.come_to_serve([3]);
    world.scale(1);
    assert_eq!(
        world.drained(),
        ["1 until 131s", "2 until 131s", "4 until 131s"],
        "slot 0 served already, so that the reload is done now"
    );
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn a_slot_added_during_a_bounded_reload_needs_no_place_of_the_surge() {
    let mut world = World::serving(surge(2, 1));
    world.reload(7);
    world.forget();
    world.scale(3);
    assert_eq!(world.spawned(), ["4 in slot 2 of generation 2"]);
    assert_eq!(world.staying(), 4);
}

#[test]
fn a_slot_that_failed_too_often_takes_its_failures_with_it() {
    let mut world = World::serving(Settings { attempts: 2, ..slots(2) });
    world.reload(7);
    world.crashes(4);
    world.scale(1);
    world.scale(2);
    world.crashes(5);
    world.pass(secs(1));
    world.come_to_serve([3, 6]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn a_first_start_may_be_scaled() {
    let mut world = World::new(slots(1));
    world.forget();
    world.scale(2);
    assert_eq!(world.spawned(), ["2 in slot 1 of generation 1"]);
    world.come_to_serve([1]);
    assert_eq!(world.notices_with("started"), NOTHING);
    world.scale(1);
    assert_eq!(world.notices_with("started"), ["generation 1 started"]);
}

#[test]
fn after_a_stop_nothing_is_scaled() {
    let mut world = World::serving(slots(1));
    world.happens(Event::Stop);
    world.forget();
    world.scale(3);
    assert_eq!(world.notices(), NOTHING);
    assert_eq!(world.spawned(), NOTHING);
}

#[test]
fn a_worker_whose_slot_goes_as_its_bake_time_ends_does_not_come_to_serve() {
    let mut world = World::new(slots(2));
    world.all_ready([1, 2]);
    world.cluster.handle(Event::Scale(1), Time::after(secs(1)));
    world.at(2);
    assert_eq!(world.notices_with("serves"), ["1 serves, 1 of 1"]);
}
