//! How long workers may boot, and how many at a time.

use std::num::NonZeroU32;

use recluster_core::{Event, Exit, Lateness, Settings, SpawnFailure, State, Time};

use crate::words::secs;
use crate::world::{NOTHING, World, slots};

/// So many slots, of which so many may boot at a time.
fn limited(workers: u32, boot_limit: u32) -> Settings {
    Settings { boot_limit: NonZeroU32::new(boot_limit), ..slots(workers) }
}

#[test]
fn the_ready_timeout_counts_from_the_beginning_of_a_worker_s_own_start() {
    let mut world = World::queueing(slots(2));
    world.begins(1);
    world.at(50);
    assert_eq!(world.deadline().as_deref(), Some("ready 1 at 60s"));
    assert_eq!(world.status().workers[1].state, State::Starting { until: None });
    assert_eq!(world.status().workers[1].deadline, None);
    world.ready(1);
    world.at(55);
    world.begins(2);
    assert_eq!(world.deadline().as_deref(), Some("ready 2 at 115s"));
    world.begins(2);
    world.pass(secs(5));
    world.begins(2);
    assert_eq!(world.status().workers[1].state, State::Starting { until: Some(Time::after(secs(115))) });
    world.forget();
    world.at(115);
    assert_eq!(world.signalled(), ["TERM to 2 at 115s"]);
}

/// Such as where a file system does not answer: the start of one worker never comes to an end, and one is started after the
/// other.
#[test]
fn who_queues_behind_a_start_that_never_ends_has_the_ready_timeout_as_well() {
    let mut world = World::serving_behind_a_queue(Settings { attempts: 3, ..slots(2) });
    world.crashes(1);
    world.pass(secs(1));
    world.begins(3);
    world.reload(7);
    world.pass(secs(59));
    assert_eq!(world.verdicts(), NOTHING);
    world.pass(secs(1));
    assert_eq!(
        world.verdicts(),
        ["generation 2 for [7]: rolled back, 4 in slot 0 not ready in time, failure 1"]
    );
    assert_eq!(world.servers(), [2]);
}

#[test]
fn who_queues_where_nothing_is_ever_begun_has_the_ready_timeout_as_well() {
    let mut world = World::queueing(slots(1));
    world.at(59);
    assert_eq!(world.status().workers[0].deadline, None, "its own time has not begun");
    world.at(60);
    assert_eq!(
        world.notices_with("start failed"),
        ["start failed: 1 in slot 0 not ready in time, failure 1"]
    );
    assert_eq!(world.signalled(), ["TERM to 1 at 60s"]);
}

#[test]
fn a_queue_may_be_as_long_as_it_likes_while_it_moves() {
    let mut world = World::queueing(Settings { bake: secs(0), ..slots(10) });
    for worker in 1..=10 {
        world.pass(secs(50));
        world.begins(worker);
        world.ready(worker);
    }
    assert_eq!(world.notices_with("started"), ["generation 1 started"]);
    assert_eq!(world.signalled(), NOTHING);
}

#[test]
fn one_that_may_be_late_may_queue_for_as_long_as_it_likes_and_is_begun_in_the_end() {
    let mut world = World::queueing(Settings { lateness: Lateness::FailsReloads, ..slots(1) });
    world.forget();
    world.at(600);
    assert_eq!(world.notices(), ["1 is late"]);
    world.begins(1);
    world.come_to_serve([1]);
    assert_eq!(world.servers(), [1]);
}

#[test]
fn one_that_is_not_ready_after_all_has_the_time_of_its_own_start() {
    let mut world = World::queueing(slots(1));
    world.at(50);
    world.begins(1);
    world.ready(1);
    world.unready(1);
    assert_eq!(world.deadline().as_deref(), Some("ready 1 at 110s"));
}

#[test]
fn one_that_queues_at_a_stop_has_the_drain_timeout() {
    let mut world = World::queueing(slots(1));
    world.at(50);
    world.happens(Event::Stop);
    assert_eq!(world.drained(), ["1 until 75s"]);
    let one = world.id(1);
    world.happens(Event::SpawnFailed(one, SpawnFailure::Temporary));
    assert_eq!(world.deadline(), None);
}

#[test]
fn only_so_many_boot_at_a_time_and_who_is_ready_makes_room() {
    let mut world = World::new(limited(4, 2));
    assert_eq!(world.spawned(), ["1 in slot 0 of generation 1", "2 in slot 1 of generation 1"]);
    world.ready(2);
    assert_eq!(world.spawned(), ["3 in slot 2 of generation 1"]);
    world.all_ready([1, 3]);
    assert_eq!(world.spawned(), ["4 in slot 3 of generation 1"]);
    world.at(10);
    assert_eq!(world.servers(), [1, 2, 3]);
    world.ready(4);
    world.at(20);
    assert!(world.notices().contains(&"generation 1 started".to_owned()));
}

#[test]
fn in_a_reload_of_the_whole_generation_no_old_worker_leaves_before_all_have_booted() {
    let mut world = World::new(limited(3, 1));
    for worker in 1..=3 {
        world.ready(worker);
    }
    world.at(100);
    world.forget();
    world.reload(7);
    assert_eq!(world.spawned(), ["4 in slot 0 of generation 2"]);
    world.come_to_serve([4]);
    world.come_to_serve([5]);
    assert_eq!(world.drained(), NOTHING);
    assert_eq!(world.staying(), 6);
    world.come_to_serve([6]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
    assert_eq!(world.drained().len(), 3);
}

#[test]
fn who_fails_makes_room_and_is_retried_behind_those_that_were_never_begun() {
    let mut world = World::new(limited(2, 1));
    world.forget();
    world.crashes(1);
    assert_eq!(world.spawned(), ["2 in slot 1 of generation 1"]);
    world.at(5);
    assert_eq!(world.spawned(), NOTHING);
    world.ready(2);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1"]);
}

#[test]
fn a_respawn_waits_for_room_as_well_and_no_deadline_is_missed() {
    let mut world = World::new(limited(2, 1));
    world.ready(1);
    world.ready(2);
    world.at(100);
    world.forget();
    world.crashes(1);
    world.crashes(2);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1"]);
    world.at(130);
    assert_eq!(world.spawned(), NOTHING);
    world.ready(3);
    assert_eq!(world.spawned(), ["4 in slot 1 of generation 1"]);
}

#[test]
fn one_that_is_late_and_may_go_on_keeps_nobody_waiting() {
    let mut world = World::new(Settings { lateness: Lateness::IsReported, ..limited(2, 1) });
    world.forget();
    world.at(60);
    assert_eq!(world.spawned(), ["2 in slot 1 of generation 1"]);
}

#[test]
fn a_stop_ends_what_waits_for_room() {
    let mut world = World::new(limited(3, 1));
    world.forget();
    world.happens(Event::Stop);
    let one = world.id(1);
    world.happens(Event::Exited(one, Exit::Code(0)));
    assert_eq!(world.spawned(), NOTHING);
    assert_eq!(world.deadline(), None);
}

#[test]
fn a_reload_brings_another_limit() {
    let mut world = World::serving(slots(3));
    world.reload_with(7, limited(3, 1));
    assert_eq!(world.spawned(), ["4 in slot 0 of generation 2"]);
    world.ready(4);
    assert_eq!(world.spawned(), ["5 in slot 1 of generation 2"]);
}
