//! Listening sockets that a service manager keeps while no master lives: connections wait in them until the next one serves.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use recluster_e2e::{Connection, Home, Launch, Master, eventually, on};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Signal;
use serde_json::json;

use super::node::free_port;

/// Where no other test listens.
const HOST: &str = "127.0.3.1";

/// A service manager that keeps descriptors, as systemd does.
pub(super) struct Store {
    socket: UnixDatagram,
    kept: BTreeMap<String, OwnedFd>,
    pub(super) home: Home,
}

impl Store {
    pub(super) fn new() -> Self {
        let home = Home::new();
        let socket = UnixDatagram::bind(home.join("manager")).expect("a directory of ours");
        socket.set_nonblocking(true).expect("a socket");
        Self { socket, kept: BTreeMap::new(), home }
    }

    /// The master, started by this manager with all that is kept. The last comes first: the order is not to count.
    pub(super) fn starts(&self, launch: Launch) -> Launch {
        let launch = launch.env("NOTIFY_SOCKET", self.home.join("manager")).env("FDSTORE", "16");
        let names: Vec<&str> = self.kept.keys().rev().map(String::as_str).collect();
        let sockets = self.kept.values().rev().map(|socket| socket.try_clone().expect("a copy"));
        let launch = launch.env("LISTEN_FDNAMES", names.join(":"));
        sockets.fold(launch, Launch::socket)
    }

    /// What it has been told until now.
    pub(super) fn reads(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let Ok(received) = recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
            else {
                return;
            };
            let rights = control.drain().filter_map(|message| {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    Some(descriptors)
                } else {
                    None
                }
            });
            let descriptors: Vec<OwnedFd> = rights.flatten().collect();
            let text = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
            self.hears(&text, descriptors);
        }
    }

    fn hears(&mut self, text: &str, descriptors: Vec<OwnedFd>) {
        let value = |name| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let name = value("FDNAME").unwrap_or("stored").to_owned();
        if value("FDSTOREREMOVE") == Some("1") {
            self.kept.remove(&name);
        }
        assert_eq!(value("FDSTORE").is_some(), !descriptors.is_empty(), "{text}");
        self.kept.extend(descriptors.into_iter().map(|descriptor| (name.clone(), descriptor)));
    }

    /// Waits until it keeps so many.
    pub(super) fn until_it_keeps(&mut self, count: usize) {
        eventually("what the manager keeps", || {
            self.reads();
            self.kept.len() == count
        });
    }

    /// The names of what it keeps.
    pub(super) fn names(&self) -> Vec<String> {
        self.kept.keys().cloned().collect()
    }

    /// Has the master, its workers and their copies gone.
    pub(super) fn kills(&mut self, mut master: Master) {
        master.signal(Signal::KILL);
        master.wait_end();
        master.wait_workers_gone();
        self.reads();
    }
}

/// Clients that have connected and asked, and are not answered yet.
fn ask(address: SocketAddr, count: usize) -> Vec<Connection<TcpStream>> {
    let ask = || {
        let mut connection = Connection::open(address).expect("the kernel takes it");
        connection.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("it is open");
        connection
    };
    std::iter::repeat_with(ask).take(count).collect()
}

/// How many sockets listen on this port.
fn listening(port: u16) -> usize {
    let all = std::fs::read_to_string("/proc/net/tcp").expect("the kernel says it");
    let fields = all.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields[1] == format!("0103007F:{port:04X}") && fields[3] == "0A").count()
}

#[track_caller]
fn are_answered(clients: Vec<Connection<TcpStream>>) {
    for mut client in clients {
        assert_eq!(client.response().expect("it waits for the next master").status, 200);
    }
}

fn server(port: u16, balance: &str, workers: u32) -> Launch {
    let launch =
        Launch::fixture("server.js").env("HOST", HOST).env("PORT", port.to_string()).workers(workers);
    launch.option("--balance", balance)
}

/// One master is killed, and others come after it, which are killed as well.
fn outlives(kept: &[usize], masters: &[(&str, u32)]) -> Vec<String> {
    let (mut store, port) = (Store::new(), free_port(HOST));
    let address = ([127, 0, 3, 1], port).into();
    let mut clients = Vec::new();
    let mut balances = Vec::new();
    for (number, (balance, workers)) in masters.iter().enumerate() {
        let master = store.starts(server(port, balance, *workers)).serve();
        are_answered(std::mem::take(&mut clients));
        are_answered(ask(address, 8));
        store.until_it_keeps(kept[number]);
        balances.push(master.status()["listeners"][0]["balance"].as_str().unwrap_or_default().to_owned());
        store.kills(master);
        clients = ask(address, 24);
    }
    drop(clients);
    balances
}

