//! The first start: the environment that workers are given, and how a start that cannot work ends.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use recluster_e2e::{Home, Launch, Stage, fixture, on, renounce};
use rustix::thread::CapabilitySet;
use serde_json::{Value, json};

#[test]
fn every_slot_gets_a_worker_that_serves() {
    let master = Launch::fixture("server.js").workers(3).serve();
    for name in ["spawned", "online", "listening", "ready", "serving"] {
        let mut slots: Vec<u64> = master.seen(&on(name)).iter().map(recluster_e2e::Event::slot).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2], "each slot once: {name}");
    }
    let started = master.wait(on("started"));
    assert_eq!(started.number("/workers"), 3);
    assert_eq!(started.number("/generation"), 1);
}

#[test]
fn a_worker_knows_its_place() {
    let master = Launch::fixture("server.js").workers(1).serve();
    let body = master.get("/").json();
    let env = &body["env"];
    assert_eq!(env["WORKER_ID"], "0");
    assert_eq!(env["RECLUSTER_GENERATION"], "1");
    assert_eq!(env["RECLUSTER_WORKERS"], "1");
    let spawned = master.wait(on("spawned"));
    assert_eq!(body["pid"], spawned.pid());
    assert_eq!(body["id"], spawned.id(), "cluster.worker.id is the worker's number");
    assert_eq!(master.worker(&spawned).descriptor(0), Path::new("/dev/null"), "it reads nothing");
}

#[test]
fn a_node_worker_gets_the_variables_of_nodes_own_cluster() {
    let stage = Stage::new();
    let _master = stage.launch().workers(1).start();
    let puppet = stage.next();
    assert_eq!(puppet.env["NODE_CHANNEL_FD"], "3");
    assert_eq!(puppet.env["NODE_CHANNEL_SERIALIZATION_MODE"], "json");
    assert_eq!(puppet.env["NODE_UNIQUE_ID"], "1");
    let args: Vec<&str> = puppet.args.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let [preload, server] = args[..] else { panic!("{args:?}") };
    assert!(preload.starts_with("--require=/") && preload.contains("/drain-"), "{preload}");
    assert_eq!(server, fixture("puppet.js").to_str().expect("a plain path"));
}

#[test]
fn variables_of_the_service_manager_are_not_passed_on() {
    let stage = Stage::new();
    let _master = stage
        .launch()
        .workers(1)
        .env("NOTIFY_SOCKET", "/nowhere/notify")
        .env("WATCHDOG_USEC", "1000000")
        .env("WATCHDOG_PID", "1")
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "0")
        .env("NODE_UNIQUE_ID", "77")
        .start();
    let puppet = stage.next();
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS"] {
        assert_eq!(puppet.env[name], Value::Null, "{name}");
    }
    assert_eq!(puppet.env["NODE_UNIQUE_ID"], "1");
}

#[test]
fn arguments_reach_the_server_and_node() {
    let master = Launch::fixture("server.js")
        .workers(1)
        .node_arg("--no-warnings")
        .arg("--verbose")
        .arg("two words")
        .serve();
    let body = master.get("/").json();
    assert_eq!(body["args"], json!(["--verbose", "two words"]));
    assert_eq!(body["nodeArgs"], json!(["--no-warnings"]));
}

#[test]
fn the_environment_of_the_master_reaches_the_workers() {
    let master = Launch::fixture("server.js").workers(1).env("COLOUR_OF_THE_DAY", "green").serve();
    assert_eq!(master.get("/").json()["env"]["COLOUR_OF_THE_DAY"], "green");
}

#[test]
fn the_number_of_workers_comes_from_the_environment_or_the_machine() {
    let by_environment =
        Launch::fixture("server.js").without("--workers").env("WEB_CONCURRENCY", "3").serve();
    assert_eq!(by_environment.wait(on("started")).number("/workers"), 3);
    let by_option = Launch::fixture("server.js").workers(1).env("WEB_CONCURRENCY", "3").serve();
    assert_eq!(by_option.wait(on("started")).number("/workers"), 1);
    let cores = std::thread::available_parallelism().expect("the machine has cores").get();
    let by_machine = Launch::fixture("server.js").option("--workers", "max").serve();
    assert_eq!(by_machine.wait(on("started")).number("/workers"), cores as u64);
}

