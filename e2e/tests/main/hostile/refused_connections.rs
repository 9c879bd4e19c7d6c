//! Workers that refuse the connections that they are handed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use recluster_e2e::{Handed, Puppet, Stage, get, on};
use serde_json::json;

/// Lets the puppet answer each connection that it is handed in this way, until it is gone.
fn always(mut puppet: Puppet, answer: impl Fn(&mut Puppet, &Handed) + Send + 'static) {
    thread::spawn(move || {
        while let Some(handed) = puppet.handed_or_end() {
            answer(&mut puppet, &handed);
        }
    });
}

#[test]
fn a_worker_that_refuses_every_connection() {
    let stage = Stage::new();
    let (master, puppet) = stage.beside_a_good_server();
    always(puppet, |puppet, handed| puppet.take(handed, false));
    for _ in 0..50 {
        assert_eq!(master.get("/").text("slot"), "0");
    }
}

#[test]
fn a_worker_that_loses_every_handle() {
    let stage = Stage::new();
    let (master, puppet) = stage.beside_a_good_server();
    always(puppet, |puppet, _| puppet.say(&json!({ "cmd": "NODE_HANDLE_NACK" })));
    for _ in 0..50 {
        assert_eq!(master.get("/").text("slot"), "0");
    }
}

#[test]
fn a_connection_that_every_worker_refuses_is_closed_in_the_end() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    let mut puppet = stage.next();
    puppet.serve();
    master.wait(on("started"));
    let refusals = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refusals);
    always(puppet, move |puppet, handed| {
        counter.fetch_add(1, Ordering::SeqCst);
        puppet.take(handed, false);
    });
    get(master.address(), "/").expect_err("nobody takes it");
    assert!(refusals.load(Ordering::SeqCst) < 1000, "it was not bounced without a pause");
}
