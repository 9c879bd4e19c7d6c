//! A terminal that is closed: a cluster in its foreground, or a job of its shell, ends with it, unless it was started to outlive it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use recluster_e2e::{Home, Process, Tmux, eventually, fixture, recluster};
use rustix::process::Signal;

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
fn nohup_keeps_it_running_and_a_signal_that_is_sent_reloads_it() {
    let home = Home::new();
    let script = format!("nohup {} >out 2>&1 &\necho $! >pid\nwait", command(&home));
    let tmux = Tmux::start(&home, (80, 24), &script);
    wait_for(&home, "1 worker serves generation 1");
    tmux.close();
    let master = Process::open(home.read("pid").trim().parse().expect("a pid")).expect("it lives");
    // What is sent while the kernel's waits is one with it.
    eventually("a reload", || {
        master.signal(Signal::HUP);
        home.read("log").contains("SIGHUP: reload")
    });
    wait_for(&home, "generation 2 serves");
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
