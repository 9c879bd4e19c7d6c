//! A program that passes the dry run, takes the master's place and then ends or hangs: the version before is started anew, with the sockets.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use recluster_e2e::{Home, Launch, Load, Master, Process, eventually, get, on, recluster};
use rustix::process::Signal;

use super::{VERSION, next, that_does, upgrade};
use crate::sockets::node::free_port;

/// Where no other test listens.
const HOST: &str = "127.0.3.9";
const ABORTED: &str = "the program that was to take over ended by SIGABRT before it served";

/// The master that was started anew, which is no child of this process.
struct Anew(Process);

impl Drop for Anew {
    fn drop(&mut self) {
        self.0.signal(Signal::KILL);
    }
}

/// A program that does this where it takes a master's place, and passes the dry run.
fn that_fails(home: &Home, what: &str) -> std::path::PathBuf {
    that_does(home, "fails", &format!("{what}\nbecome {}\n", recluster().display()))
}

/// An answer, or a connection that ends without one: it had a worker of the master that is no more. A connection that is refused is lost.
fn ask(address: SocketAddr) -> Result<String, io::Error> {
    match get(address, "/") {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err(error),
        answer => Ok(answer.map_or_else(|_| "none".to_owned(), |answer| answer.text("slot"))),
    }
}

/// The children of a process's first thread, those as well that have ended and were not reaped.
fn children(process: &Process) -> Vec<u32> {
    let pid = process.pid();
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn has_only_workers(process: &Process, master: &Master) -> bool {
    let (mut children, mut workers) = (children(process), master.active_pids());
    children.sort_unstable();
    workers.sort_unstable();
    children == workers
}

/// The master that comes after this one, of the same version: by its first line, and behind the reason that it gives.
#[track_caller]
fn started_anew(master: &Master, reason: &str) -> Anew {
    let event = master.wait(on("started_anew"));
    assert!(event.text("/reason").starts_with(reason), "{}", event.text("/reason"));
    let starting = master.wait_all(2, on("starting")).remove(1);
    assert_eq!(starting.text("/version"), VERSION);
    let pid = starting.number("/pid").try_into().expect("a pid");
    Anew(Process::open(pid).expect("it lives"))
}

/// Clients ask all the while, and nobody is refused.
#[track_caller]
fn comes_back(mut master: Master, address: SocketAddr, binary: &Path, reason: &str) {
    let home = master.home().clone();
    let before = master.active_pids();
    let load = Load::begin(4, move || ask(address));
    load.go_on(20);
    let asked = upgrade(&master, binary);
    assert_ne!(asked.status.code(), Some(0), "{asked:?}");
    let anew = started_anew(&master, reason);
    assert!(!master.wait_end().success());
    master.wait_all(2, on("started"));
    load.go_on(20);
    let tally = load.end();
    assert!(tally.lost.is_empty(), "refused: {:?}", tally.lost);
    let workers = master.active_pids();
    assert!(workers.len() == before.len() && !workers.iter().any(|pid| before.contains(pid)), "{workers:?}");
    assert_eq!(get(address, "/").expect("it serves").text("slot").len(), 1);
    assert_eq!(home.read("it.pid").trim(), anew.0.pid().to_string());
    eventually("there is no other process", || has_only_workers(&anew.0, &master));
    assert_eq!(master.seen(&on("started_anew")).len(), 1);
    // It can do all that the one before could.
    upgrade(&master, &next(&home)).expect_code(0);
    eventually("there is no guard", || has_only_workers(&anew.0, &master));
    assert_eq!(master.active_pids(), workers);
    master.client(&["stop"]).expect_code(0);
    anew.0.wait_end();
}

fn with_pidfile(home: &Home, launch: Launch) -> Launch {
    launch.home(home).option("--pidfile", home.join("it.pid").to_str().expect("a path of ours is text"))
}

fn server(home: &Home, port: u16, balance: &str) -> Launch {
    let launch = Launch::fixture("server.js").env("HOST", HOST).env("PORT", port.to_string());
    with_pidfile(home, launch).option("--balance", balance)
}

/// A server whose port is its own comes back under this balance.
#[track_caller]
fn server_comes_back(balance: &str, what: &str, reason: &str) {
    let (home, port) = (Home::new(), free_port(HOST));
    let master = server(&home, port, balance).serve();
    let address = master.address();
    comes_back(master, address, &that_fails(&home, what), reason);
}

#[test]
fn one_that_aborts_is_followed_by_the_version_before() {
    server_comes_back("round-robin", "abort", ABORTED);
}

#[test]
fn one_that_aborts_where_each_worker_has_a_socket_is_followed_as_well() {
    server_comes_back("kernel", "abort", ABORTED);
}

/// It waits for the guard's whole 10 s.
#[test]
fn one_that_hangs_is_killed_and_followed_by_the_version_before() {
    server_comes_back("shared", "hang", "the program that was to take over did not serve within 10 s");
}

/// Of its sockets the master was given one, and has bound the other.
#[test]
fn sockets_that_were_bound_before_the_workers_stay_what_they_were() {
    let home = Home::new();
    let given = TcpListener::bind((HOST, 0)).expect("a free port");
    let (address, port) = (given.local_addr().expect("it is bound"), free_port(HOST));
    let launch =
        Launch::fixture("server.js").env("LISTEN", r#"{"fd":3}"#).socket(given).env("LISTEN_FDNAMES", "web");
    let master = with_pidfile(&home, launch).listen(&format!("{HOST}:{port}")).serve();
    let names = |master: &Master| {
        let bound = master.seen(&on("bound"));
        bound
            .iter()
            .map(|bound| (bound.at("/name").clone(), bound.at("/address").clone()))
            .collect::<Vec<_>>()
    };
    let before = names(&master);
    let aborts = that_fails(&home, "abort");
    let load = Load::begin(2, move || ask(address));
    load.go_on(10);
    assert_ne!(upgrade(&master, &aborts).status.code(), Some(0));
    let anew = started_anew(&master, "the program that was to take over ended");
    master.wait_all(2, on("started"));
    load.go_on(10);
    assert!(load.end().lost.is_empty());
    assert_eq!(names(&master), [before.clone(), before].concat());
    master.client(&["stop"]).expect_code(0);
    anew.0.wait_end();
}

#[test]
fn an_upgrade_that_is_done_or_called_off_leaves_no_guard() {
    let home = Home::new();
    let master = Launch::fixture("server.js").serve();
    upgrade(&master, &next(&home)).expect_code(0);
    eventually("there is no guard", || has_only_workers(master.process(), &master));
    let back = super::variant(&home, "back", &[("control/socket", "control/sockeT")]);
    upgrade(&master, &back).expect_code(1);
    eventually("there is no guard", || has_only_workers(master.process(), &master));
}
