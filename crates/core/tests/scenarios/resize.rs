//! Another number of slots in the settings that come with a reload: it is part of what is on trial.

use recluster_core::{Settings, SpawnFailure};

use crate::words::secs;
use crate::world::{NOTHING, World, slots, surge};

#[test]
fn more_slots_begin_with_the_reload() {
    let mut world = World::serving(slots(1));
    world.reload_with(7, slots(2));
    assert_eq!(world.notices(), ["generation 2 began", "scaled from 1 to 2"]);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 2", "3 in slot 1 of generation 2"]);
    world.come_to_serve([2]);
    assert_eq!(world.verdicts(), NOTHING);
    world.come_to_serve([3]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn a_rollback_takes_them_back() {
    let mut world = World::serving(slots(1));
    world.reload_with(7, slots(3));
    world.forget();
    world.cannot_spawn(2, SpawnFailure::Hopeless);
    assert_eq!(world.notices_with("scaled"), ["scaled from 3 to 1"]);
    assert_eq!(world.drained(), ["3 until 130s", "4 until 130s"]);
    assert_eq!(world.servers(), [1]);
}

#[test]
fn fewer_slots_come_when_the_reload_is_done_and_what_goes_is_not_renewed_before() {
    let mut world = World::serving(slots(3));
    world.reload_with(7, slots(1));
    assert_eq!(world.spawned(), ["4 in slot 0 of generation 2"]);
    assert_eq!(world.servers(), [1, 2, 3], "the new code is not proven");
    world.come_to_serve([4]);
    assert_eq!(world.drained(), ["1 until 131s", "2 until 131s", "3 until 131s"]);
    assert_eq!(
        world.notices(),
        ["generation 2 began", "4 serves, 1 of 1", "scaled from 3 to 1", "generation 2 for [7]: done"]
    );
}

#[test]
fn meanwhile_each_generation_is_for_slots_of_its_own_number() {
    let mut world = World::serving(slots(3));
    let old = world.status().generation;
    world.reload_with(7, slots(2));
    let new = world.status().reload.expect("it has begun").generation;
    let sizes = |world: &World| [world.cluster.slots_for(old), world.cluster.slots_for(new)];
    assert_eq!((world.cluster.slots(), sizes(&world)), (3, [3, 2]));
    world.come_to_serve([4, 5]);
    assert_eq!((world.cluster.slots(), sizes(&world)), (2, [2, 2]));
}

#[test]
fn fewer_slots_do_not_come_with_a_rollback() {
    let mut world = World::serving(slots(3));
    world.reload_with(7, slots(1));
    world.cannot_spawn(4, SpawnFailure::Hopeless);
    assert_eq!(world.notices_with("scaled"), NOTHING);
    assert_eq!(world.servers(), [1, 2, 3]);
}

#[test]
fn in_a_slot_that_is_to_go_a_respawn_waits_for_the_verdict() {
    let mut world = World::serving(slots(2));
    world.reload_with(7, slots(1));
    world.crashes(2);
    world.forget();
    world.pass(secs(20));
    assert_eq!(world.spawned(), NOTHING);
    world.cannot_spawn(3, SpawnFailure::Hopeless);
    assert_eq!(world.spawned(), ["4 in slot 1 of generation 1"]);
}

#[test]
fn fewer_slots_do_not_come_part_way_and_can_be_said_again() {
    let mut world = World::serving(surge(3, 1));
    world.reload_with(7, surge(2, 1));
    world.come_to_serve([4]);
    world.cannot_spawn(5, SpawnFailure::Hopeless);
    assert_eq!(
        world.verdicts(),
        ["generation 2 for [7]: stopped at 1 of 2, 5 in slot 1 not spawned ever, failure 1"]
    );
    assert_eq!(world.servers(), [2, 3, 4]);
    world.forget();
    world.reload_with(8, surge(2, 1));
    world.come_to_serve([6]);
    world.come_to_serve([7]);
    assert_eq!(world.notices_with("scaled"), ["scaled from 3 to 2"]);
}

#[test]
fn more_slots_stay_part_way_and_the_number_of_before_can_be_said_again() {
    let mut world = World::serving(surge(1, 1));
    world.reload_with(7, surge(2, 1));
    world.come_to_serve([2]);
    world.cannot_spawn(3, SpawnFailure::Hopeless);
    assert_eq!(world.notices_with("stopped at").len(), 1);
    assert_eq!(world.status().slots.len(), 2);
    world.forget();
    world.reload_with(8, surge(1, 1));
    world.come_to_serve([5]);
    assert_eq!(world.notices_with("scaled"), ["scaled from 2 to 1"]);
}

#[test]
fn the_number_of_before_says_nothing_new() {
    let mut world = World::serving(slots(1));
    world.scale(3);
    world.come_to_serve([2, 3]);
    world.reload_with(7, slots(1));
    world.come_to_serve([4, 5, 6]);
    assert_eq!(world.notices_with("scaled"), ["scaled from 1 to 3"]);
}

#[test]
fn a_scale_during_a_reload_stands_when_it_is_rolled_back() {
    for said in [1, 3, 5] {
        let mut world = World::serving(slots(2));
        world.reload_with(7, slots(3));
        world.scale(said);
        world.forget();
        world.cannot_spawn(3, SpawnFailure::Hopeless);
        assert_eq!(world.notices_with("rolled back").len(), 1);
        assert_eq!(world.status().slots.len(), said as usize);
    }
}

#[test]
fn a_scale_during_a_reload_stands_when_it_is_done() {
    let mut world = World::serving(slots(3));
    world.reload_with(7, slots(1));
    world.scale(2);
    assert_eq!(world.spawned(), ["4 in slot 0 of generation 2", "5 in slot 1 of generation 2"]);
    world.come_to_serve([4, 5]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
    assert_eq!(world.status().slots.len(), 2);
    world.reload_with(8, slots(1));
    world.come_to_serve([6, 7]);
    assert_eq!(world.status().slots.len(), 2, "what the settings said then was overruled");
}

#[test]
fn a_scale_stands_when_the_reload_of_before_begins_or_gives_way() {
    let mut world = World::serving(slots(2));
    world.reload_with(7, slots(3));
    world.reload_with(8, slots(4));
    world.scale(5);
    world.pass(secs(1));
    assert_eq!(world.notices_with("began"), ["generation 2 began", "generation 3 began"]);
    assert_eq!(world.status().slots.len(), 5);
    world.reload_with(9, slots(6));
    world.pass(secs(2));
    assert_eq!(world.status().slots.len(), 6, "a later word");
    world.cannot_spawn(13, SpawnFailure::Hopeless);
    assert_eq!(world.status().slots.len(), 5);
}

#[test]
fn what_only_a_superseded_reload_wanted_goes_with_it() {
    let mut world = World::serving(slots(2));
    world.reload_with(7, slots(5));
    world.pass(secs(1));
    world.forget();
    world.reload_with(8, slots(3));
    assert_eq!(world.notices(), ["generation 2 superseded", "generation 3 began", "scaled from 5 to 3"]);
    world.cannot_spawn(8, SpawnFailure::Hopeless);
    assert_eq!(world.notices_with("scaled"), ["scaled from 3 to 2"]);
    assert_eq!(world.servers(), [1, 2]);
}

#[test]
fn a_newer_reload_that_says_nothing_of_it_goes_on_with_what_the_older_one_said() {
    let mut world = World::serving(slots(3));
    world.reload_with(7, slots(1));
    world.pass(secs(1));
    world.reload(8);
    world.come_to_serve([5]);
    assert_eq!(world.verdicts(), ["generation 3 for [7, 8]: done"]);
    assert_eq!(world.status().slots.len(), 1);
}

#[test]
fn a_start_that_lacks_only_what_goes_is_complete_when_it_is_gone() {
    let mut world = World::new(Settings { keep_trying: true, ..slots(2) });
    world.crashes(2);
    world.reload_with(7, slots(1));
    world.forget();
    world.come_to_serve([3]);
    assert_eq!(
        world.notices(),
        ["3 serves, 1 of 1", "scaled from 2 to 1", "generation 2 started", "generation 2 for [7]: done"]
    );
}
