//! Each message of a worker and what it is answered, through a real channel.

use recluster_wire::Json;
use recluster_wire::node::worker::FromPrimary;
use recluster_wire::node::{Decoder, Farewell, Fault, Held, Malformed, Taken};

use super::super::fixtures::{FarEnd, Harness, connection, id, just_before, query};
use super::super::later::{Later, PATIENCE};
use super::super::messages::MOST_SERVERS_EACH;
use super::super::worker::InFlight;
use super::*;

fn serving(balance: Balance) -> (Harness, FarEnd) {
    let mut harness = Harness::new(balance);
    let far = harness.serving(1, 0);
    (harness, far)
}

/// What a worker says in these words.
fn said(line: &str) -> FromWorker {
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(line.as_bytes());
    decoder.push(b"\n");
    decoder.next_message().unwrap().unwrap()
}

fn listening(port: u16) -> FromWorker {
    let address = Some("127.0.0.1".to_owned());
    FromWorker::Listening(Listening { address, port: Some(port), kind: Some(SocketKind::Tcp4), fd: None })
}

fn handle(message: FromWorker) -> FromWorker {
    let kind = Some(HandleKind::NetNative);
    FromWorker::Handle(HandleEnvelope { kind, key: None, message: Box::new(message) })
}

fn only_key(harness: &mut Harness) -> String {
    harness.worker(1).servers.keys().next().cloned().expect("a server")
}

#[test]
fn each_query_is_answered_once() {
    for (balance, fds) in [(Balance::RoundRobin, 0), (Balance::Shared, 1), (Balance::Kernel, 1)] {
        let (mut harness, mut far) = serving(balance);
        harness.hear(1, FromWorker::QueryServer(query(7)));
        assert_eq!(far.replies(), [(7, Ok(()))]);
        assert_eq!(far.fds.len(), fds);
        harness.turn();
        assert!(far.lines().is_empty());
    }
}

/// Workers of a master that was killed may have the address, if they are busy.
#[test]
fn an_address_in_use_is_waited_for_where_workers_are_left_of_before() {
    for balance in [Balance::RoundRobin, Balance::Shared, Balance::Kernel] {
        let (mut harness, mut far) = serving(balance);
        let old = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Some(old.local_addr().unwrap().port());
        let ask = |seq| FromWorker::QueryServer(QueryServer { port, ..query(seq) });
        harness.hear(1, ask(1));
        assert_eq!(far.replies(), [(1, Err(libc::EADDRINUSE))], "nobody was left");
        harness.state.later = Later::new(true, harness.state.reactor.now);
        harness.hear(1, ask(2));
        harness.pass(just_before(PATIENCE));
        assert_eq!(far.replies(), []);
        harness.pass(PATIENCE);
        assert_eq!(far.replies(), [(2, Err(libc::EADDRINUSE))], "they keep it for too long");
        harness.hear(1, ask(3));
        drop(old);
        harness.pass(PATIENCE / 2);
        assert_eq!(far.replies(), [(3, Ok(()))]);
    }
}

#[test]
fn few_requests_of_one_worker_wait_and_none_when_the_start_is_long_over() {
    let (mut harness, mut far) = serving(Balance::Shared);
    let old = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Some(old.local_addr().unwrap().port());
    harness.state.later = Later::new(true, harness.state.reactor.now);
    (1..=9).for_each(|seq| harness.hear(1, FromWorker::QueryServer(QueryServer { port, ..query(seq) })));
    assert_eq!(far.replies().len(), 5);
    harness.pass(PATIENCE);
    assert_eq!(far.replies().len(), 4);
    harness.pass(PATIENCE * 100);
    harness.hear(1, FromWorker::QueryServer(QueryServer { port, ..query(10) }));
    assert_eq!(far.replies(), [(10, Err(libc::EADDRINUSE))]);
}

