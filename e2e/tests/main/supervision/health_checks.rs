//! Health checks (`--ready-check`): which worker is asked, and what happens to one that fails.

use std::collections::BTreeMap;
use std::fs;

use recluster_e2e::{Event, Home, Launch, Master, Stage, eventually, get, on};
use serde_json::json;

/// Node workers with a check, which passes unless `home` holds a sickness.
fn checked(home: &Home) -> Launch {
    let launch = Launch::fixture("health.js").home(home).env("SICKNESS", home.path());
    launch.option("--ready-check", "http:/healthz").option("--check-interval", "1h")
}

/// Reloads, which must be rolled back; the reason.
#[track_caller]
fn rolled_back(master: &Master) -> String {
    master.reload().expect_code(1);
    let verdict = master.wait(on("reloaded"));
    assert_eq!(verdict.text("/verdict"), "rolled_back");
    let active = master.active_pids();
    let first = master.seen(&on("spawned").generation(1));
    assert_eq!(active, first.iter().map(Event::pid).collect::<Vec<_>>(), "the old ones go on");
    verdict.text("/failure/reason").to_owned()
}

/// A worker's own check reaches no neighbour: each is asked once before it serves, and never again.
#[test]
fn each_node_worker_is_asked_itself() {
    for balance in ["round-robin", "shared"] {
        let master = checked(&Home::new()).workers(4).option("--balance", balance).serve();
        master.reload().expect_code(0);
        let mut asked = BTreeMap::new();
        for line in master.stdout().iter().filter(|line| line.starts_with("asked ")) {
            assert!(line.ends_with(" recluster 127.0.0.1"), "{line}");
            *asked.entry(line.clone()).or_insert(0) += 1;
        }
        let pids = master.seen(&on("spawned"));
        let once = pids.iter().map(|it| (format!("asked {} recluster 127.0.0.1", it.pid()), 1)).collect();
        assert_eq!(asked, once, "{balance}");
    }
}

/// Its servers are numbered as they come, and the tenth is not before the second.
#[test]
fn of_several_servers_the_first_that_began_to_listen_is_asked() {
    for balance in ["round-robin", "shared"] {
        let launch = Launch::fixture("many-ports.js").workers(1).option("--ready-when", "ready");
        let launch = launch.option("--ready-check", "/").option("--balance", balance);
        let master = launch.option("--check-interval", "50ms").start();
        master.wait_stdout("asked ");
        master.wait(on("started"));
        assert!(master.stdout().iter().all(|line| line == "asked 0"), "{:?}", master.stdout());
    }
}

#[test]
fn a_node_worker_that_fails_its_check_does_not_serve() {
    let home = Home::new();
    let master = checked(&home).config("ready-timeout = \"1h\"").serve();
    master.configure("ready-timeout = \"5s\"");
    home.write("everybody", "");
    assert_eq!(
        rolled_back(&master),
        "was not ready within 5s; its check failed: GET /healthz was answered with status 503"
    );
    assert!(master.seen(&on("ready").generation(2)).is_empty());
}

#[test]
fn a_check_that_hangs_has_failed() {
    let home = Home::new();
    let master = checked(&home).config("ready-timeout = \"1h\"\ncheck-timeout = \"1h\"").serve();
    master.configure("ready-timeout = \"5s\"\ncheck-timeout = \"300ms\"");
    home.write("everybody", "never answers");
    assert_eq!(rolled_back(&master), "was not ready within 5s; its check failed: no answer within 300ms");
}

#[test]
fn a_worker_that_passes_late_serves_then() {
    let home = Home::new();
    home.write("everybody", "");
    let master = checked(&home).workers(1).start();
    master.wait_stdout("asked ");
    assert_eq!(master.status()["workers"][0]["state"], "starting");
    std::fs::remove_file(home.join("everybody")).expect("the file is ours");
    master.wait(on("started"));
}

#[test]
fn a_serving_worker_that_fails_again_and_again_is_renewed_new_first() {
    let home = Home::new();
    let master = checked(&home).option("--check-interval", "100ms").serve();
    let sick = master.wait(on("serving").slot(0));
    home.write(&sick.pid().to_string(), "");
    let unhealthy = master.wait(on("unhealthy"));
    assert_eq!(unhealthy.id(), sick.id());
    assert_eq!(unhealthy.text("/reason"), "GET /healthz was answered with status 503");
    master.wait(on("exit").id(sick.id()));
    is_new_first(&master, &sick, 3);
    assert!(master.seen(&on("exit")).len() == 1, "its neighbour was left alone");
}

/// Its replacement served before it was told to go.
#[track_caller]
fn is_new_first(master: &Master, old: &Event, new: u64) {
    let log = master.log();
    let at = |pattern: recluster_e2e::Pattern| log.iter().position(|event| pattern.matches(event));
    let (serves, drains) = (at(on("serving").id(new)), at(on("draining").id(old.id())));
    assert!(serves.is_some() && serves < drains, "{serves:?} {drains:?}");
}

#[test]
fn a_command_gets_the_worker_in_its_environment() {
    let home = Home::new();
    let check = format!("exec:echo $RECLUSTER_PID $WORKER_ID >>{}", home.join("asked").display());
    let launch = Launch::fixture("program.sh").home(&home).option("--ready-check", &check);
    let master = launch.option("--check-interval", "1h").serve();
    let mut asked: Vec<String> = home.read("asked").lines().map(str::to_owned).collect();
    let told = |it: &Event| format!("{} {}", it.pid(), it.slot());
    let mut workers: Vec<String> = master.seen(&on("spawned")).iter().map(told).collect();
    asked.sort();
    workers.sort();
    assert_eq!(asked, workers);
}

