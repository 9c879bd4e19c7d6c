//! The decoder, fed with anything, cut anywhere.

use crate::lines::{LINES, MAX_LINE, decode, drain, one};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use recluster_wire::Json;
use recluster_wire::node::{Decoder, FromWorker, LineTooLong, SkippedMessage};

/// Bytes that hold no newline.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>().prop_filter("a line", |&byte| byte != b'\n'), 0..80)
}

/// The line with one byte replaced, dropped or doubled.
fn damaged(line: &'static str) -> impl Strategy<Value = Vec<u8>> {
    (any::<Index>(), any::<u8>(), 0..3).prop_map(move |(index, byte, damage)| {
        let mut line = line.as_bytes().to_vec();
        let at = index.index(line.len());
        match damage {
            0 => line[at] = if byte == b'\n' { b' ' } else { byte },
            1 => drop(line.remove(at)),
            _ => line.insert(at, line[at]),
        }
        line
    })
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => select(&LINES[..]).prop_map(|line| line.as_bytes().to_vec()),
        2 => select(&LINES[..]).prop_flat_map(damaged),
        1 => garbage(),
    ]
}

fn stream() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(line(), 0..12)
}

fn glue(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect()
}

/// The bytes in pieces that end where the cuts say.
pub(crate) fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.extend([0, bytes.len()]);
    ends.sort_unstable();
    ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

#[test]
fn every_line_of_node_is_understood() {
    for line in LINES {
        assert!(!matches!(one(line), FromWorker::Malformed(_)), "{line}");
    }
}

#[test]
fn the_length_of_a_line_is_counted_without_its_newline() {
    let mut decoder = Decoder::new(4);
    decoder.push(b"1234\n\n1234");
    assert_eq!(drain(&mut decoder).len(), 2);
    assert_eq!(decoder.buffered(), 4);
    decoder.push(b"5");
    assert_eq!(decoder.next_message(), Ok(None));
    assert_eq!((decoder.buffered(), decoder.skipping()), (0, Some(5)));
    decoder.push(b"6\n");
    let Ok(Some(FromWorker::Skipped(skipped))) = decoder.next_message() else { panic!("it is skipped") };
    assert_eq!(skipped.bytes, 6);
}

#[test]
fn the_limit_for_lines_that_must_not_be_skipped_is_told() {
    let mut decoder = Decoder::new(4);
    decoder.push(b"12345");
    let error = decoder.next_line().expect_err("five bytes");
    assert_eq!(error, LineTooLong { limit: 4 });
    assert_eq!(error.to_string(), "a line on the channel is longer than 4 bytes");
}

