//! A reload during a reload: the newer supersedes the older, and every caller gets a verdict.

use recluster_core::{Settings, SpawnFailure};

use crate::words::{millis, secs};
use crate::world::{NOTHING, World, slots, surge};

#[test]
fn a_reload_beside_no_other_begins_at_once() {
    let mut world = World::new(Settings { bake: secs(0), ..slots(1) });
    world.ready(1);
    world.forget();
    world.reload(7);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 2"]);
    world.ready(2);
    world.reload(8);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 3"], "the one before has had its verdict");
}

#[test]
fn calls_that_wait_together_share_one_reload() {
    let mut world = World::new(Settings { bake: secs(0), ..slots(1) });
    world.ready(1);
    world.reload(7);
    world.reload(8);
    world.reload(9);
    assert_eq!(
        world.deadline().as_deref(),
        Some("reload at 1s"),
        "it keeps its distance from the one before"
    );
    world.at(1);
    world.ready(3);
    assert_eq!(world.verdicts(), ["generation 3 for [7, 8, 9]: done"]);
}

#[test]
fn the_callers_of_the_older_hear_the_verdict_of_the_newer() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.pass(secs(2));
    world.reload(8);
    assert_eq!(world.notices(), ["generation 2 began", "generation 2 superseded", "generation 3 began"]);
    world.come_to_serve([3]);
    assert_eq!(world.verdicts(), ["generation 3 for [7, 8]: done"]);
}

#[test]
fn superseded_workers_leave_at_once_where_an_older_one_serves() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.come_to_serve([3]);
    world.pass(secs(1));
    world.reload(8);
    assert_eq!(world.drained(), ["3 until 132s", "4 until 132s"]);
    assert_eq!(world.servers(), [1, 2]);
}

#[test]
fn a_superseded_worker_stays_where_nobody_else_is_until_the_newer_one_serves() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.crashes(1);
    world.come_to_serve([3]);
    world.reload(8);
    assert_eq!(world.drained(), ["4 until 131s"]);
    assert_eq!(world.servers(), [2, 3]);

    world.come_to_serve([5, 6]);
    assert_eq!(world.drained(), ["2 until 132s", "3 until 132s"]);
}

#[test]
fn a_superseded_worker_stays_where_only_it_serves() {
    let mut world = World::serving(slots(2));
    world.crashes(1);
    world.reload(7);
    world.come_to_serve([4]);
    world.reload(8);
    assert_eq!(
        world.drained(),
        ["3 until 131s", "5 until 131s"],
        "the respawned worker 3 does not serve yet"
    );
    assert_eq!(world.servers(), [2, 4]);
}

#[test]
fn a_worker_that_stayed_is_respawned_with_the_proven_generation() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.crashes(1);
    world.come_to_serve([3]);
    world.reload(8);
    world.pass(secs(1));
    world.cannot_spawn(5, SpawnFailure::Hopeless);
    assert_eq!(world.servers(), [2, 3], "the rollback leaves it where it is");
    world.forget();
    world.crashes(3);
    assert_eq!(world.spawned(), ["7 in slot 0 of generation 1"]);
}

#[test]
fn if_the_running_one_ends_before_the_newer_begins_its_callers_hear_its_own_verdict() {
    let mut world = World::serving(Settings { bake: millis(100), ..slots(1) });
    world.reload(7);
    world.reload(8);
    world.ready(2);
    world.pass(millis(100));
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
    world.at(101);
    world.ready(3);
    world.pass(millis(100));
    assert_eq!(world.verdicts(), ["generation 3 for [8]: done"]);
}

#[test]
fn beginnings_of_generations_are_spaced() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.pass(millis(400));
    world.reload(8);
    world.forget();
    world.pass(millis(599));
    assert_eq!(world.spawned(), NOTHING);
    world.pass(millis(1));
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 3"]);
}

#[test]
fn each_supersede_in_a_row_doubles_the_spacing() {
    let mut world = World::serving(slots(1));
    for caller in 0..100 {
        world.reload(caller);
        world.pass(millis(200));
    }
    let began = ["generation 2 began", "generation 3 began", "generation 4 began", "generation 5 began"];
    assert_eq!(
        world.notices_with("began"),
        [&began[..], &["generation 6 began"]].concat(),
        "at 0, 1, 3, 7 and 15 s"
    );
}

#[test]
fn a_storm_of_calls_that_is_faster_than_a_boot_cannot_starve_the_reload() {
    let mut world = World::serving(Settings { respawn: millis(0), ..slots(1) });
    let mut newest = 1;
    for caller in 0..1000 {
        world.reload(caller);
        let workers = world.status().workers;
        let last = workers.last().map_or(newest, |worker| worker.worker.get());
        world.pass(millis(50));
        if last == newest {
            world.ready(newest);
        }
        newest = last;
    }
    let done = world.notices_with("done");
    assert!(done.len() > 2, "{done:?}");
}

#[test]
fn once_a_reload_ends_by_itself_the_spacing_is_short_again() {
    let mut world = World::serving(slots(1));
    for caller in 0..3 {
        world.reload(caller);
        world.pass(secs(4));
    }
    world.come_to_serve([4]);
    world.reload(8);
    assert_eq!(world.notices_with("began").len(), 4);
    world.pass(millis(999));
    world.reload(9);
    world.pass(millis(1));
    assert_eq!(world.notices_with("began"), ["generation 6 began"]);
}

#[test]
fn under_a_bounded_surge_slots_that_were_replaced_stay_so_until_the_newer_takes_them() {
    let mut world = World::serving(surge(2, 1));
    world.reload(7);
    world.come_to_serve([3]);
    world.reload(8);
    assert_eq!(world.drained(), ["1 until 131s", "4 until 131s"]);
    assert_eq!(world.servers(), [2, 3]);
    world.come_to_serve([5]);
    world.come_to_serve([6]);
    assert_eq!(world.drained(), ["3 until 132s", "2 until 133s"]);
    assert_eq!(world.verdicts(), ["generation 3 for [7, 8]: done"]);
}

#[test]
fn the_newer_is_judged_afresh() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.crashes(2);
    world.pass(secs(1));
    world.crashes(3);
    world.reload(8);
    world.crashes(4);
    world.pass(secs(1));
    world.come_to_serve([5]);
    assert_eq!(world.verdicts(), ["generation 3 for [7, 8]: done"]);
}

#[test]
fn a_superseded_worker_that_does_not_serve_yet_stays_where_nobody_else_is() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.crashes(1);
    world.pass(secs(1));
    world.reload(8);
    assert_eq!(world.drained(), ["4 until 131s"]);
    world.come_to_serve([3]);
    assert_eq!(world.servers(), [2, 3]);
}

#[test]
fn where_neither_serves_the_older_one_stays() {
    let mut world = World::serving(slots(2));
    world.crashes(1);
    world.reload(7);
    world.pass(secs(1));
    world.reload(8);
    assert_eq!(world.drained(), ["4 until 131s", "5 until 131s"]);
}
