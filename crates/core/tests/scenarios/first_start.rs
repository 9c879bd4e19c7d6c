//! The first start: complete, failed, or tried for ever.

use recluster_core::{Event, Exit, Lateness, Phase, Settings, SpawnFailure, Time};

use crate::words::{millis, secs};
use crate::world::{NOTHING, World, slots, surge};

#[test]
fn all_slots_are_started_at_once() {
    let mut world = World::new(slots(2));
    assert_eq!(world.notices(), ["generation 1 began"]);
    assert_eq!(world.spawned(), ["1 in slot 0 of generation 1", "2 in slot 1 of generation 1"]);
    assert_eq!(world.status().phase, Phase::Starting);
}

#[test]
fn a_worker_serves_when_it_is_ready_and_has_lived_for_the_bake_time() {
    let mut world = World::new(slots(1));
    world.pass(millis(500));
    world.ready(1);
    world.pass(millis(999));
    assert!(world.servers().is_empty());
    world.pass(millis(1));
    assert_eq!(world.servers(), [1]);
    assert_eq!(world.notices_with("serves"), ["1 serves, 1 of 1"]);
}

#[test]
fn a_worker_that_is_not_ready_after_all_does_not_serve() {
    let mut world = World::new(Settings { ready_timeout: secs(60), ..slots(1) });
    world.ready(1);
    world.pass(millis(999));
    world.unready(1);
    world.pass(secs(30));
    assert!(world.servers().is_empty());
    world.ready(1);
    world.pass(secs(1));
    assert_eq!(world.servers(), [1]);
    world.unready(1);
    assert_eq!(world.servers(), [1], "it serves, and is ready for good");
}

#[test]
fn one_that_is_not_ready_after_all_has_the_time_that_it_had() {
    let mut world = World::new(Settings { ready_timeout: secs(60), ..slots(1) });
    world.pass(secs(59));
    world.ready(1);
    world.unready(1);
    world.pass(secs(1));
    assert_eq!(world.signalled(), ["TERM to 1 at 60s"]);
}

#[test]
fn without_a_bake_time_a_ready_worker_serves_at_once() {
    let mut world = World::new(Settings { bake: secs(0), ..slots(1) });
    world.ready(1);
    assert_eq!(world.servers(), [1]);
}

#[test]
fn a_worker_that_is_ready_twice_counts_once() {
    let mut world = World::new(slots(2));
    world.all_ready([1, 1]);
    world.pass(millis(500));
    world.ready(1);
    world.pass(millis(500));
    assert_eq!(world.servers(), [1], "the second port begins no second bake time");
    assert_eq!(world.notices_with("serves"), ["1 serves, 1 of 2"]);
}

#[test]
fn the_first_start_is_complete_once_when_every_slot_serves() {
    let mut world = World::new(slots(2));
    world.come_to_serve([1]);
    assert_eq!(world.notices_with("started"), NOTHING);
    assert_eq!(world.status().phase, Phase::Running);

    world.come_to_serve([2]);
    assert_eq!(world.notices_with("started"), ["generation 1 started"]);
    assert!(world.status().settled);

    world.crashes(2);
    world.come_to_serve([3]);
    assert_eq!(world.notices_with("started"), NOTHING);
}

#[test]
fn the_first_start_fails_when_one_slot_has_failed_attempts_times() {
    let mut world = World::new(slots(2));
    for attempt in [1, 3, 4] {
        world.crashes(attempt);
        world.pass(secs(1));
    }
    assert_eq!(world.notices_with("start failed"), ["start failed: 4 in slot 0 exit 1, failure 3"]);
    assert_eq!(world.drained(), ["2 until 27s"], "what lives is drained with the stop timeout");
    assert_eq!(world.status().phase, Phase::Stopping);

    world.forget();
    world.exits(2);
    world.at(200);
    assert_eq!(world.spawned(), NOTHING);
    assert_eq!(world.status().phase, Phase::Over);
}

#[test]
fn failures_of_different_slots_do_not_add_up() {
    let mut world = World::new(slots(3));
    for worker in [1, 2, 3] {
        world.crashes(worker);
    }
    assert_eq!(
        world.notices_with("failed"),
        [
            "failed: 1 in slot 0 exit 1, failure 1",
            "failed: 2 in slot 1 exit 1, failure 1",
            "failed: 3 in slot 2 exit 1, failure 1",
        ]
    );
    assert_eq!(world.status().phase, Phase::Starting);
}

#[test]
fn one_failing_slot_is_retried_at_a_time_the_one_that_failed_most_first() {
    let mut world = World::new(slots(3));
    world.crashes(2);
    world.crashes(1);
    world.forget();

    world.at(10);
    assert_eq!(world.spawned(), ["4 in slot 0 of generation 1"], "both failed once: the lowest slot");
    world.crashes(4);
    assert_eq!(world.spawned(), ["5 in slot 0 of generation 1"], "it failed twice");

    world.crashes(5);
    assert_eq!(world.notices_with("start failed"), ["start failed: 5 in slot 0 exit 1, failure 3"]);
}

