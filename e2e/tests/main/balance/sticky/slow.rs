//! Clients that connect and send nothing, or very slowly: no other client waits for them.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use recluster_e2e::{Launch, Master, eventually, remark};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::by;
use super::client::{Client, addresses, slot_of, slots, speak_on, stream_from, with_header};

/// How many connections are silent, where the machine lets one process have them.
const SILENT: usize = 10_000;

/// From how many addresses they come: no address has ports enough for all of them beside those of other tests.
const ADDRESSES: u32 = 100;

/// By how much the master may grow with so many silent connections: a few kilobytes each, in a build for tests.
const GROWTH: u64 = 96 << 20;

/// One crowd at a time: each takes half of the descriptors that this process may have, and other tests need some too.
static CROWD: Mutex<()> = Mutex::new(());

/// Connections on which nothing is sent.
struct Silent {
    connections: Vec<OwnedFd>,
    _alone: MutexGuard<'static, ()>,
}

impl Silent {
    fn connect(master: &Master) -> Self {
        let alone = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = raise_limit() / 2;
        let count = SILENT.min(allowed);
        if count < SILENT {
            remark(&format!("only {count} silent connections instead of {SILENT}: RLIMIT_NOFILE is too low"));
        }
        let to = master.address();
        let crowd = addresses(ADDRESSES);
        let from = |client: &Client| stream_from(client.address(), to).expect("somebody should listen");
        Self { connections: crowd.iter().cycle().take(count).map(from).collect(), _alone: alone }
    }
}

/// Lets this process have as many descriptors as it may allow itself; how many.
fn raise_limit() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the maximum may be had");
    maximum.map_or(usize::MAX, |maximum| usize::try_from(maximum).unwrap_or(usize::MAX))
}

/// What the master has in memory, in bytes.
fn resident(master: &Master) -> u64 {
    let line = master.process().status_line("VmRSS");
    let kilobytes: u64 = line.trim_end_matches(" kB").parse().expect("a number of kilobytes");
    kilobytes << 10
}

/// How many connections the workers were given.
fn given(master: &Master) -> u64 {
    let status = master.status();
    let slots = status["slots"].as_array().expect("slots");
    slots.iter().filter_map(|slot| slot["connections"].as_u64()).sum()
}

/// A cluster that looks at a connection for as long as it takes.
fn patient() -> Launch {
    by("header:X-Client").workers(2)
}

/// The clients that say who they are have their slots, whoever else is connected.
#[track_caller]
fn others_are_answered_beside_silent_ones(launch: Launch) {
    let master = launch.serve();
    let clients = with_header("X-Client", 20);
    let before = slots(&clients, master.address());
    let small = resident(&master);
    let silent = Silent::connect(&master);
    assert_eq!(slots(&clients, master.address()), before);
    let grown = resident(&master).saturating_sub(small);
    assert!(grown <= GROWTH, "the master has grown by {grown} bytes for {}", silent.connections.len());
}

#[test]
fn silent_connections_delay_nobody() {
    others_are_answered_beside_silent_ones(patient());
}

#[test]
fn more_silent_connections_than_are_looked_at_delay_nobody() {
    others_are_answered_beside_silent_ones(patient().option("--peek-connections", "100"));
}

/// One that says something after all is answered, on the connection that a worker has by then.
#[test]
fn silent_connections_go_to_workers_at_the_timeout() {
    let master = by("header:X-Client").workers(2).option("--peek-timeout", "1s").serve();
    let mut silent = Silent::connect(&master);
    let count = silent.connections.len() as u64;
    eventually("the workers have the silent connections", || given(&master) >= count);
    let first = silent.connections.swap_remove(0);
    let mut connection = speak_on(first).expect("it is open");
    assert_eq!(connection.get("/").expect("an answer").status, 200);
}

/// Each is answered by its own slot when its request is complete at last.
#[test]
fn clients_that_send_a_byte_at_a_time_delay_nobody() {
    let master = patient().workers(3).serve();
    let clients = with_header("X-Client", 20);
    let expected = slots(&clients, master.address());
    let mut slow: Vec<_> =
        clients.iter().map(|client| (client.connect(master.address()), client.request())).collect();
    let longest = slow.iter().map(|(_, request)| request.len()).max().expect("there are some");
    for byte in 0..longest {
        for (connection, request) in &mut slow {
            let rest = request.as_bytes().get(byte..=byte).unwrap_or_default();
            connection.send(rest).expect("it is open");
        }
        Client::anyone().header("X-Client", "a fast one").ask(master.address());
    }
    let answered = slow.iter_mut().map(|(connection, _)| connection.response().expect("an answer"));
    assert_eq!(answered.map(|answer| slot_of(&answer)).collect::<Vec<_>>(), expected);
}

/// What a connection has sent stays with the kernel.
#[test]
fn long_heads_that_never_end_do_not_fill_the_master() {
    let master = patient().option("--peek-bytes", "32K").serve();
    let small = resident(&master);
    let head = format!("GET / HTTP/1.1\r\nX-Padding: {}", "x".repeat(30_000));
    let mut open = Vec::new();
    for _ in 0..500 {
        let mut connection = master.connect();
        connection.send(&head).expect("it is connected");
        open.push(connection);
    }
    Client::anyone().header("X-Client", "a").ask(master.address());
    let grown = resident(&master).saturating_sub(small);
    assert!(grown <= 8 << 20, "the master has grown by {grown} bytes");
}
