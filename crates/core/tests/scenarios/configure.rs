//! Other settings while the cluster runs.

use recluster_core::{Config, Event, Settings};

use crate::words::secs;
use crate::world::{NOTHING, World, slots};

fn configure(world: &mut World, settings: Settings) {
    world.happens(Event::Configure(Config::new(settings).expect("the settings can be")));
}

#[test]
fn another_timeout_holds_for_workers_that_are_let_go_from_then_on() {
    let mut world = World::serving(slots(3));
    world.scale(2);
    configure(&mut world, Settings { timeout: secs(5), ..slots(3) });
    world.scale(1);
    assert_eq!(world.drained(), ["3 until 130s", "2 until 105s"]);
}

#[test]
fn the_number_of_slots_is_not_touched() {
    let mut world = World::serving(slots(2));
    world.scale(3);
    world.come_to_serve([3]);
    world.forget();
    configure(&mut world, Settings { timeout: secs(5), ..slots(2) });
    configure(&mut world, slots(1));
    assert_eq!(world.told(), NOTHING);
    assert_eq!(world.status().slots.len(), 3);
}

#[test]
fn another_spacing_holds_for_the_next_respawn() {
    let mut world = World::serving(slots(1));
    configure(&mut world, Settings { respawn: secs(9), ..slots(1) });
    world.crashes(1);
    world.forget();
    world.come_to_serve([2]);
    world.crashes(2);
    world.pass(secs(7));
    assert_eq!(world.spawned(), NOTHING);
    world.pass(secs(1));
    assert_eq!(world.spawned(), ["3 in slot 0 of generation 1"]);
}
