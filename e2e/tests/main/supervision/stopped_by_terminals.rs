//! Workers on a terminal: they are in the background of it, each in a process group of its own, where the kernel stops whoever reads from
//! the terminal, and, where that is so set (`stty tostop`), whoever writes to it.

use std::path::Path;
use std::thread;

use recluster_e2e::{Home, Process, Response, Tmux, eventually, get};
use rustix::process::Signal;
use serde_json::Value;

/// A cluster of one in the foreground of a terminal on which nobody in the background may write, until a line is typed that ends this.
const FOREGROUND: &str = r#"
stty tostop
"$RECLUSTER" SERVER --workers 1 --control it.sock --log-file log OPTIONS &
pid=$!
read line
stty -tostop
wait $pid
"#;

fn cluster(home: &Home, server: &str, options: &str) -> Tmux {
    let server = home.write("server.js", server);
    let script = FOREGROUND.replace("SERVER", &server.to_string_lossy()).replace("OPTIONS", options);
    Tmux::start(home, (160, 40), &script)
}

fn status(home: &Home) -> Value {
    home.recluster(&["status", "--json", "--control", "it.sock"]).json()
}

fn wait_for(home: &Home, text: &str) {
    eventually(&format!("{text} in a log"), || home.read_if_there("log").contains(text));
}

fn worker(home: &Home) -> Process {
    let pid = status(home)["workers"][0]["pid"].as_u64().expect("a worker");
    Process::open(pid.try_into().expect("a pid")).expect("it lives")
}

fn is_stopped(home: &Home) {
    eventually("a stopped worker", || status(home)["workers"][0]["stopped"] == true);
}

/// It says that it was asked, and answers then.
const CHATTY: &str = "
require('node:http').createServer((request, response) => {
  console.log('asked')
  response.end('answered')
}).listen(0, '127.0.0.1')
";

fn ask(home: &Home) -> thread::JoinHandle<Response> {
    wait_for(home, "1 worker serves generation 1");
    let address = status(home)["listeners"][0]["address"].as_str().expect("it listens").parse();
    let address = address.expect("it listens by TCP");
    thread::spawn(move || get(address, "/").expect("an answer"))
}

fn end(home: &Home) {
    home.recluster(&["terminate", "--control", "it.sock"]).expect_code(0);
    wait_for(home, "the cluster has ended");
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn a_node_worker_that_writes_where_it_may_not_is_stopped_until_somebody_lets_it_go_on() {
    let home = Home::new();
    let tmux = cluster(&home, CHATTY, "");
    let client = ask(&home);
    is_stopped(&home);
    let shown = home.recluster(&["status", "--control", "it.sock"]).stdout;
    assert!(shown.contains(" stopped "), "{shown}");
    tmux.press(&["Enter"]);
    let worker = worker(&home);
    // The terminal may have its new settings a moment later.
    eventually("an answer", || {
        worker.signal(Signal::CONT);
        client.is_finished()
    });
    assert_eq!(client.join().expect("no panic").body, "answered");
    tmux.wait_for("asked");
    assert!(status(&home)["workers"][0].get("stopped").is_none());
    end(&home);
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn with_a_prefix_its_master_writes_for_it() {
    let home = Home::new();
    let tmux = cluster(&home, CHATTY, "--log-prefix");
    assert_eq!(ask(&home).join().expect("no panic").body, "answered");
    tmux.wait_for("| asked");
    end(&home);
}

/// The terminal is that of the shell and its foreground, also where the cluster is that.
#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn a_node_program_that_reads_a_passphrase_from_the_terminal_is_stopped_and_the_failure_says_so() {
    let home = Home::new();
    let reads = "
        const fs = require('node:fs')
        const passphrase = Buffer.alloc(80)
        fs.readSync(fs.openSync('/dev/tty'), passphrase)
        require('node:http').createServer().listen(0, '127.0.0.1')
    ";
    let server = home.write("server.js", reads);
    let script = format!(
        "exec \"$RECLUSTER\" '{}' --workers 1 --control it.sock --log-file log -v --ready-timeout 20s --attempts 1",
        server.display()
    );
    let tmux = Tmux::start(&home, (160, 40), &script);
    wait_for(&home, "was started");
    is_stopped(&home);
    let process = worker(&home);
    assert!(Path::new(&format!("/proc/{}", process.pid())).exists());
    assert!(process.status_line("State").contains("stopped"));
    wait_for(&home, "was not ready within 20s");
    wait_for(&home, "its process is stopped");
    drop(tmux);
}