proptest! {
    // PROPTEST_CASES may ask for more.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn cutting_changes_nothing(
        lines in stream(),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let bytes = glue(&lines);
        let mut decoder = Decoder::new(MAX_LINE);
        let mut messages = Vec::new();
        for piece in pieces(&bytes, &cuts) {
            decoder.push(piece);
            messages.extend(drain(&mut decoder));
        }
        prop_assert_eq!(decoder.buffered(), 0);
        prop_assert_eq!(messages.len(), lines.len());
        prop_assert_eq!(messages, decode(&bytes));
    }

    #[test]
    fn what_is_passed_on_is_json(line in damaged(r#"{"a":"b","c":["d"]}"#)) {
        for message in decode(&glue(&[line])) {
            if let FromWorker::User(user) = message {
                let json = user.into_payload().into_json().expect("a line");
                prop_assert_eq!(Json::parse(json.as_str()), Ok(json));
            }
        }
    }

    #[test]
    fn a_line_is_read_the_same_whatever_stands_around_it(before in stream(), line in line(), after in stream()) {
        let alone = decode(&glue(std::slice::from_ref(&line)));
        let among = decode(&glue(&[before.clone(), vec![line], after].concat()));
        prop_assert_eq!(&among[before.len()..=before.len()], &alone[..]);
    }

    #[test]
    fn no_more_is_held_than_a_line_and_a_longer_one_is_skipped_or_ends_it(
        lines in stream(),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
        limit in 0_usize..200,
    ) {
        let bytes = glue(&lines);
        let mut decoder = Decoder::new(limit);
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
            prop_assert!(decoder.buffered() <= limit);
        }
        prop_assert_eq!(messages.len() < lines.len(), overflowed);
        for (line, message) in lines.iter().zip(&messages) {
            prop_assert_eq!(skipped(message).is_some(), line.len() > limit);
        }
        if let Some(line) = lines.get(messages.len()) {
            prop_assert!(line.len() > limit, "a line that fits never ends it");
        }
    }

    #[test]
    fn of_a_message_that_is_skipped_all_is_known_that_matters(
        message in user_message(),
        is_envelope in any::<bool>(),
        comes_first in any::<bool>(),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let line = match (is_envelope, comes_first) {
            (false, _) => message,
            (true, true) => format!(r#"{{"msg":{message},"cmd":"NODE_HANDLE","type":"net.Socket"}}"#),
            (true, false) => format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{message},"key":"4:a:1"}}"#),
        };
        let bytes = format!("{line}\n").into_bytes();
        let kept = decode(&bytes).remove(0);
        let mut decoder = Decoder::new(0);
        let mut outcome = Ok(None);
        for piece in pieces(&bytes, &cuts) {
            decoder.push(piece);
            if outcome == Ok(None) {
                outcome = decoder.next_message();
            }
            prop_assert_eq!(decoder.buffered(), 0);
        }
        let FromWorker::User(user) = inner(&kept) else {
            prop_assert!(outcome.is_err(), "{}", line);
            return Ok(());
        };
        let Ok(message) = outcome else {
            // One that was internal until a second `cmd` came is not waited for.
            let named = |key: &str| line.matches(key).count();
            prop_assert!(named("md\" :") > 1 || named("msg\"") > 1, "{}", line);
            return Ok(());
        };
        let message = message.expect("it is whole");
        let SkippedMessage { bytes, command, name } = skipped(&message).expect("it is skipped");
        prop_assert_eq!(bytes, line.len() as u64);
        prop_assert_eq!((command, name), (user.command(), user.name()));
        let is_handle = |message: &FromWorker| matches!(message, FromWorker::Handle(_));
        prop_assert_eq!(is_handle(&message), is_handle(&kept));
    }
}

/// Messages of users, and some that look like it at first; with the keys that matter at any place, once or twice.
pub(crate) fn user_message() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        3 => Just("cmd"), 1 => Just("msg"), 1 => Just("type"), 1 => Just("topic"), 1 => Just("a\\\"}"),
        1 => Just("\\u0063md"), 1 => Just("key"),
    ];
    let scalar = prop_oneof![
        Just("ready"),
        Just("disconnect"),
        Just("NODE_"),
        Just("NODE_HANDLE"),
        Just("NODE_CLUSTER"),
        Just("\\u004eODE_x"),
        Just("\\\\"),
        Just("{\\\"cmd\\\":"),
        Just("\\ud800"),
        Just(""),
    ]
    .prop_map(|text| format!("\"{text}\""));
    let leaf = prop_oneof![4 => scalar, 1 => Just("null".to_owned()), 1 => Just("-1.5e3".to_owned())];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        let field = (key.clone(), inner.clone()).prop_map(|(key, value)| format!("\"{key}\" : {value}"));
        prop_oneof![
            3 => prop::collection::vec(field, 0..5).prop_map(|fields| format!("{{{}}}", fields.join(" ,"))),
            1 => prop::collection::vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(","))),
        ]
    })
}

/// The message, out of its envelope if it has one.
fn inner(message: &FromWorker) -> &FromWorker {
    if let FromWorker::Handle(envelope) = message { &envelope.message } else { message }
}

fn skipped(message: &FromWorker) -> Option<SkippedMessage> {
    if let FromWorker::Skipped(skipped) = inner(message) { Some(skipped.clone()) } else { None }
}
