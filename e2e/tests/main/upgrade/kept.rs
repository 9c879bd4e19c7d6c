//! What the master knows of the time before goes over.

use recluster_e2e::{Home, Launch, Process, eventually, get};
use rustix::process::Signal;
use serde_json::Value;

use super::{next, recluster, upgrade};

#[test]
fn the_admin_listener_goes_on_with_its_history() {
    let home = Home::new();
    let next = next(&home);
    let master = Launch::fixture("server.js").with_admin().serve();
    master.client(&["scale", "3"]).expect_code(0);
    let history = || get(master.admin(), "/history").expect("an answer").json();
    let list = |history: &Value, of: &str| history[of].as_array().cloned().expect("a list");
    eventually("the change of scale is marked, and there is a sample", || {
        let history = history();
        let marks = list(&history, "marks");
        marks.iter().any(|mark| mark["event"] == "scaled") && !list(&history, "samples").is_empty()
    });
    let before = history();
    for binary in [next.as_path(), recluster()] {
        upgrade(&master, binary).expect_code(0);
    }
    let after = history();
    assert_eq!((&after["pid"], &after["begun"]), (&before["pid"], &before["begun"]));
    for of in ["marks", "samples"] {
        assert!(list(&after, of).starts_with(&list(&before, of)), "{of}: {before} {after}");
    }
    eventually("what came of the upgrades is marked", || {
        let marks = list(&history(), "marks");
        marks.iter().filter(|mark| mark["event"] == "upgraded").count() == 2
    });
}

#[test]
fn the_log_knows_which_slot_had_lost_its_worker() {
    let home = Home::new();
    let next = next(&home);
    let launch = Launch::fixture("server.js").workers(1).option("--respawn", "3s");
    let master = launch.without("--log-format").without("-v").start();
    master.wait_stderr("serves generation 1");
    let [pid] = master.active_pids()[..] else { panic!("one worker") };
    Process::open(pid).expect("it lives").signal(Signal::KILL);
    master.wait_stderr("must be replaced");
    upgrade(&master, &next).expect_code(0);
    master.wait_stderr("serves again");
}
