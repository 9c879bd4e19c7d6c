//! The contract with the shell.

use recluster_core::{
    Action, Cluster, Config, ConfigError, Event, Exit, Notice, Phase, Settings, Signal, SpawnFailure, State,
    Time, WorkerId,
};

use crate::words::{due, secs};
use crate::world::{NOTHING, World, slots};

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut world = World::serving(slots(1));
    let one = world.id(1);
    world.cluster.handle(Event::Retiring(one), Time::after(secs(3)));
    assert!(matches!(
        world.status().workers[0].state,
        State::Draining { until } if until == Time::after(secs(130))
    ));
}

#[test]
fn facts_about_a_worker_that_is_gone_change_nothing() {
    let mut world = World::serving(slots(1));
    let one = world.id(1);
    world.crashes(1);
    world.forget();
    let before = world.cluster.clone();
    for event in [
        Event::Online(one),
        Event::Ready(one),
        Event::Retiring(one),
        Event::Disconnected(one),
        Event::Exited(one, Exit::Code(0)),
        Event::Ending(one),
        Event::SpawnFailed(one, SpawnFailure::Hopeless),
        Event::Replace(one),
    ] {
        world.happens(event);
    }
    assert_eq!(world.cluster, before);
    assert_eq!(world.notices(), NOTHING);
}

#[test]
fn a_second_tick_at_the_same_time_yields_nothing() {
    let mut world = World::serving(Settings { timeout: secs(0), bake: secs(0), ..slots(2) });
    world.reload(7);
    world.all_ready([3, 4]);
    world.forget();
    let before = world.cluster.clone();
    world.happens(Event::Tick);
    assert_eq!(world.cluster, before);
    assert_eq!(world.notices(), NOTHING);
}

#[test]
fn a_late_tick_does_all_that_was_due() {
    let mut world = World::serving(slots(1));
    world.retires(1);
    world.forget();
    world.cluster.handle(Event::Tick, Time::after(secs(500)));
    assert_eq!(world.cluster.next_deadline().map(|(at, _)| at), Some(Time::after(secs(505))));
}

#[test]
fn a_notice_says_why_before_a_signal_is_sent() {
    let mut world = World::serving(slots(1));
    world.retires(1);
    for (at, signal, why) in [(130, Signal::Term, "drain 1"), (135, Signal::Kill, "kill 1")] {
        world.cluster.handle(Event::Tick, Time::after(secs(at)));
        let done: Vec<Action> = std::iter::from_fn(|| world.cluster.poll_action()).collect();
        let [Action::Notify(Notice::Overdue { due: late, .. }), Action::Signal { signal: sent, .. }] =
            done[..2]
        else {
            panic!("{done:?}");
        };
        assert_eq!((due(late).as_str(), sent), (why, signal));
    }
}

#[test]
fn every_deadline_has_its_reason() {
    let mut world = World::new(Settings { ready_timeout: secs(20), ..slots(1) });
    assert_eq!(world.deadline().as_deref(), Some("ready 1 at 20s"));
    world.ready(1);
    assert_eq!(world.deadline().as_deref(), Some("bake 1 at 1s"));
    world.at(100);
    assert_eq!(world.deadline(), None);
    world.reload(7);
    world.reload(8);
    assert_eq!(world.deadline().as_deref(), Some("reload at 101s"));
    world.come_to_serve([2]);
    world.come_to_serve([3]);
    assert_eq!(world.deadline().as_deref(), Some("drain 1 at 131s"));
    world.disconnects(1);
    assert_eq!(world.deadline().as_deref(), Some("exit 1 at 107s"));
    world.at(107);
    assert_eq!(world.deadline().as_deref(), Some("kill 1 at 112s"));
    world.exits(1);
    world.exits(2);
    world.crashes(3);
    world.crashes(4);
    assert_eq!(world.deadline().as_deref(), Some("respawn at 108s"));
}

