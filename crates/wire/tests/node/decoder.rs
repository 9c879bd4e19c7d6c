//! The decoder, fed with anything, cut anywhere.

use crate::lines::{LINES, MAX_LINE, decode, drain, one};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use recluster_wire::Json;
use recluster_wire::node::{Decoder, FromWorker, LineTooLong};

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
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
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
    let error = decoder.next_message().expect_err("five bytes");
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
                let json = user.into_json();
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
    fn no_more_is_held_than_a_line_and_a_longer_one_ends_it(
        lines in stream(),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
        limit in 0_usize..200,
    ) {
        let bytes = glue(&lines);
        let short_lines = lines.iter().take_while(|line| line.len() <= limit).count();
        let mut decoder = Decoder::new(limit);
        let mut messages = 0;
        let mut overflowed = false;
        for piece in pieces(&bytes, &cuts) {
            decoder.push(piece);
            while let Some(next) = decoder.next_message().transpose() {
                overflowed |= next.is_err();
                if overflowed {
                    break;
                }
                messages += 1;
            }
            prop_assert!(decoder.buffered() <= limit);
        }
        prop_assert_eq!(messages, short_lines);
        prop_assert_eq!(overflowed, short_lines < lines.len());
    }
}
