//! By what clients are told apart (`--sticky-by`), and by what where a request does not have it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use recluster_e2e::{Launch, Master, on};

use super::client::{Client, addresses, slot_of, slots, with_header};
use super::{by, by_address};

/// Every client has a slot, not all the same one, and keeps it through a reload.
#[track_caller]
fn each_keeps_its_slot(launch: Launch, clients: &[Client]) {
    let master = launch.workers(3).serve();
    let first = slots(clients, master.address());
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "every slot has clients: {first:?}");
    assert_eq!(slots(clients, master.address()), first, "asked again");
    master.reload().expect_code(0);
    assert_eq!(slots(clients, master.address()), first, "asked while old workers may still be there");
    master.wait_all(3, on("exit").generation(1));
    assert_eq!(slots(clients, master.address()), first, "asked when they are gone");
}

#[test]
fn address() {
    each_keeps_its_slot(by_address(), &addresses(40));
}

#[test]
fn header() {
    each_keeps_its_slot(by("header:X-Client"), &with_header("x-client", 40));
}

#[test]
fn cookie() {
    let cookies = (0..40).map(|number| format!("theme=dark; session={number}; lang=en"));
    let clients: Vec<Client> = cookies.map(|cookies| Client::anyone().header("Cookie", &cookies)).collect();
    each_keeps_its_slot(by("cookie:session"), &clients);
}

#[test]
fn query() {
    let targets = (0..40).map(|number| format!("/?page=7&user={number}&size=20"));
    let clients: Vec<Client> = targets.map(|target| Client::anyone().target(&target)).collect();
    each_keeps_its_slot(by("query:user"), &clients);
}

#[test]
fn address_where_the_key_is_missing() {
    for key in ["header:X-Client", "cookie:session", "query:user", "proxy-protocol"] {
        each_keeps_its_slot(by(key), &addresses(40));
    }
}

#[test]
fn address_where_the_key_comes_too_late_in_the_request() {
    let padding = "x".repeat(2000);
    let late = |client: Client| client.header("X-Padding", &padding).header("X-Client", "the same");
    let clients: Vec<Client> = addresses(40).into_iter().map(late).collect();
    each_keeps_its_slot(by("header:X-Client").option("--peek-bytes", "1K"), &clients);
}

/// A proxy appends the address that it was asked from.
#[test]
fn of_a_list_of_addresses_the_first_counts() {
    let master = by("header:X-Forwarded-For").workers(3).serve();
    for number in 0..20 {
        let first = format!("192.0.2.{number}");
        let asked =
            |list: String| slot_of(&Client::anyone().header("X-Forwarded-For", &list).ask(master.address()));
        let slot = asked(first.clone());
        assert_eq!(asked(format!("{first}, 198.51.100.1")), slot);
        assert_eq!(asked(format!("{first},198.51.100.2, 198.51.100.3")), slot);
    }
}

#[test]
fn a_request_that_comes_in_parts_is_waited_for() {
    let master = by("header:X-Client").workers(3).serve();
    for (number, client) in with_header("X-Client", 20).into_iter().enumerate() {
        let slot = slot_of(&client.ask(master.address()));
        let request = client.request();
        let (first, second) = request.split_at(20 + number);
        let mut connection = master.connect();
        connection.send(first).expect("it is connected");
        // Meanwhile others are served.
        Client::anyone().ask(master.address());
        connection.send(second).expect("it is connected");
        assert_eq!(slot_of(&connection.response().expect("an answer")), slot);
    }
}

/// Otherwise a proxy that keeps the connection would send another client's request on it.
#[test]
fn a_connection_that_was_peeked_is_for_one_response() {
    for (key, client) in [
        ("header:X-Client", Client::anyone().header("X-Client", "a")),
        ("cookie:session", Client::anyone().header("Cookie", "session=a")),
        ("query:user", Client::anyone().target("/?user=a")),
    ] {
        let master = by(key).serve();
        let mut connection = client.begin(master.address());
        let answer = connection.response().expect("an answer");
        assert_eq!(answer.header("connection").as_deref(), Some("close"), "{key}");
        assert_eq!(connection.read_to_end().expect("an end"), "", "{key}");
    }
}

#[test]
fn a_connection_that_was_not_peeked_is_kept() {
    let master = by_address().serve();
    let mut connection = master.connect();
    for _ in 0..3 {
        connection.get("/").expect("an answer");
    }
}

/// What is no request is left to the worker, which says so.
#[test]
fn what_is_no_http_goes_to_a_worker_as_it_is() {
    let master: Master = by("header:X-Client").serve();
    let client_hello: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03";
    for nonsense in [client_hello, b"SSH-2.0-OpenSSH_9.2\r\n", b"\r\n\0nonsense\r\n\r\n"] {
        let mut connection = master.connect();
        connection.send(nonsense).expect("it is connected");
        assert_eq!(connection.response().expect("an answer").status, 400);
    }
}

/// The worker gets the header as well: the answer says whom it names.
fn each_source_has_its_slot(header: impl Fn(Ipv4Addr) -> Vec<u8>) {
    let master = by("proxy-protocol")
        .server(recluster_e2e::fixture("sticky/who.js"))
        .env("PROXY_PROTOCOL", "1")
        .workers(3)
        .serve();
    let mut seen = BTreeSet::new();
    for number in 0..40 {
        let source = Ipv4Addr::new(192, 0, 2, number);
        let ask = || {
            let mut connection = master.connect();
            connection.send(header(source)).expect("it is connected");
            let answer = connection.get("/").expect("an answer");
            assert_eq!(answer.text("source"), source.to_string());
            slot_of(&answer)
        };
        let slot = ask();
        assert_eq!(ask(), slot);
        seen.insert(slot);
    }
    assert_eq!(seen.len(), 3, "every slot has clients");
}

#[test]
fn proxy_protocol_version_1() {
    each_source_has_its_slot(|source| format!("PROXY TCP4 {source} 198.51.100.1 56324 443\r\n").into_bytes());
}

#[test]
fn proxy_protocol_version_2() {
    each_source_has_its_slot(|source| {
        let signature = b"\r\n\r\n\0\r\nQUIT\n";
        // PROXY, by TCP over IPv4, and the length of what follows: two addresses and two ports.
        let kind = [0x21, 0x11, 0, 12];
        [&signature[..], &kind, &source.octets(), &[198, 51, 100, 1], &[0xdc, 0x04, 0x01, 0xbb]].concat()
    });
}
