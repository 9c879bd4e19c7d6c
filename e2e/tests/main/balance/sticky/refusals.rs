//! Options that do not go with sticky sessions are refused, in one line.

use recluster_e2e::{Finished, Launch, fixture};

use super::{by, by_address};

/// It was refused for its options, and these words say why.
#[track_caller]
fn refused(launch: Launch, words: &[&str]) {
    let finished: Finished = launch.refused();
    finished.expect_code(2);
    assert!(finished.stdout.is_empty(), "{finished:#?}");
    for word in words {
        assert!(finished.stderr.contains(word), "{word:?}: {finished:#?}");
    }
}

#[test]
fn an_unknown_key() {
    for key in ["nonsense", "header", "header:", "cookie:", "query:", "header:no spaces", "ip:4", ""] {
        refused(by(key), &["--sticky-by"]);
    }
}

#[test]
fn a_key_without_sticky_balance() {
    refused(Launch::fixture("server.js").option("--sticky-by", "ip"), &["--sticky-by", "sticky"]);
    refused(by("ip").option("--balance", "round-robin"), &["--sticky-by", "sticky"]);
}

#[test]
fn invalid_limits() {
    for (option, value) in [
        ("--peek-bytes", "0"),
        ("--peek-timeout", "soon"),
        ("--peek-connections", "0"),
        ("--peek-bytes", "a few"),
    ] {
        refused(by("header:X-Client").option(option, value), &[option]);
    }
}

/// Only Node's workers take connections from the master, or tell it where they listen.
#[test]
fn a_program_that_is_not_node() {
    let launch = by_address().server(fixture("program.sh")).listen("127.0.0.1:0");
    let finished = launch.refused();
    finished.expect_code(2);
    assert!(finished.stderr.contains("sticky"), "{finished:#?}");
    assert!(
        (1..=2).contains(&finished.stderr.trim_end().lines().count()),
        "one line and perhaps a hint: {finished:#?}"
    );
}
