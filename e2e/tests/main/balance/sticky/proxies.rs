//! Clients behind a real proxy, which sends the requests of several clients on one connection.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};

use recluster_e2e::{Connection, Launch, Master, Response, fixture, on};

use super::by;
use super::client::{Client, addresses, slot_of, with_header};
use super::proxy::Proxy;

/// How many clients there are. It is a prime: whoever asks every third client, or every seventh, asks all of them.
const CLIENTS: usize = 31;

fn cluster(key: &str) -> Launch {
    by(key).server(fixture("sticky/who.js")).workers(3).option("--timeout", "2s")
}

/// Clients and the connections to the proxy on which they ask, all of which are kept.
struct Crowd {
    clients: Vec<Client>,
    connections: Vec<Connection<TcpStream>>,
}

impl Crowd {
    /// All of them share one connection, as behind another proxy.
    fn on_one_connection(clients: Vec<Client>, proxy: SocketAddr) -> Self {
        let connections = vec![Client::anyone().connect(proxy)];
        Self { clients, connections }
    }

    /// Each has its own connection.
    fn on_their_own(clients: Vec<Client>, proxy: SocketAddr) -> Self {
        let connections = clients.iter().map(|client| client.connect(proxy)).collect();
        Self { clients, connections }
    }

    /// Every client asks once, in an order that depends on the step. The answers are in the order of the clients.
    fn ask(&mut self, step: usize) -> Vec<Response> {
        let count = self.clients.len();
        let mut answers: Vec<(usize, Response)> =
            (0..count).map(|turn| turn * step % count).map(|client| (client, self.answer(client))).collect();
        answers.sort_by_key(|(client, _)| *client);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    fn answer(&mut self, client: usize) -> Response {
        let own = client % self.connections.len();
        let connection = &mut self.connections[own];
        connection.send(self.clients[client].request()).expect("the proxy keeps it");
        let answer = connection.response().expect("the request should be answered");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    fn slots(&mut self, step: usize) -> Vec<u64> {
        self.ask(step).iter().map(slot_of).collect()
    }
}

/// Every client sees one slot, however they mix, and also after a reload; all slots have clients. Returns their slots.
#[track_caller]
fn each_keeps_its_slot(master: &Master, crowd: &mut Crowd) -> Vec<u64> {
    let first = crowd.slots(1);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "every slot has clients: {first:?}");
    for step in [3, 7, 11, 30] {
        assert_eq!(crowd.slots(step), first);
    }
    master.reload().expect_code(0);
    master.wait_all(3, on("exit").generation(1));
    let after = crowd.ask(5);
    assert_eq!(after.iter().map(slot_of).collect::<Vec<_>>(), first);
    assert!(after.iter().all(|answer| answer.text("generation") == "2"));
    first
}

/// Behind `HAProxy`, all on one connection to it.
#[track_caller]
fn behind_haproxy(key: &str, clients: Vec<Client>) {
    let master = cluster(key).serve();
    let proxy = Proxy::haproxy(master.address(), "");
    each_keeps_its_slot(&master, &mut Crowd::on_one_connection(clients, proxy.address()));
}

#[test]
#[cfg_attr(not(has = "haproxy"), ignore = "haproxy is not installed")]
fn header_behind_haproxy() {
    behind_haproxy("header:X-Client", with_header("X-Client", CLIENTS));
}

#[test]
#[cfg_attr(not(has = "haproxy"), ignore = "haproxy is not installed")]
fn cookie_behind_haproxy() {
    let cookie = |number| format!("theme=dark; session={number}");
    let clients = (0..CLIENTS).map(|number| Client::anyone().header("Cookie", &cookie(number)));
    behind_haproxy("cookie:session", clients.collect());
}

#[test]
#[cfg_attr(not(has = "haproxy"), ignore = "haproxy is not installed")]
fn query_behind_haproxy() {
    let clients = (0..CLIENTS).map(|number| Client::anyone().target(&format!("/?user={number}")));
    behind_haproxy("query:user", clients.collect());
}

/// The proxy says whose connection it is, in a header before the first request.
#[track_caller]
fn proxy_protocol_behind_haproxy(option: &str) {
    let master = cluster("proxy-protocol").env("PROXY_PROTOCOL", "1").serve();
    let proxy = Proxy::haproxy(master.address(), option);
    let clients = addresses(31);
    let mut crowd = Crowd::on_their_own(clients.clone(), proxy.address());
    for (client, answer) in clients.iter().zip(crowd.ask(1)) {
        assert_eq!(answer.text("source"), client.address().to_string());
    }
    each_keeps_its_slot(&master, &mut crowd);
}

#[test]
#[cfg_attr(not(has = "haproxy"), ignore = "haproxy is not installed")]
fn proxy_protocol_version_1_behind_haproxy() {
    proxy_protocol_behind_haproxy("send-proxy");
}

#[test]
#[cfg_attr(not(has = "haproxy"), ignore = "haproxy is not installed")]
fn proxy_protocol_version_2_behind_haproxy() {
    proxy_protocol_behind_haproxy("send-proxy-v2");
}

/// Those who reach nginx from addresses of their own, and those whom another proxy before it speaks for.
#[test]
#[cfg_attr(not(has = "nginx"), ignore = "nginx is not installed")]
fn forwarded_for_behind_nginx() {
    let master = cluster("header:X-Forwarded-For").serve();
    let proxy = Proxy::nginx(master.address());
    let near = addresses(31);
    let spoken_for =
        |client: &Client| Client::anyone().header("X-Forwarded-For", &client.address().to_string());
    let far: Vec<Client> = near.iter().map(spoken_for).collect();
    let far = Crowd::on_one_connection(far, proxy.address()).slots(3);
    let near = each_keeps_its_slot(&master, &mut Crowd::on_their_own(near, proxy.address()));
    assert_eq!(near, far, "the first address of the list counts");
}

/// What all this is about: a proxy sends several clients' requests on the same connection.
#[track_caller]
fn mixes_clients(proxy: impl FnOnce(SocketAddr) -> Proxy) {
    let master = Launch::fixture("sticky/who.js").serve();
    let proxy = proxy(master.address());
    let mut crowd = Crowd::on_their_own(addresses(31), proxy.address());
    let answers = [crowd.ask(1), crowd.ask(3)].concat();
    let connections: BTreeSet<String> = answers.iter().map(|answer| answer.text("connection")).collect();
    assert!(connections.len() < CLIENTS, "{connections:?}");
}

#[test]
#[cfg_attr(not(has = "haproxy"), ignore = "haproxy is not installed")]
fn haproxy_mixes_clients() {
    mixes_clients(|cluster| Proxy::haproxy(cluster, ""));
}

#[test]
#[cfg_attr(not(has = "nginx"), ignore = "nginx is not installed")]
fn nginx_mixes_clients() {
    mixes_clients(Proxy::nginx);
}
