//! A worker that is not Node drains by a signal (`--drain-signal`).

use recluster_e2e::{Event, Master, Puppet, Stage, on};
use rustix::process::Signal;
use serde_json::json;

/// A program in one slot, with these options; a puppet ends by whatever signal it is sent, if it does not ignore it.
fn program(options: &[(&'static str, &str)], ignores: &str) -> (Stage, Master, Puppet) {
    let stage = Stage::new();
    let launch = stage.launch_program().workers(1).env("PUPPET_IGNORES", ignores);
    let master = options.iter().fold(launch, |launch, (name, value)| launch.option(name, value)).start();
    let puppet = stage.next();
    master.wait(on("started"));
    (stage, master, puppet)
}

/// Reloads, and waits for the end of the old worker.
#[track_caller]
fn replaced(master: &Master) -> Event {
    master.reload().expect_code(0);
    master.wait(on("exit").generation(1))
}

#[test]
fn it_is_term_by_default() {
    let (_stage, master, _puppet) = program(&[], "");
    let exit = replaced(&master);
    assert_eq!(exit.at("/exit"), &json!({ "signal": Signal::TERM.as_raw() }));
    assert_eq!(exit.at("/expected"), true);
}

#[test]
fn it_may_be_another_signal() {
    let signals =
        [("INT", Signal::INT), ("QUIT", Signal::QUIT), ("sigusr2", Signal::USR2), ("WINCH", Signal::KILL)];
    for (name, signal) in signals {
        // WINCH does nothing to whoever does not know of it: what remains is TERM, which is ignored, and KILL.
        let ignores = if name == "WINCH" { "TERM" } else { "" };
        let time = if name == "WINCH" { "300ms" } else { "1h" };
        let options = [("--drain-signal", name), ("--timeout", time), ("--kill-timeout", time)];
        let (_stage, master, _puppet) = program(&options, ignores);
        assert_eq!(replaced(&master).at("/exit"), &json!({ "signal": signal.as_raw() }), "{name}");
    }
}

#[test]
fn term_follows_at_the_drain_timeout() {
    let (_stage, master, _puppet) = program(&[("--drain-signal", "INT"), ("--timeout", "300ms")], "INT");
    let exit = replaced(&master);
    assert_eq!(exit.at("/exit"), &json!({ "signal": Signal::TERM.as_raw() }));
    let overdue = master.wait(on("overdue"));
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("drain", "SIGTERM"));
}

/// TERM is said once, at the beginning, and nothing else is claimed: the next word is KILL.
#[test]
fn a_worker_that_was_sent_term_is_not_sent_it_again() {
    let options = [("--timeout", "200ms"), ("--kill-timeout", "200ms")];
    let (_stage, master, _puppet) = program(&options, "TERM");
    let exit = replaced(&master);
    assert_eq!(exit.at("/exit"), &json!({ "signal": Signal::KILL.as_raw() }));
    let [overdue] = &master.seen(&on("overdue"))[..] else { panic!("{:?}", master.log()) };
    assert_eq!((overdue.text("/due"), overdue.text("/signal")), ("kill", "SIGKILL"));
}

/// What it has until KILL is said when its time is over, and shown before.
#[test]
fn the_end_of_the_drain_timeout_is_logged_for_a_worker_that_was_sent_term() {
    let options = [("--timeout", "500ms"), ("--kill-timeout", "2s")];
    let (_stage, master, _puppet) = program(&options, "TERM");
    replaced(&master);
    let over = master.wait(on("out_of_time"));
    assert_eq!((over.id(), over.text("/due")), (1, "drain"));
    assert_eq!(over.at("/kill_timeout_seconds"), 2.0);
    assert!(master.wait(on("overdue").id(1)).since(&over).as_millis() >= 2000);
}

/// Two reloads of a program that ignores its drain signal, and of which one old generation may drain; how long the worker of
/// the first generation has left after the first one.
fn crowded(signal: &str) -> (Stage, Master, f64) {
    let options = [("--timeout", "60s"), ("--kill-timeout", "1h"), ("--max-draining", "1")];
    let options = [&options[..], &[("--drain-signal", signal)]].concat();
    let (stage, master, _puppet) = program(&options, signal);
    master.reload().expect_code(0);
    let status = master.status();
    let old = &status["workers"][0];
    assert_eq!((&old["id"], &old["state"]), (&json!(1), &json!("draining")), "{status}");
    let left = old["seconds_left"].as_f64().expect("it has a deadline");
    master.reload().expect_code(0);
    (stage, master, left)
}

#[test]
fn an_excess_generation_that_drains_by_term_is_killed() {
    let (_stage, master, left) = crowded("TERM");
    assert!((3600.0..=3660.0).contains(&left), "TERM is not sent again, KILL follows: {left}");
    let over = master.wait(on("out_of_time"));
    assert_eq!((over.id(), over.text("/due")), (1, "surplus"));
    assert!(master.seen(&on("overdue")).is_empty());
    let status = master.status();
    assert_eq!(status["workers"][0]["state"], "terminating");
    assert!(status["workers"][0]["seconds_left"].as_f64() <= Some(3600.0), "{status}");
}

#[test]
fn an_excess_generation_that_drains_by_another_signal_is_sent_term() {
    let (_stage, master, left) = crowded("INT");
    assert!(left <= 60.0, "TERM follows: {left}");
    let overdue = master.wait(on("overdue"));
    assert_eq!((overdue.id(), overdue.text("/due"), overdue.text("/signal")), (1, "surplus", "SIGTERM"));
    assert!(master.seen(&on("out_of_time")).is_empty());
}

#[test]
fn a_stop_drains_by_the_same_signal() {
    let (_stage, mut master, _puppet) = program(&[("--drain-signal", "QUIT")], "");
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    let exit = master.wait(on("exit"));
    assert_eq!(exit.at("/exit"), &json!({ "signal": Signal::QUIT.as_raw() }));
}

#[test]
fn a_signal_that_cannot_drain_is_refused() {
    let finished = Stage::new().launch_program().option("--drain-signal", "STOP").refused();
    finished.expect_code(2);
    assert!(finished.stderr.contains("TERM, INT, QUIT, HUP, USR1, USR2, WINCH"), "{finished:#?}");
}
