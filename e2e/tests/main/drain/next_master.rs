//! A master was killed, and the next one is started at once, with the same arguments: it serves while the workers of the first one
//! answer what they have.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, process};

use recluster_e2e::{Connection, Home, Launch, Load, Master, eventually, get, on, rust_example};
use rustix::process::Signal;
use serde_json::json;

/// What both masters have in common.
struct Place {
    home: Home,
    /// An address that no other test has, so that its ports are nobody else's when the first master is gone.
    host: String,
}

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let [.., high, low] = process::id().to_be_bytes();
        let host = format!("127.{}.{high}.{low}", 100 + COUNT.fetch_add(1, Ordering::Relaxed) % 100);
        Self { home: Home::new(), host }
    }

    fn with(&self, launch: Launch) -> Launch {
        let pidfile = self.home.join("it.pid");
        launch.home(&self.home).discoverable().option("--pidfile", &pidfile.to_string_lossy())
    }

    /// Servers of Node on this port.
    fn node(&self, balance: &str, port: u16) -> Launch {
        let listen = json!({ "port": port, "host": self.host }).to_string();
        self.with(Launch::fixture("drains.js")).option("--balance", balance).env("LISTEN", listen)
    }

    fn listening(&self, launch: Launch, port: u16) -> Launch {
        self.with(launch).listen(&format!("http={}:{port}", self.host)).option("--balance", "shared")
    }
}

/// Kills the master and starts the next one at once; nobody has even reaped the first one by then.
fn killed_and_started(master: &Master, next: Launch) -> Master {
    master.signal(Signal::KILL);
    let next = next.start();
    next.wait(on("started"));
    assert!(next.seen(&on("exit")).is_empty() && next.seen(&on("failed")).is_empty(), "all at the first try");
    next
}

/// How many workers the next master has found.
fn survivors(next: &Master) -> usize {
    let found = next.seen(&on("survivors"));
    found.first().and_then(|event| event.at("/workers").as_u64()?.try_into().ok()).unwrap_or(0)
}

#[test]
fn the_next_master_serves_while_workers_of_the_killed_one_answer_what_they_have() {
    for balance in ["kernel", "round-robin", "shared", "sticky"] {
        let place = Place::new();
        let old = place.node(balance, 0).serve();
        let address = old.address();
        let mut begun = old.begin_request();
        let next = killed_and_started(&old, place.node(balance, address.port()));
        assert_eq!((next.address(), survivors(&next) > 0), (address, true), "{balance}");
        assert_eq!(next.get("/").status, 200);
        assert_eq!(next.status()["phase"], "running");
        assert_eq!(begun.finish_request().expect("an answer of the old worker").status, 200);
        old.wait_workers_gone();
        assert_eq!(next.reload().code(), 0, "{balance}");
    }
}

/// A worker whose loop does not turn closes nothing. Under these balances it has sockets of the address.
#[test]
fn the_next_master_waits_for_an_address_that_a_busy_worker_still_has() {
    for balance in ["kernel", "shared"] {
        let place = Place::new();
        let old = place.node(balance, 0).env("BLOCK_MS", "1500").serve();
        let address = old.address();
        let mut blocks = old.connect();
        blocks.send("GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is connected");
        old.wait_stdout("blocks");
        let next = killed_and_started(&old, place.node(balance, address.port()));
        assert!(survivors(&next) > 0);
        assert_eq!(next.get("/").status, 200);
        assert_eq!(blocks.response().expect("an answer of the old worker").status, 200);
        old.wait_workers_gone();
    }
}

#[test]
fn the_next_master_has_the_unix_socket_and_keeps_it_when_the_old_workers_end() {
    for balance in ["round-robin", "shared"] {
        let place = Place::new();
        let path = place.home.join("it.sock");
        let launch = || {
            let listen = json!({ "path": path }).to_string();
            place.with(Launch::fixture("drains.js")).option("--balance", balance).env("LISTEN", listen)
        };
        let old = launch().serve();
        let mut begun = Connection::open_unix(&path).expect("somebody listens");
        begun.begin_request().expect("a worker should take the request");
        let next = killed_and_started(&old, launch());
        assert_eq!(begun.finish_request().expect("an answer of the old worker").status, 200);
        old.wait_workers_gone();
        let mut fresh = Connection::open_unix(&path).expect("somebody listens");
        assert_eq!(fresh.get("/").expect("an answer").status, 200);
        assert!(survivors(&next) > 0);
    }
}

