//! What applications do at their end: their handlers of SIGTERM and SIGINT run when the last connection is gone, once; and
//! what keeps an old worker alive then is told.

use recluster_e2e::{Home, Launch, Master, on};
use serde_json::json;

use super::{answered, ended};

fn cluster(handles: &str) -> Launch {
    let launch =
        Launch::fixture("cleans-up.js").workers(1).option("--bake", "100ms").option("--timeout", "1h");
    launch.env("HANDLES", handles)
}

fn count(master: &Master, line: &str) -> usize {
    master.stdout().iter().filter(|other| *other == line).count()
}

/// An application without connections ends at once, and did so without cleaning up.
#[test]
fn the_handlers_of_an_application_run_at_the_end_of_its_drain() {
    let handlers = ["TERM", "INT", "both", "once", "again", "closes", "late"];
    for handles in handlers {
        for holds in ["", "timer"] {
            let master = cluster(handles).env("HOLDS", holds).option("--exit-grace", "1h").serve();
            master.reload().expect_code(0);
            let exit = master.wait(on("exit").generation(1));
            let by = if handles == "again" { json!({ "signal": 15 }) } else { json!({ "code": 0 }) };
            assert_eq!((exit.at("/exit"), exit.at("/expected")), (&by, &json!(true)), "{handles} {holds}");
            master.wait_stdout("cleaned up 1");
            assert_eq!(count(&master, "cleaned up 2"), 0, "{handles} {holds}");
            assert!(master.seen(&on("overdue")).is_empty(), "it was sent no signal");
        }
    }
}

#[test]
fn they_run_at_a_stop_too() {
    let mut master = cluster("TERM").serve();
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    master.wait_stdout("cleaned up 1");
}

#[test]
fn they_run_when_the_last_request_is_answered_and_not_before() {
    let master = cluster("TERM").serve();
    let mut connection = master.begin_request();
    master.reload().expect_code(0);
    master.wait(on("draining").generation(1));
    // Another reload: the old worker has had all the time that it wants.
    master.reload().expect_code(0);
    master.wait(on("exit").generation(2));
    master.wait_stdout("exit 0");
    assert_eq!(count(&master, "cleaned up 1"), 1, "that of the second generation, which had no connection");
    assert!(master.seen(&on("exit").generation(1)).is_empty());
    assert_eq!(connection.finish_request().expect("an answer").text("generation"), "1");
    master.wait(on("exit").generation(1));
    recluster_e2e::eventually("it cleans up", || count(&master, "cleaned up 1") == 2);
}

/// The master knows that they have run, and does not run them again.
#[test]
fn handlers_that_do_not_end_the_process_run_once_and_then_it_is_killed() {
    let launch = cluster("stays").env("HOLDS", "timer").option("--exit-grace", "300ms");
    let master = launch.option("--kill-timeout", "300ms").serve();
    master.reload().expect_code(0);
    let over = master.wait(on("out_of_time").generation(1));
    assert_eq!(over.text("/due"), "exit");
    assert_eq!(over.at("/held/alive"), &json!([{ "name": "Timeout", "count": 1 }]));
    assert_eq!(master.wait(on("exit").generation(1)).at("/exit"), &json!({ "signal": 9 }));
    master.wait_stdout("cleaned up 1");
    assert_eq!(count(&master, "cleaned up 2"), 0);
}

/// It came first, because a connection outlasted the drain.
#[test]
fn handlers_that_a_signal_has_run_do_not_run_again_at_the_end() {
    let master = cluster("stays").option("--timeout", "500ms").option("--kill-timeout", "1h").serve();
    let mut connection = master.begin_request();
    master.reload().expect_code(0);
    let overdue = master.wait(on("overdue").generation(1));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("drain", "SIGTERM"));
    master.wait_stdout("cleaned up 1");
    connection.finish_request().expect("an answer");
    drop(connection);
    assert_eq!(master.wait(on("exit").generation(1)).at("/exit"), &json!({ "code": 0 }));
    assert_eq!(count(&master, "cleaned up 2"), 0);
}

#[test]
fn the_handlers_of_an_orphan_run_too() {
    let mut master = cluster("TERM").env("HOLDS", "timer").serve();
    master.signal(rustix::process::Signal::KILL);
    master.wait_end();
    master.wait_stdout("cleaned up 1");
    master.wait_workers_gone();
}

/// It had a request when it last told, long before.
#[test]
fn what_keeps_an_old_worker_alive_is_told_and_not_what_it_had() {
    for (holds, alive) in [
        ("timer", json!([{ "name": "Timeout", "count": 1 }])),
        ("connection", json!([{ "name": "TCPSocketWrap", "count": 2 }])),
    ] {
        let master = cluster("").env("HOLDS", holds).option("--exit-grace", "300ms").serve();
        let mut connection = master.begin_request();
        master.reload().expect_code(0);
        connection.finish_request().expect("an answer");
        ended(connection);
        let overdue = master.wait(on("overdue").generation(1));
        assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("exit", "SIGTERM"));
        let held = json!({ "connections": 0, "upgraded": 0, "requests": 0, "alive": alive });
        assert_eq!(overdue.at("/held"), &held);
    }
}

/// The idle connection is closed in the very moment in which the worker looks at what it has.
#[test]
fn the_last_connection_is_not_told_as_what_keeps_it_alive() {
    let launch = cluster("").env("HOLDS", "timer").option("--idle-grace", "300ms");
    let master = launch.option("--exit-grace", "300ms").serve();
    let mut connection = master.connect();
    answered(&mut connection);
    master.reload().expect_code(0);
    ended(connection);
    let overdue = master.wait(on("overdue").generation(1));
    assert_eq!(overdue.at("/held/alive"), &json!([{ "name": "Timeout", "count": 1 }]));
}

/// They are closed in the very moment in which the worker looks at what it has.
#[test]
fn the_sockets_that_it_listened_on_are_not_told_as_what_keeps_it_alive() {
    let home = Home::new();
    let tcp = json!({ "port": 0, "host": "127.0.0.1" }).to_string();
    let unix = json!({ "path": home.join("server.sock") }).to_string();
    let all = [("round-robin", &tcp), ("shared", &tcp), ("kernel", &tcp), ("shared", &unix)];
    for (balance, listen) in all {
        let launch =
            cluster("").home(&home).env("HOLDS", "timer").env("LISTEN", listen).env("DATAGRAMS", "yes");
        let master = launch.option("--balance", balance).option("--exit-grace", "300ms").serve();
        master.reload().expect_code(0);
        let overdue = master.wait(on("overdue").generation(1));
        assert_eq!(
            overdue.at("/held/alive"),
            &json!([{ "name": "Timeout", "count": 1 }]),
            "{balance} {listen}"
        );
    }
}