#[test]
fn a_worker_is_active_from_ready_until_it_is_on_its_way_out() {
    let mut world = World::new(slots(1));
    let active = |world: &World| world.status().slots[0].active.map(WorkerId::get);
    assert_eq!(active(&world), None);
    world.ready(1);
    assert_eq!(active(&world), Some(1));
    world.at(5);
    world.reload(7);
    world.come_to_serve([2]);
    assert_eq!(active(&world), Some(2));
    world.retires(2);
    assert_eq!(active(&world), None);
}

#[test]
fn where_the_old_worker_is_gone_the_new_one_is_active_as_soon_as_it_is_ready() {
    let mut world = World::serving(slots(2));
    world.reload(7);
    world.all_ready([3, 4]);
    world.crashes(1);
    let active: Vec<Option<u64>> =
        world.status().slots.iter().map(|slot| slot.active.map(WorkerId::get)).collect();
    assert_eq!(active, [Some(3), Some(2)]);
}

#[test]
fn status_says_which_workers_are_wanted() {
    let mut world = World::serving(slots(1));
    world.reload(7);
    let wanted =
        |world: &World| -> Vec<bool> { world.status().workers.iter().map(|worker| worker.wanted).collect() };
    assert_eq!(wanted(&world), [true, true]);
    world.come_to_serve([2]);
    assert_eq!(wanted(&world), [false, true]);
}

#[test]
fn the_same_story_makes_the_same_cluster() {
    let story = || {
        let mut world = World::serving(slots(2));
        world.reload(7);
        world.crashes(3);
        world.pass(secs(1));
        world.cluster.clone()
    };
    assert_eq!(story(), story());
}

fn spawned(action: &Action) -> Option<WorkerId> {
    if let Action::Spawn { worker, .. } = action { Some(*worker) } else { None }
}

#[test]
fn a_cluster_may_begin_at_any_time() {
    let config = Config::new(slots(1)).expect("valid");
    let mut cluster = Cluster::new(config, Time::after(secs(1000)));
    let started = std::iter::from_fn(|| cluster.poll_action());
    let workers: Vec<WorkerId> = started.filter_map(|action| spawned(&action)).collect();
    for worker in workers {
        cluster.handle(Event::Begun(worker), Time::ZERO);
    }
    assert_eq!(cluster.next_deadline().map(|(at, _)| at), Some(Time::after(secs(1060))));
    assert_eq!(cluster.phase(), Phase::Starting);
}

#[test]
fn settings_that_cannot_be_are_refused_in_one_clear_line() {
    let refused = |settings: Settings| Config::new(settings).expect_err("it cannot be").to_string();
    assert_eq!(refused(slots(0)), "workers is 0: a cluster needs at least 1");
    assert_eq!(refused(slots(1025)), "workers is 1025: a cluster may have at most 1024");
    assert_eq!(
        refused(Settings { attempts: 0, ..slots(1) }),
        "attempts is 0: a generation must be tried at least once"
    );
    assert_eq!(
        refused(Settings { ready_timeout: secs(0), ..slots(1) }),
        "the ready timeout is 0: no worker could be ready in time"
    );
    assert_eq!(
        refused(Settings { backoff: Some(secs(1)), respawn: secs(2), ..slots(1) }),
        "backoff is 1s, less than respawn, which is 2s: it must be at least as long"
    );
    assert_eq!(Config::new(slots(0)), Err(ConfigError::NoWorkers));
}

#[test]
fn a_worker_that_leaves_as_its_ready_timeout_ends_is_not_late_to_be_ready() {
    let mut world = World::new(slots(1));
    let one = world.id(1);
    world.forget();
    world.cluster.handle(Event::Stop, Time::after(secs(60)));
    world.pass(secs(60));
    assert_eq!(world.drained(), ["1 until 60s"]);
    assert_eq!(world.notices(), ["overdue: drain 1, TERM"]);
    world.happens(Event::Exited(one, Exit::Signal(15)));
    assert_eq!(world.status().phase, Phase::Over);
}