#[test]
fn connections_wait_until_the_next_master_serves() {
    for balance in ["round-robin", "shared"] {
        assert_eq!(outlives(&[1, 1, 1], &[(balance, 2), (balance, 2), (balance, 1)]), [balance; 3]);
    }
}

#[test]
fn a_group_comes_back_with_as_many_workers_more_or_fewer() {
    // Under `kernel` one of them is the master's own.
    for (balance, kept) in [("kernel", [3, 3, 5, 5, 5]), ("sticky", [2, 2, 4, 4, 4])] {
        let masters = [(balance, 2), (balance, 2), (balance, 4), (balance, 1), (balance, 3)];
        assert_eq!(outlives(&kept, &masters), [balance; 5]);
    }
}

#[test]
fn another_balance_uses_one_socket_and_empties_the_others() {
    for balance in ["round-robin", "shared"] {
        assert_eq!(
            outlives(&[4, 1, 1], &[("kernel", 3), (balance, 2), (balance, 2)]),
            ["kernel", balance, balance]
        );
    }
}

#[test]
fn one_socket_cannot_become_a_group_which_is_said() {
    let (mut store, port) = (Store::new(), free_port(HOST));
    let master = store.starts(server(port, "round-robin", 2)).serve();
    store.until_it_keeps(1);
    store.kills(master);
    let clients = ask(([127, 0, 3, 1], port).into(), 4);
    let master = store.starts(server(port, "kernel", 2)).serve();
    are_answered(clients);
    let said = master.seen(&on("caveat"));
    assert!(
        said.iter().any(|event| event.text("/caveat").contains("the service manager has kept")),
        "{said:?}"
    );
    let listener = &master.status()["listeners"][0];
    assert_eq!(listener["balance"], "round-robin");
    assert_eq!(listener["reason"], "the socket was bound before, and can have none beside it");
}

#[test]
fn a_group_of_which_a_socket_is_missing_is_served_all_the_same() {
    let (mut store, port) = (Store::new(), free_port(HOST));
    let address = ([127, 0, 3, 1], port).into();
    let master = store.starts(server(port, "kernel", 4)).serve();
    store.until_it_keeps(5);
    store.kills(master);
    let second = store.kept.keys().nth(1).expect("there are five").clone();
    store.kept.remove(&second);
    // What this process starts for another test has a copy for a moment.
    eventually("the socket is closed", || listening(port) == 4);
    let clients = ask(address, 24);
    let master = store.starts(server(port, "kernel", 4)).serve();
    are_answered(clients);
    assert_eq!(master.status()["listeners"][0]["balance"], "round-robin");
    store.until_it_keeps(1);
    are_answered(ask(address, 24));
}

/// With a number of descriptors that is too small for them, wherever that is noticed first.
#[test]
fn a_start_that_cannot_have_them_leaves_them_with_the_manager() {
    let (mut store, port) = (Store::new(), free_port(HOST));
    let master = store.starts(server(port, "kernel", 8)).serve();
    store.until_it_keeps(9);
    store.kills(master);
    let clients = ask(([127, 0, 3, 1], port).into(), 24);
    for descriptors in [20, 22, 26] {
        let launch = store.starts(server(port, "kernel", 8)).started_by("with-few-descriptors.py");
        let refused = launch.env("DESCRIPTORS", descriptors.to_string()).refused();
        assert!(!refused.status.success(), "{refused:?}");
        let told = &refused.stderr;
        assert!(told.contains("error: cannot ") && told.contains("Too many open files"), "{told}");
        assert!(told.contains("LimitNOFILE="), "{told}");
        store.reads();
        assert_eq!(store.kept.len(), 9, "none was given up");
    }
    let _master = store.starts(server(port, "kernel", 8)).serve();
    are_answered(clients);
}

#[test]
fn an_address_that_nobody_wants_any_more_is_closed() {
    let (mut store, port, other) = (Store::new(), free_port(HOST), free_port(HOST));
    let master = store.starts(server(port, "kernel", 2)).serve();
    store.until_it_keeps(3);
    store.kills(master);
    let (first, mut master) =
        (store.kept.keys().next().cloned(), store.starts(server(other, "kernel", 1)).serve());
    store.until_it_keeps(1);
    assert_ne!(store.kept.keys().next().cloned(), first);
    master.wait(on("closed").with("/address/tcp", format!("{HOST}:{port}")));
    eventually("nobody listens there", || listening(port) == 0);
    master.signal(Signal::TERM);
    master.expect_end(0);
    store.until_it_keeps(0);
}

