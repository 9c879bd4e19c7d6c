//! A part of the master panics, which is a fault of ours: the cluster ends in order, or, with `--after-panic restart`, the same process
//! begins anew with the listening sockets.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};

use recluster_e2e::{Connection, Home, Launch, Load, Master, eventually, get, library_example, on};
use rustix::process::Signal;
use serde_json::json;

use crate::sockets::node::free_port;

/// Where no other test listens.
const HOST: &str = "127.0.3.10";

/// A master that can be made to panic.
struct Trial {
    home: Home,
}

impl Trial {
    fn new() -> Self {
        let home = Home::new();
        fs::create_dir(home.join("panics")).expect("the directory is ours");
        Self { home }
    }

    fn with(&self, launch: Launch) -> Launch {
        let pidfile = self.home.join("it.pid");
        let launch = launch
            .home(&self.home)
            .program(library_example("panics"))
            .env("PANICS", self.home.join("panics"));
        launch.option("--pidfile", &pidfile.to_string_lossy())
    }

    /// This part of the master panics when it does something next.
    fn panics(&self, master: &Master, part: &str) {
        fs::write(self.home.join("panics").join(part), "").expect("the directory is ours");
        // Whoever asks for something may be answered, or not.
        drop(master.client(&["status"]));
        eventually("it is at work", || !self.home.join("panics").join(part).exists());
    }
}

/// An answer, or a connection that ends without one: it had a worker that is about to go. A connection that is refused is lost.
fn ask(address: SocketAddr) -> Result<String, io::Error> {
    match get(address, "/") {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err(error),
        answer => Ok(answer.map_or_else(|_| "none".to_owned(), |answer| answer.status.to_string())),
    }
}

fn drains(balance: &str, port: u16) -> Launch {
    let listen = json!({ "port": port, "host": HOST }).to_string();
    Launch::fixture("drains.js").env("LISTEN", listen).option("--balance", balance)
}

#[test]
fn the_cluster_ends_and_its_workers_answer_what_they_have() {
    for part in ["the supervisor", "the data plane"] {
        let trial = Trial::new();
        let mut master = trial.with(drains("shared", 0)).serve();
        let mut begun = master.begin_request();
        trial.panics(&master, part);
        let told = master.wait(on("panicked").with("/part", part).with("/ends", true));
        assert_eq!(told.at("/begins_anew"), &json!(false));
        assert_eq!(told.text("/cluster_was"), "running");
        assert_eq!(begun.finish_request().expect("an answer").status, 200, "{part}");
        master.expect_end(1);
        master.wait_workers_gone();
        assert!(!trial.home.join("it.pid").exists(), "what leads to it is gone");
    }
}

/// It has begun anew.
#[track_caller]
fn began_anew(master: &Master, part: &str) {
    master.wait(on("panicked").with("/part", part).with("/begins_anew", true));
    let anew = master.wait(on("started_anew"));
    assert!(anew.text("/reason").starts_with(part), "{anew:?}");
    let starting = master.wait_all(2, on("starting")).remove(1);
    assert_eq!(starting.number("/pid"), u64::from(master.process().pid()), "it is the same process");
    master.wait_all(2, on("started"));
}

