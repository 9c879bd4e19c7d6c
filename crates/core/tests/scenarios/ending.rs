//! Stop, terminate and release: nothing is started any more.

use recluster_core::{Event, Phase, Settings};

use crate::words::secs;
use crate::world::{NOTHING, World, slots};

#[test]
fn a_stop_drains_every_worker_with_the_stop_timeout() {
    let mut world = World::serving(slots(2));
    world.happens(Event::Stop);
    assert_eq!(world.drained(), ["1 until 125s", "2 until 125s"]);
    assert_eq!(world.status().phase, Phase::Stopping);
    world.at(200);
    assert_eq!(
        world.signalled(),
        ["TERM to 1 at 125s", "TERM to 2 at 125s", "KILL to 1 at 130s", "KILL to 2 at 130s"]
    );
}

#[test]
fn it_is_over_when_the_last_worker_is_gone_and_nothing_was_started() {
    let mut world = World::serving(slots(2));
    world.happens(Event::Stop);
    world.forget();
    world.exits(1);
    assert_eq!(world.status().phase, Phase::Stopping);
    world.exits(2);
    assert_eq!(world.status().phase, Phase::Over);
    assert_eq!(world.deadline(), None);
    assert_eq!(world.spawned(), NOTHING);
    assert_eq!(world.notices(), ["1 is gone as expected, exit 0", "2 is gone as expected, exit 0"]);
}

#[test]
fn a_stop_shortens_the_patience_of_those_that_drain_already() {
    let mut world = World::serving(Settings { timeout: secs(3600), ..slots(1) });
    world.reload(7);
    world.come_to_serve([2]);
    world.forget();
    world.happens(Event::Stop);
    assert_eq!(world.drained(), ["2 until 126s"], "the other one was asked already");
    world.at(126);
    assert_eq!(world.signalled(), ["TERM to 1 at 126s", "TERM to 2 at 126s"]);
}

#[test]
fn a_stop_never_lengthens_the_patience_of_those_that_drain_already() {
    let mut world = World::serving(Settings { timeout: secs(3), ..slots(1) });
    world.retires(1);
    world.happens(Event::Stop);
    world.at(103);
    assert_eq!(world.signalled(), ["TERM to 1 at 103s"]);
}

#[test]
fn a_second_stop_changes_nothing() {
    let mut world = World::serving(slots(1));
    world.happens(Event::Stop);
    world.pass(secs(1));
    world.forget();
    let before = world.status();
    world.happens(Event::Stop);
    assert_eq!(world.status(), before);
    assert_eq!(world.drained(), NOTHING);
}

#[test]
fn a_worker_that_is_not_ready_gets_no_longer_than_its_ready_timeout_to_stop() {
    let mut world = World::new(Settings { ready_timeout: secs(5), ..slots(1) });
    world.happens(Event::Stop);
    assert_eq!(world.drained(), ["1 until 5s"]);
}

#[test]
fn a_stop_cancels_the_respawns_that_wait() {
    let mut world = World::serving(slots(1));
    world.crashes(1);
    world.crashes(2);
    world.forget();
    world.happens(Event::Stop);
    assert_eq!(world.status().phase, Phase::Over);
    world.at(200);
    assert_eq!(world.spawned(), NOTHING);
}

#[test]
fn a_stop_abandons_the_running_reload_and_the_one_that_waits() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.reload(8);
    world.happens(Event::Stop);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: abandoned", "no generation for [8]: abandoned"]);
    assert_eq!(world.drained(), ["1 until 125s", "2 until 125s"]);
}

#[test]
fn a_reload_after_a_stop_is_abandoned_at_once() {
    for end in [Event::Stop, Event::Terminate, Event::Release] {
        let mut world = World::serving(slots(1));
        world.happens(end);
        world.reload(7);
        assert_eq!(world.verdicts(), ["no generation for [7]: abandoned"]);
        world.exits(1);
        world.reload(8);
        assert_eq!(world.verdicts(), ["no generation for [8]: abandoned"]);
        assert_eq!(world.spawned(), NOTHING);
    }
}

#[test]
fn terminate_kills_every_worker_at_once() {
    let mut world = World::serving(Settings { timeout: secs(0), ..slots(2) });
    world.retires(1);
    assert_eq!(world.signalled(), ["TERM to 1 at 100s"]);
    world.happens(Event::Terminate);
    assert_eq!(world.signalled(), ["KILL to 1 at 100s", "KILL to 2 at 100s", "KILL to 3 at 100s"]);
    assert_eq!(world.status().phase, Phase::Terminating);
    assert_eq!(world.deadline().as_deref(), Some("end 1 at 110s"));

    world.happens(Event::Terminate);
    assert_eq!(world.signalled(), NOTHING);
    for worker in [1, 2, 3] {
        world.crashes(worker);
    }
    assert_eq!(world.status().phase, Phase::Over);
}

