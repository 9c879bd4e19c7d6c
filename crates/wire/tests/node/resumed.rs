//! A decoder goes on where another one has stopped, which may have been in another program: no message of a worker is lost or heard twice.

use recluster_wire::Json;
use recluster_wire::node::advanced::{FrameDecoder, frame, write};
use recluster_wire::node::{Decoder, FromWorker, LineTooLong};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::lines::LINES;

/// More than one of Node's lines needs.
const MOST: usize = 512;

/// All that Node says, and in the middle of it a user's message that is longer than may be kept.
fn texts() -> Vec<String> {
    let long = format!("{{\"cmd\":\"hello\",\"words\":\"{}\"}}", "word ".repeat(MOST));
    let (before, behind) = LINES.split_at(LINES.len() / 2);
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    [owned(before), vec![long], owned(behind)].concat()
}

fn lines() -> Vec<u8> {
    texts().iter().flat_map(|text| [text.as_bytes(), b"\n"].concat()).collect()
}

/// What another program reads.
fn as_text<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).expect("it is plain data")).expect("it is read again")
}

fn all(mut next: impl FnMut() -> Result<Option<FromWorker>, LineTooLong>) -> Vec<FromWorker> {
    std::iter::from_fn(|| next().expect("none of the protocol is too long")).collect()
}

/// Heard up to each place by one, and from there by another.
fn is_heard_once(bytes: &[u8], heard: impl Fn(&[u8], &[u8]) -> Vec<FromWorker>) {
    let whole = heard(bytes, b"");
    assert_eq!(whole.len(), LINES.len() + 1);
    assert_eq!(whole.iter().filter(|message| matches!(message, FromWorker::Skipped(_))).count(), 1);
    for cut in (0..bytes.len()).step_by(5) {
        let (before, behind) = bytes.split_at(cut);
        assert_eq!(heard(before, behind), whole, "cut at {cut}");
    }
}

#[test]
fn lines_that_are_cut_anywhere_are_heard_once() {
    let bytes = lines();
    is_heard_once(&bytes, |before, behind| {
        let mut one = Decoder::new(MOST);
        one.push(before);
        let mut heard = all(|| one.next_message());
        let (rest, skipped) = one.unfinished();
        let mut another = Decoder::resume(MOST, rest, skipped.map(as_text));
        another.push(behind);
        heard.extend(all(|| another.next_message()));
        heard
    });
}

#[test]
fn frames_that_are_cut_anywhere_are_heard_once() {
    let mut bytes = Vec::new();
    for text in texts() {
        frame(&write(&Json::parse(&text).expect("Node writes JSON")), &mut bytes);
    }
    is_heard_once(&bytes, |before, behind| {
        let mut one = FrameDecoder::new(MOST);
        one.push(before);
        let mut heard = all(|| one.next_message());
        let (rest, skipped) = one.unfinished();
        let mut another = FrameDecoder::resume(MOST, rest, skipped.map(as_text));
        another.push(behind);
        heard.extend(all(|| another.next_message()));
        heard
    });
}

/// What was read and not handed out goes over as well.
#[test]
fn messages_that_wait_are_handed_out_by_the_next_one() {
    let bytes = lines();
    let mut one = Decoder::new(MOST);
    one.push(&bytes);
    let first = one.next_message().expect("it is short").expect("it is there");
    let mut another = Decoder::resume(MOST, one.unfinished().0, None);
    let mut heard = vec![first];
    heard.extend(all(|| another.next_message()));
    let mut whole = Decoder::new(MOST);
    whole.push(&bytes);
    assert_eq!(heard, all(|| whole.next_message()));
}