#[test]
fn a_request_that_waits_is_met_or_refused_by_another_program() {
    for is_free in [true, false] {
        let (mut harness, mut far) = serving(Balance::Shared);
        let old = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Some(old.local_addr().unwrap().port());
        harness.state.later = Later::new(true, harness.state.reactor.now);
        harness.hear(1, FromWorker::QueryServer(QueryServer { port, ..query(1) }));
        harness.pass(just_before(PATIENCE));
        let mut harness = harness.inherited();
        let _old = (!is_free).then_some(old);
        harness.turn();
        assert_eq!(far.replies(), []);
        harness.pass(if is_free { PATIENCE / 2 } else { Duration::from_millis(50) });
        assert_eq!(far.replies(), [(1, if is_free { Ok(()) } else { Err(libc::EADDRINUSE) })]);
    }
}

#[test]
fn a_program_that_is_not_node_gets_the_socket_whatever_the_balance() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    harness.worker(1).is_node = false;
    harness.hear(1, FromWorker::QueryServer(query(1)));
    assert_eq!((far.replies().len(), far.fds.len()), (1, 1));
}

#[test]
fn datagrams_are_read_by_the_workers() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    let query = QueryServer { kind: Some(SocketKind::Udp4), ..query(1) };
    harness.hear(1, FromWorker::QueryServer(query));
    assert!(far.lines()[0].contains("dgram.Native"));
    assert_eq!(far.fds.len(), 1);
}

#[test]
fn an_address_that_cannot_be_had_is_answered_with_the_systems_error() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Some(taken.local_addr().unwrap().port());
    let queries = [
        (QueryServer { port, ..query(1) }, libc::EADDRINUSE),
        (QueryServer { address: Some("nonsense".to_owned()), ..query(2) }, libc::EINVAL),
        (QueryServer { fd: Some(9), ..query(3) }, libc::EINVAL),
        (QueryServer { kind: None, ..query(4) }, libc::EINVAL),
        (QueryServer { address: Some("::1%nowhere".to_owned()), ..query(5) }, libc::EINVAL),
    ];
    for (query, errno) in queries {
        let seq = query.seq;
        harness.hear(1, FromWorker::QueryServer(query));
        assert_eq!(far.replies(), [(seq, Err(errno))]);
    }
    assert!(harness.worker(1).servers.is_empty());
}

#[test]
fn the_same_worker_again_is_told_that_the_address_is_in_use() {
    for balance in [Balance::RoundRobin, Balance::Kernel] {
        let (mut harness, mut far) = serving(balance);
        let listener = harness.listen(1, &mut far);
        let port = Some(harness.address(listener).port());
        harness.hear(1, FromWorker::QueryServer(QueryServer { port, ..query(2) }));
        assert_eq!(far.replies(), [(2, Err(libc::EADDRINUSE))]);
    }
}

#[test]
fn a_malformed_query_is_refused_and_other_nonsense_ignored() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    let unanswered = UnansweredQuery { seq: 4, data: None };
    let malformed = Malformed { fault: Fault::Field("port"), unanswered: Some(unanswered) };
    harness.hear(1, FromWorker::Malformed(malformed));
    assert_eq!(far.replies(), [(4, Err(libc::EINVAL))]);
    harness.hear(1, FromWorker::Malformed(Malformed { fault: Fault::NotJson, unanswered: None }));
    harness.hear(1, FromWorker::Unknown);
    harness.hear(1, FromWorker::Close { key: "none".to_owned() });
    harness.hear(1, FromWorker::Ack { ack: 99, accepted: false });
    assert!(far.lines().is_empty() && harness.facts().is_empty());
}

#[test]
fn one_server_too_many_is_refused_as_for_want_of_descriptors() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    let opened = harness.state.reactor.now;
    for number in 0..MOST_SERVERS_EACH as u64 {
        let server = Server { number, listener: 0, opened, announced: None, listens_since: None };
        harness.worker(1).servers.insert(format!("x{number}"), server);
    }
    harness.hear(1, FromWorker::QueryServer(query(1)));
    assert_eq!(far.replies(), [(1, Err(libc::EMFILE))]);
}

#[test]
fn one_that_was_told_to_disconnect_gets_no_server_and_no_answer() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    harness.worker(1).drain = Drain::Disconnecting;
    harness.hear(1, FromWorker::QueryServer(query(1)));
    harness.worker(1).drain = Drain::None;
    harness.close_listeners();
    harness.hear(1, FromWorker::QueryServer(query(2)));
    assert!(far.lines().is_empty() && harness.state.listeners.is_empty());
}

