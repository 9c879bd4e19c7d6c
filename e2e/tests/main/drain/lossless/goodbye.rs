//! A worker that closes its own channel, by whatever call: it answers the requests that it has.

use recluster_e2e::{Connection, Launch, Master, on};
use serde_json::json;

use super::{answered, answered_last, cluster, ended, last_answer, left, tell};

/// What a worker says that has had enough, and what it does at the word that it is let go.
const GOODBYES: [&str; 2] = ["hangs up", "hangs up and closes"];

/// A new worker takes longer than the exit grace, and that is long enough for a worker to exit on a slow machine.
fn longer_than_the_exit_grace(launch: Launch) -> Launch {
    launch.option("--exit-grace", "2s").option("--bake", "3s")
}

/// A connection with a request that the worker has begun to answer.
fn begun(master: &Master) -> Connection<std::net::TcpStream> {
    let mut connection = master.connect();
    connection.begin_request().expect("a worker should take the request");
    connection
}

#[track_caller]
fn finish(mut connection: Connection<std::net::TcpStream>) {
    assert_eq!(connection.finish_request().expect("an answer").text("generation"), "1");
    ended(connection);
}

#[test]
fn a_worker_that_closes_its_channel_and_its_server_answers_what_it_has() {
    for goodbye in ["/hang-up", "/hang-up-and-close"] {
        let master = longer_than_the_exit_grace(cluster()).serve();
        let (fresh, mut idle, posting) = (master.connect(), master.connect(), begun(&master));
        answered(&mut idle);
        let mut asking = master.connect();
        asking.send(format!("GET {goodbye} HTTP/1.1\r\nHost: localhost\r\n\r\n")).expect("it is open");
        assert_eq!(asking.response().expect("an answer").text("generation"), "1");
        master.wait(on("draining").id(1));
        // Its successor serves before it is done, and after the exit grace, which is not for a worker that answers.
        master.wait(on("serving").id(2));
        master.wait_stdout("closing");
        answered_last(fresh);
        answered_last(idle);
        drop(asking);
        finish(posting);
        assert_eq!(master.wait(on("exit").id(1)).at("/exit"), &json!({ "code": 0 }));
        assert!(master.seen(&on("overdue")).is_empty(), "{goodbye}: it was sent no signal");
    }
}

#[test]
fn a_worker_that_closes_its_channel_when_it_is_told_to_go_answers_what_it_has() {
    for goodbye in GOODBYES {
        let master = longer_than_the_exit_grace(cluster().env("AT_DISCONNECT", goodbye)).serve();
        let (fresh, mut idle, posting) = (master.connect(), master.connect(), begun(&master));
        answered(&mut idle);
        tell(&master);
        master.wait_stdout("closing");
        answered_last(fresh);
        answered_last(idle);
        master.reload().expect_code(0);
        finish(posting);
        left(&master);
    }
}

/// To Node it is closed already, and that would be an error.
#[test]
fn a_server_that_the_application_closes_once_more_is_closed_without_an_error() {
    for protocol in ["http", "https", "h2c"] {
        let launch = cluster().env("PROTOCOL", protocol).env("AT_DISCONNECT", "closes late");
        let master = launch.serve();
        tell(&master);
        master.wait_stdout("closed late: undefined");
        left(&master);
    }
}

#[test]
fn a_worker_that_has_nothing_leaves_at_once_when_it_closes_its_channel() {
    let master = cluster().serve();
    let mut asking = master.connect();
    asking.send("GET /hang-up HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is open");
    last_answer(asking);
    assert_eq!(master.wait(on("exit").id(1)).at("/exit"), &json!({ "code": 0 }));
}
