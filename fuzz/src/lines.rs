//! What a worker says in lines.

use recluster_wire::Json;
use recluster_wire::node::advanced::{FrameDecoder, frame, write};
use recluster_wire::node::worker::{FromPrimary, ToPrimary};
use recluster_wire::node::{
    Decoder, FromWorker, HandleEnvelope, LineTooLong, ListenerKey, MAX_ADDRESS, MAX_KEY, Payload,
    QueryServer, ToWorker, UserMessage,
};

use crate::{keys, pieces};

/// Short, so that the fuzzer finds its way beyond it.
const MOST: usize = 512;
/// Room for whatever is written again.
const AMPLE: usize = 1 << 20;

/// The decoder holds no more than it may, and reads the same messages however the bytes are cut. What it has read can be written
/// and read again, as a line and as a frame.
pub fn lines(input: &[u8]) {
    let Some((piece, bytes)) = pieces::split(input) else { return };
    let at_once = read(bytes, bytes.len(), MOST);
    assert_eq!(at_once, read(bytes, piece, MOST));
    at_once.0.iter().for_each(use_up);
    for line in bytes.split(|&byte| byte == b'\n') {
        same_in_a_frame(line);
    }
}

fn read(bytes: &[u8], piece: usize, most: usize) -> (Vec<FromWorker>, Result<(), LineTooLong>) {
    let mut decoder = Decoder::new(most);
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        decoder.push(piece);
        while let Some(next) = decoder.next_message().transpose() {
            match next {
                Ok(message) => messages.push(message),
                Err(error) => return (messages, Err(error)),
            }
        }
        assert!(decoder.buffered() <= most);
    }
    (messages, Ok(()))
}

/// Takes a message as far as the crate can.
fn use_up(message: &FromWorker) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others hold nothing that could be out of bounds")]
    match message {
        FromWorker::QueryServer(query) => within_bounds(query),
        FromWorker::Close { key } => assert!(key.len() <= MAX_KEY),
        FromWorker::Farewell(farewell) => assert!(farewell.alive.len() <= MOST),
        FromWorker::User(user) => {
            pass_on(user);
            as_if_skipped(user);
        }
        FromWorker::Handle(envelope) => {
            assert!(!matches!(*envelope.message, FromWorker::Handle(_)));
            use_up(&envelope.message);
            enveloped(envelope);
        }
        _ => {}
    }
    written_again(message);
}

fn within_bounds(query: &QueryServer) {
    assert!(query.listen_backlog() >= 0);
    assert!(query.kind.is_some() || query.fd.is_some());
    assert!(query.address.as_ref().is_none_or(|address| address.len() <= MAX_ADDRESS));
    let _ = ListenerKey::from(query);
}

/// A worker that is not Node says the same with our own encoder.
fn written_again(message: &FromWorker) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are said by Node and our preload alone")]
    let said = match message {
        FromWorker::Online => ToPrimary::Online { seq: 0 },
        FromWorker::QueryServer(query) => ToPrimary::QueryServer(query),
        FromWorker::Listening(at) => ToPrimary::Listening { seq: 0, index: 0, at },
        FromWorker::Close { key } => ToPrimary::Close { seq: 0, key },
        FromWorker::Ack { ack, accepted } => ToPrimary::Ack { seq: 0, ack: *ack, accepted: *accepted },
        FromWorker::ExitedAfterDisconnect { seq } => ToPrimary::ExitedAfterDisconnect { seq: *seq },
        FromWorker::HandleAck => ToPrimary::HandleAck,
        FromWorker::HandleNack => ToPrimary::HandleNack,
        _ => return,
    };
    let mut line = Vec::new();
    said.encode(&mut line);
    assert_eq!(read(&line, line.len(), AMPLE), (vec![message.clone()], Ok(())), "{said}");
}

/// What users say to each other arrives as one line of the same JSON.
fn pass_on(user: &UserMessage) {
    let json = text_of(user);
    let mut line = Vec::new();
    ToWorker::User(json).encode(&mut line);
    let text = line.strip_suffix(b"\n").expect("a whole line");
    assert!(!text.contains(&b'\n'));
    let FromPrimary::User(heard) = FromPrimary::parse(text) else { panicked("a worker hears it", user) };
    assert_eq!((text_of(&heard), heard.command()), (json, user.command()));
    assert_eq!(Json::parse(json.as_str()).as_ref(), Ok(json));
}

/// With a descriptor as well.
fn enveloped(envelope: &HandleEnvelope) {
    let (Some(kind), FromWorker::User(user)) = (envelope.kind, &*envelope.message) else { return };
    let mut line = Vec::new();
    ToWorker::UserHandle { kind, json: text_of(user) }.encode(&mut line);
    let FromPrimary::Handle(inner) = FromPrimary::parse(line.strip_suffix(b"\n").expect("a whole line"))
    else {
        panicked("a worker hears of the handle", envelope)
    };
    assert!(matches!(*inner, FromPrimary::User(heard) if heard.payload() == user.payload()));
}

/// Of a message that is skipped, all is known that matters of one that is kept.
fn as_if_skipped(user: &UserMessage) {
    let json = text_of(user);
    let mut line = json.as_str().as_bytes().to_vec();
    line.push(b'\n');
    let (messages, end) = read(&line, 7, 0);
    if end.is_err() && keys::are_twice(json.as_str()) {
        // It was a message of the protocol until a second `cmd` came, which a decoder that keeps nothing does not wait for.
        return;
    }
    let [FromWorker::Skipped(skipped)] = messages.as_slice() else { panicked("it is skipped", user) };
    assert_eq!(skipped.bytes, json.as_str().len() as u64);
    assert_eq!((skipped.command, &skipped.name), (user.command(), &user.name()));
    assert!(!skipped.name.contains(char::is_control), "it is shown to people");
}

/// One message means the same in a line and in a frame, if it can be in both.
fn same_in_a_frame(line: &[u8]) {
    let Some(json) = std::str::from_utf8(line).ok().and_then(|text| Json::parse(text).ok()) else { return };
    if keys::are_twice(json.as_str()) {
        return;
    }
    let in_line = read(format!("{json}\n").as_bytes(), AMPLE, AMPLE).0;
    if matches!(*in_line, [FromWorker::Malformed(_)]) {
        // A whole number that is written as `0e9` is none in a line. In a frame it is one like any other.
        return;
    }
    let mut framed = Vec::new();
    frame(&write(&json), &mut framed);
    let mut decoder = FrameDecoder::new(AMPLE);
    decoder.push(&framed);
    let in_frame = decoder.next_message().expect("it is not too long").expect("it is whole");
    assert_eq!(in_line.iter().map(known).collect::<Vec<_>>(), [known(&in_frame)], "{json}");
}

/// What is known of a message on either way: all of one of the protocol, and of a user's what it means to us.
fn known(message: &FromWorker) -> String {
    if let FromWorker::Handle(HandleEnvelope { kind, key, message }) = message {
        return format!("{kind:?} {key:?} {}", known(message));
    }
    if let FromWorker::User(user) = message {
        return format!("user {:?} {}", user.command(), user.name());
    }
    format!("{message:?}")
}

fn text_of(user: &UserMessage) -> &Json {
    let Payload::Json(json) = user.payload() else { panicked("it came as a line", user) };
    json
}

/// Ends a target.
pub(crate) fn panicked(what: &str, of: &dyn std::fmt::Debug) -> ! {
    unreachable!("{what}: {of:?}")
}