#[test]
fn the_first_workers_ticket_keys_are_all_workers() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    let mut other = harness.serving(2, 1);
    let data = |text: &str| Some(Json::parse(text).unwrap());
    harness.hear(1, FromWorker::QueryServer(QueryServer { data: data("\"first\""), ..query(1) }));
    harness.hear(2, FromWorker::QueryServer(QueryServer { data: data("\"second\""), ..query(1) }));
    assert!(far.lines()[0].contains("first"));
    assert!(other.lines()[0].contains("first"));
}

#[test]
fn what_is_said_twice_is_reported_once() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    let listeners = [0, 1].map(|index| harness.ask(1, &mut far, QueryServer { index, ..query(1) }));
    let ports = listeners.map(|listener| harness.address(listener).port());
    for _ in 0..2 {
        harness.hear(1, FromWorker::Online);
        harness.hear(1, listening(ports[0]));
        harness.hear(1, listening(ports[1]));
        harness.hear(1, said("{\"cmd\":\"disconnect\"}"));
    }
    let expected = ["online 1", "listening 1", "listening 1", "message 1", "retiring 1", "message 1"];
    assert_eq!(harness.fact_names(), expected);
}

#[test]
fn a_message_of_the_application_comes_before_what_follows_from_it() {
    let (mut harness, _far) = serving(Balance::RoundRobin);
    harness.hear(1, said("\"ready\""));
    harness.hear(1, said("{\"a\":1}"));
    harness.hear(1, FromWorker::Held(Held { connections: 1, upgraded: 0, requests: 0 }));
    assert_eq!(harness.fact_names(), ["message 1", "ready 1", "message 1", "held 1"]);
}

#[test]
fn what_the_preload_tells_is_passed_on() {
    let (mut harness, _far) = serving(Balance::RoundRobin);
    harness.hear(1, FromWorker::Keeps(Duration::from_secs(65)));
    harness.hear(1, FromWorker::Stderr("no database\n".to_owned()));
    harness.hear(1, FromWorker::Leaves);
    harness.hear(1, FromWorker::Farewell(Farewell::default()));
    let expected = ["keeps 1 65s", "stderr 1 \"no database\\n\"", "retiring 1", "farewell 1"];
    assert_eq!(harness.fact_names(), expected);
}

#[test]
fn its_own_disconnect_is_acknowledged() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    harness.hear(1, FromWorker::ExitedAfterDisconnect { seq: 6 });
    assert_eq!(far.messages(), [FromPrimary::Ack { ack: 6 }]);
    assert_eq!(harness.fact_names(), ["retiring 1"]);
}

#[test]
fn a_probe_for_a_port_is_no_retirement() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    for (life, facts) in [(SERVER_LIFE / 2, 0), (SERVER_LIFE, 1)] {
        harness.listen(1, &mut far);
        harness.state.reactor.now += life;
        let key = only_key(&mut harness);
        harness.hear(1, FromWorker::Close { key });
        assert_eq!(harness.facts().len(), facts);
    }
}

#[test]
fn a_closed_server_gets_no_connection_and_vacates_its_socket() {
    let (mut harness, mut far) = serving(Balance::Kernel);
    let listener = harness.listen(1, &mut far);
    let key = only_key(&mut harness);
    harness.hear(1, FromWorker::Close { key });
    assert!(harness.listener(listener).targets.is_empty());
    let group = harness.listener(listener).group.as_ref().unwrap();
    assert_eq!(group.place_of(id(1)), None);
}

#[test]
fn sockets_that_the_worker_would_have_us_count_are_none() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    harness.hear(1, FromWorker::SocketGetCount { key: "1".to_owned() });
    harness.hear(1, FromWorker::SocketNotifyClose { key: "1".to_owned() });
    let lines = far.lines();
    assert!(
        lines[0].contains("NODE_SOCKET_COUNT") && lines[1].contains("NODE_SOCKET_ALL_CLOSED"),
        "{lines:?}"
    );
}

