//! What applications send to their master by `process.send`: nobody hears it under the command, so it may be of any length.

use recluster_e2e::{Launch, Master, get, on};
use serde_json::json;

/// In requests: seven messages, long ones between short ones, with a socket or without.
fn talks() -> Launch {
    Launch::fixture("talks.js").workers(1)
}

/// All seven are taken, the worker is the same as before, and the master has never kept much.
#[track_caller]
fn talk(master: &Master) {
    let port = master.wait_stdout("port ").replace("port ", "");
    let port: u16 = port.parse().expect("a port");
    let ask = |path: &str| get(([127, 0, 0, 1], port).into(), path).expect("an answer").json();
    let before = ask("/");
    ask("/talk?megabytes=20");
    let after = ask("/");
    assert_eq!((&after["spoke"], &after["pid"]), (&json!(7), &before["pid"]));
    let peak = master.process().status_line("VmHWM");
    let peak: u64 = peak.trim_end_matches(" kB").parse().expect("a number of kilobytes");
    assert!(peak < 64 * 1024, "{peak} kB, as if a message had been kept");
}

#[test]
fn long_messages_between_short_ones_and_sockets_are_skipped() {
    let master = talks().without("-v").start();
    talk(&master);
    master.wait(on("message_unheard").with("/kind", "{still: …}"));
}

#[test]
fn of_each_kind_of_message_that_nobody_hears_the_log_tells_once() {
    let master = talks().without("-v").start();
    talk(&master);
    let told = master.wait_all(6, on("message_unheard"));
    let mut kinds: Vec<&str> = told.iter().map(|event| event.text("/kind")).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["a string", "an array", "carried", "long", "{short: …}", "{still: …}"]);
    assert_eq!(master.seen(&on("message_unheard")).len(), 6);
}

#[test]
fn a_log_that_shows_messages_tells_how_long_each_is_and_nothing_of_what_it_says() {
    let master = talks().start();
    talk(&master);
    let told = master.wait_all(7, on("message").slot(0));
    assert_eq!(told.iter().filter(|message| message.number("/bytes") > 20 << 20).count(), 4);
    assert_eq!(told[6].number("/bytes"), r#"{"still":"here"}"#.len() as u64);
    assert!(!master.stderr().concat().contains(r#""here""#), "what it says may be secret");
    assert!(master.seen(&on("message_skipped")).is_empty());
    assert!(master.seen(&on("cut_off")).is_empty());
}

#[test]
fn a_long_message_that_says_ready_or_disconnect_is_heard() {
    let master = talks().option("--ready-when", "ready").start();
    master.wait(on("listening"));
    assert!(master.seen(&on("ready")).is_empty());
    master.get("/say?megabytes=20&cmd=ready");
    master.wait(on("started"));
    master.get("/say?megabytes=20&cmd=disconnect");
    assert_eq!(master.wait_all(2, on("spawned"))[1].slot(), 0, "it is replaced");
}
