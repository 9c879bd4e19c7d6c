//! The same dialogue in V8's format: what Node writes, damaged, cut anywhere, and longer than may be kept.

use crate::decoder::{pieces, user_message};
use crate::lines::{LINES, MAX_LINE, one};
use crate::values::VALUES;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use recluster_wire::Json;
use recluster_wire::node::advanced::{FrameDecoder, frame, write};
use recluster_wire::node::{
    Fault, FromWorker, HandleEnvelope, LineTooLong, Payload, SkippedMessage, ToWorker,
};

/// A message as it travels.
fn framed(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(&write(&Json::parse(text).expect(text)), &mut bytes);
    bytes
}

fn frame_of(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(value, &mut bytes);
    bytes
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect(hex)).collect()
}

fn decode(bytes: &[u8]) -> Vec<FromWorker> {
    let mut decoder = FrameDecoder::new(MAX_LINE);
    decoder.push(bytes);
    drain(&mut decoder)
}

fn drain(decoder: &mut FrameDecoder) -> Vec<FromWorker> {
    std::iter::from_fn(|| decoder.next_message().expect("no message is too long")).collect()
}

fn only(bytes: &[u8]) -> FromWorker {
    let mut messages = decode(bytes);
    assert_eq!(messages.len(), 1, "{bytes:?}");
    messages.remove(0)
}

/// Out of its envelope, if it has one.
fn inner(message: &FromWorker) -> &FromWorker {
    if let FromWorker::Handle(envelope) = message { &envelope.message } else { message }
}

/// What is known of a message on either way: all of one of the protocol, and of a user's what it means to us.
fn known(message: &FromWorker) -> String {
    let mut envelope = String::new();
    if let FromWorker::Handle(handle) = message {
        envelope = format!("{:?} {:?} ", handle.kind, handle.key);
    }
    if let FromWorker::User(user) = inner(message) {
        format!("{envelope}user {:?} {}", user.command(), user.name())
    } else {
        format!("{envelope}{:?}", inner(message))
    }
}

/// What is known of one that was skipped.
fn skipped(message: &FromWorker) -> String {
    let FromWorker::Skipped(SkippedMessage { command, name, .. }) = inner(message) else {
        panic!("it is skipped: {message:?}")
    };
    let envelope = if matches!(message, FromWorker::Handle(_)) { "None None " } else { "" };
    format!("{envelope}user {command:?} {name}")
}

#[test]
fn every_message_says_the_same_on_both_ways() {
    for line in LINES {
        assert_eq!(known(&only(&framed(line))), known(&one(line)), "{line}");
    }
}

#[test]
fn what_node_writes_is_passed_on_unread() {
    for (hex, command, name) in VALUES {
        let value = unhex(hex);
        let FromWorker::User(user) = only(&frame_of(&value)) else { panic!("{hex}") };
        assert_eq!((user.command(), user.name().as_str()), (command, name), "{hex}");
        assert!(!user.payload().is_empty());
        assert_eq!(user.into_payload(), Payload::Advanced(value.into()), "{hex}");
    }
}

#[test]
fn of_what_node_writes_and_is_too_long_all_is_known_that_matters() {
    for (hex, command, name) in VALUES {
        let value = unhex(hex);
        let bytes = frame_of(&value);
        for piece in [1, 3, bytes.len()] {
            let mut decoder = FrameDecoder::new(1);
            let mut messages = Vec::new();
            for piece in bytes.chunks(piece) {
                decoder.push(piece);
                messages.extend(drain(&mut decoder));
            }
            let message = SkippedMessage { bytes: value.len() as u64, command, name: name.to_owned() };
            assert_eq!(messages, [FromWorker::Skipped(message)], "{hex}");
        }
    }
}

#[test]
fn what_is_no_value_is_malformed_and_the_next_message_is_heard() {
    for value in [b"".as_slice(), b"{}", b"\xff", b"\xff\x0c\"\x05ready", b"\x00\x00"] {
        let messages = decode(&[frame_of(value), framed("\"ready\"")].concat());
        let [FromWorker::Malformed(malformed), FromWorker::User(_)] = messages.as_slice() else {
            panic!("{value:?}: {messages:?}")
        };
        assert_eq!(malformed.fault, Fault::NotAValue);
    }
}

#[test]
fn a_request_that_makes_no_sense_is_still_to_be_answered() {
    let line = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"address":5,"addressType":4,"seq":3}"#;
    let FromWorker::Malformed(malformed) = only(&framed(line)) else { panic!("malformed") };
    assert_eq!(malformed.unanswered.expect("it waits").seq, 3);
}