#[test]
fn terminate_after_a_stop_kills_what_is_left() {
    let mut world = World::serving(slots(2));
    world.happens(Event::Stop);
    world.exits(1);
    world.happens(Event::Terminate);
    assert_eq!(world.signalled(), ["KILL to 2 at 100s"]);
    world.happens(Event::Stop);
    assert_eq!(world.status().phase, Phase::Terminating);
}

#[test]
fn release_leaves_the_workers_alone() {
    let mut world = World::serving(slots(2));
    world.happens(Event::Release);
    world.at(1000);
    world.crashes(1);
    world.at(2000);
    assert_eq!(world.spawned(), NOTHING);
    assert_eq!(world.drained(), NOTHING);
    assert_eq!(world.signalled(), NOTHING);
    assert_eq!(world.status().phase, Phase::Released);
    assert_eq!(world.status().slots[1].active, Some(world.id(2)), "it still works");
    world.exits(2);
    assert_eq!(world.status().phase, Phase::Over);
}

#[test]
fn release_leaves_workers_alone_that_are_not_ready() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.happens(Event::Release);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: abandoned"]);
    world.at(1000);
    assert_eq!(world.signalled(), NOTHING);
    world.come_to_serve([2]);
    world.at(2000);
    assert_eq!(world.drained(), NOTHING);
    assert_eq!(world.servers(), [1, 2]);
}

#[test]
fn a_released_worker_that_retires_or_closes_its_channel_is_left_alone() {
    let mut world = World::serving(slots(2));
    world.happens(Event::Release);
    world.retires(1);
    world.disconnects(2);
    world.at(1000);
    assert_eq!(world.drained(), NOTHING);
    assert_eq!(world.signalled(), NOTHING);
    assert!(world.status().workers.iter().all(|worker| worker.wanted));
}

#[test]
fn release_does_not_save_those_that_drain_already() {
    let mut world = World::serving(slots(1));
    world.retires(1);
    world.happens(Event::Release);
    world.at(200);
    assert_eq!(world.signalled(), ["TERM to 1 at 130s", "KILL to 1 at 135s"]);
}

#[test]
fn a_stop_after_a_release_drains() {
    let mut world = World::serving(slots(2));
    world.happens(Event::Release);
    world.disconnects(2);
    world.at(110);
    world.happens(Event::Stop);
    assert_eq!(world.drained(), ["1 until 135s"]);
    assert_eq!(world.signalled(), ["TERM to 2 at 110s"], "its channel is closed, and its grace has passed");
}

#[test]
fn a_release_after_a_stop_changes_nothing() {
    let mut world = World::serving(slots(1));
    world.happens(Event::Stop);
    world.happens(Event::Release);
    assert_eq!(world.status().phase, Phase::Stopping);
}

#[test]
fn a_released_worker_that_ends_before_it_serves_has_not_failed() {
    let mut world = World::new(slots(1));
    world.happens(Event::Release);
    world.forget();
    world.crashes(1);
    assert_eq!(world.notices(), ["1 is gone, exit 1"]);
}

#[test]
fn resumed_those_who_live_keep_their_slots_and_vacant_ones_are_filled_at_once() {
    let mut world = World::serving(slots(3));
    world.happens(Event::Release);
    world.crashes(1);
    world.crashes(2);
    world.forget();
    world.happens(Event::Resume);
    assert_eq!(world.spawned(), ["4 in slot 0 of generation 1", "5 in slot 1 of generation 1"]);
    assert_eq!(world.drained(), NOTHING);
    assert_eq!(world.status().phase, Phase::Running);
    world.crashes(3);
    assert_eq!(world.notices_with("must be replaced"), ["3 must be replaced in slot 2, in 1s"]);
}

#[test]
fn resumed_a_worker_that_closed_its_channel_is_replaced() {
    let mut world = World::serving(slots(1));
    world.happens(Event::Release);
    world.disconnects(1);
    world.forget();
    world.happens(Event::Resume);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 1"]);
    world.at(150);
    assert_eq!(world.signalled(), ["TERM to 1 at 105s", "KILL to 1 at 110s"]);
}

#[test]
fn resumed_what_an_abandoned_reload_had_begun_goes() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.happens(Event::Release);
    world.come_to_serve([2]);
    world.forget();
    world.happens(Event::Resume);
    assert_eq!(world.drained(), ["2 until 131s"]);
    assert_eq!(world.servers(), [1]);
}

#[test]
fn resumed_a_reload_is_possible_again() {
    let mut world = World::serving(slots(1));
    world.happens(Event::Release);
    world.happens(Event::Resume);
    world.reload(7);
    world.come_to_serve([2]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn only_a_released_cluster_is_resumed() {
    let mut world = World::serving(slots(1));
    world.happens(Event::Resume);
    assert_eq!(world.status().phase, Phase::Running);
    world.happens(Event::Stop);
    world.happens(Event::Resume);
    assert_eq!(world.status().phase, Phase::Stopping);
}
