//! Sockets that the master binds (`--listen`) or was started with (socket activation), and hands to its workers.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use recluster_e2e::{
    Connection, DEADLINE, Home, Launch, Master, Process, Puppet, Stage, eventually, get, on,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::node::servers;

/// A program in one slot with this listener.
fn alone(address: &str) -> (Stage, Master, Puppet) {
    let stage = Stage::new();
    let master = stage.launch_program().workers(1).listen(address).start();
    let puppet = stage.next();
    master.wait(on("started"));
    (stage, master, puppet)
}

/// A request that waits until somebody accepts it.
fn ask(address: SocketAddr) -> Connection<TcpStream> {
    let mut connection = Connection::open(address).expect("the master keeps the socket open");
    connection.send("GET / HTTP/1.1\r\n\r\n").expect("the connection is open");
    connection
}

#[test]
fn a_program_gets_the_variables_of_every_convention() {
    let stage = Stage::new();
    let path = stage.home().join("app.sock");
    let unix = format!("unix:{}", path.display());
    let launch = stage.launch_program().workers(1).listen("web=127.0.0.1:0").listen(&unix);
    let master = launch.listen("dns=udp:127.0.0.1:0").start();
    let puppet = stage.next();
    let (tcp, udp) = (master.bound_ip(0), master.bound_ip(2));
    assert_eq!(puppet.sockets, json!([{ "tcp": tcp }, { "unix": path }, { "udp": udp }]));
    let ports = format!("{tcp}=3;{}=4;{udp}=5", path.display());
    for (name, value) in [
        ("LISTEN_FDS", "3"),
        ("LISTEN_FDNAMES", "web:unknown:dns"),
        ("LISTEN_PID", &puppet.pid.to_string()),
        ("SERVER_STARTER_PORT", &ports),
        ("SERVER_STARTER_GENERATION", "1"),
        ("EINHORN_FD_COUNT", "3"),
        ("EINHORN_FD_0", "3"),
        ("EINHORN_FD_1", "4"),
        ("EINHORN_FD_2", "5"),
        ("RECLUSTER_CHANNEL_FD", "6"),
    ] {
        assert_eq!(puppet.var(name), value, "{name}");
    }
    master.wait(on("started"));
    master.reload().expect_code(0);
    let next = stage.next();
    assert_eq!(next.sockets, puppet.sockets, "the same sockets");
    assert_eq!(next.var("SERVER_STARTER_GENERATION"), "2");
    assert_eq!(next.var("LISTEN_PID"), next.pid.to_string());
}

#[test]
fn a_program_without_sockets_gets_no_variables() {
    let stage = Stage::new();
    // What speaks of the master's own sockets and manager is not for its workers.
    let launch = stage.launch_program().workers(1).env("LISTEN_FDNAMES", "a:b").env("EINHORN_FD_COUNT", "2");
    let _master = launch.env("SERVER_STARTER_PORT", "80=3").start();
    let puppet = stage.next();
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "SERVER_STARTER_PORT", "EINHORN_FD_COUNT"] {
        assert_eq!(puppet.env[name], Value::Null, "{name}");
    }
    assert_eq!(puppet.var("RECLUSTER_CHANNEL_FD"), "3");
    assert_eq!(puppet.sockets, json!([]));
}

/// It inherits the variables, and sees by `LISTEN_PID` that they speak of somebody else.
#[test]
fn a_child_of_a_program_does_not_take_its_sockets() {
    let stage = Stage::new();
    let launch = stage.launch_program().workers(1).env("PUPPET_AS_A_CHILD", "1");
    let master = launch.listen("127.0.0.1:0").start();
    let grandchild = stage.next();
    let worker = master.wait(on("spawned")).pid();
    assert_ne!(grandchild.pid, worker);
    assert_eq!(grandchild.var("LISTEN_PID"), worker.to_string());
    assert_eq!(grandchild.var("LISTEN_FDS"), "1");
    assert_eq!(grandchild.sockets, json!([]));
}

#[test]
fn tcp_over_ipv4() {
    let (_stage, master, mut puppet) = alone("127.0.0.1:0");
    let mut client = ask(master.bound_ip(0));
    puppet.serve_one(0, "over IPv4");
    assert_eq!(client.response().expect("an answer").body, "over IPv4");
}

#[test]
fn tcp_over_ipv6_alone() {
    let (_stage, master, mut puppet) = alone("[::1]:0");
    let address = master.bound_ip(0);
    assert!(address.is_ipv6());
    let mut client = ask(address);
    puppet.serve_one(0, "over IPv6");
    assert_eq!(client.response().expect("an answer").body, "over IPv6");
}

