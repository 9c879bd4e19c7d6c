//! A stop of applications that close their servers themselves when they are told of it, as fastify and hapi do: what waits in
//! the queues is served first, and nobody waits for what no worker can take any more.

use std::net::SocketAddr;

use recluster_e2e::{Connection, Launch, Master, Process, on};
use rustix::process::Signal;

use super::shutdown::resets_no_connection;

/// Every way in which connections reach workers.
const BALANCES: [&[&str]; 5] = [
    &["round-robin"],
    &["shared"],
    &["kernel"],
    &["sticky", "--sticky-by", "ip"],
    &["sticky", "--sticky-by", "cookie:sid"],
];

/// A cluster that would not end in time if it waited for a part of its timeouts.
fn cluster(fixture: &str, balance: &[&str]) -> Launch {
    let launch = Launch::fixture(fixture).option("--balance", balance[0]);
    let launch = launch.option("--stop-timeout", "1h").option("--timeout", "1h");
    balance.get(2).copied().into_iter().fold(launch, |launch, by| launch.option("--sticky-by", by))
}

/// Clients that send a request each, which waits in the queue of this address.
fn waiting(count: usize, address: SocketAddr) -> Vec<Connection<std::net::TcpStream>> {
    let client = |_| {
        let mut connection = Connection::open(address).expect("somebody listens");
        connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is connected");
        connection
    };
    (0..count).map(client).collect()
}

#[track_caller]
fn all_are_answered(connections: &mut [Connection<std::net::TcpStream>]) {
    for connection in connections {
        assert_eq!(connection.response().expect("an answer").status, 200);
    }
}

fn signal_all(workers: &[Process], signal: Signal) {
    for worker in workers {
        worker.signal(signal);
    }
}

/// Stops the processes of all workers, so that what comes waits in the queues.
fn freeze(master: &Master) -> Vec<Process> {
    let workers = master.seen(&on("spawned"));
    let workers: Vec<_> = workers.iter().map(|spawned| master.worker(spawned)).collect();
    signal_all(&workers, Signal::STOP);
    workers
}

#[test]
fn a_stop_resets_no_connection() {
    for balance in BALANCES {
        resets_no_connection(cluster("closes-itself.js", balance).workers(3).serve());
    }
}

#[test]
fn what_waits_in_the_queues_is_served() {
    for balance in BALANCES {
        let mut master = cluster("closes-itself.js", balance).serve();
        let workers = freeze(&master);
        let mut connections = waiting(40, master.address());
        master.signal(Signal::TERM);
        master.wait_all(2, on("draining"));
        signal_all(&workers, Signal::CONT);
        all_are_answered(&mut connections);
        drop(connections);
        master.expect_end(0);
    }
}

#[test]
fn of_two_servers_the_one_that_is_closed_holds_nobody_up() {
    for balance in BALANCES {
        let mut master = cluster("closes-one-of-two.js", balance).workers(1).serve();
        let listening = master.status()["listeners"].clone();
        let addresses = listening.as_array().expect("two addresses").iter().map(|listener| {
            let address = listener["address"].as_str().expect("an address");
            address.rsplit('/').next().and_then(|address| address.parse().ok()).expect("TCP")
        });
        let addresses: Vec<SocketAddr> = addresses.collect();
        assert_eq!(addresses.len(), 2);
        let workers = freeze(&master);
        let mut connections: Vec<_> = addresses.iter().flat_map(|address| waiting(20, *address)).collect();
        master.signal(Signal::TERM);
        master.wait(on("draining"));
        signal_all(&workers, Signal::CONT);
        all_are_answered(&mut connections);
        drop(connections);
        master.expect_end(0);
    }
}

#[test]
fn a_worker_that_dies_at_a_stop_leaves_what_waits_to_the_others() {
    for balance in BALANCES {
        let mut master = cluster("closes-itself.js", balance).serve();
        let workers = freeze(&master);
        let mut connections = waiting(40, master.address());
        master.signal(Signal::TERM);
        master.wait_all(2, on("draining"));
        workers[0].signal(Signal::KILL);
        master.wait(on("exit"));
        workers[1].signal(Signal::CONT);
        all_are_answered(&mut connections);
        drop(connections);
        master.expect_end(0);
    }
}

/// The last one that could take what waits has died: its clients need not wait for the end of the stop.
#[test]
fn what_nobody_is_left_to_take_is_closed_at_once() {
    for balance in BALANCES {
        let mut master = cluster("closes-itself.js", balance).workers(1).serve();
        let workers = freeze(&master);
        let connections = waiting(40, master.address());
        master.signal(Signal::TERM);
        master.wait(on("draining"));
        workers[0].signal(Signal::KILL);
        for mut connection in connections {
            let _ = connection.response().expect_err("nobody answers");
        }
        master.expect_end(0);
    }
}

/// It has no connection any more, and its channel is closed: what it waits for is the exit grace.
#[test]
fn a_timer_holds_nobody_up_for_longer_than_one_that_leaves_its_server_to_node() {
    let fixture = "closes-itself.js";
    let launch = cluster(fixture, BALANCES[0]).env("TIMER", "1").option("--exit-grace", "100ms");
    let mut master = launch.serve();
    master.signal(Signal::TERM);
    let overdue = master.wait(on("overdue"));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("exit", "SIGTERM"));
    master.expect_end(0);
}