#[test]
fn a_value_that_is_cut_off_or_newer_than_we_are_is_its_readers_business() {
    // A tag that there is not yet, and a string that is shorter than it says.
    for value in [b"\xff\x0fo\"\x01a\x07".as_slice(), b"\xff\x0f\"\x09ready"] {
        let FromWorker::User(user) = only(&frame_of(value)) else { panic!("{value:?}") };
        assert_eq!(user.into_payload().len(), value.len());
    }
    assert!(Payload::Advanced(Box::default()).is_empty());
    // What it would be in an envelope matters to us: its descriptor is to be answered for.
    let envelope = write(&Json::parse(r#"{"cmd":"NODE_HANDLE","type":"net.Socket"}"#).expect("valid"));
    let cut = &envelope[..envelope.len() - 2];
    assert!(matches!(only(&frame_of(cut)), FromWorker::Handle(handle) if handle.kind.is_none()));
}

#[test]
fn a_message_of_the_protocol_that_is_too_long_ends_the_channel() {
    let long = format!(r#"{{"cmd":"NODE_CLUSTER","act":"{}"}}"#, "x".repeat(2 << 20));
    for limit in [100, 1 << 30] {
        let mut decoder = FrameDecoder::new(limit);
        decoder.push(&framed(&long));
        for _ in 0..2 {
            assert_eq!(decoder.next_message(), Err(LineTooLong { limit }));
            assert_eq!(decoder.buffered(), 0);
            decoder.push(&framed("1"));
        }
    }
}

#[test]
fn a_length_alone_reserves_nothing() {
    let mut decoder = FrameDecoder::new(1 << 30);
    decoder.push(&(1_u32 << 29).to_be_bytes());
    decoder.push(b"\xff\x0f");
    assert_eq!((decoder.next_message(), decoder.buffered()), (Ok(None), 6));
}

#[test]
fn depth_is_no_danger() {
    for (begin, end) in [("A\x01", "$\0\x01"), ("\\\x01", ""), ("o\"\x01a", "{\x01"), (";0", ":\x02")] {
        let value = format!("\u{f}{}0{}", begin.repeat(100_000), end.repeat(100_000));
        let value = [b"\xff", value.as_bytes()].concat();
        assert!(matches!(only(&frame_of(&value)), FromWorker::User(_) | FromWorker::Malformed(_)));
    }
}

proptest! {
    // PROPTEST_CASES may ask for more.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1000),
        failure_persistence: None,
        max_global_rejects: 1_000_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn cutting_changes_nothing(
        values in prop::collection::vec(value(), 0..12),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let bytes = values.iter().flat_map(|value| frame_of(value)).collect::<Vec<_>>();
        let mut decoder = FrameDecoder::new(MAX_LINE);
        let mut messages = Vec::new();
        for piece in pieces(&bytes, &cuts) {
            decoder.push(piece);
            messages.extend(drain(&mut decoder));
        }
        prop_assert_eq!(decoder.buffered(), 0);
        prop_assert_eq!(messages.len(), values.len());
        prop_assert_eq!(messages, decode(&bytes));
    }

    #[test]
    fn no_more_is_held_than_a_message_and_a_longer_one_is_skipped_or_ends_it(
        values in prop::collection::vec(value(), 0..12),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
        limit in 0_usize..200,
    ) {
        let bytes = values.iter().flat_map(|value| frame_of(value)).collect::<Vec<_>>();
        let mut decoder = FrameDecoder::new(limit);
        let mut messages = Vec::new();
        let mut overflowed = false;
        for piece in pieces(&bytes, &cuts) {
            decoder.push(piece);
            while let Some(next) = decoder.next_message().transpose() {
                overflowed |= next.is_err();
                match next {
                    Ok(message) => messages.push(message),
                    Err(_) => break,
                }
            }
            prop_assert!(decoder.buffered() <= limit + 4);
        }
        prop_assert_eq!(messages.len() < values.len(), overflowed);
        for (value, message) in values.iter().zip(&messages) {
            let is_skipped = matches!(inner(message), FromWorker::Skipped(_));
            prop_assert_eq!(is_skipped, value.len() > limit);
        }
        if let Some(value) = values.get(messages.len()) {
            prop_assert!(value.len() > limit, "a message that fits never ends it");
        }
    }

    #[test]
    fn a_message_is_known_by_the_same_on_both_ways_and_when_it_is_skipped(
        message in user_message(),
        is_envelope in any::<bool>(),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let text = if is_envelope {
            format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{message},"key":"4:a:1"}}"#)
        } else {
            message
        };
        let line = one(&text);
        let is_users = matches!(inner(&line), FromWorker::User(_));
        // One that was internal until a second `cmd` came is taken for what it was.
        prop_assume!(is_users && text.matches("md\" :").count() < 2 && text.matches("msg\"").count() < 2);
        let bytes = framed(&text);
        prop_assert_eq!(known(&only(&bytes)), known(&line));
        let mut decoder = FrameDecoder::new(0);
        let mut messages = Vec::new();
        for piece in pieces(&bytes, &cuts) {
            decoder.push(piece);
            messages.extend(drain(&mut decoder));
            prop_assert!(decoder.buffered() < 4);
        }
        // Of an envelope that is skipped, what came with it is not looked for.
        let shown = if let FromWorker::Handle(HandleEnvelope { message, .. }) = &line {
            known(&FromWorker::Handle(HandleEnvelope { kind: None, key: None, message: message.clone() }))
        } else {
            known(&line)
        };
        prop_assert_eq!(messages.iter().map(skipped).collect::<Vec<_>>(), [shown]);
    }

    #[test]
    fn what_we_say_is_read_as_we_said_it(message in user_message()) {
        let json = Json::parse(&message).expect("valid");
        let mut bytes = Vec::new();
        ToWorker::User(&json).encode_advanced(&mut bytes);
        prop_assert_eq!(bytes, framed(&message));
    }
}

/// A value: of Node, or one of the protocol; as it is, or with one byte replaced, dropped or doubled; or anything.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let sound = prop_oneof![
        select(&VALUES[..]).prop_map(|(hex, ..)| unhex(hex)),
        select(&LINES[..]).prop_map(|line| write(&Json::parse(line).expect("valid"))),
    ];
    prop_oneof![
        3 => sound.clone(),
        3 => (sound, any::<Index>(), any::<u8>(), 0..3).prop_map(|(mut value, index, byte, damage)| {
            let at = index.index(value.len());
            match damage {
                0 => value[at] = byte,
                1 => drop(value.remove(at)),
                _ => value.insert(at, value[at]),
            }
            value
        }),
        1 => prop::collection::vec(any::<u8>(), 0..80),
    ]
}
