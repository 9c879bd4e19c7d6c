//! Requests to shut down.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use recluster_wire::node::{IdleGrace, ToWorker};

use super::master::{DEADLINE, Master, in_time, later};
use crate::Json;
use crate::worker::{Start, Worker};

#[test]
fn the_master_lets_a_worker_go_in_two_ways() {
    for word in [ToWorker::UserDisconnect, ToWorker::Disconnect { seq: 0 }] {
        let (master, worker) = Master::with_worker();
        let shutdown = worker.shutdown();
        assert!(!shutdown.is_requested());
        master.tell(word);
        assert!(shutdown.wait_timeout(DEADLINE), "{word}");
        assert!(shutdown.is_requested());
        in_time(move || shutdown.wait());
    }
}

#[test]
fn a_master_that_dies_lets_its_worker_go() {
    let (master, worker) = Master::with_worker();
    drop(master);
    assert!(worker.shutdown().wait_timeout(DEADLINE));
}

#[test]
fn the_word_to_nodes_preload_means_nothing() {
    let (master, worker) = Master::with_worker();
    master.tell(ToWorker::Drain {
        grace: IdleGrace { least: Duration::from_secs(6), most: Duration::from_secs(29) },
    });
    master.tell(ToWorker::User(&Json::parse("1").expect("JSON")));
    assert!(worker.messages().next().is_some(), "what came later is here");
    assert!(!worker.shutdown().wait_timeout(Duration::ZERO));
}

#[test]
fn connections_end_with_the_request() {
    let (master, worker) = Master::with_worker();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    listener.set_nonblocking(true).expect("a listener as from this crate");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).expect("it listens");
    let shutdown = worker.shutdown();
    let accepted = later(move || shutdown.incoming(&listener).map(|each| each.is_ok()).collect::<Vec<_>>());
    // It is taken before the request is heard, or the client hears that the listener is gone.
    drop(client);
    master.tell(ToWorker::UserDisconnect);
    let accepted = accepted.recv_timeout(DEADLINE).expect("the iterator ends");
    assert!(accepted.iter().all(|ok| *ok) && accepted.len() <= 1, "{accepted:?}");
}

#[test]
fn a_connection_that_waits_is_seen() {
    let worker = Worker::begin(Start::default()).expect("a worker");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let _client = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
    let shutdown = worker.shutdown();
    let first = in_time(move || shutdown.incoming(&listener).next());
    assert!(first.is_some_and(|connection| connection.is_ok()));
}

#[cfg(feature = "tokio")]
#[test]
fn tasks_wait_as_threads_do() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (master, worker) = Master::with_worker();
    let shutdown = worker.shutdown();
    let waiting = later(move || {
        runtime.block_on(async {
            // One that gives up, one that waits, and one that comes late.
            drop(Box::pin(shutdown.clone().requested()));
            shutdown.clone().requested().await;
            shutdown.requested().await;
        });
    });
    master.tell(ToWorker::UserDisconnect);
    waiting.recv_timeout(DEADLINE).expect("the task is woken");
}
