//! Lines as workers really write them, and how to read one.

use recluster_wire::node::{Decoder, FromWorker};

/// One of every kind of message, as Node writes it.
pub(crate) const LINES: [&str; 16] = [
    r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":null,"port":8080,"addressType":4,"backlog":0,"seq":1}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"/srv/app/\u0000name","port":-1,"addressType":-1,"backlog":0,"seq":4}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"::1","port":5000,"addressType":"udp6","fd":-1,"flags":5,"seq":14}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"listening","index":0,"data":null,"address":"127.0.0.1","port":8081,"addressType":4,"flags":0,"backlog":"100","seq":21}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"close","key":"12","seq":22}"#,
    r#"{"cmd":"NODE_CLUSTER","ack":7,"accepted":true,"seq":23}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":24}"#,
    r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"cmd":"take"},"key":"4:null:8080"}"#,
    r#"{"cmd":"NODE_HANDLE_ACK"}"#,
    r#"{"cmd":"NODE_HANDLE_NACK"}"#,
    r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"4:null:8080"}"#,
    r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"4:null:8080"}"#,
    r#"{"cmd":"ready"}"#,
    r#""ready""#,
    r#"{"cmd":"NODE_DEBUG_ENABLED"}"#,
];

/// Room for every line of these tests.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// All messages of some bytes that a decoder gets at once.
pub(crate) fn decode(bytes: &[u8]) -> Vec<FromWorker> {
    let mut decoder = Decoder::new(MAX_LINE);
    decoder.push(bytes);
    drain(&mut decoder)
}

/// All messages that a decoder has by now.
pub(crate) fn drain(decoder: &mut Decoder) -> Vec<FromWorker> {
    std::iter::from_fn(|| decoder.next_message().expect("no line is too long")).collect()
}

/// The message of one line.
pub(crate) fn one(line: &str) -> FromWorker {
    let mut messages = decode(format!("{line}\n").as_bytes());
    assert_eq!(messages.len(), 1, "{line}");
    messages.remove(0)
}
