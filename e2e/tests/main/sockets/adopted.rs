//! Node servers that listen where the master does already: by `--listen`, or because a service manager started it with the
//! socket.

use std::net::{TcpListener, UdpSocket};

use recluster_e2e::{Connection, Home, Launch, Stage, eventually, get, on, rust_example};
use serde_json::{Value, json};

/// A server that listens there.
fn server(listen: &Value) -> Launch {
    Launch::fixture("server.js").env("LISTEN", listen.to_string())
}

fn port_of(socket: &TcpListener) -> u16 {
    socket.local_addr().expect("it is bound").port()
}

#[test]
fn a_server_that_listens_on_its_address_gets_the_socket() {
    for balance in ["round-robin", "shared", "kernel"] {
        for (own, host) in [
            ("127.0.0.1:0", Some("127.0.0.1")),
            ("127.0.0.1:0", None),
            ("[::]:0", None),
            ("[::]:0", Some("0.0.0.0")),
            ("[::]:0", Some("::")),
            ("0.0.0.0:0", None),
        ] {
            let socket = TcpListener::bind(own).expect("a free port");
            let (address, port) = (socket.local_addr().expect("it is bound"), port_of(&socket));
            let listen =
                host.map_or_else(|| json!({ "port": port }), |host| json!({ "port": port, "host": host }));
            let master = server(&listen).option("--balance", balance).socket(socket).serve();
            let loopback = ([127, 0, 0, 1], port).into();
            assert_eq!(get(loopback, "/").expect("an answer").text("generation"), "1");
            assert!(master.seen(&on("listen_unused")).is_empty(), "{own} {host:?}");
            let status = master.status();
            assert_eq!(status["listeners"].as_array().map(Vec::len), Some(1), "{status}");
            assert_eq!(status["listeners"][0]["address"], address.to_string());
            master.reload().expect_code(0);
            // Under `shared` the old workers may take one more.
            eventually("the new workers answer", || {
                get(loopback, "/").is_ok_and(|answer| answer.text("generation") == "2")
            });
        }
    }
}

#[test]
fn a_server_that_listens_on_its_path_gets_the_socket() {
    let home = Home::new();
    let path = home.join("server.sock");
    let launch = server(&json!({ "path": path })).home(&home).listen(&format!("unix:{}", path.display()));
    let master = launch.serve();
    let mut connection = Connection::open_unix(&path).expect("somebody listens");
    assert_eq!(connection.get("/").expect("an answer").status, 200);
    assert!(master.seen(&on("listen_unused")).is_empty());
}

#[test]
fn its_number_and_its_address_mean_the_same_socket() {
    let home = Home::new();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (port, address) = (port_of(&socket), socket.local_addr().expect("it is bound"));
    let text = "
        const http = require('node:http')
        const where = process.env.RECLUSTER_GENERATION === '1' ? { fd: 3 } : { port: Number(process.env.OWN), host: '127.0.0.1' }
        http.createServer((request, response) => response.end(process.env.RECLUSTER_GENERATION)).listen(where)
    ";
    let launch = Launch::of(home.write("server.js", text)).home(&home).env("OWN", port.to_string());
    let master = launch.socket(socket).serve();
    assert_eq!(get(address, "/").expect("an answer").body, "1");
    master.reload().expect_code(0);
    assert_eq!(get(address, "/").expect("an answer").body, "2");
    assert_eq!(master.status()["listeners"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_no_worker_listens_on_is_named_once_and_not_served() {
    let (unused, used) = (TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0"));
    let (unused, used) = (unused.expect("a free port"), used.expect("a free port"));
    let (address, port) = (unused.local_addr().expect("it is bound"), port_of(&used));
    let launch = server(&json!({ "port": port, "host": "127.0.0.1" }));
    let datagrams = UdpSocket::bind(("127.0.0.1", port)).expect("a free port");
    let launch = launch.option("--balance", "kernel");
    let master = launch.socket(unused).socket(used).socket(datagrams).serve();
    let named = master.wait(on("listen_unused"));
    assert_eq!(named.at("/addresses"), &json!([{ "tcp": address }, { "udp": format!("127.0.0.1:{port}") }]));
    let status = master.status();
    let listener = &status["listeners"][0];
    assert_eq!(listener["address"], format!("127.0.0.1:{port}"));
    assert_eq!(listener["balance"], "round-robin");
    assert_eq!(listener["reason"], "the socket was bound before, and can have none beside it");
    master.reload().expect_code(0);
    assert_eq!(master.seen(&on("listen_unused")).len(), 1);
}

#[test]
fn of_a_program_that_is_not_node_nobody_knows_what_it_uses() {
    let stage = Stage::new();
    let master = stage.launch_program().workers(1).listen("127.0.0.1:0").start();
    let _puppet = stage.next();
    master.wait(on("started"));
    assert_eq!(master.status()["listeners"].as_array().map(Vec::len), Some(1));
    assert!(master.seen(&on("listen_unused")).is_empty());
}

/// One that asks its master for a socket by a name that no socket has, while the one that was meant for it has none; and the same by
/// the name, or by the address.
#[test]
fn a_program_in_rust_that_asks_for_another_socket_than_the_one_it_was_given_is_told() {
    let alone =
        Launch::of(rust_example("hyper")).workers(1).env("PORT", "0").option("--ready-when", "notify");
    let master = alone.listen("127.0.0.1:0").serve();
    let named = master.wait(on("listen_unused"));
    assert_eq!(named.at("/addresses"), &json!([{ "tcp": master.bound_ip(0) }]));
    master.reload().expect_code(0);
    assert_eq!(master.seen(&on("listen_unused")).len(), 1);
    let free = TcpListener::bind("127.0.0.1:0").map(|socket| port_of(&socket)).expect("a free port");
    for (listen, port) in [("http=127.0.0.1:0".to_owned(), 0), (format!("127.0.0.1:{free}"), free)] {
        let launch = Launch::of(rust_example("hyper")).workers(1).env("PORT", port.to_string());
        let master = launch.option("--ready-when", "notify").listen(&listen).serve();
        get(master.bound_ip(0), "/").expect("an answer");
        assert!(master.seen(&on("listen_unused")).is_empty(), "{listen}");
    }
}

/// Beside those that `LISTEN_FDS` counts, a worker may ask for what else the master was started with, and for nothing that it
/// has opened itself: its control socket, its log, its channels.
#[test]
fn another_socket_that_the_master_was_started_with_is_meant_by_its_number() {
    let home = Home::new();
    let (activated, other) = (TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0"));
    let (activated, other) = (activated.expect("a free port"), other.expect("a free port"));
    let address = other.local_addr().expect("it is bound");
    let text = "
        const http = require('node:http')
        const net = require('node:net')
        const codes = []
        const server = () => http.createServer((request, response) => response.end(`${codes.length} ${new Set(codes).size} ${codes[0]}`))
        const tryNext = (fd) => {
            if (fd === 60) return server().listen({ fd: 4 })
            const next = (code) => { codes.push(code); tryNext(fd + 1) }
            net.createServer().on('error', ({ code }) => next(code)).listen({ fd }, () => next('listens'))
        }
        tryNext(5)
    ";
    let launch = Launch::of(home.write("server.js", text)).home(&home).workers(1);
    let master = launch.socket(activated).socket(other).env("LISTEN_FDS", "1").serve();
    assert_eq!(get(address, "/").expect("an answer").body, "55 1 EINVAL");
    assert_eq!(master.status()["listeners"][0]["address"], address.to_string());
    master.reload().expect_code(0);
    assert_eq!(get(address, "/").expect("an answer").body, "55 1 EINVAL");
}
