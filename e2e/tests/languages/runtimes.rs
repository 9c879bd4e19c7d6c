//! Deno and Bun in Node's place.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use recluster_e2e::{Launch, fixture, get, on};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

use crate::programs::runtime;
use crate::trial::{Ends, Trial};

/// The server file under another runtime than Node.
fn under(name: &str, port: u16) -> Launch {
    let launch = Launch::of(fixture("languages/hello.mjs")).env("PORT", port.to_string());
    launch.option("--node", &runtime(name).to_string_lossy())
}

#[test]
fn deno() {
    let launch = under("deno", 0).option("--balance", "round-robin");
    Trial::of("Deno", launch, Ends::AsItDoes).listens(|master| master.address()).run();
}

#[test]
fn deno_is_given_connections_in_turn() {
    let master = under("deno", 0).workers(3).serve();
    let who = || get(master.address(), "/").expect("an answer").header("x-worker");
    let asked: BTreeSet<_> = (0..3).map(|_| who().and_then(|pid| pid.parse().ok())).collect();
    assert_eq!(asked, master.active_pids().into_iter().map(Some).collect());
}

#[test]
fn deno_takes_no_shared_socket() {
    let refused = under("deno", 0).option("--balance", "shared").refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains("use --balance round-robin"), "{refused:?}");
}

/// It has a socket of its own under neither: the master accepts, and goes by the address where it is asked to.
#[test]
fn deno_is_given_connections_where_others_accept() {
    for (balance, in_force) in [("kernel", "round-robin"), ("sticky", "sticky")] {
        let master = under("deno", 0).option("--balance", balance).serve();
        assert_eq!(master.status()["listeners"][0]["balance"], in_force);
        let who = || get(master.address(), "/").expect("an answer").header("x-worker");
        let workers = (0..6).map(|_| who()).collect::<BTreeSet<_>>();
        assert_eq!(workers.len(), if balance == "sticky" { 1 } else { 2 });
    }
}

#[test]
fn deno_says_how_it_drains() {
    let master = under("deno", 0).workers(1).serve();
    assert!(master.wait(on("caveat")).text("/caveat").contains("Deno drains by itself"));
}

/// The address is taken by a socket that nobody listens on, so that no other program is given it.
#[test]
fn bun() {
    let reserved = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_reuseport(&reserved, true).expect("an option that there is");
    bind(&reserved, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = getsockname(&reserved).expect("it is bound");
    let address = SocketAddr::try_from(address).expect("it is bound by IP");
    let launch = under("bun", address.port());
    Trial::of("Bun", launch, Ends::WithItsSockets).listens(|master| master.address()).run();
}

#[test]
fn bun_says_whose_its_sockets_are() {
    let master = under("bun", 0).workers(1).serve();
    assert!(master.wait(on("caveat")).text("/caveat").contains("SO_REUSEPORT"));
}
