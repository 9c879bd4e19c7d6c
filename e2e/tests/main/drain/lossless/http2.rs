//! HTTP/2 sessions during a drain: GOAWAY refuses no stream, and every stream that was begun is answered.

use std::io::{Read, Write};
use std::time::Instant;

use recluster_e2e::{Connection, DEADLINE, Http2, Launch, Master};
use rustix::process::Signal;

use super::{Tunnel, cluster, drain, left};

/// A session that is never quiet is told to go away when the grace is over.
fn busy_until_the_grace(protocol: &str) -> Launch {
    cluster().env("PROTOCOL", protocol).option("--idle-grace", "3s")
}

/// One stream lasts, while others follow each other without a pause.
fn goes_away_without_refusing_a_stream<S: Read + Write>(master: &Master, connection: Connection<S>) {
    let mut session = Http2::open(connection).expect("it is open");
    session.begin(1, "/echo", false).expect("it is open");
    session.begin(3, "/", true).expect("it is open");
    assert!(session.answer(3).expect("an answer").contains("\"1\""));
    master.signal(Signal::USR2);
    let begin = Instant::now();
    let mut streams = (5..).step_by(2);
    let (last, named) = loop {
        let stream = streams.next().expect("there are many");
        session.begin(stream, "/", true).expect("it is open");
        if let Err(named) = session.answer_or_goaway(stream).expect("it is open") {
            break (stream, named);
        }
        assert!(begin.elapsed() < DEADLINE, "nobody told it to go away");
    };
    assert_eq!(named, last, "the stream that was open when the farewell came is served");
    assert!(session.answer(last).expect("an answer").contains("\"1\""));
    master.wait_stdout("closing");
    session.finish(1).expect("it is open");
    assert!(session.answer(1).expect("an answer").contains("\"1\""));
    session.end().expect("an end and no reset");
    left(master);
}

#[test]
fn a_session_without_tls_goes_away_without_refusing_a_stream() {
    let master = busy_until_the_grace("h2c").serve();
    goes_away_without_refusing_a_stream(&master, master.connect());
}

#[test]
fn a_session_by_tls_goes_away_without_refusing_a_stream() {
    for protocol in ["h2", "h2+http1"] {
        let master = busy_until_the_grace(protocol).serve();
        let tunnel = Tunnel::to(&master, "h2");
        goes_away_without_refusing_a_stream(&master, tunnel.connect(&master));
    }
}

/// Even where its client never closes the connection.
#[test]
fn a_quiet_session_ends_long_before_the_timeout() {
    let master = cluster().env("PROTOCOL", "h2c").option("--idle-grace", "1s").serve();
    let mut session = Http2::open(master.connect()).expect("it is open");
    session.begin(1, "/", true).expect("it is open");
    session.answer(1).expect("an answer");
    drain(&master);
    assert_eq!(session.goaway().expect("a farewell"), 1);
    left(&master);
}
