//! Messages of users, both ways.

use std::sync::Arc;
use std::thread;

use recluster_wire::Json;
use recluster_wire::node::{FromWorker, ToWorker, UserCommand};

use super::master::{DEADLINE, Master, in_time};

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn user(message: Option<FromWorker>) -> (String, UserCommand) {
    match message {
        Some(FromWorker::User(user)) => (user.payload().json().expect("a line").to_string(), user.command()),
        other => panic!("no message of a user: {other:?}"),
    }
}

#[test]
fn a_worker_hears_what_the_masters_user_says() {
    let (master, worker) = Master::with_worker();
    let texts = [r#"{"b":1,"a":[2],"b":3}"#, "\"ready\"", "null"];
    for text in texts {
        master.tell(ToWorker::User(&json(text)));
    }
    master.tell(ToWorker::UserDisconnect);
    let mut messages = worker.messages();
    assert_eq!(messages.next(), Some(json(texts[0])));
    drop(master);
    let rest = in_time(move || messages.map(|message| message.to_string()).collect::<Vec<_>>());
    assert_eq!(rest, texts[1..], "without the request to shut down");
}

#[test]
fn what_nobody_fetches_makes_room() {
    let (master, worker) = Master::with_worker();
    let large = json(&format!("\"{}\"", "x".repeat(6 << 20)));
    let (kept, lost) = in_time(move || {
        for message in [&large, &large, &large, &json("1")] {
            master.tell(ToWorker::User(message));
        }
        drop(master);
        let mut messages = worker.messages();
        assert!(worker.shutdown().wait_timeout(DEADLINE), "all is read");
        let kept: Vec<usize> = messages.by_ref().map(|message| message.as_str().len()).collect();
        (kept, messages.lost())
    });
    assert_eq!(kept, [(6 << 20) + 2, (6 << 20) + 2, 1], "the newest");
    assert_eq!(lost, 1);
}

#[test]
fn the_masters_user_hears_what_a_worker_says() {
    let (mut master, worker) = Master::with_worker();
    worker.send("{\"a\":\n1}").expect("sent");
    assert_eq!(user(master.hear()), (r#"{"a": 1}"#.to_owned(), UserCommand::Other));
    let error = worker.send("{").expect_err("half a value");
    assert_eq!(error.to_string(), "the message is not one JSON value");
}

#[test]
fn messages_of_many_threads_do_not_mix() {
    const EACH: usize = 20;
    let (mut master, worker) = Master::with_worker();
    let worker = Arc::new(worker);
    let texts: Vec<String> =
        (0..4).map(|digit| format!("\"{}\"", digit.to_string().repeat(100_000))).collect();
    let threads: Vec<_> = texts
        .iter()
        .cloned()
        .map(|text| {
            let worker = Arc::clone(&worker);
            thread::spawn(move || (0..EACH).try_for_each(|_| worker.send(&text)))
        })
        .collect();
    for _ in 0..EACH * texts.len() {
        assert!(texts.contains(&user(master.hear()).0));
    }
    for thread in threads {
        thread.join().expect("no panic").expect("all sent");
    }
}

#[test]
fn a_worker_without_its_master_cannot_say_anything() {
    let (master, worker) = Master::with_worker();
    drop(master);
    let error = worker.send("1").expect_err("nobody is there");
    assert_eq!(error.to_string(), "the master is gone");
}

#[cfg(feature = "tokio")]
#[test]
fn tasks_hear_as_threads_do() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (master, worker) = Master::with_worker();
    let mut messages = worker.messages();
    assert_eq!(messages.try_next(), None);
    master.tell(ToWorker::User(&json("1")));
    drop(master);
    let heard = in_time(move || {
        runtime.block_on(async { (messages.recv().await, messages.recv().await, messages.recv().await) })
    });
    assert_eq!(heard, (Some(json("1")), None, None));
}
