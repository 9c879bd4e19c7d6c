//! Whatever a worker writes in V8's format, the decoder holds no more than it may, reads the same messages however the bytes
//! are cut, and knows of a message that it skips what it knows of one that it keeps.

#![no_main]

use libfuzzer_sys::fuzz_target;
use recluster_wire::node::advanced::{FrameDecoder, frame};
use recluster_wire::node::{FromWorker, LineTooLong, Payload, UserMessage};

/// Short, so that the fuzzer finds its way beyond it.
const MOST: usize = 512;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let at_once = read(bytes, bytes.len(), MOST);
    assert_eq!(at_once, read(bytes, usize::from(piece), MOST));
    at_once.0.iter().for_each(use_up);
    // What the fuzzer finds by itself is seldom the right length.
    let mut framed = Vec::new();
    frame(bytes, &mut framed);
    read(&framed, usize::from(piece), MOST).0.iter().for_each(use_up);
});

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
        assert!(decoder.buffered() <= most + 4);
    }
    (messages, Ok(()))
}

fn use_up(message: &FromWorker) {
    match message {
        FromWorker::User(user) => as_if_skipped(user),
        FromWorker::Handle(envelope) => assert!(!matches!(*envelope.message, FromWorker::Handle(_))),
        _ => {}
    }
}

fn as_if_skipped(user: &UserMessage) {
    let Payload::Advanced(value) = user.payload() else { panic!("it is passed on as it came: {user:?}") };
    let mut bytes = Vec::new();
    frame(value, &mut bytes);
    let (messages, _) = read(&bytes, 7, 0);
    let [FromWorker::Skipped(skipped)] = messages.as_slice() else { panic!("it is skipped: {user:?}") };
    assert_eq!(skipped.bytes, value.len() as u64);
    assert_eq!((skipped.command, &skipped.name), (user.command(), &user.name()));
}
