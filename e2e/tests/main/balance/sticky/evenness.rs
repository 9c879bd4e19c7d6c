//! Every slot gets its share of the clients, and only those of a removed slot move.

use std::net::SocketAddr;
use std::thread;

use recluster_e2e::on;

use super::by_address;
use super::client::{Client, addresses, slots};

const CLIENTS: u32 = 10_000;
const SLOTS: u32 = 8;

/// How many clients ask at the same time: as many as keep a small machine busy.
const AT_ONCE: usize = 4;

/// The slot that each client is answered by; several ask at the same time.
fn slots_at_once(clients: &[Client], to: SocketAddr) -> Vec<u64> {
    thread::scope(|scope| {
        let parts = clients.chunks(clients.len().div_ceil(AT_ONCE));
        let parts: Vec<_> = parts.map(|part| scope.spawn(move || slots(part, to))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("every client is answered")).collect()
    })
}

#[test]
fn clients_spread_evenly_and_only_those_of_a_removed_slot_move() {
    let master = by_address().workers(SLOTS).serve();
    let clients = addresses(CLIENTS);
    let before = slots_at_once(&clients, master.address());
    for slot in 0..u64::from(SLOTS) {
        let share = before.iter().filter(|other| **other == slot).count();
        let mean = (CLIENTS / SLOTS) as usize;
        assert!(share.abs_diff(mean) <= mean / 10, "slot {slot} has {share} clients, the mean is {mean}");
    }
    master.client(&["scale", &(SLOTS - 1).to_string()]).expect_code(0);
    master.wait(on("exit").slot(u64::from(SLOTS - 1)));
    let after = slots_at_once(&clients, master.address());
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
    let (gone, elsewhere): (Vec<_>, Vec<_>) = moved.partition(|(before, _)| **before == u64::from(SLOTS - 1));
    assert!(elsewhere.is_empty(), "{} clients of other slots moved", elsewhere.len());
    assert!(gone.len() <= CLIENTS as usize / 4, "{} clients moved", gone.len());
}
