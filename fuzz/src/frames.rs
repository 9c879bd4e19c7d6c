//! What a worker says in frames, in V8's format.

use recluster_wire::node::advanced::{FrameDecoder, frame};
use recluster_wire::node::{FromWorker, LineTooLong, Payload, UserMessage};

use crate::lines::panicked;
use crate::pieces;

/// Short, so that the fuzzer finds its way beyond it.
const MOST: usize = 512;
/// The length before a frame, in bytes.
const LENGTH: usize = 4;

/// The decoder holds no more than it may, reads the same messages however the bytes are cut, and knows of a message that it skips
/// what it knows of one that it keeps.
pub fn frames(input: &[u8]) {
    let Some((piece, bytes)) = pieces::split(input) else { return };
    let at_once = read(bytes, bytes.len(), MOST);
    assert_eq!(at_once, read(bytes, piece, MOST));
    at_once.0.iter().for_each(use_up);
    // What a fuzzer finds by itself is seldom the right length.
    let mut framed = Vec::new();
    frame(bytes, &mut framed);
    read(&framed, piece, MOST).0.iter().for_each(use_up);
}

fn read(bytes: &[u8], piece: usize, most: usize) -> (Vec<FromWorker>, Result<(), LineTooLong>) {
    let mut decoder = FrameDecoder::new(most);
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        decoder.push(piece);
        while let Some(next) = decoder.next_message().transpose() {
            match next {
                Ok(message) => messages.push(message),
                Err(error) => return (messages, Err(error)),
            }
        }
        assert!(decoder.buffered() <= most + LENGTH);
    }
    (messages, Ok(()))
}

fn use_up(message: &FromWorker) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are read as those of a line are")]
    match message {
        FromWorker::User(user) => as_if_skipped(user),
        FromWorker::Handle(envelope) => assert!(!matches!(*envelope.message, FromWorker::Handle(_))),
        _ => {}
    }
}

fn as_if_skipped(user: &UserMessage) {
    let Payload::Advanced(value) = user.payload() else { panicked("it is passed on as it came", user) };
    let mut bytes = Vec::new();
    frame(value, &mut bytes);
    let (messages, _) = read(&bytes, 7, 0);
    let [FromWorker::Skipped(skipped)] = messages.as_slice() else { panicked("it is skipped", user) };
    assert_eq!(skipped.bytes, value.len() as u64);
    assert_eq!((skipped.command, &skipped.name), (user.command(), &user.name()));
    assert!(!skipped.name.contains(char::is_control), "it is shown to people");
}