#[test]
fn what_waits_at_an_address_that_overlaps_the_new_one_is_served() {
    for by_option in [false, true] {
        let (mut store, port) = (Store::new(), free_port(HOST));
        let mut clients = Vec::new();
        for (host, balance) in
            [("0.0.0.0", "round-robin"), (HOST, "round-robin"), ("0.0.0.0", "kernel"), (HOST, "kernel")]
        {
            let launch = server(port, balance, 1).env("HOST", host);
            let listens = |launch: Launch| launch.listen(&format!("{host}:{port}"));
            let master = store.starts(if by_option { listens(launch) } else { launch }).serve();
            are_answered(std::mem::take(&mut clients));
            store.until_it_keeps(1);
            are_answered(ask(([127, 0, 3, 1], port).into(), 4));
            store.kills(master);
            clients = ask(([127, 0, 3, 1], port).into(), 4);
        }
    }
}

#[test]
fn a_program_that_accepts_by_itself_has_all_clients_where_a_group_came_back() {
    let (mut store, port) = (Store::new(), free_port(HOST));
    let master = store.starts(server(port, "kernel", 4)).serve();
    store.until_it_keeps(5);
    store.kills(master);
    let python = "import socket\ns=socket.socket(fileno=3)\nwhile True:\n c,_=s.accept();c.recv(999);c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n');c.close()";
    let (home, path) = store_file(python);
    let launch = Launch::of(path).home(&home).workers(1).listen(&format!("{HOST}:{port}"));
    // The manager reads nothing yet, and has the others open.
    let master = store.starts(launch).start();
    master.wait(on("started"));
    are_answered(ask(([127, 0, 3, 1], port).into(), 24));
    store.until_it_keeps(1);
    are_answered(ask(([127, 0, 3, 1], port).into(), 24));
    drop(master);
}

#[test]
fn room_that_becomes_free_is_used_for_what_there_was_none_for() {
    let (mut store, port) = (Store::new(), free_port(HOST));
    let (first, second) = (port, free_port(HOST));
    let text = format!(
        "const net = require('node:net')
         const [first, second] = [{first}, {second}].map((port) => net.createServer().listen(port, '{HOST}'))
         first.on('connection', (it) => {{ first.close(); it.end() }})"
    );
    let launch = Launch::of(store.home.write("two.js", &text)).workers(1);
    let launch = launch.option("--balance", "round-robin");
    let master = store.starts(launch).env("FDSTORE", "1").start();
    master.wait(on("started"));
    store.until_it_keeps(1);
    let known = store.kept.keys().next().cloned();
    TcpStream::connect((HOST, first)).expect("it listens");
    eventually("the manager keeps the other one", || {
        store.reads();
        store.kept.len() == 1 && store.kept.keys().next().cloned() != known
    });
    drop(master);
}

#[test]
fn a_port_that_the_program_closes_is_kept_no_longer_and_one_of_the_kernels_choice_never() {
    let mut store = Store::new();
    let port = free_port(HOST);
    let text = format!(
        "const net = require('node:net')
         const random = net.createServer().listen(0, '{HOST}')
         const extra = net.createServer().listen({port}, '{HOST}')
         random.on('connection', (it) => {{ extra.close(); it.end() }})"
    );
    let launch =
        Launch::of(store.home.write("server.js", &text)).workers(1).option("--balance", "round-robin");
    let master = store.starts(launch).start();
    master.wait(on("started"));
    store.until_it_keeps(1);
    let listeners = master.status()["listeners"].clone();
    let mut addresses = listeners.as_array().expect("a list").iter().filter_map(|it| it["address"].as_str());
    let random =
        addresses.find(|address| !address.ends_with(&format!(":{port}"))).expect("a random port").to_owned();
    TcpStream::connect(random).expect("it listens");
    store.until_it_keeps(0);
}

/// A server that looks first whether its port is free.
fn careful(store: &Store, port: u16) -> Launch {
    let text = format!(
        "const [net, http] = [require('node:net'), require('node:http')]
         const hosts = ['0.0.0.0', '{HOST}']
         const next = () => {{
           const host = hosts.pop()
           if (!host) return http.createServer((_, answer) => answer.end('ok')).listen({port}, '{HOST}')
           const probe = net.createServer()
           probe.listen({port}, host, () => probe.close(next))
         }}
         next()"
    );
    Launch::of(store.home.write("careful.js", &text)).workers(1)
}

