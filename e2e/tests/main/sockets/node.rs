//! What Node servers listen on: every kind of address works as without a cluster, and all workers share it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use recluster_e2e::{Connection, DEADLINE, Finished, Home, Launch, Master, Node, eventually, get, on};
use serde_json::json;

/// A cluster of `several.js` with these servers.
pub(crate) fn servers(servers: &serde_json::Value) -> Launch {
    Launch::fixture("several.js").env("SERVERS", servers.to_string())
}

/// A port that is free at this address, and is not kept. No test makes connections from this address, so that none of
/// them can take the port meanwhile.
pub(crate) fn free_port(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Asks until every one of `slots` has answered.
pub(crate) fn answered_by_all(slots: usize, mut ask: impl FnMut() -> String) {
    let mut seen = BTreeSet::new();
    eventually("every worker answers", || {
        seen.insert(ask());
        seen.len() == slots
    });
}

#[test]
fn tcp_over_ipv4() {
    let master = Launch::fixture("server.js").serve();
    assert!(master.address().is_ipv4());
    answered_by_all(2, || master.get("/").text("slot"));
}

#[test]
fn tcp_over_ipv6() {
    let master = Launch::fixture("server.js").env("HOST", "::1").serve();
    assert!(master.address().is_ipv6());
    answered_by_all(2, || master.get("/").text("slot"));
}

#[test]
fn tcp_without_a_host_listens_on_both() {
    let master = servers(&json!({ "any": { "port": 0 } })).serve();
    let address = master.address();
    assert_eq!(address.ip(), IpAddr::from(Ipv6Addr::UNSPECIFIED), "as Node's own server says it");
    assert_eq!(master.status()["listeners"][0]["address"], address.to_string());
    let port = address.port();
    let by_ipv4 = get(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "/").expect("an answer by IPv4");
    let by_ipv6 = get(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "/").expect("an answer by IPv6");
    assert_eq!(by_ipv4.text("name"), by_ipv6.text("name"));
}

#[test]
fn tcp_over_ipv6_only() {
    let master = servers(&json!({ "six": { "port": 0, "host": "::", "ipv6Only": true } })).serve();
    let port = master.address().port();
    get(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "/").expect("an answer by IPv6");
    get(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "/").expect_err("not by IPv4");
}

#[test]
fn a_fixed_port() {
    let port = free_port("127.0.1.1");
    let launch = Launch::fixture("server.js").env("HOST", "127.0.1.1").env("PORT", port.to_string());
    let master = launch.serve();
    assert_eq!(master.address().port(), port);
    master.get("/");
}

#[test]
fn a_random_port_is_the_same_in_all_workers() {
    let master = Launch::fixture("server.js").workers(3).serve();
    for listening in master.seen(&on("listening")) {
        assert_eq!(master.address_of(&listening), master.address());
    }
}

#[test]
fn two_random_ports_in_one_worker_are_two() {
    let two = json!({ "one": { "port": 0, "host": "127.0.0.1" }, "two": { "port": 0, "host": "127.0.0.1" } });
    let master = servers(&two).serve();
    let addresses: BTreeSet<_> =
        master.wait_all(4, on("listening")).iter().map(|it| master.address_of(it)).collect();
    assert_eq!(addresses.len(), 2, "each of both in both workers");
    let names: BTreeSet<_> =
        addresses.iter().map(|address| get(*address, "/").expect("an answer").text("name")).collect();
    assert_eq!(names.len(), 2);
}

#[test]
fn a_unix_socket() {
    let home = Home::new();
    let path = home.join("server.sock");
    let master = servers(&json!({ "unix": { "path": path } })).home(&home).serve();
    assert_eq!(master.wait(on("listening")).at("/address/unix"), &json!(path));
    answered_by_all(2, || get_unix(&path).text("slot"));
    master.reload().expect_code(0);
    assert_eq!(get_unix(&path).text("generation"), "2");
}

fn get_unix(path: &Path) -> recluster_e2e::Response {
    Connection::open_unix(path).and_then(|mut connection| connection.get("/")).expect("an answer")
}

#[test]
fn a_unix_socket_is_removed_at_the_end_and_a_stale_one_replaced() {
    let home = Home::new();
    let path = home.join("server.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("the directory is ours"));
    let mut master = servers(&json!({ "unix": { "path": path } })).home(&home).serve();
    get_unix(&path);
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_for_everybody() {
    let home = Home::new();
    let path = home.join("server.sock");
    let all = json!({ "unix": { "path": path, "readableAll": true, "writableAll": true } });
    let _master = servers(&all).home(&home).serve();
    let mode = fs::metadata(&path).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o666, 0o666);
}

#[test]
fn an_abstract_unix_socket() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    let name = format!("recluster-e2e-{}", std::process::id());
    let master = servers(&json!({ "abstract": { "path": format!("\0{name}") } })).serve();
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    answered_by_all(2, || {
        let stream = UnixStream::connect_addr(&address).expect("somebody listens");
        let answer = Connection::on(stream).and_then(|mut connection| connection.get("/"));
        answer.expect("an answer").text("slot")
    });
    drop(master);
}

/// Asks a UDP server once, from a socket of its own.
fn ask_udp(address: SocketAddr) -> String {
    let own: SocketAddr =
        if address.is_ipv4() { (Ipv4Addr::LOCALHOST, 0).into() } else { (Ipv6Addr::LOCALHOST, 0).into() };
    let socket = UdpSocket::bind(own).expect("a free port");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a deadline");
    socket.send_to(b"who", address).expect("loopback takes datagrams");
    let mut answer = [0; 200];
    let count = socket.recv(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

fn udp_address(master: &Master) -> SocketAddr {
    let listening = master.wait(on("listening"));
    listening.text("/address/udp").parse().expect("an address")
}

#[test]
fn udp_over_ipv4() {
    let bind = json!({ "port": 0, "address": "127.0.0.1" });
    let master = Launch::fixture("udp.js").env("BIND", bind.to_string()).serve();
    assert!(ask_udp(udp_address(&master)).contains("\"generation\":\"1\""));
    master.reload().expect_code(0);
    assert_eq!(
        master.seen(&on("listening").generation(2))[0].at("/address"),
        master.wait(on("listening")).at("/address")
    );
    eventually("the new generation answers", || {
        ask_udp(udp_address(&master)).contains("\"generation\":\"2\"")
    });
}

#[test]
fn udp_over_ipv6() {
    let bind = json!({ "port": 0, "address": "::1" });
    let master = Launch::fixture("udp.js").env("KIND", "udp6").env("BIND", bind.to_string()).serve();
    ask_udp(udp_address(&master));
}

#[test]
fn sockets_that_the_master_was_started_with() {
    let home = Home::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = tcp.local_addr().expect("it is bound");
    let unix = std::os::unix::net::UnixListener::bind(home.join("activated")).expect("the directory is ours");
    let both = json!({ "tcp": { "fd": 3 }, "unix": { "fd": 4 } });
    let master = servers(&both).home(&home).socket(tcp).socket(unix).serve();
    assert_eq!(get(address, "/").expect("an answer").text("name"), "tcp");
    assert_eq!(get_unix(&home.join("activated")).text("name"), "unix");
    master.reload().expect_code(0);
    assert_eq!(get(address, "/").expect("an answer").text("generation"), "2");
}

#[test]
fn an_exclusive_server_binds_by_itself() {
    let shared_and_own = json!({
        "own": { "port": 0, "host": "127.0.0.1", "exclusive": true },
        "shared": { "port": 0, "host": "127.0.0.1" },
    });
    let master = servers(&shared_and_own).workers(1).serve();
    let line = master.wait_stdout("listens own");
    let port = line.split("\"port\":").nth(1).expect("the line has a port").trim_end_matches('}');
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("a number")));
    assert_eq!(get(own, "/").expect("an answer").text("name"), "own");
    assert_eq!(master.seen(&on("listening")).len(), 1, "of the exclusive server the master hears nothing");
}

/// From Node 22 on such a server binds by itself; an older one does not know the option, and shares.
#[test]
fn a_server_that_reuses_its_port() {
    let reuse = json!({ "reuse": { "port": 0, "host": "127.0.0.1", "reusePort": true } });
    let master = servers(&reuse).workers(1).option("--ready-when", "started").serve();
    master.wait_stdout("listens reuse");
    let status = master.status();
    let shared = status["listeners"].as_array().expect("listeners").len();
    assert_eq!(shared == 0, Node::under_test().major >= 22, "{status}");
}

#[test]
fn tls_sessions_are_resumed_at_other_workers_and_after_a_reload() {
    // In turn, so that every worker is reached.
    let master = Launch::fixture("https.js").handing_over().workers(3).serve();
    let answers = offer_session(&master, 7);
    assert_eq!(answers[0]["resumed"], false, "there was none to offer");
    assert!(answers[1..].iter().all(|answer| answer["resumed"] == true), "{answers:?}");
    let slots: BTreeSet<_> = answers.iter().map(|answer| answer["slot"].to_string()).collect();
    assert_eq!(slots.len(), 3, "{answers:?}");
    master.reload().expect_code(0);
    let answers = offer_session(&master, 3);
    assert!(
        answers.iter().all(|answer| answer["resumed"] == true && answer["generation"] == "2"),
        "{answers:?}"
    );
}

/// Connects so many times, each time offering the session of the very first connection; who answered, and whether the
/// session was resumed.
fn offer_session(master: &Master, times: u32) -> Vec<serde_json::Value> {
    let mut client = Node::under_test().client("clients/tls-resume.js");
    client.args([master.address().port().to_string(), times.to_string()]).arg(master.home().join("session"));
    let finished = Finished::run(client);
    finished.expect_code(0);
    finished.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
