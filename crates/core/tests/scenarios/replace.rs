//! One worker is renewed within its generation, new first.

use recluster_core::{Settings, SpawnFailure};

use crate::words::{millis, secs};
use crate::world::{NOTHING, World, slots, surge};

#[test]
fn the_new_worker_takes_the_slot_over_when_it_serves_and_the_old_one_leaves_then() {
    let mut world = World::serving(slots(2));
    world.replace(1);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1"]);
    assert_eq!(world.notices(), NOTHING);
    assert!(!world.status().settled);
    world.ready(3);
    assert_eq!(world.drained(), NOTHING);
    world.pass(secs(1));
    assert_eq!(world.drained(), ["1 until 131s"]);
    assert_eq!(world.servers(), [2, 3]);
    assert!(world.status().settled);
}

#[test]
fn asked_twice_it_is_renewed_once() {
    let mut world = World::serving(slots(1));
    world.replace(1);
    world.replace(1);
    world.come_to_serve([2]);
    world.replace(1);
    world.at(120);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 1"]);
}

#[test]
fn renewals_are_spaced_like_respawns() {
    let mut world = World::serving(slots(2));
    world.replace(1);
    world.replace(2);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1"]);
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["4 in slot 1 of generation 1"]);
}

#[test]
fn renewals_stay_within_the_surge() {
    let mut world = World::serving(surge(3, 1));
    world.replace(3);
    world.replace(1);
    world.pass(secs(10));
    assert_eq!(world.spawned(), ["4 in slot 2 of generation 1"]);
    assert_eq!(world.staying(), 4);
    world.come_to_serve([4]);
    assert_eq!(world.spawned(), ["5 in slot 0 of generation 1"]);
}

#[test]
fn a_vacant_slot_need_not_wait_for_a_place_of_the_surge() {
    let mut world = World::serving(surge(3, 1));
    world.replace(3);
    world.replace(1);
    world.crashes(2);
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["4 in slot 2 of generation 1", "5 in slot 1 of generation 1"]);
}

#[test]
fn if_the_old_worker_dies_meanwhile_the_new_one_has_the_slot() {
    let mut world = World::serving(slots(1));
    world.replace(1);
    world.forget();
    world.crashes(1);
    world.pass(secs(10));
    assert_eq!(world.notices(), ["1 is gone, exit 1"]);
    assert_eq!(world.spawned(), NOTHING);
    world.come_to_serve([2]);
    assert!(world.status().settled);
}

#[test]
fn if_the_old_worker_dies_between_two_attempts_the_next_one_has_the_slot() {
    let mut world = World::serving(slots(1));
    world.replace(1);
    world.crashes(2);
    world.crashes(1);
    world.forget();
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1"]);
    world.come_to_serve([3]);
    assert!(world.status().settled);
}

#[test]
fn failures_are_spaced_by_the_limiter() {
    let mut world = World::serving(slots(1));
    world.replace(1);
    world.crashes(2);
    assert_eq!(world.notices_with("must be replaced"), ["2 must be replaced in slot 0, in 1s"]);
    world.forget();
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1"]);
}

#[test]
fn after_attempts_failures_the_old_worker_goes_on() {
    let mut world = World::serving(slots(1));
    world.replace(1);
    for worker in [2, 3, 4] {
        world.crashes(worker);
        world.pass(secs(1));
    }
    assert_eq!(world.notices_with("replace failed"), ["replace failed: 4 in slot 0 exit 1, failure 3"]);
    world.forget();
    world.at(200);
    assert_eq!(world.spawned(), NOTHING);
    assert_eq!(world.drained(), NOTHING);
    assert!(world.status().settled);
}

#[test]
fn a_renewal_that_cannot_work_is_given_up_at_once() {
    let mut world = World::serving(slots(2));
    world.replace(1);
    world.cannot_spawn(3, SpawnFailure::Hopeless);
    world.replace(2);
    world.at(170);
    assert_eq!(
        world.notices_with("replace failed"),
        [
            "replace failed: 3 in slot 0 not spawned ever, failure 1",
            "replace failed: 4 in slot 1 not ready in time, failure 1",
        ]
    );
    assert_eq!(world.servers(), [1, 2]);
}

