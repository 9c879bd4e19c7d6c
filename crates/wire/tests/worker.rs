//! The worker's half of the dialogue, against the primary's: what one writes, the other reads.

#![cfg(test)]

use std::time::Duration;

use proptest::option;
use proptest::prelude::*;
use recluster_wire::Json;
use recluster_wire::node::worker::{FromPrimary, Reply, ToPrimary};
use recluster_wire::node::{
    DEFAULT_MAX_LINE, Decoder, Fault, FromWorker, HandleKind, IdleGrace, Listening, QueryServer, SocketKind,
    ToWorker, UserCommand,
};

/// What the primary makes of a worker's message.
fn heard(message: ToPrimary<'_>) -> FromWorker {
    let mut line = Vec::new();
    message.encode(&mut line);
    let mut decoder = Decoder::new(DEFAULT_MAX_LINE);
    decoder.push(&line);
    let heard = decoder.next_message().expect("it is short").expect("it is a whole line");
    assert_eq!(decoder.buffered(), 0, "it is one line: {message}");
    heard
}

/// What a worker makes of the primary's message.
fn received(message: ToWorker<'_>) -> FromPrimary {
    let mut line = Vec::new();
    message.encode(&mut line);
    let mut decoder = Decoder::new(DEFAULT_MAX_LINE);
    decoder.push(&line);
    let message = decoder.next_line().expect("it is short").map(FromPrimary::parse);
    message.expect("it is a whole line")
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn query(address: Option<&str>, port: Option<u16>, kind: SocketKind) -> QueryServer {
    QueryServer {
        seq: 1,
        index: 0,
        address: address.map(str::to_owned),
        port,
        kind: Some(kind),
        fd: None,
        flags: 0,
        backlog: None,
        readable_all: false,
        writable_all: false,
        data: None,
    }
}

#[test]
fn a_worker_writes_as_node_does() {
    let tcp = query(Some("127.0.0.1"), Some(8080), SocketKind::Tcp4);
    assert_eq!(
        ToPrimary::QueryServer(&tcp).to_string(),
        r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"127.0.0.1","port":8080,"addressType":4,"flags":0,"seq":1}"#
    );
    let unix = QueryServer {
        backlog: Some(5),
        readable_all: true,
        ..query(Some("/run/a b"), None, SocketKind::Unix)
    };
    assert_eq!(
        ToPrimary::QueryServer(&unix).to_string(),
        r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"/run/a b","port":-1,"addressType":-1,"flags":0,"backlog":5,"readableAll":true,"seq":1}"#
    );
    let udp = query(None, None, SocketKind::Udp6);
    assert_eq!(
        ToPrimary::QueryServer(&udp).to_string(),
        r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":null,"port":null,"addressType":"udp6","flags":0,"seq":1}"#
    );
    assert_eq!(ToPrimary::UserReady.to_string(), r#"{"cmd":"ready"}"#);
    assert_eq!(ToPrimary::UserDisconnect.to_string(), r#"{"cmd":"disconnect"}"#);
}

#[test]
fn the_primary_hears_every_word_of_a_worker() {
    assert_eq!(heard(ToPrimary::Online { seq: 0 }), FromWorker::Online);
    let key = "1:\"a\"";
    assert_eq!(heard(ToPrimary::Close { seq: 3, key }), FromWorker::Close { key: key.into() });
    for accepted in [true, false] {
        let ack = ToPrimary::Ack { seq: 4, ack: 9, accepted };
        assert_eq!(heard(ack), FromWorker::Ack { ack: 9, accepted });
    }
    let leaving = ToPrimary::ExitedAfterDisconnect { seq: 5 };
    assert_eq!(heard(leaving), FromWorker::ExitedAfterDisconnect { seq: 5 });
    assert_eq!(heard(ToPrimary::HandleAck), FromWorker::HandleAck);
    assert_eq!(heard(ToPrimary::HandleNack), FromWorker::HandleNack);
    for (message, command) in [
        (ToPrimary::UserReady, UserCommand::Ready),
        (ToPrimary::UserDisconnect, UserCommand::Disconnect),
        (ToPrimary::User(&json(r#"{"a":[1]}"#)), UserCommand::Other),
    ] {
        let FromWorker::User(user) = heard(message) else { panic!("{message}") };
        assert_eq!(
            (user.payload().json().expect("a line").to_string(), user.command()),
            (message.to_string(), command)
        );
    }
}

#[test]
fn a_worker_understands_every_reply() {
    let (seq, ack, key) = (4, 1, "12");
    let data = json(r#"{"ticketKeys":"6efe"}"#);
    let data = Some(&data);
    let success = Reply { ack, key: key.into(), outcome: Ok(()) };
    let sockname = "127.0.0.1:8080".parse().ok();
    let passing = ToWorker::RoundRobinReply { seq, ack, key, data, sockname };
    assert_eq!(received(passing), FromPrimary::Reply(success.clone()));
    let sharing = ToWorker::SharedReply { seq, ack, key, data, kind: HandleKind::NetNative };
    assert_eq!(received(sharing), FromPrimary::Handle(Box::new(FromPrimary::Reply(success))));
    let failure = Reply { ack, key: key.into(), outcome: Err(98) };
    let refusing = ToWorker::ErrorReply { seq, ack, key, data, errno: 98 };
    assert_eq!(received(refusing), FromPrimary::Reply(failure));
}

#[test]
fn a_worker_understands_everything_else_that_concerns_it() {
    let connection = FromPrimary::NewConnection { seq: 9, key: "12".into() };
    let handle = FromPrimary::Handle(Box::new(connection));
    for closes in [false, true] {
        assert_eq!(received(ToWorker::NewConnection { seq: 9, key: "12", closes }), handle);
    }
    assert_eq!(received(ToWorker::Disconnect { seq: 9 }), FromPrimary::Disconnect);
    assert_eq!(received(ToWorker::Ack { seq: 9, ack: 3 }), FromPrimary::Ack { ack: 3 });
    for (message, command) in [
        (ToWorker::UserDisconnect, UserCommand::Disconnect),
        (ToWorker::User(&json("[1,\"x\"]")), UserCommand::Other),
    ] {
        let FromPrimary::User(user) = received(message) else { panic!("{message}") };
        assert_eq!(
            (user.payload().json().expect("a line").to_string(), user.command()),
            (message.to_string(), command)
        );
    }
    let with_socket = ToWorker::UserHandle { kind: HandleKind::NetSocket, json: &json("1") };
    let FromPrimary::Handle(inner) = received(with_socket) else { panic!("{with_socket}") };
    assert!(matches!(*inner, FromPrimary::User(_)));
}

#[test]
fn what_concerns_node_alone_is_unknown() {
    for message in [
        ToWorker::HandleAck,
        ToWorker::HandleNack,
        ToWorker::SocketCount { key: "k", count: 1 },
        ToWorker::SocketAllClosed { key: "k" },
        ToWorker::Drain { grace: IdleGrace { least: Duration::from_secs(6), most: Duration::from_secs(29) } },
    ] {
        assert_eq!(received(message), FromPrimary::Unknown, "{message}");
    }
}

#[test]
fn nonsense_is_malformed_and_says_why() {
    for (line, fault) in [
        ("", Fault::NotJson),
        ("{", Fault::NotJson),
        (r#"{"cmd":"NODE_CLUSTER"}"#, Fault::Field("act")),
        (r#"{"cmd":"NODE_CLUSTER","ack":-1}"#, Fault::Field("ack")),
        (r#"{"cmd":"NODE_CLUSTER","ack":1,"key":7}"#, Fault::Field("key")),
        (r#"{"cmd":"NODE_CLUSTER","ack":1,"key":"k","errno":5}"#, Fault::Field("errno")),
        (r#"{"cmd":"NODE_CLUSTER","ack":1,"key":"k","errno":-2147483648}"#, Fault::Field("errno")),
        (r#"{"cmd":"NODE_CLUSTER","act":"newconn","key":"k"}"#, Fault::Field("seq")),
    ] {
        assert_eq!(FromPrimary::parse(line.as_bytes()), FromPrimary::Malformed(fault), "{line}");
    }
    assert_eq!(FromPrimary::parse(b"\"\xff\""), FromPrimary::Malformed(Fault::NotJson));
    let nested = br#"{"cmd":"NODE_HANDLE","msg":{"cmd":"NODE_HANDLE","msg":1}}"#;
    let inner = FromPrimary::Malformed(Fault::NestedHandle);
    assert_eq!(FromPrimary::parse(nested), FromPrimary::Handle(Box::new(inner)));
}

fn any_kind() -> impl Strategy<Value = SocketKind> {
    use SocketKind::{Tcp4, Tcp6, Udp4, Udp6, Unix};
    prop_oneof![Just(Tcp4), Just(Tcp6), Just(Unix), Just(Udp4), Just(Udp6)]
}

/// Where a server of this kind can be: TCP has a port, a unix socket a path and none, UDP what it likes.
fn any_place() -> impl Strategy<Value = Listening> {
    let texts = (option::of("[^\0]{1,40}"), any::<u16>(), option::of(any::<u16>()));
    (any_kind(), texts, option::of(0..=1_000_u32)).prop_map(|(kind, (address, port, maybe), fd)| {
        let (address, port) = match kind {
            SocketKind::Tcp4 | SocketKind::Tcp6 => (address, Some(port)),
            SocketKind::Unix => (Some(address.unwrap_or_else(|| "/s".into())), None),
            SocketKind::Udp4 | SocketKind::Udp6 => (address, maybe),
        };
        Listening { address, port, kind: Some(kind), fd }
    })
}

proptest! {
    // PROPTEST_CASES may ask for more.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_query_arrives_as_it_was_meant(
        place in any_place(),
        (seq, index, flags) in any::<(u64, u32, u32)>(),
        backlog in option::of(1_u32..),
        (readable_all, writable_all) in any::<(bool, bool)>(),
    ) {
        let Listening { address, port, kind, fd } = place;
        let query = QueryServer {
            seq, index, address, port, kind, fd, flags, backlog, readable_all, writable_all,
            data: Some(json(r#"{"x":1}"#)),
        };
        prop_assert_eq!(heard(ToPrimary::QueryServer(&query)), FromWorker::QueryServer(query));
    }

    #[test]
    fn every_place_arrives_as_it_was_meant(at in any_place(), seq: u64, index: u32) {
        let message = ToPrimary::Listening { seq, index, at: &at };
        prop_assert_eq!(heard(message), FromWorker::Listening(at.clone()));
    }

    #[test]
    fn every_key_and_errno_arrives(key in ".{1,40}", seq: u64, ack: u64, errno in 1_i32..) {
        let expected = Reply { ack, key: key.clone(), outcome: Err(errno) };
        let reply = ToWorker::ErrorReply { seq, ack, key: &key, data: None, errno };
        prop_assert_eq!(received(reply), FromPrimary::Reply(expected));
    }

    #[test]
    fn garbage_is_some_message(line in prop::collection::vec(any::<u8>(), 0..100)) {
        let message = FromPrimary::parse(&line);
        prop_assert!(!matches!(message, FromPrimary::Reply(_) | FromPrimary::Handle(_)), "{message:?}");
    }
}
