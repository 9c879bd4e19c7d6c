//! Other settings, which come with a reload and go with it when it is rolled back.

use recluster_core::{Settings, SpawnFailure};

use crate::words::secs;
use crate::world::{NOTHING, World, slots, surge};

/// The defaults, with so many slots and so many seconds to drain.
fn patience(workers: u32, seconds: u64) -> Settings {
    Settings { timeout: secs(seconds), ..slots(workers) }
}

/// How many seconds a worker has that is let go now.
fn patience_now(world: &mut World) -> String {
    let size = u32::try_from(world.status().slots.len()).expect("few slots");
    world.scale(size + 1);
    world.forget();
    world.scale(size);
    let drained = world.drained();
    drained.last().expect("a worker of the highest slot").clone()
}

#[test]
fn they_hold_for_all_workers_from_the_beginning_of_the_generation() {
    let mut world = World::serving(slots(3));
    world.scale(2);
    world.reload_with(7, patience(3, 5));
    world.scale(1);
    assert_eq!(world.drained(), ["3 until 130s", "2 until 105s", "5 until 105s"]);
}

#[test]
fn the_first_workers_of_the_generation_are_started_by_them() {
    let mut world = World::serving(slots(3));
    world.reload_with(7, Settings { ready_timeout: secs(8), ..surge(3, 1) });
    assert_eq!(world.spawned(), ["4 in slot 0 of generation 2"]);
    assert_eq!(world.deadline().as_deref(), Some("ready 4 at 108s"));
}

#[test]
fn another_spacing_holds_for_the_next_respawn() {
    let mut world = World::serving(slots(1));
    world.reload_with(7, Settings { respawn: secs(9), ..slots(1) });
    world.come_to_serve([2]);
    world.crashes(2);
    world.forget();
    world.pass(secs(7));
    assert_eq!(world.spawned(), NOTHING);
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 2"]);
}

#[test]
fn a_rollback_brings_those_before_back() {
    let mut world = World::serving(slots(1));
    world.reload_with(7, patience(1, 5));
    world.cannot_spawn(2, SpawnFailure::Hopeless);
    assert_eq!(world.notices_with("rolled back").len(), 1);
    assert_eq!(patience_now(&mut world), "3 until 130s");
}

#[test]
fn a_reload_stopped_part_way_keeps_its_own() {
    let mut world = World::serving(surge(2, 1));
    world.reload_with(7, Settings { timeout: secs(5), ..surge(2, 1) });
    world.come_to_serve([3]);
    world.cannot_spawn(4, SpawnFailure::Hopeless);
    assert_eq!(world.notices_with("stopped at 1 of 2").len(), 1);
    assert_eq!(patience_now(&mut world), "5 until 106s");
}

#[test]
fn those_of_a_reload_that_waits_wait_with_it() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.reload_with(8, patience(1, 5));
    assert_eq!(patience_now(&mut world), "3 until 130s");
    world.pass(secs(1));
    assert_eq!(world.notices_with("began"), ["generation 3 began"]);
    assert_eq!(patience_now(&mut world), "5 until 106s");
}

/// The verdict of the one that runs says nothing of the one that waits.
#[test]
fn those_of_a_reload_that_waits_outlive_a_rollback_of_the_one_that_runs() {
    let mut world = World::serving(slots(1));
    world.reload_with(7, patience(1, 7));
    world.reload_with(8, patience(1, 5));
    world.cannot_spawn(2, SpawnFailure::Hopeless);
    assert_eq!(world.notices_with("began"), ["generation 2 began", "generation 3 began"]);
    assert_eq!(patience_now(&mut world), "4 until 105s");
    world.cannot_spawn(3, SpawnFailure::Hopeless);
    assert_eq!(patience_now(&mut world), "5 until 130s");
}

#[test]
fn a_rollback_brings_back_those_that_were_proven_meanwhile() {
    let mut world = World::serving(Settings { bake: secs(0), ..slots(1) });
    let bakes_not = |seconds| Settings { bake: secs(0), ..patience(1, seconds) };
    world.reload_with(7, bakes_not(7));
    world.reload_with(8, bakes_not(5));
    world.ready(2);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
    world.cannot_spawn(3, SpawnFailure::Hopeless);
    assert_eq!(patience_now(&mut world), "4 until 107s");
}

#[test]
fn a_rollback_after_superseding_brings_back_those_that_were_proven() {
    let mut world = World::serving(slots(1));
    world.reload_with(7, patience(1, 7));
    world.pass(secs(2));
    world.reload_with(8, patience(1, 5));
    assert_eq!(world.notices_with("superseded").len(), 1);
    world.cannot_spawn(3, SpawnFailure::Hopeless);
    assert_eq!(patience_now(&mut world), "4 until 132s");
}

#[test]
fn of_calls_that_wait_together_the_last_word_counts() {
    let mut world = World::serving(slots(1));
    world.reload(6);
    world.reload_with(7, patience(1, 7));
    world.reload_with(8, patience(1, 5));
    world.reload(9);
    world.pass(secs(1));
    assert_eq!(patience_now(&mut world), "4 until 106s");
}
