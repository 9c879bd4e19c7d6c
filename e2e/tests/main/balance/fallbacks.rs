//! Where the kernel or the kind of socket does not allow a balance, another one is used, and the status says which.

use recluster_e2e::{Connection, Home, Launch, Master, get, on};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::sticky::client::Client;
use crate::sockets::node::servers;

fn in_force(master: &Master) -> Value {
    of_listeners(master, "balance")
}

/// Why it is not what was asked for, at each address.
fn reasons(master: &Master) -> Value {
    of_listeners(master, "reason")
}

fn of_listeners(master: &Master, field: &str) -> Value {
    let status = master.status();
    status["listeners"].as_array().expect("listeners").iter().map(|it| it[field].clone()).collect()
}

/// A cluster on a kernel that cannot be told how to choose a socket.
fn without_steering(balance: &str) -> Launch {
    Launch::fixture("server.js").started_by("without-steering.py").workers(3).option("--balance", balance)
}

#[test]
fn every_balance_is_in_force_on_this_kernel() {
    for balance in ["round-robin", "shared", "kernel", "sticky"] {
        let master = Launch::fixture("server.js").option("--balance", balance).serve();
        assert_eq!((in_force(&master), &master.status()["balance"]), (json!([balance]), &json!(balance)));
        assert_eq!(reasons(&master), json!([null]));
    }
}

#[test]
fn without_bpf_programs_kernel_falls_back_to_round_robin() {
    let master = without_steering("kernel").serve();
    assert_eq!((in_force(&master), &master.status()["balance"]), (json!(["round-robin"]), &json!("kernel")));
    let slots: Vec<String> = (0..3).map(|_| master.get("/").text("slot")).collect();
    assert_eq!(slots.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{slots:?}");
    let table = master.client(&["status"]).stdout;
    let listens = "(round-robin, since the kernel refuses the program by which it would choose: ENOPROTOOPT)";
    assert!(table.contains(&format!("listens on {} {listens}", master.address())), "{table}");
}

#[test]
fn without_bpf_programs_the_master_itself_goes_by_the_address() {
    let with = Launch::fixture("server.js").workers(3).option("--balance", "sticky").serve();
    let without = without_steering("sticky").serve();
    assert_eq!(in_force(&without), json!(["sticky"]));
    for last in 1..30 {
        let client = Client::from([127, 0, 0, last].into());
        let slot =
            |master: &Master| client.connect(master.address()).get("/").expect("an answer").text("slot");
        assert_eq!(slot(&without), slot(&with), "from 127.0.0.{last}");
    }
}

#[test]
fn without_bpf_programs_an_address_of_another_master_is_in_use() {
    let first = without_steering("kernel").serve();
    let port = first.address().port().to_string();
    let second = without_steering("kernel").option("--attempts", "1").env("PORT", port).start();
    let failed = second.wait(on("start_failed"));
    assert!(failed.text("/failure/stderr/0").contains("EADDRINUSE"), "{failed:?}");
    assert!(get(first.address(), "/").is_ok());
}

#[test]
fn on_a_unix_socket_kernel_and_sticky_by_address_fall_back_to_round_robin() {
    let home = Home::new();
    let path = home.join("server.sock");
    let launch = || servers(&json!({ "unix": { "path": path } }));
    for (balance, instead) in [("kernel", "round-robin"), ("sticky", "round-robin"), ("shared", "shared")] {
        let master = launch().option("--balance", balance).serve();
        assert_eq!(in_force(&master), json!([instead]));
        let reason = match balance {
            "kernel" => json!("the kernel cannot spread the connections of a unix socket"),
            "sticky" => json!("clients of a unix socket have no address"),
            _ => Value::Null,
        };
        assert_eq!(reasons(&master), json!([reason]));
        assert_eq!(
            Connection::open_unix(&path).and_then(|mut it| it.get("/")).expect("an answer").status,
            200
        );
        master.signal(Signal::TERM);
        master.wait(on("over"));
    }
    let master = launch().option("--balance", "sticky").option("--sticky-by", "query:who").serve();
    assert_eq!(in_force(&master), json!(["sticky"]));
    for who in ["anna", "otto", "emma"] {
        let slot = || {
            let answer = Connection::open_unix(&path).and_then(|mut it| it.get(&format!("/?who={who}")));
            answer.expect("an answer").text("slot")
        };
        assert_eq!(slot(), slot(), "{who}");
    }
}
