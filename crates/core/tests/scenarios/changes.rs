//! Files change, and the shell is told to ask for a reload: when they have settled, and not too often.

use recluster_core::{Change, Event, Time};

use crate::words::{millis, secs};
use crate::world::{NOTHING, World, slots};

#[test]
fn source_is_settled_after_a_tenth_of_a_second() {
    let mut world = World::serving(slots(1));
    world.changes(Change::Source);
    assert_eq!(world.deadline().as_deref(), Some("changes at 100.1s"));
    world.pass(millis(99));
    assert_eq!(world.asked(), NOTHING);
    world.pass(millis(1));
    assert_eq!(world.asked(), ["Source at 100.1s"]);
    assert_eq!(world.deadline(), None);
}

#[test]
fn many_files_that_are_saved_one_after_the_other_are_one_reload() {
    let mut world = World::serving(slots(1));
    for _ in 0..15 {
        world.changes(Change::Source);
        world.pass(millis(60));
    }
    assert_eq!(world.asked(), NOTHING);
    world.pass(secs(60));
    assert_eq!(world.asked(), ["Source at 100.94s"]);
}

#[test]
fn what_never_settles_is_taken_as_it_is() {
    let mut world = World::serving(slots(1));
    for _ in 0..50 {
        world.changes(Change::Source);
        world.pass(millis(50));
    }
    assert_eq!(world.asked(), ["Source at 102s"]);
    world.pass(secs(60));
    assert_eq!(world.asked(), ["Source at 102.55s"]);
}

#[test]
fn what_is_deployed_has_a_second_to_settle() {
    let mut world = World::serving(slots(1));
    world.changes(Change::Deployed);
    world.pass(millis(900));
    world.changes(Change::Deployed);
    world.pass(secs(9));
    assert_eq!(world.asked(), ["Deployed at 101.9s"]);
}

#[test]
fn reloads_for_what_is_deployed_are_ten_seconds_apart_at_least() {
    let mut world = World::serving(slots(1));
    for _ in 0..60 {
        world.changes(Change::Deployed);
        world.pass(millis(1_500));
    }
    let asked = world.asked();
    assert_eq!(asked[..3], ["Deployed at 101s", "Deployed at 111.5s", "Deployed at 122s"]);
    assert_eq!(asked.len(), 9);
}

#[test]
fn the_kinds_do_not_wait_for_each_other() {
    let mut world = World::serving(slots(1));
    world.changes(Change::Deployed);
    world.changes(Change::Source);
    world.pass(secs(1));
    assert_eq!(world.asked(), ["Source at 100.1s", "Deployed at 101s"]);
}

#[test]
fn a_change_during_a_reload_is_one_more_reload() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.changes(Change::Source);
    world.changes(Change::Source);
    world.pass(millis(100));
    assert_eq!(world.asked(), ["Source at 100.1s"]);
    world.happens(Event::Reload { caller: None, config: None });
    world.come_to_serve([2]);
    world.come_to_serve([3]);
    let ended = ["generation 2 superseded", "generation 3 for [7]: done"];
    let notices = world.notices();
    assert!(ended.iter().all(|ended| notices.iter().any(|notice| notice == ended)), "{notices:?}");
    assert_eq!(world.asked(), NOTHING);
}

#[test]
fn a_late_tick_finds_both_kinds_due() {
    let mut world = World::serving(slots(1));
    world.changes(Change::Deployed);
    world.changes(Change::Source);
    world.cluster.handle(Event::Tick, Time::after(secs(500)));
    assert_eq!(std::iter::from_fn(|| world.cluster.poll_action()).count(), 2);
    assert_eq!(world.deadline(), None);
}

#[test]
fn where_nothing_is_started_any_more_a_change_means_nothing() {
    for end in [Event::Stop, Event::Terminate, Event::Release] {
        let mut world = World::serving(slots(1));
        world.changes(Change::Source);
        world.happens(end);
        world.changes(Change::Source);
        world.pass(secs(1));
        assert_eq!(world.asked(), NOTHING, "{end:?}");
    }
}
