//! Code that somebody is changing: what has ended waits for the next reload, and an old worker may have to be gone first.

use recluster_core::{Event, Settings, SpawnFailure};

use crate::words::{millis, secs};
use crate::world::{NOTHING, World, slots};

fn held(workers: u32) -> Settings {
    Settings { hold: true, attempts: 1, ..slots(workers) }
}

fn gone_first(workers: u32) -> Settings {
    Settings { gone_first: true, timeout: secs(0), ..held(workers) }
}

#[test]
fn a_worker_that_ends_is_not_started_again_before_the_next_reload() {
    let mut world = World::serving(held(1));
    world.crashes(1);
    assert_eq!(world.notices_with("waits"), ["1 in slot 0 waits for a reload"]);
    world.pass(secs(600));
    assert_eq!(world.spawned(), NOTHING);
    assert_eq!(world.deadline(), None, "nothing is due: nobody is woken");
    world.reload(7);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 2"]);
    world.come_to_serve([2]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
    assert_eq!(world.servers(), [2]);
}

#[test]
fn a_first_start_that_fails_waits_for_the_next_reload_as_well() {
    let mut world = World::new(held(2));
    world.cannot_spawn(1, SpawnFailure::Hopeless);
    world.crashes(2);
    world.pass(secs(600));
    assert_eq!(world.notices_with("start failed"), NOTHING);
    assert_eq!(world.notices_with("waits").len(), 0, "the notices were read");
    world.forget();
    world.reload(7);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 2", "4 in slot 1 of generation 2"]);
    world.come_to_serve([3, 4]);
    assert_eq!(world.notices_with("started"), ["generation 2 started"]);
}

#[test]
fn broken_code_is_rolled_back_at_once_and_what_serves_goes_on() {
    let mut world = World::serving(held(1));
    world.reload(7);
    world.crashes(2);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: rolled back, 2 in slot 0 exit 1, failure 1"]);
    assert_eq!(world.servers(), [1]);
    world.crashes(1);
    world.pass(secs(600));
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 2"], "only the reload has started one");
}

#[test]
fn broken_code_where_nothing_serves_waits_for_the_next_reload() {
    let mut world = World::serving(held(1));
    world.crashes(1);
    world.reload(7);
    world.crashes(2);
    world.forget();
    world.pass(secs(600));
    assert_eq!(world.spawned(), NOTHING);
    world.reload(8);
    world.come_to_serve([3]);
    assert_eq!(world.servers(), [3]);
}

#[test]
fn a_worker_is_renewed_all_the_same_and_new_slots_are_filled() {
    let mut world = World::serving(held(1));
    world.replace(1);
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 1"]);
    world.come_to_serve([2]);
    assert_eq!(world.servers(), [2]);
    world.scale(2);
    assert_eq!(world.spawned(), ["3 in slot 1 of generation 1"]);
}

#[test]
fn during_a_reload_a_slot_is_retried_as_ever() {
    let mut world = World::serving(Settings { attempts: 2, ..held(1) });
    world.reload(7);
    world.crashes(2);
    world.pass(secs(1));
    world.come_to_serve([3]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn the_old_worker_is_gone_before_the_new_one_is_started() {
    let mut world = World::serving(gone_first(1));
    world.reload(7);
    assert_eq!(world.spawned(), NOTHING);
    assert_eq!(world.drained(), ["1 until 100s"]);
    assert_eq!(world.signalled(), ["TERM to 1 at 100s"]);
    world.pass(millis(300));
    world.exits(1);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 2"]);
    world.come_to_serve([2]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
}

#[test]
fn each_slot_waits_for_its_own_old_worker() {
    let mut world = World::serving(gone_first(2));
    world.reload(7);
    world.exits(2);
    assert_eq!(world.spawned(), ["3 in slot 1 of generation 2"]);
    world.exits(1);
    assert_eq!(world.spawned(), ["4 in slot 0 of generation 2"]);
}

#[test]
fn an_old_worker_that_cannot_be_killed_is_not_waited_for_for_ever() {
    let mut world = World::serving(gone_first(1));
    world.reload(7);
    world.pass(secs(15));
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 2"], "5 s to KILL, and 10 s more");
}

#[test]
fn a_reload_that_comes_before_the_old_worker_is_gone_starts_one_new_worker() {
    let mut world = World::serving(gone_first(1));
    world.reload(7);
    world.pass(secs(1));
    world.reload(8);
    world.exits(1);
    assert_eq!(world.spawned(), ["2 in slot 0 of generation 3"]);
    world.happens(Event::Reload { caller: None, config: None });
    world.pass(secs(2));
    assert_eq!(world.spawned(), NOTHING, "generation 4 waits until that of 3 is gone");
    world.exits(2);
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 4"]);
}
