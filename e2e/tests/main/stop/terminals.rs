//! A terminal that is closed: a cluster in its foreground, or a job of its shell, ends with it, unless it was started to outlive it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use recluster_e2e::{Home, Launch, Process, Tmux, eventually, fixture, get, recluster};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};

/// How a cluster is started, whose log is not on the terminal.
fn command(home: &Home) -> String {
    let (server, control) = (fixture("server.js"), home.join("it.sock"));
    format!(
        "\"$RECLUSTER\" '{}' --workers 1 --log-file log --control '{}'",
        server.display(),
        control.display()
    )
}

fn wait_for(home: &Home, text: &str) {
    eventually(&format!("{text} in a log"), || home.read_if_there("log").contains(text));
}

#[track_caller]
fn ends_with(tmux: &Tmux, home: &Home) {
    wait_for(home, "1 worker serves generation 1");
    tmux.close();
    wait_for(home, "SIGHUP: stop, as the terminal was closed (nohup keeps a cluster running without one)");
    wait_for(home, "the cluster has ended");
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn a_cluster_in_the_foreground_ends_with_its_terminal() {
    let home = Home::new();
    let tmux = Tmux::start(&home, (80, 24), &command(&home));
    ends_with(&tmux, &home);
}

/// The kernel tells the shell alone, and the shell its jobs.
#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
#[cfg_attr(not(has = "bash"), ignore = "bash is not installed")]
fn a_job_in_the_background_of_a_shell_ends_with_their_terminal() {
    let home = Home::new();
    let tmux = Tmux::start(&home, (80, 24), "exec bash --norc -i");
    tmux.wait_for("bash");
    tmux.press(&["-l", &format!("{} &", command(&home))]);
    tmux.press(&["Enter"]);
    ends_with(&tmux, &home);
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
#[cfg_attr(not(has = "bash"), ignore = "bash is not installed")]
fn a_job_ends_with_a_shell_that_tells_its_jobs_that_it_goes() {
    let shell = "bash --norc --noprofile --login -i";
    for script in [format!("exec {shell}"), format!("{shell}\nsleep 1000000")] {
        let home = Home::new();
        let tmux = Tmux::start(&home, (160, 24), &script);
        tmux.wait_for("bash");
        tmux.press(&["-l", &format!("shopt -s huponexit; {} &", command(&home))]);
        tmux.press(&["Enter"]);
        wait_for(&home, "1 worker serves generation 1");
        tmux.press(&["-l", "exit"]);
        tmux.press(&["Enter"]);
        wait_for(&home, "SIGHUP: stop, as the terminal was closed");
        wait_for(&home, "the cluster has ended");
    }
}

/// Its shell does not speak of it any more, and what it writes goes elsewhere.
#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
#[cfg_attr(not(has = "bash"), ignore = "bash is not installed")]
fn a_job_that_its_shell_has_disowned_outlives_their_terminal_and_a_signal_that_is_sent_reloads_it() {
    let home = Home::new();
    let tmux = Tmux::start(&home, (160, 24), "exec bash --norc -i");
    tmux.wait_for("bash");
    tmux.press(&["-l", &format!("{} >out 2>&1 & echo $! >pid; disown", command(&home))]);
    tmux.press(&["Enter"]);
    outlives(&tmux, &home);
}

#[test]
#[cfg_attr(not(has = "tmux"), ignore = "tmux is not installed")]
fn nohup_keeps_it_running_and_a_signal_that_is_sent_reloads_it() {
    let home = Home::new();
    let script = format!("nohup {} >out 2>&1 &\necho $! >pid\nwait", command(&home));
    let tmux = Tmux::start(&home, (80, 24), &script);
    outlives(&tmux, &home);
}

fn outlives(tmux: &Tmux, home: &Home) {
    wait_for(home, "1 worker serves generation 1");
    tmux.close();
    let master = Process::open(home.read("pid").trim().parse().expect("a pid")).expect("it lives");
    // What is sent while the kernel's waits is one with it.
    eventually("a reload", || {
        master.signal(Signal::HUP);
        home.read("log").contains("SIGHUP: reload")
    });
    wait_for(home, "generation 2 serves");
    assert!(!home.read("log").contains("terminal"), "{}", home.read("log"));
    master.signal(Signal::QUIT);
    master.wait_end();
}

/// A wrapper in a container or under a service manager, such as an entrypoint, leads a session and passes signals on.
#[test]
fn without_a_terminal_a_signal_of_whoever_leads_the_session_reloads() {
    a_signal_of_its_starter_reloads(&["setsid", "--wait"]);
}

/// Neither its session nor its process group has a number there, nor has a process outside that asks for something.
#[test]
#[cfg_attr(not(has = "pid-namespaces"), ignore = "this machine makes no PID namespaces")]
fn a_session_that_an_outer_namespace_leads_has_no_number() {
    a_signal_of_its_starter_reloads(&["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]);
}

fn a_signal_of_its_starter_reloads(wrapper: &[&str]) {
    let home = Home::new();
    let script = format!("{} &\nread line\nkill -HUP $!\nwait\n", command(&home));
    let mut leader = Command::new(wrapper[0]);
    leader.args(&wrapper[1..]).args(["sh", "-c", &script]);
    leader.env("RECLUSTER", recluster()).current_dir(home.path());
    let mut leader = leader.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("util-linux has it");
    wait_for(&home, "1 worker serves generation 1");
    let mut line = leader.stdin.take().expect("a pipe");
    line.write_all(b"now\n").expect("the shell reads it");
    wait_for(&home, "generation 2 serves");
    home.recluster(&["stop", "--control", &home.join("it.sock").to_string_lossy()]).expect_code(0);
    assert!(leader.wait().expect("it is a child").success());
    assert!(!home.read("log").contains("process 0"), "{}", home.read("log"));
}

/// A terminal that nobody's session has, for a master to write on, and somebody who reads until this is on it and closes it then.
fn terminal(last: &'static str) -> (OwnedFd, JoinHandle<()>) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("the machine has terminals");
    unlockpt(&terminal).expect("it is ours");
    let name = ptsname(&terminal, Vec::new()).expect("it has a name");
    let path = Path::new(name.to_str().expect("a plain name"));
    let screen = File::options().read(true).write(true).open(path).expect("it is unlocked");
    let mut terminal = File::from(terminal);
    let reader = thread::spawn(move || {
        let (mut shown, mut chunk) = (Vec::new(), [0; 1024]);
        while !String::from_utf8_lossy(&shown).contains(last) {
            let count = terminal.read(&mut chunk).expect("a master has it open");
            shown.extend_from_slice(&chunk[..count]);
        }
    });
    (screen.into(), reader)
}

/// Whoever writes there is told of an error from then on, each time. It is written once for each line, and not again and again.
#[test]
fn a_terminal_that_is_gone_keeps_neither_the_master_nor_its_log_busy() {
    const LINES: u64 = 20;
    let home = Home::new();
    let server = home.write(
        "server.js",
        "const respond = (request, response) => {\n\
         \x20 if (request.url === '/later') return setTimeout(() => response.end(), 500)\n\
         \x20 console.log('asked')\n\
         \x20 console.error('for something')\n\
         \x20 response.end()\n\
         }\n\
         require('node:http').createServer(respond).listen(0, '127.0.0.1')\n",
    );
    let (screen, reader) = terminal("\"started\"");
    let stdout = screen.try_clone().expect("a descriptor");
    let launch = Launch::of(server).home(&home).workers(1).flag("--log-prefix");
    let mut master = launch.stdout(stdout).stderr(screen).start();
    reader.join().expect("it has started");
    let status = master.status();
    let address = status["listeners"][0]["address"].as_str().expect("it listens").parse().expect("TCP");
    let before = master.process().writes();
    for workers in 1..=LINES {
        get(address, "/").expect("an answer");
        master.client(&["scale", if workers % 2 == 0 { "1" } else { "2" }]).expect_code(0);
    }
    let written = master.process().writes() - before;
    assert!(written < LINES * 200, "{written}");
    let mut connection = recluster_e2e::Connection::open(address).expect("it listens");
    // That nothing happens can be seen for a while only: for as long as an answer takes.
    eventually("the master sleeps from one look to the next", || {
        let before = master.process().switches();
        connection.get("/later").expect("an answer");
        master.process().sleeps() && before == master.process().switches()
    });
    master.signal(Signal::TERM);
    master.expect_end(0);
}
