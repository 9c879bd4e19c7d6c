//! Without a master.

use std::net::TcpStream;

use crate::server::{EVERY, HYPER, Server, finish};

#[test]
fn it_answers_and_ends_at_term() {
    for program in EVERY {
        let server = Server::alone(program);
        assert_eq!(server.get(), format!(r#"{{"worker":"","pid":{},"generation":""}}"#, server.pid()));
        server.term();
        server.ends_well();
    }
}

/// But by actix-web, which ends a connection that has not sent a whole head yet.
#[test]
fn a_request_that_has_begun_is_answered() {
    for program in EVERY.into_iter().filter(|program| !program.ends_with("/actix")) {
        let server = Server::alone(program);
        let client = server.half_a_request();
        // The answer to a later connection shows that the earlier one was accepted.
        server.get();
        server.term();
        assert!(finish(client).contains("\"pid\""), "{program}");
        server.ends_well();
    }
}

#[test]
fn a_further_term_ends_it() {
    let server = Server::alone(HYPER);
    let _held = server.half_a_request();
    server.get();
    server.term();
    // It closes its listener when it has heard the first one.
    while TcpStream::connect(&server.address).is_ok() {}
    server.ends_by_term();
}
