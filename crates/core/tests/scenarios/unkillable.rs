//! Workers that KILL does not end: they are given up, and nothing waits for them.

use recluster_core::{Event, Exit, MOST_SPARED, Phase, Settings, State, Time};

use crate::words::secs;
use crate::world::{NOTHING, World, slots, surge};

/// The states of all workers, in the order in which they were begun.
fn states(world: &World) -> Vec<State> {
    world.status().workers.iter().map(|worker| worker.state).collect()
}

/// What was said of workers that cannot be killed.
fn given_up(world: &mut World) -> Vec<String> {
    world.notices_with("cannot be killed")
}

#[test]
fn a_worker_that_outlives_kill_is_given_up_and_that_is_told_once() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.come_to_serve([2]);
    world.at(136);
    assert_eq!(states(&world)[0], State::Killed { until: Time::after(secs(146)) });
    assert_eq!(world.status().workers[0].deadline, None, "no signal follows");
    assert_eq!(world.deadline().as_deref(), Some("end 1 at 146s"));
    world.at(145);
    assert_eq!(given_up(&mut world), NOTHING);
    world.at(146);
    assert_eq!(given_up(&mut world), ["1 cannot be killed"]);
    assert_eq!(states(&world)[0], State::Unkillable);
    assert_eq!(world.deadline(), None);
    world.at(1000);
    assert_eq!(given_up(&mut world), NOTHING);
}

#[test]
fn one_that_ends_in_time_is_not_given_up() {
    let mut world = World::serving(slots(1));
    world.happens(Event::Terminate);
    world.at(109);
    let one = world.id(1);
    world.happens(Event::Exited(one, Exit::Signal(9)));
    assert_eq!(given_up(&mut world), NOTHING);
    assert_eq!(world.status().phase, Phase::Over);
}

#[test]
fn one_that_is_about_to_end_has_its_time_once_more() {
    let mut world = World::serving(slots(1));
    let one = world.id(1);
    world.happens(Event::Ending(one));
    world.happens(Event::Terminate);
    world.at(108);
    world.happens(Event::Ending(one));
    assert_eq!(world.deadline().as_deref(), Some("end 1 at 118s"));
    world.at(118);
    assert_eq!(given_up(&mut world), ["1 cannot be killed"]);
    world.happens(Event::Ending(one));
    assert_eq!(world.status().phase, Phase::Over);
}

#[test]
fn one_that_is_always_about_to_end_is_given_up_all_the_same() {
    let mut world = World::serving(slots(1));
    let one = world.id(1);
    world.happens(Event::Terminate);
    for spared in 1..=MOST_SPARED {
        world.pass(secs(9));
        world.happens(Event::Ending(one));
        assert_eq!(given_up(&mut world), NOTHING, "{spared}");
    }
    world.pass(secs(9));
    world.happens(Event::Ending(one));
    assert_eq!(given_up(&mut world), NOTHING);
    world.pass(secs(1));
    assert_eq!(given_up(&mut world), ["1 cannot be killed"]);
    assert_eq!(world.status().phase, Phase::Over);
}

#[test]
fn one_that_ends_after_all_is_told_to_be_gone() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    world.come_to_serve([2]);
    world.at(300);
    world.forget();
    let one = world.id(1);
    world.happens(Event::Exited(one, Exit::Signal(9)));
    assert_eq!(world.notices(), ["1 is gone as expected, signal 9"]);
    assert_eq!(states(&world).len(), 1);
}

#[test]
fn a_reload_a_later_one_and_a_scaling_do_not_wait_for_it() {
    let mut world = World::serving(surge(2, 1));
    world.reload(7);
    world.come_to_serve([3]);
    world.come_to_serve([4]);
    assert_eq!(world.verdicts(), ["generation 2 for [7]: done"]);
    world.at(300);
    assert_eq!(given_up(&mut world), ["1 cannot be killed", "2 cannot be killed"]);
    world.reload(8);
    world.come_to_serve([5]);
    world.come_to_serve([6]);
    assert_eq!(world.verdicts(), ["generation 3 for [8]: done"]);
    world.scale(1);
    world.at(600);
    assert_eq!(world.servers(), [5]);
    assert!(world.status().settled);
}

#[test]
fn a_new_worker_that_cannot_be_killed_fails_its_reload_and_no_other() {
    let mut world = World::serving(Settings { attempts: 1, ready_timeout: secs(20), ..slots(1) });
    world.reload(7);
    world.at(121);
    assert_eq!(
        world.verdicts(),
        ["generation 2 for [7]: rolled back, 2 in slot 0 not ready in time, failure 1"]
    );
    world.at(140);
    assert_eq!(given_up(&mut world), ["2 cannot be killed"]);
    world.reload(8);
    world.come_to_serve([3]);
    assert_eq!(world.verdicts(), ["generation 3 for [8]: done"]);
}

#[test]
fn a_stop_and_a_termination_end_without_it() {
    let mut world = World::serving(slots(2));
    world.happens(Event::Stop);
    world.exits(2);
    world.at(139);
    assert_eq!(world.status().phase, Phase::Stopping);
    world.at(140);
    assert_eq!(given_up(&mut world), ["1 cannot be killed"]);
    assert_eq!(world.status().phase, Phase::Over);

    let mut world = World::serving(slots(2));
    world.happens(Event::Terminate);
    world.exits(2);
    world.at(110);
    assert_eq!(given_up(&mut world), ["1 cannot be killed"]);
    assert_eq!(world.status().phase, Phase::Over);
    assert_eq!(world.deadline(), None);
}

#[test]
fn insisting_neither_prolongs_nor_repeats_anything() {
    let mut world = World::serving(slots(1));
    world.happens(Event::Terminate);
    world.at(105);
    world.happens(Event::Terminate);
    assert_eq!(world.deadline().as_deref(), Some("end 1 at 110s"));
    world.at(110);
    assert_eq!(given_up(&mut world), ["1 cannot be killed"]);
    world.happens(Event::Terminate);
    assert_eq!(world.signalled(), ["KILL to 1 at 100s"]);
    assert_eq!(given_up(&mut world), NOTHING);
}

#[test]
fn a_stop_still_waits_for_those_that_can_be_killed() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.come_to_serve([3, 4]);
    world.exits(2);
    world.at(200);
    assert_eq!(states(&world)[0], State::Unkillable);
    world.happens(Event::Stop);
    assert_eq!(world.status().phase, Phase::Stopping);
    world.exits(3);
    assert_eq!(world.status().phase, Phase::Stopping);
    world.exits(4);
    assert_eq!(world.status().phase, Phase::Over);
}

#[test]
fn without_any_patience_it_is_given_up_at_once() {
    let none = secs(0);
    let settings = Settings { timeout: none, kill_timeout: none, end_timeout: none, ..slots(1) };
    let mut world = World::serving(settings);
    world.reload(7);
    world.come_to_serve([2]);
    assert_eq!(given_up(&mut world), ["1 cannot be killed"]);
    assert_eq!(world.signalled(), ["TERM to 1 at 101s", "KILL to 1 at 101s"]);
}
