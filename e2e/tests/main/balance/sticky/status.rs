//! What the status says of sticky sessions.

use recluster_e2e::{Launch, eventually};

use super::client::{Client, addresses, slots, with_header};
use super::{by, by_address};

/// Tells by what clients are known, on every listener, and how many connections each slot has got: also where workers
/// accept by themselves, which they tell a little later.
#[track_caller]
fn tells_what_is_done(launch: Launch, by: &str, clients: &[Client]) {
    let master = launch.workers(3).serve();
    let status = master.status();
    assert_eq!((&status["balance"], &status["sticky_by"]), (&"sticky".into(), &by.into()), "{status}");
    assert_eq!(status["listeners"][0]["balance"], "sticky", "{status}");
    let asked = slots(clients, master.address());
    let shares: Vec<usize> =
        (0..3).map(|slot| asked.iter().filter(|other| **other == slot).count()).collect();
    eventually("every connection is counted", || {
        let status = master.status();
        let slots = status["slots"].as_array().expect("slots");
        slots.iter().zip(&shares).all(|(slot, share)| slot["connections"] == *share)
    });
}

#[test]
fn by_address_is_shown() {
    tells_what_is_done(by_address(), "ip", &addresses(60));
}

#[test]
fn by_header_is_shown() {
    tells_what_is_done(by("header:X-Client"), "header:X-Client", &with_header("X-Client", 60));
}