/// A port alone means every address of the machine; `[::]` every IPv6 address.
#[test]
fn a_port_alone_is_for_both_families() {
    let stage = Stage::new();
    let launch = stage.launch_program().workers(1).listen("0").listen("[::]:0");
    let master = launch.start();
    let mut puppet = stage.next();
    let at = |ip: std::net::IpAddr, index| SocketAddr::new(ip, master.bound_ip(index).port());
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let mut client = ask(at(ip, 0));
        puppet.serve_one(0, "both");
        assert_eq!(client.response().expect("an answer").body, "both");
    }
    Connection::open(at(Ipv4Addr::LOCALHOST.into(), 1)).expect_err("this one is for IPv6 alone");
    let _client = ask(at(Ipv6Addr::LOCALHOST.into(), 1));
    puppet.serve_one(1, "six");
}

#[test]
fn a_unix_socket_with_its_permissions() {
    let home = Home::new();
    let path = home.join("app.sock");
    let (_stage, mut master, mut puppet) = alone(&format!("unix:{}?mode=620", path.display()));
    assert_eq!(fs::metadata(&path).expect("the socket").permissions().mode() & 0o777, 0o620);
    let mut client = Connection::open_unix(&path).expect("the master listens");
    client.send("GET / HTTP/1.1\r\n\r\n").expect("the connection is open");
    puppet.serve_one(0, "by path");
    assert_eq!(client.response().expect("an answer").body, "by path");
    master.signal(Signal::TERM);
    master.expect_end(0);
    assert!(!path.exists(), "it is removed at the end");
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let home = Home::new();
    let path = home.join("app.sock");
    drop(UnixListener::bind(&path).expect("the directory is ours"));
    let (_stage, _master, mut puppet) = alone(&path.to_string_lossy());
    let _client = Connection::open_unix(&path).expect("the master listens");
    puppet.accept(0);
}

#[test]
fn udp() {
    let (_stage, master, mut puppet) = alone("udp:127.0.0.1:0");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    client.set_read_timeout(Some(DEADLINE)).expect("a socket takes a deadline");
    client.send_to(b"who", master.bound_ip(0)).expect("loopback takes datagrams");
    assert_eq!(puppet.receive(0, "me"), "who");
    let mut answer = [0; 10];
    let count = client.recv(&mut answer).expect("an answer");
    assert_eq!(&answer[..count], b"me");
}

#[test]
fn a_port_of_the_kernels_choice_is_told_everywhere() {
    let (_stage, master, _puppet) = alone("web=127.0.0.1:0");
    let bound = master.bound(0);
    assert_eq!(bound.text("/name"), "web");
    let address = master.bound_ip(0);
    assert_ne!(address.port(), 0);
    let listener =
        json!({ "address": address, "balance": "shared", "reason": "its program accepts by itself" });
    assert_eq!(master.status()["listeners"], json!([listener]));
    let table = master.client(&["status"]).stdout;
    assert!(table.contains(&format!("listens on {address}")), "{table}");
}