/// One that ends well, one that ends badly and one that is given up.
#[test]
fn what_a_command_puts_into_the_background_ends_with_it() {
    let home = Home::new();
    let left = home.join("left");
    let check = format!(
        "exec:sleep 100000 & echo $! >>{left}; case $(wc -l <{left}) in 1) exit 1 ;; 2) wait ;; esac",
        left = left.display()
    );
    let launch = Launch::fixture("program.sh").home(&home).workers(1).option("--ready-check", &check);
    let _master = launch.option("--check-timeout", "500ms").option("--check-interval", "100ms").serve();
    let pids: Vec<u32> = home.read("left").lines().map(|pid| pid.parse().expect("a pid")).collect();
    assert!(pids.len() >= 3, "{pids:?}");
    for pid in pids {
        // One that has ended may have the number of another process by now, which is no such one.
        let command = format!("/proc/{pid}/cmdline");
        let is_left = || fs::read(&command).is_ok_and(|line| line == b"sleep\x00100000\x00");
        eventually("what a check has left ends", || !is_left());
    }
}

#[test]
fn a_command_that_fails_fails_the_reload() {
    let home = Home::new();
    let check = format!("exec:test ! -e {}", home.join("everybody").display());
    let launch = Launch::fixture("program.sh").home(&home).option("--ready-check", &check);
    let master = launch.config("ready-timeout = \"1h\"").serve();
    master.configure("ready-timeout = \"5s\"");
    home.write("everybody", "");
    let command = check.trim_start_matches("exec:");
    assert_eq!(
        rolled_back(&master),
        format!("was not ready within 5s; its check failed: `{command}` ended with status 1")
    );
}

#[test]
fn a_check_begins_when_the_worker_says_that_it_is_ready() {
    let stage = Stage::new();
    let launch = stage.launch_program().workers(1).option("--ready-when", "notify");
    let check = format!("exec:touch {}", stage.home().join("asked").display());
    let master = launch.option("--ready-check", &check).start();
    let mut puppet = stage.next();
    puppet.notify_and_wait("STATUS=loading");
    assert!(!stage.home().join("asked").exists());
    puppet.notify("READY=1");
    master.wait(on("started"));
    assert!(stage.home().join("asked").exists());
}

/// A program that is not Node is asked on a listener of its own, behind those that all share.
#[test]
fn a_program_may_have_a_listener_of_its_own_to_be_asked_on() {
    let stage = Stage::new();
    let launch = stage.launch_program().workers(2).listen("web=127.0.0.1:0");
    let launch = launch.option("--ready-check", "/healthz").option("--check-listen", "127.0.0.1:0");
    let master = launch.option("--check-interval", "1h").start();
    let (mut one, mut other) = (stage.next(), stage.next());
    assert_eq!(one.var("LISTEN_FDNAMES"), "web:check");
    assert_eq!(one.sockets[0], other.sockets[0], "all share the first");
    assert_ne!(one.sockets[1], other.sockets[1], "each has the second alone");
    for puppet in [&mut one, &mut other] {
        let asked = puppet.accept(1);
        assert!(puppet.read(&asked).starts_with("GET /healthz HTTP/1.1\r\n"));
        puppet.answer(&asked, "well");
    }
    master.wait(on("started"));
}

#[test]
fn a_listener_for_checks_may_have_a_name() {
    let stage = Stage::new();
    let launch = stage.launch_program().workers(1).option("--check-listen", "status=127.0.0.1:0");
    let _master = launch.start();
    assert_eq!(stage.next().var("LISTEN_FDNAMES"), "status");
}

#[test]
fn checks_that_another_worker_could_answer_are_refused() {
    let refused = |server: &str, options: &[(&'static str, &str)]| {
        let launch = Launch::fixture(server).listen("127.0.0.1:0");
        let launch = options.iter().fold(launch, |launch, (name, value)| launch.option(name, value));
        let finished = launch.refused();
        finished.expect_code(2);
        finished.stderr.lines().next().unwrap_or_default().to_owned()
    };
    let line = refused("program.sh", &[("--ready-check", "/healthz")]);
    assert!(line.contains("could be answered by any of its neighbours"), "{line}");
    assert!(line.contains("--check-listen 127.0.0.1:0"), "what to do: {line}");
    for shared in ["127.0.0.1:4711", "udp:127.0.0.1:0", "unix:/tmp/check.sock"] {
        let line = refused("program.sh", &[("--ready-check", "/healthz"), ("--check-listen", shared)]);
        assert!(line.starts_with("error: --check-listen ") && line.contains("each worker needs"), "{line}");
    }
    let line = refused("health.js", &[("--ready-check", "/healthz"), ("--check-listen", "127.0.0.1:0")]);
    assert!(line.contains("a Node worker needs none"), "{line}");
    let line = refused("health.js", &[("--ready-check", "healthz")]);
    assert!(line.contains("'healthz' is no check: write http:/path, or exec: and a command"), "{line}");
}

#[test]
fn the_application_goes_on_beside_its_checks() {
    let master = checked(&Home::new()).option("--check-interval", "50ms").serve();
    for _ in 0..20 {
        assert!(get(master.address(), "/").expect("an answer").json()["pid"].is_u64());
    }
    assert!(master.seen(&on("unhealthy")).is_empty());
    assert_eq!(master.status()["slots"][0]["restarts"], json!(0));
}
