//! Rare things that applications and clients do during a drain.

use recluster_e2e::{Home, Launch};
use rustix::process::Signal;

use super::{answered, answered_last, cluster, drain, ended, last_answer, left};

/// The request arrives within the grace, and is seen after it.
#[test]
fn a_request_that_waited_for_a_busy_worker_is_answered() {
    let master = cluster().option("--idle-grace", "5s").env("BLOCK_MS", "6000").serve();
    let (mut blocking, mut waiting) = (master.connect(), master.connect());
    answered(&mut blocking);
    answered(&mut waiting);
    drain(&master);
    blocking.send("GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
    master.wait_stdout("blocks");
    answered_last(waiting);
    last_answer(blocking);
    left(&master);
}

/// Node does not see to it any more when the server is closed.
#[test]
fn a_stalled_request_holds_the_worker_only_for_the_headers_timeout() {
    let master = cluster().env("HEADERS_TIMEOUT", "1000").serve();
    let mut stalled = master.connect();
    answered(&mut stalled);
    stalled.send("GET / HTTP/1.1\r\nHo").expect("it is open");
    drain(&master);
    ended(stalled);
    left(&master);
}

#[test]
fn a_mocked_response_is_left_alone() {
    let master = cluster().serve();
    let mut connection = master.connect();
    answered(&mut connection);
    drain(&master);
    connection.send("GET /mock HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
    last_answer(connection);
    left(&master);
}

/// Longer than a timer of Node can wait.
#[test]
fn a_timeout_of_a_month_does_not_run_out_at_once() {
    let mut master = cluster().option("--timeout", "720h").serve();
    let mut connection = master.begin_request();
    master.signal(Signal::KILL);
    master.wait_end();
    master.wait_stdout("closing");
    assert_eq!(connection.finish_request().expect("an answer").text("generation"), "1");
    ended(connection);
    master.wait_workers_gone();
}

/// A thread of a worker loads the file once more.
#[test]
#[cfg_attr(not(has = "root"), ignore = "only root can give up privileges")]
fn a_thread_starts_after_the_worker_gave_up_its_privileges() {
    let home = Home::new();
    let server = home.write(
        "server.js",
        "process.setgid(65534); process.setuid(65534);
         new (require('node:worker_threads').Worker)('process.exit(7)', { eval: true })
           .on('error', (error) => { throw error })
           .on('exit', () => require('node:http').createServer().listen(0, '127.0.0.1'));",
    );
    Launch::of(server).home(&home).workers(1).serve();
}
