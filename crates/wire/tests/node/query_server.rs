//! The requests for sockets that Node's workers make, and invalid ones.

use crate::lines::one;
use recluster_wire::Json;
use recluster_wire::node::{
    Fault, FromWorker, ListenerKey, MAX_ADDRESS, Malformed, QueryServer, SocketKind, UnansweredQuery,
};

/// A query with these fields beside those that every query has.
fn ask(fields: &str) -> FromWorker {
    one(&format!(r#"{{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,{fields},"seq":3}}"#))
}

fn query(fields: &str) -> QueryServer {
    let message = ask(fields);
    let FromWorker::QueryServer(query) = message else { panic!("{fields}: {message:?}") };
    query
}

/// Which field is at fault in a query that can be answered still.
fn faulty(fields: &str) -> &'static str {
    let message = ask(fields);
    let unanswered = Some(UnansweredQuery { seq: 3, data: None });
    let FromWorker::Malformed(Malformed { fault: Fault::Field(name), unanswered: found }) = message else {
        panic!("{fields}: {message:?}")
    };
    assert_eq!(found, unanswered, "{fields}");
    name
}

const TCP: QueryServer = QueryServer {
    seq: 3,
    index: 0,
    address: None,
    port: Some(8080),
    kind: Some(SocketKind::Tcp4),
    fd: None,
    flags: 0,
    backlog: None,
    readable_all: false,
    writable_all: false,
    data: None,
};

fn unix(address: &str) -> QueryServer {
    QueryServer { address: Some(address.into()), port: None, kind: Some(SocketKind::Unix), ..TCP }
}

fn udp(port: Option<u16>) -> QueryServer {
    QueryServer { address: Some("0.0.0.0".into()), port, kind: Some(SocketKind::Udp4), ..TCP }
}

#[test]
fn tcp() {
    assert_eq!(query(r#""address":null,"port":8080,"addressType":4,"backlog":0"#), TCP);
    assert_eq!(query(r#""address":null,"port":8080,"addressType":4,"flags":null"#), TCP);
    let random = query(r#""address":null,"port":0,"addressType":4,"backlog":false"#);
    assert_eq!(random, QueryServer { port: Some(0), ..TCP });
    let v6 = query(r#""address":"::","port":8080,"addressType":6,"flags":1,"backlog":null"#);
    let kind = Some(SocketKind::Tcp6);
    assert_eq!(v6, QueryServer { address: Some("::".into()), kind, flags: 1, ..TCP });
    assert!(v6.ipv6_only() && !v6.reuse_addr());
}

#[test]
fn unix_sockets() {
    let path = r#""address":"/run/x.sock","port":-1,"addressType":-1"#;
    assert_eq!(query(path), unix("/run/x.sock"));
    let open = query(&format!(r#"{path},"readableAll":true,"writableAll":1"#));
    let expected = QueryServer { readable_all: true, writable_all: true, ..unix("/run/x.sock") };
    assert_eq!(open, expected);
    for falsy in ["false", "0", "\"\"", "null"] {
        assert_eq!(query(&format!(r#"{path},"readableAll":{falsy}"#)), unix("/run/x.sock"));
    }
}

#[test]
fn an_abstract_name_loses_the_directory_before_it() {
    for written in [r"/srv/app/\u0000name", r"/\u0000name", r"\u0000name"] {
        let fields = format!(r#""address":"{written}","port":-1,"addressType":-1"#);
        assert_eq!(query(&fields), unix("\0name"), "{written}");
    }
    let slashes = r#""address":"/srv/\u0000a/b\u0000c","port":-1,"addressType":-1"#;
    assert_eq!(query(slashes), unix("\0a/b\0c"));
}

#[test]
fn inherited_sockets() {
    let tcp = query(r#""address":null,"port":null,"addressType":null,"fd":5"#);
    assert_eq!(tcp, QueryServer { port: None, kind: None, fd: Some(5), ..TCP });
    let fields = r#""address":null,"port":null,"addressType":"udp4","fd":6,"flags":null"#;
    assert_eq!(query(fields), QueryServer { address: None, fd: Some(6), ..udp(None) });
}

#[test]
fn udp_sockets() {
    let fields = r#""address":"0.0.0.0","port":PORT"addressType":"udp4","fd":-1,"flags":4"#;
    for (written, port) in [("53,", Some(53)), ("0,", Some(0)), (r#""53","#, Some(53)), (r#""","#, None)] {
        let expected = QueryServer { flags: 4, ..udp(port) };
        assert_eq!(query(&fields.replace("PORT", written)), expected, "{written}");
        assert!(expected.reuse_addr() && !expected.ipv6_only());
    }
    let absent = query(&fields.replace(r#""port":PORT"#, ""));
    assert_eq!(absent, QueryServer { flags: 4, ..udp(None) });
    assert!(SocketKind::Udp4.is_udp() && SocketKind::Udp6.is_udp());
    assert!(!SocketKind::Tcp4.is_udp() && !SocketKind::Tcp6.is_udp() && !SocketKind::Unix.is_udp());
}

#[test]
fn the_backlog_is_nodes_default_unless_a_number_was_given() {
    for (written, backlog) in [
        ("0", 511),
        ("false", 511),
        ("null", 511),
        ("-5", 511),
        (r#""many""#, 511),
        ("1", 1),
        (r#""100""#, 100),
        ("4294967295", i32::MAX),
    ] {
        let fields = format!(r#""port":8080,"addressType":4,"backlog":{written}"#);
        assert_eq!(query(&fields).listen_backlog(), backlog, "{written}");
    }
}

#[test]
fn the_session_keys_of_tls_come_back_as_they_were() {
    let line = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":2,"data":{"ticketKeys":"6efe"},"address":null,"port":8443,"addressType":4,"seq":9}"#;
    let FromWorker::QueryServer(query) = one(line) else { panic!("a query") };
    assert_eq!((query.seq, query.index), (9, 2));
    assert_eq!(query.data, Json::parse(r#"{"ticketKeys":"6efe"}"#).ok());
}

#[test]
fn the_identity_of_a_listener_follows_from_the_line() {
    let key = |index: u32, port: &str| {
        let fields = format!(r#""index":{index},"port":{port},"addressType":4"#);
        ListenerKey::from(&query(&fields))
    };
    assert_eq!(key(0, "8080"), key(1, "8080"));
    assert_ne!(key(0, "0"), key(1, "0"));
}

#[test]
fn absurd_fields_are_refused_with_an_answer() {
    for (fields, name) in [
        (r#""port":99999,"addressType":4"#, "port"),
        (r#""port":-1,"addressType":4"#, "port"),
        (r#""port":-2,"addressType":-1,"address":"/x""#, "port"),
        (r#""port":80.5,"addressType":4"#, "port"),
        (r#""port":1e999,"addressType":"udp4""#, "port"),
        (r#""port":"http","addressType":4"#, "port"),
        (r#""port":{"a":[[[]]]},"addressType":4"#, "port"),
        (r#""addressType":4"#, "port"),
        (r#""port":80,"addressType":5"#, "addressType"),
        (r#""port":80,"addressType":"tcp""#, "addressType"),
        (r#""port":80"#, "addressType"),
        (r#""port":80,"fd":-1"#, "addressType"),
        (r#""port":80,"addressType":4,"fd":-2"#, "fd"),
        (r#""port":80,"addressType":4,"fd":2147483648"#, "fd"),
        (r#""port":80,"addressType":4,"index":-1"#, "index"),
        (r#""port":80,"addressType":4,"index":4294967296"#, "index"),
        (r#""port":80,"addressType":4,"index":null"#, "index"),
        (r#""port":80,"addressType":4,"flags":-1"#, "flags"),
        (r#""port":80,"addressType":4,"flags":"4""#, "flags"),
    ] {
        assert_eq!(faulty(fields), name, "{fields}");
    }
}

#[test]
fn absurd_addresses_are_refused_with_an_answer() {
    let unix = |address: &str| format!(r#""address":{address},"port":-1,"addressType":-1"#);
    let quoted = |length| format!("\"{}\"", "a".repeat(length));
    assert!(matches!(ask(&unix(&quoted(MAX_ADDRESS))), FromWorker::QueryServer(_)));
    for address in ["null", "5", "\"\"", r#""/a\u0000b""#, r#""\ud800""#, &quoted(MAX_ADDRESS + 1)] {
        assert_eq!(faulty(&unix(address)), "address", "{address}");
    }
    assert_eq!(faulty(r#""address":"/\u0000a","port":80,"addressType":4"#), "address");
}

#[test]
fn an_abstract_name_may_stand_behind_the_longest_directory() {
    let (directory, name) = ("d".repeat(4095), "n".repeat(107));
    let fields = format!(r#""address":"{directory}/\u0000{name}","port":-1,"addressType":-1"#);
    assert_eq!(query(&fields), unix(&format!("\0{name}")));
    assert_eq!(faulty(&fields.replace("/\\u0000", &"d".repeat(100))), "address");
}

#[test]
fn a_refusal_carries_what_a_tls_worker_needs() {
    let line = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":{"ticketKeys":"6efe"},"port":70000,"addressType":4,"seq":9}"#;
    let data = Json::parse(r#"{"ticketKeys":"6efe"}"#).ok();
    let unanswered = Some(UnansweredQuery { seq: 9, data });
    let expected = Malformed { fault: Fault::Field("port"), unanswered };
    assert_eq!(one(line), FromWorker::Malformed(expected));
}

#[test]
fn a_query_without_a_number_cannot_be_answered() {
    let line = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"port":80,"addressType":4}"#;
    assert_eq!(one(line), FromWorker::Malformed(Fault::Field("seq").into()));
}

#[test]
fn data_that_is_too_long_to_be_kept_is_refused() {
    let query = |length: usize| {
        let data = format!(r#"{{"ticketKeys":"{}"}}"#, "k".repeat(length));
        one(&format!(
            r#"{{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":{data},"address":null,"port":8443,"addressType":4,"seq":9}}"#
        ))
    };
    let longest = 2048 - r#"{"ticketKeys":""}"#.len();
    assert!(matches!(query(longest), FromWorker::QueryServer(_)));
    let unanswered = Some(UnansweredQuery { seq: 9, data: None });
    assert_eq!(
        query(longest + 1),
        FromWorker::Malformed(Malformed { fault: Fault::Field("data"), unanswered })
    );
}
