//! Whatever a worker writes, the decoder holds no more than it may, and reads the same messages however
//! the bytes are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use recluster_wire::Json;
use recluster_wire::node::{Decoder, FromWorker, LineTooLong, ListenerKey, ToWorker, UserMessage};

/// Short, so that the fuzzer finds its way beyond it.
const MAX_LINE: usize = 512;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let at_once = read(bytes, bytes.len());
    assert_eq!(at_once, read(bytes, usize::from(piece)));
    at_once.0.iter().for_each(use_up);
});

fn read(bytes: &[u8], piece: usize) -> (Vec<FromWorker>, Result<(), LineTooLong>) {
    let mut decoder = Decoder::new(MAX_LINE);
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        decoder.push(piece);
        while let Some(next) = decoder.next_message().transpose() {
            match next {
                Ok(message) => messages.push(message),
                Err(error) => return (messages, Err(error)),
            }
        }
        assert!(decoder.buffered() <= MAX_LINE);
    }
    (messages, Ok(()))
}

/// Takes a message as far as the crate can, and what is passed on must be one valid line again.
fn use_up(message: &FromWorker) {
    match message {
        FromWorker::QueryServer(query) => {
            assert!(query.listen_backlog() > 0);
            assert!(query.kind.is_some() || query.fd.is_some());
            let _ = ListenerKey::from(query);
        }
        FromWorker::User(user) => {
            pass_on(user.json());
            as_if_skipped(user);
        }
        FromWorker::Handle(envelope) => {
            assert!(!matches!(*envelope.message, FromWorker::Handle(_)));
            use_up(&envelope.message);
        }
        _ => {}
    }
}

/// Of a message that is skipped, all is known that matters of one that is kept.
fn as_if_skipped(user: &UserMessage) {
    let mut decoder = Decoder::new(0);
    decoder.push(user.json().as_str().as_bytes());
    decoder.push(b"\n");
    let Ok(Some(FromWorker::Skipped(skipped))) = decoder.next_message() else { panic!("it is skipped: {user:?}") };
    assert_eq!(skipped.bytes, user.json().as_str().len() as u64);
    assert_eq!((skipped.command, skipped.name), (user.command(), user.name()));
}

fn pass_on(json: &Json) {
    let mut line = Vec::new();
    ToWorker::User(json).encode(&mut line);
    let text = std::str::from_utf8(&line).expect("UTF-8");
    let body = text.strip_suffix('\n').expect("a whole line");
    assert_eq!(Json::parse(body).as_ref(), Ok(json));
}