#[test]
fn the_next_failing_slot_is_retried_when_the_one_before_serves() {
    let mut world = World::new(Settings { bake: secs(3), ..slots(2) });
    world.crashes(1);
    world.crashes(2);
    world.at(1);
    world.forget();

    world.ready(3);
    world.at(3);
    assert_eq!(world.spawned(), NOTHING);
    world.at(4);
    assert_eq!(world.servers(), [3]);
    assert_eq!(world.spawned(), ["4 in slot 1 of generation 1"]);
}

#[test]
fn an_exit_within_the_bake_time_is_a_failure() {
    let mut world = World::new(Settings { attempts: 1, ..slots(1) });
    world.ready(1);
    world.pass(millis(999));
    world.crashes(1);
    assert_eq!(world.notices_with("start failed"), ["start failed: 1 in slot 0 exit 1, failure 1"]);
}

#[test]
fn a_worker_that_dies_before_its_bake_time_was_noticed_to_end_has_not_served() {
    let mut world = World::new(Settings { attempts: 1, ..slots(1) });
    world.ready(1);
    let late = Time::after(secs(7));
    let exit = Exit::Code(1);
    world.cluster.handle(Event::Exited(world.id(1), exit), late);
    assert_eq!(world.status().phase, Phase::Over);
}

#[test]
fn retiring_before_it_serves_is_a_failure() {
    let mut world = World::new(Settings { attempts: 1, ..slots(1) });
    world.retires(1);
    assert_eq!(world.notices_with("start failed"), ["start failed: 1 in slot 0 retired, failure 1"]);
}

#[test]
fn closing_the_channel_before_it_serves_is_a_failure() {
    let mut world = World::new(Settings { attempts: 1, ..slots(1) });
    world.disconnects(1);
    assert_eq!(world.notices_with("start failed"), ["start failed: 1 in slot 0 retired, failure 1"]);
}

#[test]
fn a_ready_timeout_fails_the_first_start_at_once() {
    let mut world = World::new(Settings { bake: secs(90), ..slots(2) });
    world.ready(2);
    world.at(60);
    assert_eq!(
        world.notices_with("start failed"),
        ["start failed: 1 in slot 0 not ready in time, failure 1"]
    );
    assert_eq!(world.signalled(), ["TERM to 1 at 60s"]);
    assert_eq!(world.drained(), ["2 until 85s"]);
}

#[test]
fn a_hopeless_spawn_fails_the_first_start_at_once() {
    let mut world = World::new(slots(1));
    world.cannot_spawn(1, SpawnFailure::Hopeless);
    assert_eq!(world.notices_with("start failed"), ["start failed: 1 in slot 0 not spawned ever, failure 1"]);
    assert_eq!(world.status().phase, Phase::Over);
}

#[test]
fn a_temporary_spawn_failure_is_a_failure_like_any_other() {
    let mut world = World::new(slots(1));
    world.cannot_spawn(1, SpawnFailure::Temporary);
    assert_eq!(world.status().phase, Phase::Starting);
    world.at(1);
    world.cannot_spawn(2, SpawnFailure::Temporary);
    world.at(2);
    world.cannot_spawn(3, SpawnFailure::Temporary);
    assert_eq!(world.notices_with("start failed"), ["start failed: 3 in slot 0 not spawned now, failure 3"]);
}

#[test]
fn once_any_slot_has_served_failures_are_ordinary_respawns() {
    let mut world = World::new(slots(2));
    world.come_to_serve([1]);
    let mut failing = 2;
    for _ in 0..10 {
        world.crashes(failing);
        world.pass(secs(1));
        failing = failing.max(2) + 1;
    }
    assert_eq!(world.notices_with("start failed"), NOTHING);
    assert_eq!(world.status().phase, Phase::Running);
}

#[test]
fn a_first_start_that_is_to_be_kept_trying_never_fails() {
    let mut world = World::new(Settings { keep_trying: true, ..slots(1) });
    for worker in 1..20 {
        world.crashes(worker);
        world.pass(secs(1));
    }
    world.cannot_spawn(20, SpawnFailure::Hopeless);
    world.pass(secs(1));
    assert_eq!(world.notices_with("start failed"), NOTHING);
    assert_eq!(world.status().phase, Phase::Starting);
}

#[test]
fn kept_trying_a_ready_timeout_kills_the_worker_and_counts_as_any_failure() {
    let mut world = World::new(Settings { keep_trying: true, ..slots(1) });
    world.forget();
    world.at(60);
    assert_eq!(world.signalled(), ["TERM to 1 at 60s"]);
    assert_eq!(world.notices_with("failed"), ["failed: 1 in slot 0 not ready in time, failure 1"]);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 1"]);
    world.at(65);
    assert_eq!(world.signalled(), ["KILL to 1 at 65s"]);
}

