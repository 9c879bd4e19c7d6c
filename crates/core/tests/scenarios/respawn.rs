//! A worker that ends is respawned in its slot, through one limiter for the whole cluster.

use recluster_core::{Settings, SpawnFailure};

use crate::words::{millis, secs};
use crate::world::{NOTHING, World, slots};

#[test]
fn a_worker_that_exits_is_respawned_in_its_slot_with_its_generation() {
    let mut world = World::serving(slots(2));
    world.crashes(2);
    assert_eq!(world.spawned(), ["3 in slot 1 of generation 1"]);
    assert_eq!(world.notices(), ["2 is gone, exit 1", "2 must be replaced in slot 1, in 0ns"]);
}

#[test]
fn a_worker_that_exits_with_status_zero_is_respawned_too() {
    let mut world = World::serving(slots(1));
    world.exits(1);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 1"]);
}

#[test]
fn respawns_of_all_slots_together_are_spaced() {
    let mut world = World::serving(slots(3));
    for worker in [1, 2, 3] {
        world.crashes(worker);
    }
    assert_eq!(world.spawned(), ["4 in slot 0 of generation 1"]);
    assert_eq!(world.deadline().as_deref(), Some("respawn at 101s"));
    world.pass(millis(999));
    assert_eq!(world.spawned(), NOTHING);
    world.pass(millis(1));
    assert_eq!(world.spawned(), ["5 in slot 1 of generation 1"]);
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["6 in slot 2 of generation 1"]);
}

#[test]
fn the_delay_that_a_notice_names_is_that_of_the_limiter_and_the_queue() {
    let mut world = World::serving(slots(3));
    for worker in [1, 2, 3] {
        world.crashes(worker);
    }
    assert_eq!(
        world.notices_with("must be replaced"),
        [
            "1 must be replaced in slot 0, in 0ns",
            "2 must be replaced in slot 1, in 1s",
            "3 must be replaced in slot 2, in 2s",
        ]
    );
}

#[test]
fn the_delay_that_a_notice_names_grows_with_the_backoff() {
    let mut world = World::serving(Settings { backoff: Some(secs(10)), ..slots(3) });
    for worker in [1, 2, 3] {
        world.crashes(worker);
    }
    let notices = world.notices_with("must be replaced");
    assert_eq!(notices[1..], ["2 must be replaced in slot 1, in 2s", "3 must be replaced in slot 2, in 6s"]);
    world.forget();
    world.at(106);
    assert_eq!(world.spawned(), ["5 in slot 1 of generation 1", "6 in slot 2 of generation 1"]);
}

#[test]
fn the_slot_that_waits_longest_is_respawned_first() {
    let mut world = World::serving(slots(3));
    world.crashes(1);
    world.pass(millis(100));
    world.crashes(3);
    world.pass(millis(100));
    world.crashes(2);
    world.forget();
    world.pass(secs(2));
    assert_eq!(world.spawned(), ["5 in slot 2 of generation 1", "6 in slot 1 of generation 1"]);
}

#[test]
fn the_first_respawn_keeps_its_distance_from_the_first_start() {
    let mut world = World::new(Settings { bake: secs(0), ..slots(1) });
    world.ready(1);
    world.pass(millis(300));
    world.forget();
    world.crashes(1);
    assert_eq!(world.notices_with("must be replaced"), ["1 must be replaced in slot 0, in 700ms"]);
    world.at(1);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 1"]);
}

#[test]
fn the_first_respawn_keeps_its_distance_from_a_reload() {
    let mut world = World::serving(Settings { bake: secs(0), ..slots(1) });
    world.reload(7);
    world.ready(2);
    world.forget();
    world.crashes(2);
    assert_eq!(world.spawned(), NOTHING);
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 2"]);
}

#[test]
fn the_spacing_doubles_with_each_respawn_up_to_the_backoff() {
    let mut world = World::serving(Settings { backoff: Some(secs(5)), ..slots(1) });
    for worker in 1..=5 {
        world.crashes(worker);
        let follows_after = (0..=5).find(|_| {
            let is_followed = !world.spawned().is_empty();
            if !is_followed {
                world.pass(secs(1));
            }
            is_followed
        });
        assert!(follows_after.is_some(), "{worker} has no successor");
    }
    assert_eq!(
        world.notices_with("must be replaced"),
        [
            "1 must be replaced in slot 0, in 0ns",
            "2 must be replaced in slot 0, in 2s",
            "3 must be replaced in slot 0, in 4s",
            "4 must be replaced in slot 0, in 5s",
            "5 must be replaced in slot 0, in 5s",
        ]
    );
}

