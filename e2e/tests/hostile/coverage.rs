//! The table names all that can be said to a master: a new message does not compile without its row here, and a row that does not say
//! its message fails.

use std::collections::BTreeSet;

use recluster::control::protocol::Request;
use recluster_e2e::written;
use recluster_wire::node::{DEFAULT_MAX_LINE, Decoder, FromWorker};
use recluster_wire::notify::{self, Word};

use crate::attack::Attack;
use crate::table::{BESIDE, CHANNEL, CONTROL, GROUPS, NOTIFY, RELOADS};

/// The function `row_of`, which says which row stands for a message, and the list of all such rows, from one list.
macro_rules! rows {
    ($row_of:ident, $all:ident: $($message:pat => $row:literal),* $(,)?) => {
        fn $row_of(message: &Message!($row_of)) -> &'static str {
            match message { $($message => $row),* }
        }
        const $all: &[&str] = &[$($row),*];
    };
}

macro_rules! Message {
    (row_of_message) => {
        FromWorker
    };
    (row_of_word) => {
        Word
    };
    (row_of_request) => {
        Request
    };
}

rows! { row_of_message, MESSAGES:
    FromWorker::Online => "online",
    FromWorker::QueryServer(_) => "listens without end",
    FromWorker::Listening(_) => "names places without end",
    FromWorker::Close { .. } => "closes what it never had",
    FromWorker::Ack { .. } => "takes what it was never sent",
    FromWorker::ExitedAfterDisconnect { .. } => "leaves and stays",
    FromWorker::Handle(_) => "passes descriptors",
    FromWorker::HandleAck => "has got a handle",
    FromWorker::HandleNack => "has lost a handle",
    FromWorker::SocketGetCount { .. } => "counts sockets and hears no answer",
    FromWorker::SocketNotifyClose { .. } => "awaits the end of sockets and hears no answer",
    FromWorker::Measures(_) => "lies about itself",
    FromWorker::Held(_) => "holds",
    FromWorker::Farewell(_) => "says farewell",
    FromWorker::Keeps(_) => "keeps connections for ever",
    FromWorker::Taken(_) => "counts its connections",
    FromWorker::CacheOff(_) => "has no cache",
    FromWorker::Stderr(_) => "tells what was on its stderr",
    FromWorker::Leaves => "leaves",
    FromWorker::Pong => "answers what was not asked",
    FromWorker::User(_) => "says something",
    FromWorker::Skipped(_) => "says too much",
    FromWorker::Unknown => "says what nobody knows",
    FromWorker::Malformed(_) => "says nonsense",
}

rows! { row_of_word, WORDS:
    Word::Ready => "notifies: ready",
    Word::Status(_) => "notifies: status",
    Word::Stopping => "notifies: stopping",
    Word::Reloading => "notifies: reloading",
    Word::Monotonic(_) => "notifies: monotonic",
    Word::WatchdogBeat => "notifies: watchdog",
    Word::WatchdogTrigger => "notifies: watchdog trigger",
    Word::WatchdogTimeout(_) => "notifies: watchdog timeout",
    Word::FdStore => "notifies: store",
    Word::FdStoreRemove => "notifies: unstore",
    Word::Barrier => "notifies: barrier",
    Word::MainPid(_) => "notifies: main pid",
    Word::Errno(_) => "notifies: errno",
    Word::ExtendTimeout(_) => "notifies: extend",
}

rows! { row_of_request, REQUESTS:
    Request::Reload { .. } => "waits for a reload",
    Request::Status => "reads no status",
    Request::Configuration { .. } => "asks for the config file and reads no answer",
    Request::Events { .. } => "follows events and reads none",
    Request::Logs { .. } => "follows the lines of workers and reads none",
    Request::Replace { .. } => "replaces what is not there",
    Request::ScaleTo { .. } => "scales to absurd numbers",
    Request::ScaleBy { .. } => "scales up and down",
    Request::Upgrade { .. } => "upgrades to what is no program",
    Request::Stop => "stops",
    Request::Terminate => "terminates",
}

/// The row of this name says what it is named for; `rows_of` says which rows stand for what such a row sends.
#[track_caller]
fn says_it(groups: &[&[Attack]], name: &str, rows_of: impl Fn(&str) -> Vec<&'static str>) {
    let row = groups.iter().copied().flatten().find(|row| row.name == name);
    let row = row.expect("a message has a row in its group");
    let said = row.sends.iter().flat_map(|text| rows_of(&written(text, 7))).collect::<Vec<_>>();
    assert!(said.contains(&name), "the row {name:?} sends what the rows {said:?} are for");
}

fn in_messages(text: &str) -> Vec<&'static str> {
    /// As in a master that passes no messages on.
    const LINE: usize = 128 << 10;
    let mut decoder = Decoder::new(LINE.min(DEFAULT_MAX_LINE));
    let mut rows = Vec::new();
    for piece in text.as_bytes().chunks(LINE / 4) {
        decoder.push(piece);
        while let Ok(Some(message)) = decoder.next_message() {
            rows.push(row_of_message(&message));
        }
    }
    rows
}

#[test]
fn every_message_of_a_worker_has_its_row() {
    for name in MESSAGES {
        says_it(&[CHANNEL], name, in_messages);
    }
}

#[test]
fn every_word_of_sd_notify_has_its_row() {
    for name in WORDS {
        says_it(&[NOTIFY], name, |text| {
            notify::parse(text.as_bytes()).expect("a whole datagram").iter().map(row_of_word).collect()
        });
    }
}

#[test]
fn every_request_of_a_client_has_its_row() {
    for name in REQUESTS {
        says_it(&[CONTROL, RELOADS], name, |text| {
            Request::decode(text.as_bytes()).iter().map(row_of_request).collect()
        });
    }
}

#[test]
fn every_row_has_a_name_of_its_own_and_says_what_keeps_it_from_growing() {
    let mut names = BTreeSet::new();
    for row in GROUPS.iter().copied().flatten() {
        assert!(names.insert(row.name), "{:?} twice", row.name);
        assert!(!row.bound.is_empty(), "{:?} has no bound", row.name);
    }
    let kinds: BTreeSet<&str> = [MESSAGES, WORDS, REQUESTS].concat().into_iter().collect();
    assert_eq!(kinds.len(), MESSAGES.len() + WORDS.len() + REQUESTS.len(), "each has a row of its own");
    assert!(BESIDE.iter().all(|row| !kinds.contains(row.name)));
}
