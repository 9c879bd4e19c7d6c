//! What is left, as text: it is read by every later version.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::balance::Balance;
use crate::process::{oom_kills, outlets, passage};
use crate::socket::bind;
use crate::supervisor::{
    audience, beginning, caches, callers, changes, generations, hooks, leftovers, policy, spawner, timers,
    workers,
};

/// What the first version has left. It is read for as long as any version is.
const GOLDEN: &str = include_str!("../golden/1.json");

fn same<T: Serialize + DeserializeOwned>(parts: &mut Value, part: &str) {
    let left = parts[part].take();
    let read: T = serde_json::from_value(left.clone()).unwrap_or_else(|error| panic!("{part}: {error}"));
    let written = serde_json::to_value(read).unwrap();
    assert_eq!(written, left, "a change is a new file, and this one is read still");
}

#[test]
fn what_the_first_version_has_left_is_read_and_written_the_same() {
    let mut parts: Value = serde_json::from_str(GOLDEN).unwrap();
    same::<audience::Left>(&mut parts, "audience");
    same::<Balance>(&mut parts, "balance");
    same::<Vec<bind::Left>>(&mut parts, "bound");
    same::<caches::Left>(&mut parts, "caches");
    same::<callers::Left>(&mut parts, "callers");
    same::<changes::Left>(&mut parts, "changes");
    same::<generations::Left>(&mut parts, "generations");
    same::<hooks::Left>(&mut parts, "hooks");
    same::<leftovers::All>(&mut parts, "leftovers");
    same::<Vec<oom_kills::Left>>(&mut parts, "oom_kills");
    same::<outlets::Left>(&mut parts, "outlets");
    same::<Vec<passage::Left>>(&mut parts, "passages");
    same::<policy::Left>(&mut parts, "policy");
    same::<spawner::Left>(&mut parts, "spawner");
    same::<beginning::Rest>(&mut parts, "supervisor");
    same::<Vec<timers::Left>>(&mut parts, "timers");
    same::<workers::Left>(&mut parts, "workers");
    let unread: Vec<_> = parts.as_object().unwrap().iter().filter(|(_, left)| !left.is_null()).collect();
    assert!(unread.is_empty(), "{unread:?}");
}
