//! What the primary writes, byte for byte.

use std::time::Duration;

use proptest::prelude::*;
use recluster_wire::Json;
use recluster_wire::node::{DatagramKind, HandleKind, IdleGrace, ToWorker};
use serde_json::{Value, json};

fn line(message: ToWorker<'_>) -> String {
    let mut line = Vec::new();
    message.encode(&mut line);
    String::from_utf8(line).expect("UTF-8")
}

fn check(message: ToWorker<'_>, expected: &str) {
    assert_eq!(line(message), format!("{expected}\n"));
}

#[test]
fn replies_to_a_query() {
    let data = Json::parse(r#"{"ticketKeys":"6efe"}"#).expect("valid");
    let (seq, ack, key) = (4, 1, "12");
    let sockname = "127.0.0.1:8080".parse().ok();
    check(
        ToWorker::RoundRobinReply { seq, ack, key, data: Some(&data), sockname },
        r#"{"cmd":"NODE_CLUSTER","ack":1,"key":"12","data":{"ticketKeys":"6efe"},"errno":null,"sockname":{"address":"127.0.0.1","family":"IPv4","port":8080},"seq":4}"#,
    );
    let sockname = "[::]:80".parse().ok();
    check(
        ToWorker::RoundRobinReply { seq, ack, key, data: None, sockname },
        r#"{"cmd":"NODE_CLUSTER","ack":1,"key":"12","data":null,"errno":null,"sockname":{"address":"::","family":"IPv6","port":80},"seq":4}"#,
    );
    check(
        ToWorker::RoundRobinReply { seq, ack, key, data: None, sockname: None },
        r#"{"cmd":"NODE_CLUSTER","ack":1,"key":"12","data":null,"errno":null,"seq":4}"#,
    );
    check(
        ToWorker::SharedReply { seq, ack, key, data: None, kind: HandleKind::DatagramNative },
        r#"{"cmd":"NODE_HANDLE","type":"dgram.Native","msg":{"cmd":"NODE_CLUSTER","ack":1,"key":"12","data":null,"errno":0,"seq":4}}"#,
    );
}

#[test]
fn an_error_is_negative_and_never_a_success() {
    for (errno, written) in [(98, -98), (0, -22), (-98, -22), (i32::MIN, -22)] {
        check(
            ToWorker::ErrorReply { seq: 4, ack: 1, key: "12", data: None, errno },
            &format!(r#"{{"cmd":"NODE_CLUSTER","ack":1,"key":"12","data":null,"errno":{written},"seq":4}}"#),
        );
    }
}

#[test]
fn cluster_messages() {
    check(
        ToWorker::NewConnection { seq: 9, key: "12", closes: false },
        r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"12","seq":9}}"#,
    );
    check(
        ToWorker::NewConnection { seq: 9, key: "12", closes: true },
        r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"12","recluster":"close","seq":9}}"#,
    );
    check(ToWorker::Disconnect { seq: 9 }, r#"{"cmd":"NODE_CLUSTER","act":"disconnect","seq":9}"#);
    check(ToWorker::Ack { seq: 9, ack: 3 }, r#"{"cmd":"NODE_CLUSTER","ack":3,"seq":9}"#);
}

#[test]
fn other_internal_messages() {
    check(ToWorker::HandleAck, r#"{"cmd":"NODE_HANDLE_ACK"}"#);
    check(ToWorker::HandleNack, r#"{"cmd":"NODE_HANDLE_NACK"}"#);
    check(ToWorker::FlushCache, r#"{"cmd":"NODE_RECLUSTER_FLUSH"}"#);
    check(ToWorker::Measure, r#"{"cmd":"NODE_RECLUSTER_MEASURE"}"#);
    check(
        ToWorker::SocketCount { key: "6:::80", count: 2 },
        r#"{"cmd":"NODE_SOCKET_COUNT","key":"6:::80","count":2}"#,
    );
    check(ToWorker::SocketAllClosed { key: "6:::80" }, r#"{"cmd":"NODE_SOCKET_ALL_CLOSED","key":"6:::80"}"#);
    check(
        ToWorker::Drain {
            grace: IdleGrace { least: Duration::from_secs(6), most: Duration::from_millis(29_500) },
        },
        r#"{"cmd":"NODE_RECLUSTER_DRAIN","grace":6000,"most":29500}"#,
    );
}

#[test]
fn user_messages() {
    let json = Json::parse("{\"a\":\n1,\"a\":2}").expect("valid");
    check(ToWorker::User(&json), r#"{"a": 1,"a":2}"#);
    check(ToWorker::UserDisconnect, r#"{"cmd":"disconnect"}"#);
    check(
        ToWorker::UserHandle { kind: HandleKind::NetSocket, json: &json },
        r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"a": 1,"a":2}}"#,
    );
    let kind = HandleKind::DatagramSocket(DatagramKind::Udp4);
    check(
        ToWorker::UserHandle { kind, json: &json },
        r#"{"cmd":"NODE_HANDLE","type":"dgram.Socket","dgramType":"udp4","msg":{"a": 1,"a":2}}"#,
    );
}

#[test]
fn lines_are_appended() {
    let mut out = Vec::new();
    ToWorker::HandleAck.encode(&mut out);
    ToWorker::Ack { seq: 0, ack: 0 }.encode(&mut out);
    let expected = "{\"cmd\":\"NODE_HANDLE_ACK\"}\n{\"cmd\":\"NODE_CLUSTER\",\"ack\":0,\"seq\":0}\n";
    assert_eq!(out, expected.as_bytes());
}

#[test]
fn an_envelope_and_nothing_else_carries_a_handle() {
    let json = Json::parse("1").expect("valid");
    let (seq, ack, key, data, kind) = (0, 0, "k", None, HandleKind::NetNative);
    for message in [
        ToWorker::RoundRobinReply { seq, ack, key, data, sockname: None },
        ToWorker::SharedReply { seq, ack, key, data, kind },
        ToWorker::ErrorReply { seq, ack, key, data, errno: 1 },
        ToWorker::NewConnection { seq, key, closes: true },
        ToWorker::Disconnect { seq },
        ToWorker::Ack { seq, ack },
        ToWorker::HandleAck,
        ToWorker::HandleNack,
        ToWorker::SocketCount { key, count: 0 },
        ToWorker::SocketAllClosed { key },
        ToWorker::FlushCache,
        ToWorker::Measure,
        ToWorker::Drain { grace: IdleGrace { least: Duration::ZERO, most: Duration::ZERO } },
        ToWorker::UserDisconnect,
        ToWorker::User(&json),
        ToWorker::UserHandle { kind, json: &json },
    ] {
        let is_envelope = message.to_string().starts_with(r#"{"cmd":"NODE_HANDLE","#);
        assert_eq!(message.carries_handle(), is_envelope, "{message}");
    }
}

/// Any JSON value with any strings, laid out on one line or several.
fn any_json() -> impl Strategy<Value = (Value, Json)> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    });
    (tree, any::<bool>()).prop_map(|(value, pretty)| {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        let json = Json::parse(&text).expect("valid");
        (value, json)
    })
}

/// What a worker makes of the line: exactly one, and JSON.
fn as_the_worker_reads_it(message: ToWorker<'_>) -> Value {
    let line = line(message);
    assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
    serde_json::from_str(&line).expect("JSON")
}

proptest! {
    // PROPTEST_CASES may ask for more.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_said_arrives(key in any::<String>(), (value, json) in any_json(), seq: u64, ack: u64) {
        let (read, kind) = (as_the_worker_reads_it, HandleKind::NetNative);
        let data = Some(&json);
        prop_assert_eq!(read(ToWorker::User(&json)), value.clone());
        prop_assert_eq!(
            read(ToWorker::UserHandle { kind, json: &json }),
            json!({"cmd": "NODE_HANDLE", "type": "net.Native", "msg": value.clone()})
        );
        let reply = read(ToWorker::ErrorReply { seq, ack, key: &key, data, errno: 13 });
        prop_assert_eq!(
            reply,
            json!({"cmd": "NODE_CLUSTER", "ack": ack, "key": key.clone(), "data": value, "errno": -13, "seq": seq})
        );
        let connection = read(ToWorker::NewConnection { seq, key: &key, closes: false });
        let newconn = json!({"cmd": "NODE_CLUSTER", "act": "newconn", "key": key, "seq": seq});
        prop_assert_eq!(&connection["msg"], &newconn);
    }
}
