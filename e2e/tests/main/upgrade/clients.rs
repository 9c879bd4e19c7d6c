//! Whoever is there when a master is upgraded goes on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use recluster_e2e::{Home, Launch, on};

use super::{NEXT, VERSION, next, recluster, that_does, upgrade};

#[test]
fn those_who_follow_go_on_and_miss_nothing() {
    let home = Home::new();
    let next = next(&home);
    let mut master = Launch::fixture("server.js").serve();
    let events = master.begin_client(&["events", "--follow", "--json"]);
    let logs = master.begin_client(&["logs", "--follow"]);
    events.wait_stdout("\"event\":\"started\"");
    for binary in [next.as_path(), recluster()] {
        upgrade(&master, binary).expect_code(0);
    }
    master.reload().expect_code(0);
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    let told = events.finish();
    told.expect_code(0);
    let (count, of) =
        (|what: &str| told.stdout.matches(what).count(), |name: &str| format!("\"event\":\"{name}\""));
    assert_eq!((count(&of("upgraded")), count(&of("reloaded")), count(&of("over"))), (2, 1, 1), "{told:?}");
    assert_eq!(count(&of("events_missed")), 0, "{told:?}");
    logs.finish().expect_code(0);
}

#[test]
fn the_path_by_which_it_was_started_is_the_next_program() {
    let home = Home::new();
    // Two programs, one of which a symlink leads to.
    super::variant(&home, "now", &[]);
    next(&home);
    home.link("recluster", "now");
    let master = Launch::fixture("server.js").home(&home).program(home.path().join("recluster")).serve();
    home.link("recluster", "recluster-next");
    let tried = master.client(&["upgrade", "--dry-run"]);
    tried.expect_code(0);
    assert_eq!(
        tried.stdout,
        format!("the master could be upgraded from {VERSION} to {NEXT}; nothing was changed\n")
    );
    assert_eq!(master.status()["master"]["version"], VERSION);
    let done = master.client(&["upgrade"]);
    done.expect_code(0);
    assert!(
        done.stdout.starts_with(&format!("the master is upgraded from {VERSION} to {NEXT}; ")),
        "{done:?}"
    );
    let status = master.status();
    assert_eq!((&status["master"]["version"], &status["master"]["upgrades"]), (&NEXT.into(), &1.into()));
}

#[test]
fn a_worker_that_ends_while_the_program_changes_is_replaced() {
    let home = Home::new();
    let next = next(&home);
    let master = Launch::fixture("server.js").serve();
    let [first, _] = master.active_pids()[..] else { panic!("two workers") };
    let between = that_does(&home, "between", &format!("kill {first}\nbecome {}\n", next.display()));
    upgrade(&master, &between).expect_code(0);
    master.wait(on("exit").with("/worker/pid", first));
    master.wait(on("serving").with("/worker/slot", 0).with("/worker/generation", 1).id(3));
    assert_eq!(master.status()["master"]["version"], NEXT);
}

/// What is left has the variables of every program, and what it is left by leads to them.
#[test]
fn workers_are_given_nothing_of_what_was_left() {
    let home = Home::new();
    let next = next(&home);
    let master = Launch::fixture("server.js").workers(1).serve();
    upgrade(&master, &next).expect_code(0);
    master.reload().expect_code(0);
    let told = master.get("/").json();
    let variables = told["env"].as_object().expect("its variables");
    assert!(!variables.keys().any(|name| name.starts_with("RECLUSTER_UPGRADE")), "{variables:?}");
    let files = std::fs::read_dir(format!("/proc/{}/fd", told["pid"])).expect("it lives");
    let files = files.filter_map(|file| std::fs::read_link(file.expect("an entry").path()).ok());
    let files: Vec<_> = files.map(|file| file.display().to_string()).collect();
    assert!(!files.is_empty());
    assert!(
        !files.iter().any(|file| file.contains("recluster-upgrade") || file.contains("recluster-next")),
        "{files:?}"
    );
}

#[test]
fn the_pidfile_and_the_control_socket_are_gone_when_it_ends_and_not_before() {
    let home = Home::new();
    let next = next(&home);
    let pidfile = home.path().join("it.pid");
    let mut master =
        Launch::fixture("server.js").option("--pidfile", pidfile.to_str().expect("text")).serve();
    let control = master.control().to_owned();
    upgrade(&master, &next).expect_code(0);
    let pid = std::fs::read_to_string(&pidfile).expect("it is there");
    assert_eq!(pid.trim(), master.process().pid().to_string());
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    assert!(!pidfile.exists() && !control.exists());
}

#[test]
fn half_a_request_is_a_request_when_the_rest_comes() {
    let home = Home::new();
    let next = next(&home);
    let master = Launch::fixture("server.js").serve();
    let mut client = UnixStream::connect(master.control()).expect("it listens");
    client.write_all(b"{\"version\":1,\"requ").expect("it is open");
    // It is answered when what came before was read.
    master.status();
    upgrade(&master, &next).expect_code(0);
    client.write_all(b"est\":\"status\"}\n").expect("it is open");
    let mut answer = String::new();
    BufReader::new(client).read_line(&mut answer).expect("it is answered");
    assert!(answer.contains("\"reply\":\"status\"") && answer.contains(NEXT), "{answer}");
}
