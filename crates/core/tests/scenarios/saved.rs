//! A cluster as plain data: what was saved goes on elsewhere, also where another version has written it.
//!
//! `tests/golden` has a file for each format that a version has written. A change that a file of before does not survive
//! breaks the upgrade from that version.

use recluster_core::{Change, Cluster, Settings, Time};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::words::{millis, secs};
use crate::world::{World, slots, surge};

/// What version 2.0.0 writes.
const GOLDEN: &str = include_str!("../golden/2.0.0.json");

/// A reload goes on that has superseded another one; a worker of it has failed, others drain, one more reload waits, and files
/// have changed.
fn in_the_middle_of_everything() -> World {
    let settings = Settings { backoff: Some(secs(60)), ..surge(3, 1) };
    let mut world = World::serving(settings);
    world.reload(7);
    world.come_to_serve([4]);
    world.reload_with(8, Settings { workers: 4, ..settings });
    world.crashes(7);
    world.changes(Change::Deployed);
    world.pass(millis(500));
    world.reload_with(9, Settings { bake: secs(2), ..settings });
    world
}

fn load(data: &Value) -> Result<Cluster, String> {
    Cluster::deserialize(data).map_err(|error| error.to_string())
}

#[test]
fn it_is_written_as_it_was_and_what_was_written_is_read() {
    let cluster = in_the_middle_of_everything().cluster.clone();
    let written = serde_json::to_string_pretty(&cluster).unwrap();
    let golden: Cluster = serde_json::from_str(GOLDEN).unwrap();
    assert_eq!(golden, cluster);
    assert_eq!(written, GOLDEN.trim_end());
}

#[test]
fn what_a_newer_version_has_added_is_no_fault() {
    let mut data: Value = serde_json::from_str(GOLDEN).unwrap();
    data["novelty"] = json!({ "deep": [1] });
    data["slots"][0]["novelty"] = json!(1);
    assert_eq!(load(&data), Ok(in_the_middle_of_everything().cluster.clone()));
}

#[test]
fn while_actions_wait_there_is_nothing_to_be_saved() {
    let mut cluster = World::serving(slots(2)).cluster.clone();
    cluster.handle(recluster_core::Event::Stop, Time::after(secs(200)));
    let error = serde_json::to_string(&cluster).unwrap_err();
    assert_eq!(error.to_string(), "actions of the cluster wait to be polled");
    while cluster.poll_action().is_some() {}
    assert!(serde_json::to_string(&cluster).is_ok());
}

#[test]
fn what_no_cluster_can_be_is_refused() {
    let faults: [(&str, Value, &str); 11] = [
        ("/settings/workers", json!(0), "settings are not valid"),
        ("/reload/before/attempts", json!(0), "settings are not valid"),
        ("/pending/config/workers", json!(5000), "workers is 5000: a cluster may have at most 1024"),
        ("/phase", json!("over"), "its phase is none that a cluster is in"),
        ("/slots", json!([]), "it has no slot"),
        ("/slots/1/id", json!(2), "its slots are not in their order"),
        ("/slots/0/holder", json!(99), "a slot names a worker that there is not"),
        ("/workers/last", json!(1), "it would use the name of a worker again"),
        ("/generation", json!(4), "it names a generation that was not begun"),
        ("/workers/living/4/generation", json!(0), "it names a generation that was not begun"),
        ("/reload/generation", json!(4), "its reload was not begun"),
    ];
    for (place, value, fault) in faults {
        let mut data: Value = serde_json::from_str(GOLDEN).unwrap();
        *data.pointer_mut(place).expect(place) = value;
        assert_eq!(load(&data), Err(fault.to_owned()), "{place}");
    }
}
