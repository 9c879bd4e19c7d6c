//! A fault in one slot affects only the clients of that slot, and they come back to it.

use std::collections::BTreeSet;
use std::fs;

use recluster_e2e::{Home, Launch, eventually, fixture, on};
use rustix::process::Signal;

use super::client::{Client, addresses, client_of, slot_of, slots, with_header};
use super::{by, by_address};

/// Kills the worker of slot 1. As long as none comes after it, the other slots answer its clients.
fn clients_come_back_after_a_crash(launch: Launch, clients: &[Client]) {
    let home = Home::new();
    let gate = home.write("gate", "open");
    let launch = launch.server(fixture("sticky/gated.js")).env("GATE", &gate).workers(3);
    let master = launch.option("--backoff", "200ms").serve();
    let before = slots(clients, master.address());
    fs::remove_file(&gate).expect("it is there");
    master.worker(&master.wait(on("spawned").slot(1))).signal(Signal::KILL);
    // The second one has found the gate closed.
    master.wait_all(2, on("exit").slot(1));
    let meanwhile = slots(clients, master.address());
    for (before, meanwhile) in before.iter().zip(&meanwhile) {
        let fine = if *before == 1 { *meanwhile != 1 } else { before == meanwhile };
        assert!(fine, "a client of slot {before} was answered by slot {meanwhile}");
    }
    home.write("gate", "open");
    master.wait_all(2, on("serving").slot(1));
    assert_eq!(slots(clients, master.address()), before);
}

#[test]
fn clients_told_apart_by_address_come_back_after_a_crash() {
    clients_come_back_after_a_crash(by_address(), &addresses(30));
}

#[test]
fn clients_told_apart_by_header_come_back_after_a_crash() {
    clients_come_back_after_a_crash(by("header:X-Client"), &with_header("X-Client", 30));
}

/// Code that does not work never gets a client, and takes none away.
fn clients_stay_through_a_rollback(launch: impl FnOnce() -> Launch, clients: &[Client]) {
    let home = Home::new();
    let server = home.release("good", "server.js");
    let launch = launch().server(server).home(&home).workers(3);
    let master = launch.config("bake = \"100ms\"").serve();
    master.configure("bake = \"1h\"");
    let before = slots(clients, master.address());
    home.release("bad", "throws-late.js");
    master.reload().expect_code(1);
    master.wait(on("reloaded").with("/verdict", "rolled_back"));
    assert_eq!(slots(clients, master.address()), before);
}

#[test]
fn clients_told_apart_by_address_stay_through_a_rollback() {
    clients_stay_through_a_rollback(by_address, &addresses(30));
}

#[test]
fn clients_told_apart_by_header_stay_through_a_rollback() {
    clients_stay_through_a_rollback(|| by("header:X-Client"), &with_header("X-Client", 30));
}

/// Stops the worker of slot 1 and lets requests of one of its clients wait for it. The clients of the other slots are
/// answered, and so are those that wait once it runs again. Returns which slots have answered these.
fn others_are_answered_beside_a_stopped_worker(
    launch: Launch,
    clients: &[Client],
    waiting: usize,
) -> BTreeSet<u64> {
    let master = launch.workers(3).serve();
    let before = slots(clients, master.address());
    let unlucky = client_of(1, clients, &before);
    let stopped = master.worker(&master.wait(on("spawned").slot(1)));
    stopped.signal(Signal::STOP);
    eventually("it is stopped", || stopped.status_line("State").starts_with('T'));
    let waiting: Vec<_> = (0..waiting).map(|_| unlucky.begin(master.address())).collect();
    for (client, slot) in clients.iter().zip(&before).filter(|(_, slot)| **slot != 1) {
        assert_eq!(slot_of(&client.ask(master.address())), *slot);
    }
    stopped.signal(Signal::CONT);
    waiting.into_iter().map(|mut connection| slot_of(&connection.response().expect("an answer"))).collect()
}

#[test]
fn by_address_a_stopped_worker_delays_nobody_else() {
    let answered = others_are_answered_beside_a_stopped_worker(by_address(), &addresses(30), 100);
    assert_eq!(answered, BTreeSet::from([1]));
}

#[test]
fn by_header_a_stopped_worker_delays_nobody_else() {
    let clients = with_header("X-Client", 30);
    let answered = others_are_answered_beside_a_stopped_worker(by("header:X-Client"), &clients, 100);
    assert_eq!(answered, BTreeSet::from([1]));
}

/// The master keeps no more than so many for it. Other slots answer what is more.
#[test]
fn by_header_more_than_can_wait_for_a_stopped_worker_delays_nobody_else() {
    let clients = with_header("X-Client", 30);
    let answered = others_are_answered_beside_a_stopped_worker(by("header:X-Client"), &clients, 600);
    assert!(answered.len() > 1, "{answered:?}");
}
