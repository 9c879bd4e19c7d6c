//! A reload that fails: the new generation is taken down, and the old one goes on untouched.

use recluster_core::{Event, Exit, Settings, SpawnFailure, Time};

use crate::words::secs;
use crate::world::{NOTHING, World, slots, surge};

#[test]
fn a_generation_fails_when_one_slot_has_failed_attempts_times() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    for attempt in [3, 5, 6] {
        world.crashes(attempt);
        world.pass(secs(1));
    }
    assert_eq!(world.verdicts(), ["generation 2 for [7]: rolled back, 6 in slot 0 exit 1, failure 3"]);
    assert_eq!(world.drained(), ["4 until 132s"]);
    assert_eq!(world.servers(), [1, 2]);
    assert_eq!(world.status().generation.get(), 1);
}

#[test]
fn a_ready_timeout_fails_a_generation_at_once() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.ready(4);
    world.forget();
    world.at(160);
    assert_eq!(world.signalled(), ["TERM to 3 at 160s"]);
    assert_eq!(world.drained(), ["4 until 190s"]);
    assert_eq!(
        world.verdicts(),
        ["generation 2 for [7]: rolled back, 3 in slot 0 not ready in time, failure 1"]
    );
    assert_eq!(world.servers(), [1, 2]);
}

#[test]
fn a_hopeless_spawn_fails_a_generation_at_once() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.cannot_spawn(2, SpawnFailure::Hopeless);
    assert_eq!(
        world.verdicts(),
        ["generation 2 for [7]: rolled back, 2 in slot 0 not spawned ever, failure 1"]
    );
}

#[test]
fn new_workers_that_retire_before_they_serve_fail_a_generation() {
    let mut world = World::serving(Settings { attempts: 2, ..slots(1) });
    world.reload(7);
    world.retires(2);
    world.pass(secs(1));
    world.disconnects(3);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: rolled back, 3 in slot 0 retired, failure 2"]);
}

#[test]
fn a_new_worker_that_serves_and_crashes_again_and_again_fails_a_generation() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    for worker in [3, 5, 6] {
        world.come_to_serve([worker]);
        world.crashes(worker);
        world.pass(secs(1));
    }
    assert_eq!(world.verdicts(), ["generation 2 for [7]: rolled back, 6 in slot 0 exit 1, failure 3"]);
}

#[test]
fn new_workers_that_serve_already_are_taken_down_too() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.come_to_serve([3]);
    world.cannot_spawn(4, SpawnFailure::Hopeless);
    assert_eq!(world.drained(), ["3 until 131s"]);
    assert_eq!(world.servers(), [1, 2]);
}

#[test]
fn a_new_worker_that_is_not_ready_gets_no_longer_than_its_ready_timeout_to_leave() {
    let mut world = World::serving(Settings { ready_timeout: secs(10), ..slots(2) });
    world.reload(7);
    world.cannot_spawn(4, SpawnFailure::Hopeless);
    assert_eq!(world.drained(), ["3 until 110s"]);
}

#[test]
fn after_a_rollback_vacant_slots_are_filled_with_the_old_generation_through_the_limiter() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.crashes(1);
    world.crashes(2);
    world.forget();
    world.cannot_spawn(3, SpawnFailure::Hopeless);
    assert_eq!(world.drained(), ["4 until 130s"], "the slot is vacant, and still the new one goes");
    assert_eq!(
        world.notices_with("must be replaced"),
        ["3 must be replaced in slot 0, in 1s", "4 must be replaced in slot 1, in 2s"]
    );
    world.pass(secs(2));
    assert_eq!(world.spawned(), ["5 in slot 0 of generation 1", "6 in slot 1 of generation 1"]);
}

#[test]
fn an_old_worker_that_dies_as_the_reload_fails_waits_for_the_limiter() {
    let mut world = World::serving(Settings { attempts: 1, respawn: secs(30), ..slots(1) });
    world.reload(7);
    world.crashes(2);
    world.forget();
    world.crashes(1);
    assert_eq!(world.spawned(), NOTHING);
    world.pass(secs(30));
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1"]);
}

#[test]
fn failures_before_the_reload_do_not_count_against_it() {
    let mut world = World::serving(slots(1));
    for worker in 1..6 {
        world.crashes(worker);
        world.pass(secs(1));
    }
    world.reload(7);
    world.crashes(7);
    world.pass(secs(1));
    world.come_to_serve([8]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn old_workers_that_fail_during_the_reload_do_not_count_against_it() {
    let mut world = World::serving(Settings { attempts: 1, ..slots(2) });
    world.crashes(1);
    world.reload(7);
    world.crashes(3);
    world.crashes(2);
    world.come_to_serve([4, 5]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn failures_of_a_slot_are_not_forgotten_when_its_old_worker_comes_to_serve() {
    let mut world = World::serving(Settings { attempts: 2, bake: secs(2), ..slots(1) });
    world.crashes(1);
    world.ready(2);
    world.reload(7);
    world.crashes(3);
    world.pass(secs(2));
    assert_eq!(world.servers(), [2]);
    world.crashes(4);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: rolled back, 4 in slot 0 exit 1, failure 2"]);
}

#[test]
fn one_failing_slot_of_a_reload_is_retried_at_a_time() {
    let mut world = World::serving(slots(3));
    world.reload(7);
    world.crashes(5);
    world.crashes(6);
    world.forget();
    world.pass(secs(20));
    assert_eq!(world.spawned(), ["7 in slot 1 of generation 2"]);
    world.come_to_serve([7]);
    assert_eq!(world.spawned(), ["8 in slot 2 of generation 2"]);
}

#[test]
fn after_a_rollback_the_next_reload_is_judged_afresh() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    for worker in [2, 3, 4] {
        world.crashes(worker);
        world.pass(secs(1));
    }
    world.reload(8);
    world.crashes(5);
    world.pass(secs(1));
    world.come_to_serve([6]);
    assert_eq!(world.notices_with("for [8]"), ["generation 3 for [8]: done"]);
}

#[test]
fn an_old_worker_of_an_untouched_slot_that_dies_as_the_reload_fails_waits_for_the_limiter() {
    let mut world = World::serving(Settings { respawn: secs(90), ..surge(2, 1) });
    world.reload(7);
    world.forget();
    let exited = Event::Exited(world.id(2), Exit::Code(1));
    world.cluster.handle(exited, Time::after(secs(160)));
    world.at(189);
    assert_eq!(world.notices_with("rolled back").len(), 1);
    assert_eq!(world.spawned(), NOTHING);
    world.at(190);
    assert_eq!(world.spawned(), ["4 in slot 1 of generation 1"]);
}