#[test]
fn a_port_of_the_kernels_choice_is_told_in_words() {
    let stage = Stage::new();
    let master = stage.launch_program().option("--log-format", "text").listen("web=127.0.0.1:0").start();
    let line = master.wait_stderr("listens on 127.0.0.1:");
    let address: SocketAddr = line
        .split("listens on ")
        .nth(1)
        .and_then(|rest| rest.split(',').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no address: {line}"));
    assert!(line.ends_with(", named web"), "{line}");
    Connection::open(address).expect("it listens there");
}

/// `listen({fd: 3})`, of which a worker asks the master, means the first listener.
#[test]
fn node_workers_find_them_by_number() {
    for balance in ["round-robin", "shared"] {
        let both = json!({ "first": { "fd": 3 }, "second": { "fd": 4 } });
        let launch = servers(&both).option("--balance", balance);
        let master = launch.listen("127.0.0.1:0").listen("named=127.0.0.1:0").serve();
        for (index, name) in ["first", "second"].into_iter().enumerate() {
            assert_eq!(get(master.bound_ip(index), "/").expect("an answer").text("name"), name);
        }
        master.reload().expect_code(0);
        assert_eq!(get(master.bound_ip(0), "/").expect("an answer").text("generation"), "2");
    }
}

#[test]
fn node_workers_are_told_only_how_many_sockets_there_are() {
    let launch = Launch::fixture("server.js").workers(1).listen("127.0.0.1:0").listen("b=127.0.0.1:0");
    let env = launch.serve().get("/").json()["env"].clone();
    assert_eq!((&env["LISTEN_FDS"], &env["LISTEN_FDNAMES"]), (&json!("2"), &json!("unknown:b")));
    for name in ["LISTEN_PID", "SERVER_STARTER_PORT", "EINHORN_FD_COUNT", "RECLUSTER_CHANNEL_FD"] {
        assert_eq!(env[name], Value::Null, "{name}: its descriptors from 3 on are not these");
    }
}

#[test]
fn a_connection_waits_while_no_worker_lives() {
    let (stage, master, mut puppet) = alone("127.0.0.1:0");
    puppet.exit(9);
    master.wait(on("exit"));
    let mut client = ask(master.bound_ip(0));
    stage.next().serve_one(0, "later");
    assert_eq!(client.response().expect("an answer").body, "later");
}

#[test]
fn sockets_outlive_a_reload_and_a_rollback() {
    let (stage, master, mut first) = alone("127.0.0.1:0");
    let address = master.bound_ip(0);
    let reload = master.begin_client(&["reload"]);
    for _attempt in 0..3 {
        stage.next().exit(1);
    }
    reload.finish().expect_code(1);
    let mut client = ask(address);
    first.serve_one(0, "the old one");
    assert_eq!(client.response().expect("an answer").body, "the old one");
    let reload = master.begin_client(&["reload"]);
    let mut second = stage.next();
    reload.finish().expect_code(0);
    master.wait(on("exit").generation(1));
    let mut client = ask(address);
    second.serve_one(0, "the new one");
    assert_eq!(client.response().expect("an answer").body, "the new one");
}

#[test]
fn sockets_that_the_master_was_started_with_come_first() {
    let given = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = given.local_addr().expect("it is bound");
    let stage = Stage::new();
    let launch = stage.launch_program().workers(1).socket(given).env("LISTEN_FDNAMES", "systemd");
    let master = launch.listen("own=127.0.0.1:0").start();
    let mut puppet = stage.next();
    assert_eq!(puppet.var("LISTEN_FDNAMES"), "systemd:own");
    assert_eq!(puppet.sockets, json!([{ "tcp": address }, { "tcp": master.bound_ip(1) }]));
    let mut client = ask(address);
    puppet.serve_one(0, "activated");
    assert_eq!(client.response().expect("an answer").body, "activated");
}

/// While the last worker drains, nobody would accept: better to be refused than to wait for nothing.
#[test]
fn at_a_stop_a_socket_closes_when_no_worker_has_it_any_more() {
    let master = Launch::fixture("closes-its-socket.sh").workers(1).listen("127.0.0.1:0").serve();
    master.wait_stdout("lingers");
    let address = master.bound_ip(0);
    drop(ask(address));
    master.signal(Signal::TERM);
    master.wait_stdout("closed");
    eventually("nobody listens any more", || Connection::open(address).is_err());
    assert_eq!(master.live_pids().len(), 1, "the worker still drains");
}

#[test]
fn a_program_with_sockets_does_not_outlive_a_master_that_is_killed() {
    let mut master = Launch::fixture("program.sh").listen("127.0.0.1:0").serve();
    master.signal(Signal::KILL);
    master.wait_end();
    master.wait_workers_gone();
    Connection::open(master.bound_ip(0)).expect_err("nobody holds the socket any more");
}

/// They would go on accepting, and serve code that was replaced long ago.
#[test]
fn children_of_a_killed_program_are_ended() {
    let master = Launch::fixture("leaves-a-child.sh").workers(1).listen("127.0.0.1:0").serve();
    let line = master.wait_stdout("child ");
    let child = line.trim_start_matches("child ").parse().expect("a number");
    let child = Process::open(child).expect("it lives");
    let worker = master.wait(on("spawned"));
    // The program alone, not its group.
    master.worker(&worker).signal(Signal::KILL);
    master.wait(on("exit").id(worker.id()));
    child.wait_end();
}

#[test]
fn a_path_alone_is_a_unix_socket() {
    let home = Home::new();
    let path = home.join("plain");
    let (_stage, master, puppet) = alone(&path.to_string_lossy());
    assert_eq!(master.bound(0).text("/address/unix"), path.to_string_lossy());
    assert_eq!(puppet.sockets, json!([{ "unix": path }]));
}