/// Clients ask all the while, and nobody is refused.
#[track_caller]
fn begins_anew(which: &str, balance: &str) {
    let (trial, port) = (Trial::new(), free_port(HOST));
    let admin = format!("{HOST}:{}", free_port(HOST));
    let launch =
        trial.with(drains(balance, port)).option("--admin", &admin).option("--after-panic", "restart");
    let mut master = launch.serve();
    let (address, admin) = (master.address(), master.admin());
    let workers = master.active_pids();
    let mut unfinished = master.begin_request();
    let load = Load::begin(4, move || ask(address));
    load.go_on(20);
    trial.panics(&master, which);
    began_anew(&master, which);
    load.go_on(20);
    let tally = load.end();
    assert!(tally.lost.is_empty(), "refused: {:?}", tally.lost);
    // Its worker is one of before.
    assert_eq!(unfinished.finish_request().expect("an answer").status, 200);
    let now = master.active_pids();
    assert!(now.len() == 2 && !now.iter().any(|pid| workers.contains(pid)), "{workers:?} {now:?}");
    assert_eq!(trial.home.read("it.pid").trim(), master.process().pid().to_string());
    assert_eq!(get(admin, "/livez").expect("an answer").status, 200);
    eventually("nobody of before is left", || {
        workers.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true))
    });
    assert_eq!(get(address, "/").expect("an answer").status, 200);
    master.reload().expect_code(0);
    assert_eq!(master.status()["pid"], master.process().pid());
    // So soon again it would be again and again.
    trial.panics(&master, which);
    master.wait(on("panicked").with("/begins_anew", false));
    master.expect_end(1);
    master.wait_workers_gone();
}

#[test]
fn a_master_that_is_to_begins_anew_after_a_panic_of_its_supervisor() {
    begins_anew("the supervisor", "kernel");
}

#[test]
fn a_master_that_is_to_begins_anew_after_a_panic_of_its_data_plane() {
    begins_anew("the data plane", "kernel");
}

#[test]
fn a_master_that_is_to_begins_anew_where_it_accepts_itself() {
    begins_anew("the data plane", "round-robin");
}

/// The kernel does not tell it of the end: its parent lives.
#[test]
fn a_program_answers_what_it_has_while_the_master_begins_anew() {
    let trial = Trial::new();
    let launch = trial
        .with(Launch::fixture("finishes.py"))
        .option("--after-panic", "restart")
        .option("--balance", "shared");
    let mut master = launch.listen(&format!("http={HOST}:{}", free_port(HOST))).serve();
    let address = master.bound_ip(0);
    let workers = master.active_pids();
    let mut begun: Connection<TcpStream> = Connection::open(address).expect("somebody listens");
    begun.begin_request().expect("a worker should take the request");
    trial.panics(&master, "the supervisor");
    began_anew(&master, "the supervisor");
    assert_eq!(get(address, "/").expect("an answer").status, 200);
    assert_eq!(begun.finish_request().expect("an answer of the old worker").status, 200);
    eventually("nobody of before is left", || {
        workers.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true))
    });
    master.signal(Signal::TERM);
    master.expect_end(0);
}

#[test]
fn the_file_of_a_unix_socket_stays() {
    for part in ["the supervisor", "the data plane"] {
        let trial = Trial::new();
        let path = trial.home.join("it.sock");
        let listen = json!({ "path": path }).to_string();
        let launch = trial.with(Launch::fixture("drains.js")).env("LISTEN", listen);
        let mut master = launch.option("--after-panic", "restart").serve();
        trial.panics(&master, part);
        master.wait(on("panicked").with("/begins_anew", true));
        // Whoever comes meanwhile is not refused.
        drop(Connection::open_unix(&path).expect("it is never gone"));
        began_anew(&master, part);
        let mut fresh = Connection::open_unix(&path).expect("it is never gone");
        assert_eq!(fresh.get("/").expect("an answer").status, 200);
        master.signal(Signal::TERM);
        master.expect_end(0);
        assert!(!path.exists());
    }
}

/// There is nothing to begin anew for.
#[test]
fn a_master_that_is_about_to_end_ends() {
    let trial = Trial::new();
    let mut master = trial.with(drains("shared", 0)).option("--after-panic", "restart").serve();
    let mut begun = master.begin_request();
    master.signal(Signal::TERM);
    master.wait(on("stopping"));
    trial.panics(&master, "the supervisor");
    master.wait(on("panicked").with("/begins_anew", false));
    assert_eq!(begun.finish_request().expect("an answer").status, 200);
    master.expect_end(1);
    master.wait_workers_gone();
}
