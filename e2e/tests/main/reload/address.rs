//! Reloads whose code listens on another address that overlaps the one before: 0.0.0.0 in the place of 127.0.0.1, or the other
//! way round.

use std::net::{SocketAddr, UdpSocket};

use recluster_e2e::{Connection, Home, Launch, Load, Master, eventually, get, on};
use serde_json::{Value, json};

/// A server that listens on the port of the first generation, on the host of its own. With BREAK, the second generation fails
/// when there is a file of that name.
const MOVES: &str = "
    const fs = require('node:fs')
    const http = require('node:http')
    const generation = Number(process.env.RECLUSTER_GENERATION)
    const file = process.env.PORT_FILE
    const host = process.env.HOSTS.split(' ')[Math.min(generation, 2) - 1]
    const port = generation === 1 ? 0 : Number(fs.readFileSync(file, 'utf8'))
    const server = http.createServer((request, response) => response.end(String(generation)))
    server.listen({ port, host: host === '-' ? undefined : host }, () => {
        if (generation === 1) fs.writeFileSync(file, String(server.address().port))
        else if (process.env.BREAK) setInterval(() => { if (fs.existsSync(process.env.BREAK)) throw new Error('broken code') }, 10)
    })
";

fn moving(hosts: &str, balance: &str) -> (Home, Launch) {
    let home = Home::new();
    let server = home.write("server.js", MOVES);
    bake(&home, "400ms");
    let launch = Launch::of(server).home(&home).without("--bake").option("--balance", balance);
    let launch = launch.env("HOSTS", hosts).env("PORT_FILE", home.join("port"));
    (home, launch.option("--timeout", "1h"))
}

/// How long a worker must live before it serves, from the next generation on.
fn bake(home: &Home, time: &str) {
    home.write("recluster.toml", &format!("bake = \"{time}\"\n"));
}

fn loopback(master: &Master) -> SocketAddr {
    ([127, 0, 0, 1], master.address().port()).into()
}

fn listeners(master: &Master) -> Vec<Value> {
    let status = master.status();
    let listeners = status["listeners"].as_array().expect("a list");
    listeners.iter().map(|listener| listener["address"].clone()).collect()
}

#[test]
fn a_server_may_move_to_a_wider_or_a_narrower_address() {
    let some = &["127.0.0.1 0.0.0.0", "- 127.0.0.1"][..];
    let all = &["127.0.0.1 0.0.0.0", "- 127.0.0.1", "127.0.0.1 -", "0.0.0.0 127.0.0.1", "0.0.0.0 -"][..];
    for (balance, moves) in
        [("round-robin", all), ("shared", &some[..1]), ("kernel", some), ("sticky", &some[1..])]
    {
        for hosts in moves {
            let (_home, launch) = moving(hosts, balance);
            let master = launch.serve();
            let address = loopback(&master);
            let load = Load::begin(2, move || {
                let answer = Connection::open(address).and_then(|mut connection| connection.get("/"));
                answer.map(|answer| answer.body).map_err(|error| error.to_string())
            });
            load.go_on(20);
            master.reload().expect_code(0);
            master.wait(on("closed"));
            load.go_on(20);
            let tally = load.end();
            assert_eq!(tally.lost, Vec::<String>::new(), "{balance} {hosts}");
            let answers: Vec<_> = tally.answers.into_iter().collect();
            assert_eq!(answers, ["1", "2"]);
            assert_eq!(listeners(&master).len(), 1, "{balance} {hosts}");
            master.reload().expect_code(0);
            master.wait_all(2, on("exit").generation(2));
            assert_eq!(get(address, "/").expect("an answer").body, "3");
        }
    }
}

#[test]
fn a_rollback_leaves_the_old_address_serving() {
    for hosts in ["127.0.0.1 0.0.0.0", "0.0.0.0 127.0.0.1"] {
        let (home, launch) = moving(hosts, "round-robin");
        let master = launch.env("BREAK", home.join("break")).option("--attempts", "1").serve();
        let address = loopback(&master);
        let before = listeners(&master);
        let load = Load::begin(2, move || {
            let answer = Connection::open(address).and_then(|mut connection| connection.get("/"));
            answer.map(|answer| answer.body).map_err(|error| error.to_string())
        });
        load.go_on(20);
        bake(&home, "1h");
        let reload = master.begin_client(&["reload"]);
        master.wait_all(2, on("ready").generation(2));
        load.go_on(20);
        home.write("break", "");
        reload.finish().expect_code(1);
        load.go_on(20);
        let tally = load.end();
        assert_eq!(tally.lost, Vec::<String>::new(), "{hosts}");
        assert_eq!(
            tally.answers.into_iter().collect::<Vec<_>>(),
            ["1"],
            "code that is not proven serves nobody"
        );
        eventually("the new address is closed", || listeners(&master) == before);
    }
}

#[test]
fn datagrams_reach_the_new_address() {
    let home = Home::new();
    let text = "
        const fs = require('node:fs')
        const generation = Number(process.env.RECLUSTER_GENERATION)
        const socket = require('node:dgram').createSocket('udp4')
        const port = generation === 1 ? 0 : Number(fs.readFileSync(process.env.PORT_FILE, 'utf8'))
        socket.on('message', (_, { port, address }) => socket.send(String(generation), port, address))
        socket.bind(port, generation === 1 ? '127.0.0.1' : '0.0.0.0', () => {
            if (generation === 1) fs.writeFileSync(process.env.PORT_FILE, String(socket.address().port))
        })
    ";
    let server = home.write("server.js", text);
    let master = Launch::of(server).home(&home).workers(1).env("PORT_FILE", home.join("port")).serve();
    let port: u16 = home.read("port").parse().expect("a number");
    master.reload().expect_code(0);
    master.wait(on("exit").generation(1));
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    client.set_read_timeout(Some(recluster_e2e::DEADLINE)).expect("a span");
    client.send_to(b"?", ("127.0.0.1", port)).expect("it is sent");
    let mut answer = [0; 8];
    let count = client.recv(&mut answer).expect("an answer");
    assert_eq!(&answer[..count], b"2");
}

/// As without a cluster: packages that look for a free port rely on it.
#[test]
fn beside_a_worker_of_its_own_generation_the_address_is_in_use() {
    let home = Home::new();
    let text = "
        const fs = require('node:fs')
        const http = require('node:http')
        const first = http.createServer().listen(0, '127.0.0.1', () => {
            http.createServer().listen(first.address().port, '0.0.0.0')
        })
    ";
    let server = home.write("server.js", text);
    let launch = Launch::of(server).home(&home).workers(1).option("--attempts", "1").impatient();
    // It is ready by its first server, and must not serve before its second one has failed.
    let mut master = launch.option("--bake", "1h").start();
    let failed = master.wait(on("start_failed"));
    let hint = failed.text("/failure/hint");
    assert!(hint.starts_with("it is the cluster itself that listens on 127.0.0.1:"), "{hint}");
    master.expect_end(3);
}

#[test]
fn a_socket_of_a_service_manager_is_named_where_it_is_in_the_way() {
    let socket = std::net::TcpListener::bind("0.0.0.0:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    let listen = json!({ "port": address.port(), "host": "127.0.0.1" });
    let launch = Launch::fixture("server.js").env("LISTEN", listen.to_string()).workers(1);
    let mut master = launch.socket(socket).option("--attempts", "1").start();
    let failed = master.wait(on("start_failed"));
    let hint = failed.at("/failure/hint").as_str().unwrap_or_default();
    assert!(hint.contains(&format!("the cluster itself that listens on {address}")), "{failed:?}");
    master.expect_end(3);
}
