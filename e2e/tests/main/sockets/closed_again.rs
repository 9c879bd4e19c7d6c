//! Sockets that a worker closes: those that it only tried or wants no more are closed, and those that it leaves behind when it
//! ends wait for the next worker.

use std::net::{SocketAddr, TcpListener, TcpStream};

use recluster_e2e::{Connection, Launch, Master, eventually, get, on};

fn probing(how: &str) -> Launch {
    Launch::fixture("probes.js").env("PROBE", how)
}

fn tried(master: &Master) -> u16 {
    let line = master.wait_stdout("tried ");
    line.rsplit(' ').next().and_then(|port| port.parse().ok()).expect("the line ends in a port")
}

fn open_second(master: &Master) -> SocketAddr {
    let answer = master.get("/open").json();
    let port = answer["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn listeners(master: &Master) -> Vec<String> {
    let status = master.status();
    let listeners = status["listeners"].as_array().expect("listeners");
    listeners.iter().map(|listener| listener["address"].as_str().expect("an address").to_owned()).collect()
}

#[test]
fn a_worker_that_looks_for_a_free_port_listens_there() {
    for how in ["at-once", "late"] {
        for balance in ["round-robin", "shared", "kernel"] {
            let master = probing(how).workers(1).option("--balance", balance).serve();
            assert_eq!(master.address().port(), tried(&master), "{how} {balance}");
            master.get("/");
            assert_eq!(listeners(&master), [master.address().to_string()], "{how} {balance}");
        }
    }
}

#[test]
fn workers_that_look_for_a_port_together_all_listen() {
    let master = probing("late").workers(3).serve();
    master.get("/");
    assert!(!master.stdout().iter().any(|line| line.contains("error")), "{:?}", master.stdout());
}

#[test]
fn a_port_that_was_only_tried_is_free_and_makes_no_worker_ready() {
    let mut master =
        probing("in-vain").workers(1).option("--ready-timeout", "2s").option("--attempts", "1").start();
    let port = tried(&master);
    eventually("the port is free", || TcpListener::bind(("127.0.0.1", port)).is_ok());
    let verdict = master.wait(on("start_failed"));
    assert!(verdict.text("/failure/reason").contains("not ready"), "{verdict:?}");
    master.expect_end(3);
}

#[test]
fn an_address_that_its_worker_closes_and_lives_on_refuses_clients() {
    let master = Launch::fixture("probes.js").workers(1).serve();
    let second = open_second(&master);
    get(second, "/").expect("an answer");
    master.get("/close");
    eventually("the address is closed", || TcpStream::connect(second).is_err());
    assert_eq!(master.wait(on("closed")).text("/address/tcp"), second.to_string());
    assert_eq!(listeners(&master), [master.address().to_string()]);
    let third = open_second(&master);
    get(third, "/").expect("an answer of the next one");
}

#[test]
fn a_worker_that_closes_everything_and_exits_leaves_its_addresses_to_the_next() {
    let master = Launch::fixture("probes.js").env("SECOND", "1").workers(1).serve();
    let addresses: Vec<_> =
        master.wait_all(2, on("listening")).iter().map(|event| master.address_of(event)).collect();
    master.get("/die");
    let old = master.wait(on("exit")).at("/worker/pid").clone();
    // Two clients wait while no worker lives.
    let waiting = addresses.iter().map(|address| Connection::open(*address).expect("nobody is refused"));
    for mut client in waiting.collect::<Vec<_>>() {
        assert_ne!(client.get("/").expect("the next worker answers").json()["pid"], old);
    }
}
