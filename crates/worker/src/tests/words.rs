//! Readiness, status and signs of life, on the notify socket and on the channel.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use recluster_wire::node::{FromWorker, UserCommand};
use recluster_wire::notify::{self, Word};

use super::master::{DEADLINE, Master};
use crate::notify::Notifier;
use crate::worker::{Start, Worker};

/// The master's end of a notify socket, and how a worker finds it.
struct Ears {
    socket: UnixDatagram,
    _directory: tempfile::TempDir,
    start: Start,
}

fn ears() -> Ears {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let notifier = Notifier::new(path.to_str().expect("UTF-8")).expect("a notifier");
    Ears { socket, _directory: directory, start: Start { notifier: Some(notifier), ..Start::default() } }
}

fn hear(socket: &UnixDatagram) -> Vec<Word> {
    let mut bytes = [0; notify::MAX_DATAGRAM + 1];
    let count = socket.recv(&mut bytes).expect("a datagram in time");
    notify::parse(&bytes[..count]).expect("words")
}

#[test]
fn readiness_is_told_wherever_it_can_be_heard() {
    let Ears { socket, _directory, start } = ears();
    let (mut master, worker) = Master::with(start);
    worker.ready().expect("told");
    assert_eq!(hear(&socket), [Word::Ready]);
    assert!(matches!(master.hear(), Some(FromWorker::User(user)) if user.command() == UserCommand::Ready));
    worker.replace_me().expect("told");
    assert_eq!(hear(&socket), [Word::Stopping]);
    assert!(
        matches!(master.hear(), Some(FromWorker::User(user)) if user.command() == UserCommand::Disconnect)
    );
}

#[test]
fn a_status_is_one_line() {
    let Ears { socket, _directory, start } = ears();
    let worker = Worker::begin(start).expect("a worker");
    worker.status("warming up\nREADY=1").expect("told");
    assert_eq!(hear(&socket), [Word::Status("warming up READY=1".into())]);
}

#[test]
fn an_abstract_socket_is_named_behind_an_at() {
    let name = format!("recluster-worker-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let notifier = Notifier::new(&format!("@{name}")).expect("a notifier");
    notifier.say(&[Word::Ready]).expect("told");
    assert_eq!(hear(&socket), [Word::Ready]);
}

#[test]
fn nobody_at_the_other_end_is_an_error() {
    let Ears { socket, _directory, start } = ears();
    let worker = Worker::begin(start).expect("a worker");
    drop(socket);
    let error = worker.ready().expect_err("nobody hears it").to_string();
    assert_eq!(error, "failed to tell the master: Connection refused (os error 111)");
}

#[test]
fn a_worker_beats_while_it_is_well() {
    let Ears { socket, _directory, start } = ears();
    let start = Start { watchdog: Some(Duration::from_millis(20)), ..start };
    let worker = Worker::begin(start).expect("a worker");
    let watchdog = worker.watchdog().expect("it is watched");
    assert_eq!(watchdog.timeout(), Duration::from_millis(20));
    watchdog.beat().expect("told");
    assert_eq!(hear(&socket), [Word::WatchdogBeat]);

    let well = Arc::new(AtomicBool::new(true));
    let (asked, questions) = mpsc::channel();
    let health = Arc::clone(&well);
    let healthy = move || {
        let well = health.load(Ordering::SeqCst);
        // The test may be over.
        asked.send(well).unwrap_or(());
        well
    };
    watchdog.beat_while(healthy).expect("a thread");
    for _ in 0..3 {
        assert_eq!(hear(&socket), [Word::WatchdogBeat]);
    }
    well.store(false, Ordering::SeqCst);
    let unwell = questions.iter().find(|well| !well);
    assert_eq!(unwell, Some(false));
    socket.set_nonblocking(true).expect("a socket");
    while let Ok(1..) = socket.recv(&mut [0; 64]) {}
    assert_eq!(questions.recv_timeout(DEADLINE), Ok(false), "it goes on asking");
    assert!(socket.recv(&mut [0; 64]).is_err(), "and says nothing");
}
