//! How a worker leaves: asked, then TERM, then KILL, each at most once.

use std::num::NonZeroU32;

use recluster_core::{Settings, State, Time};

use crate::words::secs;
use crate::world::{NOTHING, World, slots, surge};

#[test]
fn a_worker_that_is_let_go_has_the_drain_timeout_then_term_then_kill() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.come_to_serve([2]);
    assert_eq!(world.drained(), ["1 until 131s"]);
    assert_eq!(world.status().workers[0].deadline, Some(Time::after(secs(131))));
    world.forget();
    world.at(140);
    assert_eq!(world.signalled(), ["TERM to 1 at 131s", "KILL to 1 at 136s"]);
    assert_eq!(world.notices(), ["overdue: drain 1, TERM", "overdue: kill 1, KILL"]);
    assert_eq!(world.drained(), NOTHING);
}

#[test]
fn a_worker_that_closed_its_channel_is_sent_term_after_the_exit_grace() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.come_to_serve([2]);
    world.pass(secs(3));
    world.disconnects(1);
    assert_eq!(world.deadline().as_deref(), Some("exit 1 at 109s"));
    assert_eq!(world.status().workers[0].deadline, Some(Time::after(secs(109))));
    world.at(200);
    assert_eq!(world.signalled(), ["TERM to 1 at 109s", "KILL to 1 at 114s"]);
    assert!(world.notices().contains(&"overdue: exit 1, TERM".to_owned()));
}

#[test]
fn the_exit_grace_never_exceeds_the_drain_timeout() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.come_to_serve([2]);
    world.pass(secs(28));
    world.disconnects(1);
    world.at(200);
    assert_eq!(world.signalled(), ["TERM to 1 at 131s", "KILL to 1 at 136s"]);
}

#[test]
fn a_worker_that_exits_in_time_is_sent_nothing() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.come_to_serve([2]);
    world.pass(secs(10));
    world.disconnects(1);
    world.exits(1);
    world.at(200);
    assert_eq!(world.signalled(), NOTHING);
}

#[test]
fn without_a_timeout_term_follows_at_once() {
    let mut world = World::serving(Settings { timeout: secs(0), ..slots(1) });
    world.reload(7);
    world.come_to_serve([2]);
    assert_eq!(world.drained(), ["1 until 101s"]);
    assert_eq!(world.signalled(), ["TERM to 1 at 101s"]);
}

#[test]
fn without_any_patience_kill_follows_at_once_too() {
    let mut world = World::serving(Settings { timeout: secs(0), kill_timeout: secs(0), ..slots(1) });
    world.reload(7);
    world.come_to_serve([2]);
    assert_eq!(world.signalled(), ["TERM to 1 at 101s", "KILL to 1 at 101s"]);
}

#[test]
fn a_worker_that_says_it_fails_leaves_and_is_replaced() {
    let mut world = World::serving(slots(2));
    world.retires(1);
    assert_eq!(world.drained(), ["1 until 130s"]);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1"]);
    assert_eq!(world.notices(), ["1 must be replaced in slot 0, in 0ns"]);
    assert_eq!(world.servers(), [2]);
    world.at(200);
    assert!(world.signalled().starts_with(&["TERM to 1 at 130s".to_owned(), "KILL to 1 at 135s".to_owned()]));
}

#[test]
fn a_worker_that_says_it_fails_twice_is_asked_once() {
    let mut world = World::serving(slots(1));
    world.retires(1);
    world.forget();
    world.retires(1);
    assert_eq!(world.drained(), NOTHING);
    assert_eq!(world.spawned(), NOTHING);
}

#[test]
fn a_worker_that_closes_its_channel_is_replaced_and_cannot_be_asked() {
    let mut world = World::serving(slots(1));
    world.disconnects(1);
    assert_eq!(world.drained(), NOTHING);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 1"]);
    let states: Vec<State> = world.status().workers.iter().map(|worker| worker.state).collect();
    assert!(matches!(states[0], State::Draining { .. }));
    world.at(120);
    assert_eq!(world.signalled(), ["TERM to 1 at 105s", "KILL to 1 at 110s"]);
}

#[test]
fn a_worker_that_closed_its_channel_has_no_more_than_the_drain_timeout() {
    let mut world = World::serving(Settings { timeout: secs(2), ..slots(1) });
    world.disconnects(1);
    world.at(102);
    assert_eq!(world.signalled(), ["TERM to 1 at 102s"]);
}

#[test]
fn a_channel_that_closes_after_term_changes_nothing() {
    let mut world = World::serving(Settings { timeout: secs(0), ..slots(1) });
    world.retires(1);
    world.disconnects(1);
    world.at(120);
    assert_eq!(world.signalled(), ["TERM to 1 at 100s", "KILL to 1 at 105s"]);
}

/// Two reloads: generations 1 and 2 drain, 3 serves.
fn two_old_generations(max_draining: u32) -> World {
    let max_draining = NonZeroU32::new(max_draining);
    let mut world = World::serving(Settings { max_draining, timeout: secs(3600), ..slots(1) });
    world.reload(7);
    world.come_to_serve([2]);
    world.pass(secs(1));
    world.reload(8);
    world.come_to_serve([3]);
    world
}

#[test]
fn of_more_draining_generations_than_are_kept_the_oldest_is_sent_term() {
    let mut world = two_old_generations(1);
    assert_eq!(world.signalled(), ["TERM to 1 at 103s"]);
    assert!(world.notices().contains(&"overdue: surplus 1, TERM".to_owned()));
    world.pass(secs(5));
    assert_eq!(world.signalled(), ["KILL to 1 at 108s"]);
}

#[test]
fn as_many_draining_generations_as_are_kept_are_left_in_peace() {
    let mut world = two_old_generations(2);
    assert_eq!(world.signalled(), NOTHING);
}

#[test]
fn without_a_cap_all_generations_drain_as_long_as_they_may() {
    let mut world = two_old_generations(0);
    assert_eq!(world.signalled(), NOTHING);
}

#[test]
fn a_generation_that_still_has_a_wanted_worker_is_no_draining_generation() {
    let mut world = two_old_generations(2);
    world.retires(3);
    assert_eq!(world.drained().last().map(String::as_str), Some("3 until 3703s"));
    assert_eq!(world.signalled(), NOTHING);
}

#[test]
fn at_a_stop_draining_generations_are_not_capped() {
    let mut world = two_old_generations(2);
    world.happens(recluster_core::Event::Stop);
    assert_eq!(world.signalled(), NOTHING);
}

#[test]
fn a_bounded_reload_drains_old_workers_of_one_generation_one_by_one() {
    let mut world = World::serving(Settings { max_draining: NonZeroU32::new(1), ..surge(2, 1) });
    world.reload(7);
    world.come_to_serve([3]);
    world.come_to_serve([4]);
    assert_eq!(world.drained(), ["1 until 131s", "2 until 132s"]);
    assert_eq!(world.signalled(), NOTHING);
}

#[test]
fn a_worker_that_closed_its_channel_and_has_no_patience_is_sent_term_at_once() {
    let mut world = World::serving(Settings { timeout: secs(0), ..slots(1) });
    world.reload(7);
    world.disconnects(1);
    assert_eq!(world.signalled(), ["TERM to 1 at 100s"]);
}

#[test]
fn a_channel_that_closes_twice_gains_no_time() {
    let mut world = World::serving(slots(1));
    world.disconnects(1);
    world.pass(secs(4));
    world.disconnects(1);
    world.pass(secs(1));
    assert_eq!(world.signalled(), ["TERM to 1 at 105s"]);
}