#[test]
fn a_handle_without_its_descriptor_is_told_so() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    harness.hear(1, handle(said("{}")));
    assert!(far.lines()[0].contains("NODE_HANDLE_NACK"));
    assert!(harness.facts().is_empty());
}

#[test]
fn an_acknowledgement_too_many_is_a_violation() {
    let (mut harness, _far) = serving(Balance::RoundRobin);
    for message in [FromWorker::HandleAck, FromWorker::HandleNack] {
        assert_eq!(harness.violation(1, message), Some(ProtocolViolation::SurplusAck));
    }
}

#[test]
fn a_connection_that_was_lost_goes_to_another_worker() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    let listener = harness.listen(1, &mut far);
    let _client = harness.connect(listener);
    harness.turn();
    let mut other = harness.serving(2, 1);
    harness.listen(2, &mut other);
    harness.hear(1, FromWorker::HandleNack);
    harness.turn();
    assert!(harness.worker(1).in_flight.is_empty() && !harness.worker(1).has_room());
    assert_eq!(other.connections().len(), 1);
    harness.pass(LOST_PAUSE);
    assert!(harness.worker(1).has_room());
}

#[test]
fn a_listening_socket_that_was_lost_ends_the_worker() {
    let (mut harness, _far) = serving(Balance::Shared);
    harness.hear(1, FromWorker::QueryServer(query(1)));
    let violation = harness.violation(1, FromWorker::HandleNack);
    assert_eq!(violation, Some(ProtocolViolation::OutOfDescriptors));
}

#[test]
fn a_refused_connection_is_put_back_with_who_refused_it() {
    let (mut harness, mut far) = serving(Balance::RoundRobin);
    let listener = harness.listen(1, &mut far);
    harness.worker(1).in_flight.insert(5, InFlight { listener, connection: connection().0 });
    harness.hear(1, FromWorker::Ack { ack: 5, accepted: false });
    assert_eq!(harness.listener(listener).waiting[0].refused_by, [id(1)]);
    assert_eq!(harness.worker(1).connections(), Some(0));
}

fn taken(connections: u64) -> FromWorker {
    FromWorker::Taken(Taken { connections, ..Taken::default() })
}

#[test]
fn its_own_count_is_believed_where_it_is_higher() {
    let (mut harness, _far) = serving(Balance::Kernel);
    harness.worker(1).got.taken = 3;
    harness.hear(1, taken(2));
    assert_eq!(harness.worker(1).connections(), Some(3));
    harness.hear(1, taken(8));
    assert_eq!(harness.worker(1).connections(), Some(8));
}

#[test]
fn what_a_worker_accepts_by_itself_is_known_where_it_counts() {
    for (balance, known) in [(Balance::RoundRobin, Some(0)), (Balance::Shared, None), (Balance::Kernel, None)]
    {
        let (mut harness, mut far) = serving(balance);
        assert_eq!(harness.worker(1).connections(), Some(0), "it does not listen yet");
        harness.listen(1, &mut far);
        assert_eq!(harness.worker(1).connections(), known);
        harness.hear(1, taken(0));
        assert_eq!(harness.worker(1).connections(), Some(0));
    }
}

#[test]
fn addresses_are_understood_or_ignored() {
    let at = |kind, address: Option<&str>, port, fd| {
        let listening = Listening { address: address.map(str::to_owned), port, kind, fd };
        address_of(&listening).map(|address| address.to_string())
    };
    let tcp6 = Some(SocketKind::Tcp6);
    assert_eq!(at(tcp6, None, Some(80), None).as_deref(), Some("[::]:80"));
    assert!(at(Some(SocketKind::Udp4), None, Some(53), None).is_some_and(|it| it.contains("0.0.0.0:53")));
    assert!(at(Some(SocketKind::Unix), Some("/run/a"), None, None).is_some_and(|it| it.contains("/run/a")));
    assert!(at(None, None, None, Some(3)).is_some());
    for nothing in
        [at(tcp6, Some("nonsense"), Some(1), None), at(tcp6, None, None, None), at(None, None, Some(1), None)]
    {
        assert_eq!(nothing, None);
    }
    assert_eq!(at(None, None, None, Some(u32::MAX)), None);
}
