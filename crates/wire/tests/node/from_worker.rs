//! What a worker writes, and what is made of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lines::{decode, one};
use recluster_wire::Json;
use recluster_wire::node::{
    DatagramKind, Farewell, Fault, FromWorker, HandleEnvelope, HandleKind, Held, Listening, MAX_KEY,
    MAX_REASON, Malformed, Measures, Memory, RESOURCES, Requests, SocketKind, Spans, Taken, UserCommand,
};

fn user(line: &str) -> (String, UserCommand) {
    let message = one(line);
    let FromWorker::User(user) = message else { panic!("{line}: {message:?}") };
    (user.payload().json().expect("a line").to_string(), user.command())
}

fn envelope(line: &str) -> HandleEnvelope {
    let message = one(line);
    let FromWorker::Handle(envelope) = message else { panic!("{line}: {message:?}") };
    envelope
}

fn fault(line: &str) -> Fault {
    let message = one(line);
    let FromWorker::Malformed(Malformed { fault, unanswered: None }) = message else {
        panic!("{line}: {message:?}")
    };
    fault
}

#[test]
fn cluster_messages() {
    for (line, expected) in [
        (r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#, FromWorker::Online),
        (
            r#"{"cmd":"NODE_CLUSTER","act":"close","key":"12","seq":22}"#,
            FromWorker::Close { key: "12".into() },
        ),
        (
            r#"{"cmd":"NODE_CLUSTER","ack":7,"accepted":true,"seq":23}"#,
            FromWorker::Ack { ack: 7, accepted: true },
        ),
        (
            r#"{"cmd":"NODE_CLUSTER","ack":0,"accepted":false,"seq":23}"#,
            FromWorker::Ack { ack: 0, accepted: false },
        ),
        (
            r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":24}"#,
            FromWorker::ExitedAfterDisconnect { seq: 24 },
        ),
        (r#"{"cmd":"NODE_CLUSTER","act":"somethingNew","seq":25}"#, FromWorker::Unknown),
    ] {
        assert_eq!(one(line), expected, "{line}");
    }
}

#[test]
fn listening_tells_the_real_port() {
    let tcp = r#"{"cmd":"NODE_CLUSTER","act":"listening","index":0,"data":null,"address":null,"port":43121,"addressType":4,"backlog":0,"seq":16}"#;
    let any = Listening { address: None, port: Some(43121), kind: Some(SocketKind::Tcp4), fd: None };
    assert_eq!(one(tcp), FromWorker::Listening(any.clone()));
    let fd = r#"{"cmd":"NODE_CLUSTER","act":"listening","index":0,"address":null,"port":43121,"addressType":null,"fd":5,"seq":19}"#;
    assert_eq!(one(fd), FromWorker::Listening(Listening { kind: None, fd: Some(5), ..any }));
    let unix = r#"{"cmd":"NODE_CLUSTER","act":"listening","index":0,"address":"/run/app.sock","port":-1,"addressType":-1,"seq":17}"#;
    let path = Listening {
        address: Some("/run/app.sock".into()),
        port: None,
        kind: Some(SocketKind::Unix),
        fd: None,
    };
    assert_eq!(one(unix), FromWorker::Listening(path));
}

#[test]
fn answers_for_handles_and_questions_about_sockets() {
    assert_eq!(one(r#"{"cmd":"NODE_HANDLE_ACK"}"#), FromWorker::HandleAck);
    assert_eq!(one(r#" {"cmd": "NODE_HANDLE_ACK"} "#), FromWorker::HandleAck);
    assert_eq!(one(r#"{"cmd":"NODE_HANDLE_NACK"}"#), FromWorker::HandleNack);
    let key = || "6:::8080".to_owned();
    let count = r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"6:::8080"}"#;
    assert_eq!(one(count), FromWorker::SocketGetCount { key: key() });
    let notify = r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"6:::8080"}"#;
    assert_eq!(one(notify), FromWorker::SocketNotifyClose { key: key() });
}

#[test]
fn what_a_draining_worker_still_has() {
    let held = r#"{"cmd":"NODE_RECLUSTER_HELD","connections":5,"upgraded":1,"requests":2}"#;
    assert_eq!(one(held), FromWorker::Held(Held { connections: 5, upgraded: 1, requests: 2 }));
    let absurd = r#"{"cmd":"NODE_RECLUSTER_HELD","connections":-5,"upgraded":1,"requests":2}"#;
    assert_eq!(one(absurd), FromWorker::Malformed(Fault::Field("connections").into()));
}

#[test]
fn what_keeps_a_draining_worker_alive_at_its_end() {
    let told = |fields: &str| one(&format!(r#"{{"cmd":"NODE_RECLUSTER_FAREWELL"{fields}}}"#));
    let alive = |pairs: &[(&str, u32)]| pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
    assert_eq!(
        told(r#","alive":{"Timeout":3,"TCPSocketWrap":1},"handles":true"#),
        FromWorker::Farewell(Farewell {
            alive: alive(&[("Timeout", 3), ("TCPSocketWrap", 1)]),
            handles: true
        })
    );
    // What no Node says is not shown to people.
    let long = "x".repeat(49);
    assert_eq!(
        told(&format!(r#","alive":{{"Timeout":0,"a\u001b[2J":1,"a b":1,"{long}":1}},"handles":false"#)),
        FromWorker::Farewell(Farewell::default())
    );
    let many: Vec<String> = (0..40).map(|number| format!(r#""Kind{number}":1"#)).collect();
    let FromWorker::Farewell(farewell) = told(&format!(r#","alive":{{{}}},"handles":false"#, many.join(",")))
    else {
        panic!("it is a farewell");
    };
    // Those that came first, and none beyond them is ever kept.
    let first = (0..16).map(|number| (format!("Kind{number}"), 1)).collect();
    assert_eq!(farewell.alive, first);
    assert_eq!(
        told(r#","alive":{"Timeout":3,"TLSWrap":1,"Timeout":2,"TLSWrap":0},"handles":false"#),
        FromWorker::Farewell(Farewell { alive: alive(&[("Timeout", 2)]), handles: false })
    );
    let again = format!(r#","alive":{{{},"Kind3":7}},"handles":false"#, many.join(","));
    let FromWorker::Farewell(farewell) = told(&again) else { panic!("it is a farewell") };
    assert_eq!((farewell.alive.len(), farewell.alive.get("Kind3")), (16, Some(&7)));
    for (fields, field) in [
        (r#","handles":true"#, "alive"),
        (r#","alive":[],"handles":true"#, "alive"),
        (r#","alive":{"Timeout":-1},"handles":true"#, "alive"),
        (r#","alive":{}"#, "handles"),
        (r#","alive":{},"handles":1"#, "handles"),
    ] {
        assert_eq!(told(fields), FromWorker::Malformed(Fault::Field(field).into()), "{fields}");
    }
}

#[test]
fn how_long_a_server_keeps_idle_connections() {
    let told = |timeout: &str| one(&format!(r#"{{"cmd":"NODE_RECLUSTER_KEEPS","timeout":{timeout}}}"#));
    assert_eq!(told("65000"), FromWorker::Keeps(Duration::from_secs(65)));
    for absurd in ["-1", "1.5", "null", r#""7""#] {
        assert_eq!(told(absurd), FromWorker::Malformed(Fault::Field("timeout").into()), "{absurd}");
    }
}

#[test]
fn why_there_is_no_compile_cache() {
    let told = |reason: &str| one(&format!(r#"{{"cmd":"NODE_RECLUSTER_CACHE_OFF","reason":{reason}}}"#));
    assert_eq!(told(r#""/c is full""#), FromWorker::CacheOff("/c is full".to_owned()));
    let longest = "x".repeat(MAX_REASON);
    assert_eq!(told(&format!("\"{longest}\"")), FromWorker::CacheOff(longest.clone()));
    for absurd in [format!("\"{longest}x\""), "null".to_owned(), "7".to_owned(), "{}".to_owned()] {
        assert_eq!(told(&absurd), FromWorker::Malformed(Fault::Field("reason").into()), "{absurd}");
    }
}

#[test]
fn what_was_written_to_a_stderr_that_the_master_does_not_see() {
    let told = |text: &str| one(&format!(r#"{{"cmd":"NODE_RECLUSTER_STDERR","text":{text}}}"#));
    let stderr = |text: &str| FromWorker::Stderr(text.to_owned());
    assert_eq!(told(r#""no database\n""#), stderr("no database\n"));
    assert_eq!(told(r#""\ud83d.""#), stderr("\u{fffd}\u{fffd}\u{fffd}."), "half a character");
    let (beginning, end) = ("a".repeat(1000), "z".repeat(16 * 1024));
    assert_eq!(told(&format!("\"{beginning}{end}\"")), stderr(&end), "the last of it");
    for absurd in ["null", "7", "[]", "{}"] {
        assert_eq!(told(absurd), FromWorker::Malformed(Fault::Field("text").into()), "{absurd}");
    }
}

#[test]
fn what_a_worker_has_got() {
    let taken = |connections: &str| one(&format!(r#"{{"cmd":"NODE_RECLUSTER_TAKEN"{connections}}}"#));
    assert_eq!(one(r#"{"cmd":"NODE_RECLUSTER_PONG"}"#), FromWorker::Pong);
    assert_eq!(one(r#"{"cmd":"NODE_RECLUSTER_LEAVES"}"#), FromWorker::Leaves);
    assert_eq!(taken(r#","connections":0"#), FromWorker::Taken(Taken::default()));
    let most = Taken { connections: 9_007_199_254_740_991, open: Some(7), lately: 3, lasting: 2 };
    let said = r#","connections":9007199254740991,"open":7,"lately":3,"lasting":2"#;
    assert_eq!(taken(said), FromWorker::Taken(most));
    let absurd = r#","connections":1,"open":-1,"lately":"3","lasting":4294967296"#;
    assert_eq!(taken(absurd), FromWorker::Taken(Taken { connections: 1, ..Taken::default() }));
    for absurd in ["", "-1", "1.5", "1e3", "null", r#""7""#, "18446744073709551616"] {
        let field = if absurd.is_empty() { String::new() } else { format!(r#","connections":{absurd}"#) };
        assert_eq!(taken(&field), FromWorker::Malformed(Fault::Field("connections").into()), "{absurd}");
    }
}

/// A report with these fields in the place of its own.
fn measures(fields: &[(&str, &str)]) -> FromWorker {
    let four = format!("[{}]", [r#"{"sum":0,"buckets":[0,0,0,0,0,0,0]}"#; 4].join(","));
    let mut all = BTreeMap::from([
        ("version", "[26,10,0]"),
        ("utilization", "0"),
        ("memory", r#"{"used":1,"total":2,"external":3}"#),
        ("active", "{}"),
        ("gc", &four),
    ]);
    all.extend(fields.iter().copied());
    let fields: Vec<String> = all.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    one(&format!(r#"{{"cmd":"NODE_RECLUSTER_MEASURES","measures":{{{}}}}}"#, fields.join(",")))
}

#[test]
fn what_a_worker_says_of_itself() {
    let memory = Memory { used: 1, total: 2, external: 3 };
    let expected = Measures { version: [26, 10, 0], memory, ..Measures::default() };
    assert_eq!(measures(&[]), FromWorker::Measures(Box::new(expected.clone())));
    let mut spans = Spans { sum: 1500, ..Spans::default() };
    spans.buckets[1] = 1;
    let http = Some(Requests { codes: [0, 1, 0, 0, 0, 0], spans });
    let said = r#"{"codes":[0,1,0,0,0,0],"spans":{"sum":1500,"buckets":[0,1,0,0,0,0,0,0,0,0,0,0,0,0]}}"#;
    assert_eq!(measures(&[("http", said)]), FromWorker::Measures(Box::new(Measures { http, ..expected })));
}

#[test]
fn resources_that_nobody_knows_are_counted_together() {
    let said = r#"{"Timeout":3,"a":1,"<script>":4294967295,"TCPSocketWrap":2}"#;
    let FromWorker::Measures(measures) = measures(&[("active", said)]) else { panic!("it makes sense") };
    let of = |kind: &str| measures.active[RESOURCES.iter().position(|known| *known == kind).unwrap()];
    assert_eq!([of("Timeout"), of("TCPSocketWrap"), of("other"), of("TLSWrap")], [3, 2, u32::MAX, 0]);
}

#[test]
fn a_worker_says_whole_numbers_of_itself_or_nothing() {
    let buckets = |list: &str| format!(r#"{{"codes":[0,0,0,0,0,0],"spans":{{"sum":0,"buckets":{list}}}}}"#);
    let (short, long) = (buckets("[1]"), buckets("[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]"));
    let mut absurd =
        vec![("http", short.as_str()), ("http", &long), ("http", "7"), ("gc", "[]"), ("gc", "null")];
    let numbers = ["-1", "0.5", "1e3", "null", "NaN", "1e999", r#""7""#, "18446744073709551616", "[]"];
    absurd.extend(numbers.map(|number| ("utilization", number)));
    for field in [("active", "[]"), ("active", r#"{"a":-1}"#), ("memory", "{}"), ("version", "[1,2]")] {
        absurd.push(field);
    }
    for field in absurd {
        let fault = if field.1 == "NaN" { Fault::NotJson } else { Fault::Field("measures") };
        assert_eq!(measures(&[field]), FromWorker::Malformed(fault.into()), "{field:?}");
    }
    assert_eq!(fault(r#"{"cmd":"NODE_RECLUSTER_MEASURES"}"#), Fault::Field("measures"));
}

#[test]
fn internal_is_what_node_takes_for_internal() {
    for line in [r#"{"cmd":"NODE_X"}"#, r#"{"cmd":"NODE_é","b":1}"#, r#"{"cmd":"x","cmd":"NODE_X"}"#] {
        assert_eq!(one(line), FromWorker::Unknown, "{line}");
    }
    for line in [
        r#"{"cmd":"NODE_"}"#,
        r#"{"cmd":"node_HANDLE_ACK"}"#,
        r#"{"cmd":["NODE_HANDLE_ACK"]}"#,
        r#"{"msg":{"cmd":"NODE_HANDLE_ACK"}}"#,
        r#"[{"cmd":"NODE_HANDLE_ACK"}]"#,
        r#"{"cmd":"NODE_HANDLE_ACK","cmd":"x"}"#,
        r#""NODE_HANDLE_ACK""#,
    ] {
        assert_eq!(user(line), (line.to_owned(), UserCommand::Other));
    }
}

#[test]
fn user_messages_keep_their_text() {
    for line in [
        "null",
        "-0.10",
        "[]",
        r#"{"b":1,"a":12345678901234567890,"b":2}"#,
        r#"{"\ud800":"\udfff"}"#,
        r#"{"cmd":"\ud800"}"#,
        "{\"a\":\"\u{2028}\"}",
    ] {
        assert_eq!(user(line), (line.to_owned(), UserCommand::Other));
    }
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(user(&deep).0, deep);
}

#[test]
fn user_messages_that_mean_something_to_us() {
    for (line, command) in [
        (r#"{"cmd":"ready"}"#, UserCommand::Ready),
        (r#"{"\ud800":1,"cmd":"ready"}"#, UserCommand::Ready),
        (r#"{"cmd":"disconnect","cmd":"ready"}"#, UserCommand::Ready),
        (r#""ready""#, UserCommand::Ready),
        (r#"{"cmd":"disconnect","why":"full"}"#, UserCommand::Disconnect),
        (r#""disconnect""#, UserCommand::Other),
        (r#"{"cmd":"READY"}"#, UserCommand::Other),
        (r#"{"act":"ready"}"#, UserCommand::Other),
    ] {
        assert_eq!(user(line).1, command, "{line}");
    }
}

#[test]
fn an_envelope_names_its_descriptor() {
    for (fields, kind) in [
        (r#""type":"net.Native""#, Some(HandleKind::NetNative)),
        (r#""type":"net.Socket""#, Some(HandleKind::NetSocket)),
        (r#""type":"net.Server""#, Some(HandleKind::NetServer)),
        (r#""type":"net.BoundSocket""#, Some(HandleKind::NetBoundSocket)),
        (r#""type":"dgram.Native""#, Some(HandleKind::DatagramNative)),
        (r#""type":"dgram.Socket","dgramType":"udp4""#, Some(HandleKind::DatagramSocket(DatagramKind::Udp4))),
        (r#""type":"dgram.Socket","dgramType":"udp6""#, Some(HandleKind::DatagramSocket(DatagramKind::Udp6))),
        (r#""type":"dgram.Socket""#, None),
        (r#""type":"vsock""#, None),
        (r#""type":1"#, None),
    ] {
        let line = format!(r#"{{"cmd":"NODE_HANDLE",{fields},"msg":"x"}}"#);
        assert_eq!(envelope(&line).kind, kind, "{line}");
    }
}

#[test]
fn an_envelope_holds_any_message_but_another_envelope() {
    let holds = |message: &str| {
        let line = format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Socket","key":"k","msg":{message}}}"#);
        let envelope = envelope(&line);
        assert_eq!(envelope.key.as_deref(), Some("k"));
        *envelope.message
    };
    for message in [r#"{"cmd":"ready"}"#, "null", r#"{"cmd":"NODE_X"}"#, r#"{"cmd":"NODE_CLUSTER"}"#] {
        assert_eq!(holds(message), one(message), "{message}");
    }
    let nested = holds(r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":1}"#);
    assert_eq!(nested, FromWorker::Malformed(Fault::NestedHandle.into()));
}

#[test]
fn an_envelope_with_nothing_usable_in_it_is_an_envelope_still() {
    let null = || Box::new(one("null"));
    let bare = HandleEnvelope { kind: None, key: None, message: null() };
    assert_eq!(envelope(r#"{"cmd":"NODE_HANDLE"}"#), bare);
    let long_key = "k".repeat(MAX_KEY + 1);
    let line = format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Socket","key":"{long_key}"}}"#);
    let keyless = HandleEnvelope { kind: Some(HandleKind::NetSocket), ..bare };
    assert_eq!(envelope(&line), keyless);
}

#[test]
fn the_key_of_the_longest_address_is_not_too_long() {
    let key =
        |directory: &str| envelope(&format!(r#"{{"cmd":"NODE_HANDLE","key":"{directory}:-1:-1:-1:0"}}"#)).key;
    assert!(key(&"d".repeat(4096 + 108)).is_some());
    assert_eq!(key(&"d".repeat(5000)), None);
}

#[test]
fn what_is_not_json_is_malformed() {
    for line in ["", " ", "\r", "hello", "{", "{}{}", "{\"cmd\":\"ready\",}", "\u{2}", "\u{2}\u{2}{}"] {
        assert_eq!(fault(line), Fault::NotJson, "{line:?}");
    }
    for bare_control in ["{\"cmd\":\"a\tb\"}", "{\"a\0\":\"b\"}", "{\"a\":1,\"cmd\u{1f}\":2}"] {
        assert_eq!(fault(bare_control), Fault::NotJson, "{bare_control:?}");
    }
    let not_utf8 = decode(b"\"\xff\"\n{\"cmd\":\"ready\",\"x\":\"\xc3\"}\n");
    assert_eq!(not_utf8, [(); 2].map(|()| FromWorker::Malformed(Fault::NotJson.into())));
}

#[test]
fn an_internal_message_without_its_fields_is_malformed() {
    let long_key = format!(r#"{{"cmd":"NODE_SOCKET_GET_COUNT","key":"{}"}}"#, "k".repeat(MAX_KEY + 1));
    for (line, field) in [
        (r#"{"cmd":"NODE_CLUSTER","seq":1}"#, "act"),
        (r#"{"cmd":"NODE_CLUSTER","act":7,"seq":1}"#, "act"),
        (r#"{"cmd":"NODE_CLUSTER","act":"close","seq":1}"#, "key"),
        (r#"{"cmd":"NODE_CLUSTER","act":"close","key":{},"seq":1}"#, "key"),
        (r#"{"cmd":"NODE_CLUSTER","ack":1,"seq":1}"#, "accepted"),
        (r#"{"cmd":"NODE_CLUSTER","ack":1,"accepted":1,"seq":1}"#, "accepted"),
        (r#"{"cmd":"NODE_CLUSTER","ack":-1,"accepted":true}"#, "ack"),
        (r#"{"cmd":"NODE_CLUSTER","ack":1e99,"accepted":true}"#, "ack"),
        (r#"{"cmd":"NODE_CLUSTER","ack":[[[]]],"accepted":true}"#, "ack"),
        (r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect"}"#, "seq"),
        (r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":1.5}"#, "seq"),
        (r#"{"cmd":"NODE_CLUSTER","act":"listening","port":99999,"addressType":4}"#, "port"),
        (r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE"}"#, "key"),
        (long_key.as_str(), "key"),
    ] {
        assert_eq!(fault(line), Fault::Field(field), "{line}");
    }
}

#[test]
fn bun_marks_its_internal_messages() {
    assert_eq!(one("\u{2}{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\",\"seq\":0}"), FromWorker::Online);
    assert_eq!(one("\u{2}{\"cmd\":\"NODE_HANDLE_ACK\"}"), FromWorker::HandleAck);
}

#[test]
fn a_fault_says_what_is_wrong() {
    assert_eq!(Fault::NotJson.to_string(), "a line is not JSON");
    let field = "field `port` of an internal message is missing or absurd";
    assert_eq!(Fault::Field("port").to_string(), field);
    assert_eq!(Fault::NestedHandle.to_string(), "a handle message is wrapped in another");
}

#[test]
fn a_message_can_be_taken_out_whole() {
    let FromWorker::User(message) = one("[1, 2]") else { panic!("a user message") };
    assert_eq!(message.into_payload().into_json(), Json::parse("[1, 2]").ok());
}
