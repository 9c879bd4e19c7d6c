//! An old worker after a reload: it finishes its requests, and is ended when its time is over.

use recluster_e2e::{Launch, Stage, on};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_request_that_runs_is_answered_by_the_old_worker() {
    let master = Launch::fixture("server.js").workers(1).serve();
    let mut connection = master.begin_request();
    master.reload().expect_code(0);
    master.wait(on("draining").generation(1));
    assert_eq!(connection.finish_request().expect("an answer").text("generation"), "1");
    master.wait(on("exit").generation(1));
    assert_eq!(master.seen(&on("overdue")).len(), 0, "it went by itself");
}

#[test]
fn an_old_worker_is_told_by_a_message_to_clean_up() {
    let master = Launch::fixture("no-server.js").workers(1).option("--ready-when", "started").serve();
    master.reload().expect_code(0);
    let old = master.wait(on("exit").generation(1));
    assert_eq!(old.at("/exit"), &json!({ "code": 0 }));
    master.wait_stdout(&format!("cleaned up {}", old.pid()));
}

#[test]
fn the_message_comes_before_nodes_disconnect() {
    let stage = Stage::new();
    let master = stage.launch().workers(1).start();
    let mut old = stage.next();
    old.serve();
    master.wait(on("started"));
    master.signal(Signal::USR2);
    stage.next().serve();
    let first = old.hear(|message| message["cmd"] == "disconnect" || message["act"] == "disconnect");
    assert_eq!(first, json!({ "cmd": "disconnect" }));
    old.hear(|message| message["act"] == "disconnect");
}

#[test]
fn an_old_worker_that_does_not_finish_is_sent_term() {
    let master = Launch::fixture("server.js").workers(1).option("--timeout", "300ms").serve();
    let _connection = master.begin_request();
    master.reload().expect_code(0);
    let overdue = master.wait(on("overdue").generation(1));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("drain", "SIGTERM"));
    let exit = master.wait(on("exit").generation(1));
    assert_eq!(exit.at("/exit"), &json!({ "signal": 15 }));
}

#[test]
fn an_old_worker_that_ignores_the_signal_is_killed() {
    let launch = Launch::fixture("stubborn.js").workers(1);
    let launch = launch.option("--timeout", "200ms").option("--exit-grace", "200ms");
    let master = launch.option("--kill-timeout", "5s").serve();
    master.reload().expect_code(0);
    master.wait_stdout("ignores SIGTERM");
    // Its handler of SIGTERM ran when its channel closed: it is not sent that again.
    assert_eq!(master.wait(on("out_of_time").generation(1)).text("/due"), "drain");
    let overdue = master.wait(on("overdue").generation(1));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("kill", "SIGKILL"));
    assert_eq!(master.wait(on("exit").generation(1)).at("/exit"), &json!({ "signal": 9 }));
}

#[test]
fn an_old_worker_that_lingers_after_its_channel_closed_is_ended() {
    let master = Launch::fixture("lingers.js").workers(1).option("--exit-grace", "200ms").serve();
    master.reload().expect_code(0);
    master.wait(on("disconnect").generation(1));
    let overdue = master.wait(on("overdue").generation(1));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("exit", "SIGTERM"));
}

#[test]
fn with_no_timeout_an_old_worker_is_ended_at_once() {
    let master = Launch::fixture("server.js").workers(1).option("--timeout", "0").serve();
    let _connection = master.begin_request();
    master.reload().expect_code(0);
    assert_eq!(master.wait(on("exit").generation(1)).at("/exit"), &json!({ "signal": 15 }));
}

#[test]
fn in_production_an_old_worker_has_an_hour() {
    for (variable, seconds) in [("production", 3600.0), ("development", 30.0)] {
        let master = Launch::fixture("server.js").workers(1).impatient().env("NODE_ENV", variable).serve();
        master.reload().expect_code(0);
        let given = master.wait(on("draining")).at("/timeout_seconds").as_f64();
        assert!(given.is_some_and(|given| (given - seconds).abs() < 1.0), "{given:?} in {variable}");
    }
}

#[test]
fn the_oldest_of_too_many_draining_generations_is_ended() {
    let master = Launch::fixture("server.js")
        .workers(1)
        .option("--max-draining", "1")
        .option("--timeout", "1h")
        .serve();
    let _oldest = master.begin_request();
    master.reload().expect_code(0);
    let mut older = master.begin_request();
    assert!(master.seen(&on("overdue")).is_empty(), "one may drain");
    master.reload().expect_code(0);
    assert_eq!(master.wait(on("overdue")).number("/worker/generation"), 1);
    master.wait(on("exit").generation(1));
    assert_eq!(older.finish_request().expect("an answer").text("generation"), "2");
}