#[test]
fn a_port_that_is_tried_first_can_be_had_from_a_manager_that_reads_late() {
    for balance in ["round-robin", "kernel", "shared"] {
        let (mut store, port) = (Store::new(), free_port(HOST));
        let mut clients = Vec::new();
        for _ in 0..3 {
            // It reads nothing before the port was tried and closed and tried again.
            let master = store.starts(careful(&store, port).option("--balance", balance)).start();
            master.wait(on("started"));
            are_answered(std::mem::take(&mut clients));
            store.until_it_keeps(1);
            store.kills(master);
            clients = ask(([127, 0, 3, 1], port).into(), 4);
        }
    }
}

#[test]
fn what_the_master_binds_is_kept_as_well() {
    let (mut store, port) = (Store::new(), free_port(HOST));
    let address = ([127, 0, 3, 1], port).into();
    let listen =
        |launch: Launch| launch.listen(&format!("{HOST}:{port}")).listen(&format!("udp:{HOST}:{port}"));
    let node = || listen(server(port, "kernel", 2));
    let shell = || {
        let python = "import socket,sys\ns=socket.socket(fileno=3)\nwhile True:\n c,_=s.accept();c.recv(999);c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n');c.close()";
        let file = store_file(python);
        listen(Launch::of(file.1).workers(2)).home(&file.0)
    };
    let mut clients = Vec::new();
    for number in 0..4 {
        let launch = if number < 2 { node() } else { shell() };
        let master = store.starts(launch).start();
        master.wait(on("started"));
        are_answered(std::mem::take(&mut clients));
        store.until_it_keeps(2);
        store.kills(master);
        clients = ask(address, 8);
    }
}

/// A program that is not Node.
fn store_file(text: &str) -> (Home, std::path::PathBuf) {
    let home = Home::new();
    let path = home.program("server.py", &format!("#!/usr/bin/env python3\n{text}\n"));
    (home, path)
}

#[test]
fn a_socket_of_no_use_is_in_nobodys_way_for_long() {
    let mut store = Store::new();
    let path = store.home.join("server.sock");
    let socket = std::os::unix::net::UnixListener::bind(&path).expect("a directory of ours");
    // Its name does not say of which file it is.
    store.kept.insert("recluster.5.0".to_owned(), socket.into());
    let listen = format!("unix:{}", path.display());
    let launch = Launch::fixture("server.js").env("LISTEN", json!({ "path": path }).to_string());
    let master = store.starts(launch.listen(&listen)).start();
    eventually("the cluster has started", || {
        store.reads();
        !master.seen(&on("started")).is_empty()
    });
    assert!(!store.kept.contains_key("recluster.5.0"));
}

#[test]
fn a_start_that_fails_leaves_connections_to_the_next_one() {
    for (by_option, balance) in [(false, "kernel"), (false, "round-robin"), (true, "kernel")] {
        let (mut store, port) = (Store::new(), free_port(HOST));
        let listen =
            |launch: Launch| if by_option { launch.listen(&format!("{HOST}:{port}")) } else { launch };
        let kept = if balance == "kernel" && !by_option { 3 } else { 1 };
        let master = store.starts(listen(server(port, balance, 2))).serve();
        store.until_it_keeps(kept);
        store.kills(master);
        // One of two workers serves when the other one has failed too often.
        for failing in ["syntax-error.js", "second-slot-fails.js"] {
            let failing = Launch::fixture(failing)
                .env("HOST", HOST)
                .env("PORT", port.to_string())
                .option("--balance", balance);
            let failing = listen(failing.workers(2).option("--attempts", "1"));
            store.starts(failing).start().expect_end(3);
            store.until_it_keeps(kept);
        }
        let clients = ask(([127, 0, 3, 1], port).into(), 4);
        let master = store.starts(listen(server(port, balance, 2))).serve();
        are_answered(clients);
        drop(master);
    }
}

#[test]
fn more_sockets_than_the_manager_keeps_are_said_in_one_line() {
    let (mut store, port) = (Store::new(), free_port(HOST));
    let master = store.starts(server(port, "kernel", 4)).env("FDSTORE", "2").serve();
    store.until_it_keeps(2);
    let caveat = |event: &recluster_e2e::Event| event.text("/caveat").contains("FileDescriptorStoreMax");
    eventually("it is said", || master.seen(&on("caveat")).iter().any(caveat));
    assert_eq!(master.seen(&on("caveat")).iter().filter(|event| caveat(event)).count(), 1);
}