#[test]
fn the_master_has_no_process_beside_the_workers() {
    let master = Launch::fixture("server.js").workers(2).serve();
    let pid = master.process().pid();
    let mut children = String::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("the master lives") {
        let path = task.expect("the master lives").path().join("children");
        children += &fs::read_to_string(path).expect("the kernel tells the children");
    }
    let mut children: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    let mut workers: Vec<u32> = master.seen(&on("spawned")).iter().map(recluster_e2e::Event::pid).collect();
    children.sort_unstable();
    workers.sort_unstable();
    assert_eq!(children, workers);
}

#[test]
fn a_program_that_is_not_node_runs_as_it_is() {
    let master = Launch::fixture("program.sh").workers(2).arg("an argument").serve();
    master.wait_stdout("program 0 of 2, generation 1, arguments an argument");
    master.wait_stdout("program 1 of 2, generation 1, arguments an argument");
    assert!(master.seen(&on("listening")).is_empty(), "of such a program nothing is known but that it lives");
}

#[test]
fn a_first_start_that_never_works_ends_with_a_verdict() {
    let mut master = Launch::fixture("gate.js").env("GATE", "/nowhere").workers(1).start();
    let verdict = master.wait(on("start_failed"));
    assert_eq!(verdict.number("/failure/failures"), 3, "the default number of attempts");
    assert_eq!(verdict.number("/failure/worker/slot"), 0);
    assert!(verdict.text("/failure/reason").contains('4'), "the exit status: {verdict}");
    assert_eq!(verdict.at("/failure/stderr"), &json!(["the gate is closed"]));
    assert_eq!(master.seen(&on("spawned").slot(0)).len(), 3);
    master.expect_end(3);
}

#[test]
fn the_number_of_attempts_is_an_option() {
    let mut master =
        Launch::fixture("gate.js").env("GATE", "/nowhere").workers(1).option("--attempts", "1").start();
    assert_eq!(master.wait(on("start_failed")).number("/failure/failures"), 1);
    assert_eq!(master.seen(&on("spawned")).len(), 1);
    master.expect_end(3);
}

#[test]
fn with_keep_trying_a_first_start_is_never_given_up() {
    let home = Home::new();
    let launch = Launch::fixture("gate.js").home(&home).workers(1).env("GATE", home.join("gate"));
    let master = launch.option("--attempts", "1").flag("--keep-trying").start();
    master.wait_all(3, on("respawning"));
    home.write("gate", "");
    master.wait(on("started"));
    assert!(master.seen(&on("start_failed")).is_empty());
}

#[test]
fn a_port_in_use_is_an_error_of_the_server_and_named_in_the_verdict() {
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = occupied.local_addr().expect("it is bound").port();
    let mut master = Launch::fixture("server.js").workers(1).env("PORT", port.to_string()).start();
    let verdict = master.wait(on("start_failed"));
    assert_eq!(verdict.at("/failure/stderr"), &json!(["cannot listen: EADDRINUSE bind"]));
    master.expect_end(3);
}

#[test]
fn a_server_file_that_is_missing_ends_with_127() {
    let finished = Launch::of("/nowhere/server.js").refused();
    finished.expect_code(127);
    assert!(finished.stderr.contains("/nowhere/server.js"), "{finished:?}");
}

