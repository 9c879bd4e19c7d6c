//! Applications that close their server themselves when they are told to go, or that keep their process alive: no client
//! loses a request, and the worker ends.

use recluster_e2e::{Launch, on};
use rustix::process::Signal;
use serde_json::json;

use super::{answered, answered_last, cluster, drain, ended, left, tell};

#[test]
fn an_application_that_closes_its_server_itself_cuts_nobody_off() {
    for reaction in ["closes", "closes and exits", "closes idle connections", "leaves"] {
        let master = cluster().env("AT_DISCONNECT", reaction).serve();
        let (fresh, mut idle, mut spare) = (master.connect(), master.connect(), master.connect());
        answered(&mut idle);
        answered(&mut spare);
        drain(&master);
        answered_last(fresh);
        answered_last(idle);
        // Another connection is open until the master's own disconnect has been heard.
        master.wait_stdout("closing");
        answered_last(spare);
        left(&master);
    }
}

#[test]
fn a_worker_that_leaves_by_itself_cuts_nobody_off() {
    let master = cluster().serve();
    let (fresh, mut idle) = (master.connect(), master.connect());
    answered(&mut idle);
    assert_eq!(master.get("/leave").text("generation"), "1");
    master.wait_stdout("closing");
    answered_last(fresh);
    answered_last(idle);
    master.wait_stdout("exit 0");
    assert_eq!(master.wait(on("exit")).at("/exit"), &json!({ "code": 0 }));
}

#[test]
fn a_worker_that_leaves_by_itself_closes_untouched_connections_at_the_grace() {
    let master = cluster().option("--idle-grace", "500ms").serve();
    let (fresh, mut idle) = (master.connect(), master.connect());
    answered(&mut idle);
    assert_eq!(master.get("/leave").text("generation"), "1");
    ended(fresh);
    ended(idle);
    assert_eq!(master.wait(on("exit")).at("/exit"), &json!({ "code": 0 }));
}

#[test]
fn servers_that_begin_during_the_drain_do_not_hold_the_worker() {
    let master = cluster().env("AT_DISCONNECT", "begins").serve();
    let mut idle = master.connect();
    answered(&mut idle);
    drain(&master);
    master.wait_stdout("began before");
    answered_last(idle);
    left(&master);
}

#[test]
fn a_server_that_begins_while_its_worker_leaves_does_not_hold_it() {
    let master = cluster().env("AT_DISCONNECT", "begins").serve();
    let mut idle = master.connect();
    answered(&mut idle);
    assert_eq!(master.get("/leave").text("generation"), "1");
    master.wait_stdout("began after");
    answered_last(idle);
    left(&master);
}

#[test]
fn an_application_that_keeps_its_process_alive_is_ended_by_the_exit_grace() {
    let launch = Launch::fixture("lingers.js").workers(1).option("--timeout", "1h");
    let master = launch.option("--idle-grace", "500ms").option("--exit-grace", "200ms").serve();
    let mut idle = master.connect();
    assert_eq!(idle.get("/").expect("an answer").status, 200);
    master.reload().expect_code(0);
    ended(idle);
    let overdue = master.wait(on("overdue").generation(1));
    assert_eq!(overdue.text("/due"), "exit");
    master.wait_stdout(&format!("closed {}", overdue.pid()));
    assert_eq!(master.wait(on("exit").generation(1)).at("/exit"), &json!({ "signal": 15 }));
}

/// To Node that is an error, by which the worker would end with status 1.
#[test]
fn an_application_may_send_messages_when_its_channel_is_closed() {
    let master = cluster().env("TALKS", "always").serve();
    let old = master.worker(&master.wait(on("spawned")));
    tell(&master);
    master.wait_stdout("still talks");
    old.signal(Signal::TERM);
    assert_eq!(master.wait(on("exit").generation(1)).at("/exit"), &json!({ "signal": 15 }));
}