#[test]
fn the_spacing_halves_after_each_backoff_without_a_respawn() {
    let mut world = World::serving(Settings { backoff: Some(secs(8)), ..slots(1) });
    for worker in 1..=4 {
        world.crashes(worker);
        world.pass(secs(8));
    }
    world.come_to_serve([5]);
    world.pass(secs(40));
    world.forget();
    world.crashes(5);
    world.crashes(6);
    assert_eq!(
        world.notices_with("must be replaced"),
        ["5 must be replaced in slot 0, in 0ns", "6 must be replaced in slot 0, in 2s"],
        "the calm brought the spacing back to a second, and the last respawn doubled it"
    );
}

#[test]
fn without_a_spacing_each_exit_is_followed_by_one_respawn_at_once() {
    let mut world = World::serving(Settings { respawn: secs(0), ..slots(1) });
    for worker in 1..=5 {
        world.crashes(worker);
    }
    assert_eq!(world.spawned().len(), 5);
    world.cannot_spawn(6, SpawnFailure::Temporary);
    assert_eq!(world.spawned(), ["7 in slot 0 of generation 1"]);
}

#[test]
fn a_respawn_that_fails_is_tried_again_for_ever_and_says_so() {
    let mut world = World::serving(slots(1));
    world.crashes(1);
    world.cannot_spawn(2, SpawnFailure::Hopeless);
    for worker in 3..=9 {
        world.pass(secs(1));
        world.crashes(worker);
    }
    let failed = world.notices_with("failed");
    assert_eq!(failed.first().map(String::as_str), Some("failed: 2 in slot 0 not spawned ever, failure 1"));
    assert_eq!(failed.last().map(String::as_str), Some("failed: 9 in slot 0 exit 1, failure 8"));
    assert!(world.deadline().is_some_and(|deadline| deadline.starts_with("respawn")));
}

#[test]
fn failures_are_counted_anew_once_the_slot_serves() {
    let mut world = World::serving(slots(1));
    world.crashes(1);
    world.crashes(2);
    world.pass(secs(1));
    world.come_to_serve([3]);
    world.crashes(3);
    world.forget();
    world.crashes(4);
    assert_eq!(world.notices_with("failed"), ["failed: 4 in slot 0 exit 1, failure 1"]);
}

#[test]
fn a_respawn_that_is_not_ready_in_time_is_replaced_without_waiting_for_its_body() {
    let mut world = World::serving(slots(1));
    world.crashes(1);
    world.forget();
    world.pass(secs(60));
    assert_eq!(world.signalled(), ["TERM to 2 at 160s"]);
    assert_eq!(world.drained(), NOTHING);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1"]);
    world.pass(secs(5));
    assert_eq!(world.signalled(), ["KILL to 2 at 165s"]);
}

#[test]
fn restarts_are_counted_by_slot() {
    let mut world = World::serving(slots(2));
    world.crashes(2);
    world.reload(7);
    assert_eq!(restarts(&world), [0, 1]);
}

fn restarts(world: &World) -> Vec<u64> {
    world.status().slots.iter().map(|slot| slot.restarts).collect()
}

#[test]
fn a_reload_is_no_restart_and_neither_are_the_attempts_of_code_that_is_rolled_back() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    for worker in [2, 3, 4] {
        world.crashes(worker);
        world.pass(secs(1));
    }
    assert_eq!(world.verdicts().len(), 1);
    assert_eq!(restarts(&world), [0]);
    world.reload(8);
    world.come_to_serve([5]);
    assert_eq!(restarts(&world), [0], "the new code serves, and was not restarted");
    world.crashes(5);
    assert_eq!(restarts(&world), [1]);
}

#[test]
fn attempts_of_a_first_start_are_no_restarts() {
    let mut world = World::new(Settings { keep_trying: true, ..slots(1) });
    for worker in 1..=5 {
        world.crashes(worker);
        world.pass(secs(1));
    }
    assert_eq!(restarts(&world), [0]);
    world.come_to_serve([6]);
    world.crashes(6);
    assert_eq!(restarts(&world), [1]);
}

#[test]
fn a_worker_that_is_renewed_is_restarted() {
    let mut world = World::serving(slots(1));
    world.replace(1);
    world.pass(secs(1));
    assert_eq!(restarts(&world), [1]);
}