#[test]
fn a_server_file_that_cannot_be_run_ends_with_126() {
    let home = Home::new();
    let directory = Launch::of(home.path()).home(&home).refused();
    directory.expect_code(126);
    let program = home.write("program", "#!/bin/sh\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    let finished = Launch::of(&program).home(&home).refused();
    finished.expect_code(126);
    assert!(finished.stderr.contains("program"), "{finished:?}");
}

#[test]
fn a_server_file_that_cannot_be_read_ends_with_126() {
    let home = Home::new();
    let server = home.write("server.js", "");
    fs::set_permissions(&server, fs::Permissions::from_mode(0o000)).expect("the file is ours");
    renounce(&[CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH]);
    let finished = Launch::of(&server).home(&home).refused();
    finished.expect_code(126);
    assert!(finished.stderr.contains("server.js"), "{finished:?}");
}

#[test]
fn node_that_is_missing_ends_with_127() {
    let by_name = Launch::fixture("server.js").option("--node", "node-of-nowhere").refused();
    by_name.expect_code(127);
    assert!(by_name.stderr.contains("node-of-nowhere"), "{by_name:?}");
    let by_path = Launch::fixture("server.js").option("--node", "/nowhere/node").refused();
    by_path.expect_code(127);
    let nothing_in_path = Launch::fixture("server.js").without("--node").env("PATH", "/nowhere").refused();
    nothing_in_path.expect_code(127);
}

#[test]
fn a_worker_has_no_input() {
    let master = Launch::fixture("server.js").workers(1).serve();
    let worker = master.worker(&master.wait(on("online")));
    assert_eq!(worker.descriptor(0), Path::new("/dev/null"));
}

/// A shell would run it; it is run by no shell here.
#[test]
fn a_script_without_an_interpreter_line_is_refused_with_one_line() {
    let home = Home::new();
    let script = home.script("server", "");
    home.write("server", "echo it runs\nexec sleep 1000000\n");
    let line = format!(
        "error: server file cannot be run: {}: it is text, and a script must begin with a line such as #!/bin/sh\n",
        script.display()
    );
    let refused = Launch::of(&script).home(&home).workers(1).without("--node").refused();
    refused.expect_code(126);
    assert_eq!((refused.stderr, refused.stdout), (line.clone(), String::new()));
    let checked = home.recluster(&["check", &script.to_string_lossy()]);
    checked.expect_code(126);
    assert_eq!(checked.stderr, line);
}

/// Only the kernel knows for sure what it can run.
#[test]
fn a_program_for_another_machine_is_refused_with_one_line() {
    let home = Home::new();
    let program = home.script("server", "");
    home.write("server", "\u{0}\u{1}\u{2} is no program");
    let mut master = Launch::of(program).home(&home).workers(1).start();
    let failure = master.wait(on("start_failed"));
    assert_eq!(
        failure.text("/failure/reason"),
        "could not be started: it is no program for this machine; a script must begin with a line such as #!/bin/sh"
    );
    master.expect_end(3);
}

/// The line that matters stands above the tail that a verdict shows, and another program has the port.
#[test]
fn a_port_that_another_process_has_is_told_with_who_has_it_and_where_it_was_asked_for() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let home = Home::new();
    let server = home.write(
        "server.js",
        &format!(
            "const server = require('http').createServer()\n\
             const more = Object.fromEntries(Array.from({{ length: 40 }}, (_, n) => ['field' + n, n]))\n\
             server.on('error', (error) => {{ throw Object.assign(error, more) }})\n\
             server.listen({port}, '127.0.0.1')\n"
        ),
    );
    let mut master = Launch::of(&server).home(&home).workers(1).option("--attempts", "1").start();
    master.expect_end(3);
    let failed = master.wait(on("start_failed"));
    let reason = failed.text("/failure/reason");
    assert!(reason.contains("EADDRINUSE") && reason.contains("server.js:"), "{failed}");
    let shown = failed.at("/failure/stderr").as_array().expect("lines");
    assert!(!shown.iter().any(|line| line.as_str().is_some_and(|line| line.contains("Error: "))), "{failed}");
    let hint = failed.text("/failure/hint");
    assert!(hint.starts_with(&format!("port {port} is taken")), "{failed}");
}