/// The kernel sends it TERM when its master dies.
#[test]
fn a_program_answers_what_it_has_while_the_next_master_serves() {
    let place = Place::new();
    let old = place.listening(Launch::fixture("finishes.py"), 0).serve();
    let address = old.bound_ip(0);
    let mut begun: Connection<TcpStream> = Connection::open(address).expect("somebody listens");
    begun.begin_request().expect("a worker should take the request");
    let next = killed_and_started(&old, place.listening(Launch::fixture("finishes.py"), address.port()));
    assert!(survivors(&next) > 0);
    assert_eq!(get(address, "/").expect("an answer").status, 200);
    old.wait_stdout("closing");
    assert_eq!(begun.finish_request().expect("an answer of the old worker").status, 200);
    old.wait_workers_gone();
    old.wait_stdout("has finished");
}

#[test]
fn a_worker_in_rust_ends_in_order_while_the_next_master_serves() {
    let place = Place::new();
    let launch =
        |port| place.listening(Launch::of(rust_example("axum")), port).option("--ready-when", "notify");
    let old = launch(0).serve();
    let address = old.bound_ip(0);
    let next = killed_and_started(&old, launch(address.port()));
    assert_eq!(get(address, "/").expect("an answer").status, 200);
    old.wait_workers_gone();
    old.wait_stdout("has cleaned up");
    assert_eq!(next.status()["phase"], "running");
}

/// What is lost: a connection that no worker had accepted, or that came while nobody listened. An answer that has begun is whole.
#[test]
fn under_load_a_killed_master_costs_what_no_worker_had_and_nothing_afterwards() {
    let place = Place::new();
    let mut masters = vec![place.node("kernel", 0).serve()];
    let address: SocketAddr = masters[0].address();
    let ask = move || get(address, "/").map(|answer| answer.status.to_string()).map_err(|error| error.kind());
    for _ in 0..3 {
        let load = Load::begin(4, ask);
        load.go_on(50);
        let next = killed_and_started(&masters[masters.len() - 1], place.node("kernel", address.port()));
        let tally = load.end();
        let is_known = |kind: &io::ErrorKind| {
            use io::ErrorKind::{ConnectionRefused, ConnectionReset, UnexpectedEof};
            matches!(kind, ConnectionRefused | ConnectionReset | UnexpectedEof)
        };
        assert!(tally.lost.iter().all(is_known), "{:?}", tally.lost);
        assert_eq!(tally.answers.into_iter().collect::<Vec<_>>(), ["200"]);
        let load = Load::begin(4, ask);
        load.go_on(200);
        assert_eq!(load.end().lost, [], "the next one serves");
        masters.push(next);
    }
}

/// Workers of both generations are there, or none is ready yet.
#[test]
fn a_master_that_is_killed_in_a_reload_or_a_start_leaves_nothing_that_stays() {
    for in_reload in [true, false] {
        let place = Place::new();
        let server = place.home.release("good", "server.js");
        place.home.release("hangs", "never-listens.js");
        place.home.switch(if in_reload { "good" } else { "hangs" });
        let launch = || place.with(Launch::of(server.clone())).env("HOST", place.host.clone());
        let old = launch().start();
        let begun = in_reload.then(|| {
            old.wait(on("started"));
            let begun = old.begin_request();
            place.home.switch("hangs");
            old.signal(Signal::HUP);
            begun
        });
        old.wait_all(2, on("online").generation(if in_reload { 2 } else { 1 }));
        place.home.switch("good");
        let next = killed_and_started(&old, launch());
        assert_eq!(next.get("/").status, 200);
        if let Some(mut begun) = begun {
            assert_eq!(begun.finish_request().expect("an answer of the old worker").text("generation"), "1");
        }
        old.wait_workers_gone();
    }
}

/// A master that is stopped takes nothing, and no worker minds: what it would accept waits in the kernel.
#[test]
fn while_a_master_is_stopped_workers_answer_what_they_have_and_what_comes_waits_or_is_accepted_by_them() {
    for balance in ["kernel", "shared", "round-robin"] {
        let place = Place::new();
        let master = place.node(balance, 0).serve();
        let mut kept = master.connect();
        assert_eq!(kept.get("/").expect("an answer").status, 200);
        master.signal(Signal::STOP);
        eventually("it is stopped", || master.process().status_line("State").starts_with('T'));
        assert_eq!(kept.get("/").expect("a worker answers").status, 200);
        let mut fresh = master.connect();
        fresh.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is connected");
        // It is the master that gives it to a worker, under `kernel` as long as it hands connections out.
        if balance != "shared" {
            master.signal(Signal::CONT);
        }
        assert_eq!(fresh.response().expect("an answer").status, 200, "{balance}");
        master.signal(Signal::CONT);
        assert_eq!(master.status()["phase"], "running");
    }
}