#[test]
fn kept_trying_every_slot_has_its_turn() {
    let mut world = World::new(Settings { keep_trying: true, ..slots(2) });
    world.crashes(1);
    world.crashes(2);
    world.forget();
    world.at(1);
    world.crashes(3);
    world.at(2);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1", "4 in slot 1 of generation 1"]);
}

#[test]
fn leniently_a_late_worker_is_reported_once_and_left_alone() {
    let mut world = World::new(Settings { lateness: Lateness::FailsReloads, ..slots(1) });
    world.forget();
    world.at(600);
    assert_eq!(world.notices(), ["1 is late"]);
    assert_eq!(world.signalled(), NOTHING);
    assert_eq!(world.deadline(), None);
    world.come_to_serve([1]);
    assert_eq!(world.servers(), [1]);
}

#[test]
fn leniently_a_late_respawn_is_left_alone_as_well() {
    let mut world = World::serving(Settings { lateness: Lateness::FailsReloads, ..slots(1) });
    world.crashes(1);
    world.pass(secs(1));
    world.forget();
    world.pass(secs(100));
    assert_eq!(world.notices(), ["2 is late"]);
    assert_eq!(world.signalled(), NOTHING);
}

#[test]
fn leniently_a_late_worker_is_drained_by_a_reload_like_any_other() {
    let mut world = World::new(Settings { lateness: Lateness::FailsReloads, ..slots(1) });
    world.at(100);
    world.reload(7);
    world.forget();
    world.come_to_serve([2]);
    assert_eq!(world.drained(), ["1 until 131s"]);
}

#[test]
fn a_lenient_cluster_judges_a_reload_all_the_same() {
    let mut world = World::serving(Settings { lateness: Lateness::FailsReloads, ..slots(1) });
    world.reload(7);
    world.forget();
    world.pass(secs(60));
    assert_eq!(world.signalled(), ["TERM to 2 at 160s"]);
    assert_eq!(
        world.verdicts(),
        ["generation 2 for [7]: rolled back, 2 in slot 0 not ready in time, failure 1"]
    );
}

#[test]
fn a_lenient_cluster_judges_a_renewal_all_the_same() {
    let mut world = World::serving(Settings { lateness: Lateness::FailsReloads, ..slots(1) });
    world.replace(1);
    world.forget();
    world.pass(secs(60));
    assert_eq!(world.signalled(), ["TERM to 2 at 160s"]);
    assert_eq!(world.notices_with("replace failed").len(), 1);
    assert_eq!(world.servers(), [1]);
}

#[test]
fn a_lenient_cluster_judges_a_reload_also_where_it_took_a_vacant_slot() {
    let mut world = World::serving(Settings { lateness: Lateness::FailsReloads, ..surge(1, 1) });
    world.crashes(1);
    world.reload(7);
    world.forget();
    world.pass(secs(60));
    assert_eq!(world.signalled(), ["TERM to 3 at 160s"]);
    assert_eq!(world.verdicts().len(), 1);
}

#[test]
fn where_lateness_is_only_reported_a_reload_waits_on() {
    let mut world = World::serving(Settings { lateness: Lateness::IsReported, ..slots(1) });
    world.reload(7);
    world.forget();
    world.pass(secs(600));
    assert_eq!(world.notices(), ["2 is late"]);
    assert_eq!(world.signalled(), NOTHING);
    assert_eq!(world.servers(), [1]);
    world.come_to_serve([2]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
    assert_eq!(world.servers(), [2]);
}

#[test]
fn where_lateness_is_only_reported_code_that_exits_is_rolled_back_all_the_same() {
    let mut world = World::serving(Settings { lateness: Lateness::IsReported, attempts: 1, ..slots(1) });
    world.reload(7);
    world.pass(secs(600));
    world.forget();
    world.crashes(2);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: rolled back, 2 in slot 0 exit 1, failure 1"]);
    assert_eq!(world.servers(), [1]);
}

#[test]
fn a_reload_takes_the_place_of_a_first_start_that_cannot_work() {
    let mut world = World::new(slots(1));
    world.reload(7);
    world.cannot_spawn(1, SpawnFailure::Hopeless);
    world.come_to_serve([2]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn a_reload_may_complete_the_first_start() {
    let mut world = World::new(slots(2));
    world.come_to_serve([1]);
    world.reload(7);
    world.come_to_serve([3, 4]);
    assert_eq!(
        world.notices().split_off(4),
        ["4 serves, 2 of 2", "generation 2 started", "generation 2 for [7]: done"]
    );
}

#[test]
fn a_reload_that_is_rolled_back_before_anything_served_leaves_the_first_start_on_trial() {
    let mut world = World::new(slots(1));
    world.crashes(1);
    world.reload(7);
    world.at(1);
    world.cannot_spawn(2, SpawnFailure::Hopeless);
    assert_eq!(world.notices_with("rolled back").len(), 1);

    for worker in [3, 4, 5] {
        world.pass(secs(1));
        world.crashes(worker);
    }
    assert_eq!(world.notices_with("start failed"), ["start failed: 5 in slot 0 exit 1, failure 3"]);
}