#[test]
fn a_reload_renews_every_worker_so_that_a_renewal_gives_way() {
    let mut world = World::serving(slots(2));
    world.replace(1);
    world.reload(7);
    assert_eq!(world.drained(), ["3 until 130s"]);
    world.forget();
    world.replace(2);
    world.pass(secs(1));
    assert_eq!(world.spawned(), NOTHING);
    world.come_to_serve([4, 5]);
    world.pass(secs(10));
    assert_eq!(world.spawned(), NOTHING);
}

#[test]
fn a_worker_without_a_slot_is_not_renewed() {
    let mut world = World::serving(slots(1));
    world.replace(1);
    world.forget();
    world.replace(2);
    world.come_to_serve([2]);
    world.replace(1);
    world.pass(secs(10));
    assert_eq!(world.spawned(), NOTHING);
}

#[test]
fn nothing_is_renewed_before_anything_has_served() {
    let mut world = World::new(slots(1));
    world.forget();
    world.replace(1);
    world.come_to_serve([1]);
    world.at(10);
    assert_eq!(world.spawned(), NOTHING);
}

#[test]
fn a_renewed_worker_that_retires_leaves_the_slot_to_its_successor() {
    let mut world = World::serving(Settings { bake: secs(5), ..slots(1) });
    world.replace(1);
    world.retires(1);
    assert_eq!(world.drained(), ["1 until 130s"]);
    world.pass(secs(10));
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 1"]);
}

#[test]
fn while_a_worker_is_renewed_its_slot_still_serves() {
    let mut world = World::serving(slots(2));
    world.replace(1);
    world.forget();
    world.crashes(2);
    world.pass(secs(1));
    world.come_to_serve([4]);
    assert_eq!(world.notices_with("serves"), ["4 serves, 2 of 2"]);
}

#[test]
fn failures_are_not_forgotten_when_the_old_worker_comes_to_serve() {
    let mut world = World::serving(Settings { attempts: 2, bake: secs(2), ..slots(2) });
    world.crashes(1);
    world.ready(3);
    world.replace(3);
    world.pass(secs(1));
    world.crashes(4);
    world.pass(secs(1));
    assert_eq!(world.servers(), [2, 3]);
    world.crashes(5);
    assert_eq!(world.notices_with("replace failed"), ["replace failed: 5 in slot 0 exit 1, failure 2"]);
}

#[test]
fn the_delay_that_a_notice_names_leaves_out_renewals_that_have_no_room() {
    let mut world = World::serving(surge(3, 1));
    world.replace(1);
    world.replace(2);
    world.crashes(3);
    assert_eq!(world.notices_with("must be replaced"), ["3 must be replaced in slot 2, in 1s"]);
    world.forget();
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["5 in slot 2 of generation 1"]);
}

#[test]
fn a_slot_that_becomes_vacant_keeps_its_place_in_the_queue() {
    let mut world = World::serving(slots(4));
    world.crashes(4);
    world.replace(1);
    world.pass(millis(100));
    world.crashes(2);
    world.pass(millis(100));
    world.crashes(1);
    world.forget();
    world.pass(secs(2));
    assert_eq!(world.spawned(), ["6 in slot 0 of generation 1", "7 in slot 1 of generation 1"]);
}

#[test]
fn once_the_old_worker_is_dead_there_is_nothing_to_give_up() {
    let mut world = World::serving(Settings { attempts: 1, ..slots(1) });
    world.replace(1);
    world.retires(1);
    world.crashes(2);
    world.pass(secs(1));
    world.crashes(3);
    world.pass(secs(1));
    assert_eq!(world.notices_with("replace failed"), NOTHING);
    assert_eq!(world.spawned().last().map(String::as_str), Some("4 in slot 0 of generation 1"));
}

#[test]
fn the_next_worker_of_a_slot_whose_renewal_was_cut_short_holds_it_at_once() {
    let mut world = World::serving(slots(1));
    world.replace(1);
    world.crashes(2);
    world.crashes(1);
    world.pass(secs(1));
    world.replace(3);
    world.pass(secs(1));
    assert_eq!(world.spawned().last().map(String::as_str), Some("4 in slot 0 of generation 1"));
}

#[test]
fn failures_before_the_renewal_do_not_count_against_it() {
    let mut world = World::serving(Settings { attempts: 2, bake: secs(30), ..slots(2) });
    world.crashes(1);
    world.crashes(3);
    world.pass(secs(1));
    world.replace(4);
    world.pass(secs(1));
    world.crashes(5);
    assert_eq!(world.notices_with("replace failed"), NOTHING);
}
