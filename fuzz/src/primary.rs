//! What the master says to a worker that is not Node, as that one reads it.

use recluster_wire::node::worker::{FromPrimary, Reply};
use recluster_wire::node::{HandleKind, ToWorker};

/// A message that a worker has understood can be said again by a master.
pub fn primary(input: &[u8]) {
    for line in input.split(|&byte| byte == b'\n') {
        let heard = FromPrimary::parse(line);
        let mut said = Vec::new();
        if say(&heard, &mut said) {
            let again = FromPrimary::parse(said.strip_suffix(b"\n").expect("a whole line"));
            assert_eq!(unwrapped(&again), unwrapped(&heard), "{}", String::from_utf8_lossy(&said));
        }
    }
}

/// Out of an envelope: which messages a master puts into one is its own affair.
fn unwrapped(message: &FromPrimary) -> &FromPrimary {
    if let FromPrimary::Handle(inner) = message { inner } else { message }
}

fn say(message: &FromPrimary, line: &mut Vec<u8>) -> bool {
    match message {
        FromPrimary::Reply(Reply { ack, key, outcome: Ok(()) }) => {
            ToWorker::SharedReply { seq: 0, ack: *ack, key, data: None, kind: HandleKind::NetNative }
                .encode(line);
        }
        FromPrimary::Reply(Reply { ack, key, outcome: Err(errno) }) => {
            ToWorker::ErrorReply { seq: 0, ack: *ack, key, data: None, errno: *errno }.encode(line);
        }
        FromPrimary::NewConnection { seq, key } => {
            ToWorker::NewConnection { seq: *seq, key, closes: false }.encode(line);
        }
        FromPrimary::Disconnect => ToWorker::Disconnect { seq: 0 }.encode(line),
        FromPrimary::Ack { ack } => ToWorker::Ack { seq: 0, ack: *ack }.encode(line),
        FromPrimary::Handle(inner) => {
            assert!(!matches!(**inner, FromPrimary::Handle(_)));
            return say(inner, line);
        }
        FromPrimary::User(user) => {
            ToWorker::User(user.payload().json().expect("it came as a line")).encode(line);
        }
        FromPrimary::Unknown | FromPrimary::Malformed(_) => return false,
    }
    true
}
