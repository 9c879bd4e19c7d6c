//! `--on`: what is done when something happens.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use recluster_e2e::{Home, Launch, on};
use rustix::process::Signal;
use serde_json::Value;

/// Has the event of a hook appended to a file, with the name that it found in its environment.
fn record(event: &str, file: &Path) -> String {
    format!("{event}=exec:cat >> {0}; echo \"$RECLUSTER_EVENT $GREETING\" >> {0}.names", file.display())
}

fn told(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// Accepts one request, answers it with 204 and returns its body.
fn one_request(listener: &TcpListener) -> (String, Value) {
    let (stream, _) = listener.accept().expect("a connection");
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a line"), 0, "{head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    reader.read_exact(&mut body).expect("a body");
    let mut stream: TcpStream = reader.into_inner();
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("it reads the answer");
    (head, serde_json::from_slice(&body).expect("it is JSON"))
}

#[test]
fn a_command_is_told_of_the_life_of_a_cluster_and_of_its_end() {
    let home = Home::new();
    let file = home.join("told");
    let mut launch = Launch::fixture("server.js").home(&home).workers(1).env("GREETING", "hello");
    for event in ["started", "reloaded", "crashed", "stopping", "stopped"] {
        launch = launch.hook(&record(event, &file));
    }
    let mut master = launch.serve();
    let first = master.wait(on("serving"));
    master.worker(&first).signal(Signal::KILL);
    master.wait(on("respawning"));
    master.wait_all(2, on("serving"));
    master.reload().expect_code(0);
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    let events = told(&file);
    let mut names: Vec<&str> = events.iter().map(|event| event["on"].as_str().expect("a name")).collect();
    // Each hook goes at its own pace.
    names.sort_unstable();
    assert_eq!(names, ["crashed", "reloaded", "started", "stopped", "stopping"]);
    let crashed = events.iter().find(|event| event["on"] == "crashed").expect("it crashed");
    assert_eq!((&crashed["event"], &crashed["exit"]["signal"]), (&"exit".into(), &9.into()));
    assert!(crashed["cluster"].is_string() && crashed["time"].is_string(), "{crashed}");
    let names = fs::read_to_string(home.join("told.names")).expect("they have said their names");
    assert!(names.lines().any(|line| line == "crashed hello"), "{names}");
    assert!(master.seen(&on("hook_failed")).is_empty());
}

#[test]
fn a_server_is_told_why_a_reload_was_rolled_back() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let hook = format!("rolled-back=http://{}/hook?a=b", listener.local_addr().expect("it is bound"));
    let home = Home::new();
    home.release("good", "server.js");
    home.release("bad", "second-slot-fails.js");
    home.switch("good");
    let launch = Launch::of(home.join("current/server.js")).home(&home);
    let master = launch.hook(&hook).option("--attempts", "1").serve();
    home.switch("bad");
    master.reload().expect_code(1);
    let (head, event) = one_request(&listener);
    assert!(head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{head}");
    assert_eq!((&event["on"], &event["verdict"]), (&"rolled-back".into(), &"rolled_back".into()));
    assert!(event["failure"]["reason"].is_string(), "{event}");
}

#[test]
fn a_reload_takes_the_hooks_that_the_file_has_then_and_a_rollback_those_of_before() {
    let home = Home::new();
    home.release("good", "server.js");
    home.release("bad", "second-slot-fails.js");
    home.switch("good");
    let files = ["first", "second", "third"].map(|name| home.join(name));
    let hooks = |file: &Path| {
        let hooks = ["reloaded", "rolled-back", "stopped"].map(|event| record(event, file));
        format!("on = {}\n", Value::from(hooks.to_vec()))
    };
    let [first, second, third] = &files;
    let launch = Launch::of(home.join("current/server.js")).home(&home).config(&hooks(first));
    let mut master = launch.option("--attempts", "1").serve();
    master.configure(&hooks(second));
    master.reload().expect_code(0);
    master.configure(&hooks(third));
    home.switch("bad");
    master.reload().expect_code(1);
    master.client(&["stop"]).expect_code(0);
    master.expect_end(0);
    let names = |file: &Path| -> Vec<String> {
        let mut names: Vec<_> =
            told(file).iter().map(|event| event["on"].as_str().expect("a name").to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(second), ["reloaded", "rolled-back", "stopped"]);
    assert!(names(first).is_empty() && names(third).is_empty(), "{:?} {:?}", names(first), names(third));
    assert!(master.seen(&on("hook_failed")).is_empty());
    let configured = master.wait(on("configured"));
    assert_eq!(configured.at("/changed"), &serde_json::json!(["on"]));
}

#[test]
fn a_hook_that_fails_or_hangs_is_in_nobodys_way() {
    let mut master = Launch::fixture("server.js")
        .workers(1)
        .hook("started=exec:echo 'no route to hunter2' >&2; exit 7")
        .hook("stopped=exec:sleep 1000")
        .serve();
    let failed = master.wait(on("hook_failed"));
    assert_eq!((failed.text("/on"), failed.text("/hook")), ("started", "exec:echo …"));
    assert_eq!(failed.text("/reason"), "it ended with status 7: no route to hunter2");
    master.get("/");
    master.signal(Signal::TERM);
    master.wait(on("exit"));
    // The hook would be ended after ten seconds; whoever insists does not wait for that.
    master.signal(Signal::QUIT);
    master.expect_end(0);
}

#[test]
fn what_is_no_hook_is_one_clear_line() {
    let refused = Launch::fixture("server.js").hook("crash=exec:true").refused();
    refused.expect_code(2);
    assert!(
        refused.stderr.contains("there is no event 'crash' for hooks; write one of started, reloaded"),
        "{refused:?}"
    );
    let refused = Launch::fixture("server.js").hook("crashed=https://hooks.example/").refused();
    assert!(refused.stderr.contains("exec:curl"), "{refused:?}");
    let refused = Launch::fixture("server.js").config("on = [\"crashed=tell\"]\n").refused();
    refused.expect_code(2);
    assert!(refused.stderr.contains("recluster.toml:"), "{refused:?}");
}
