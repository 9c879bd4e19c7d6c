//! What the master tells the service manager that has started it, by `sd_notify`. (How systemd itself takes it is a matter of
//! `scripts/systemd-test`.)

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use recluster_e2e::{DEADLINE, Home, Launch, Stage};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

/// The socket of a manager, and what it heard: one text a datagram, each thing on a line of its own.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _home: Home,
}

impl Manager {
    fn new() -> Self {
        let home = Home::new();
        let path = home.path().join("manager");
        let socket = UnixDatagram::bind(&path).expect("a directory of ours");
        Self::reading(socket, path, home)
    }

    fn reading(socket: UnixDatagram, path: PathBuf, home: Home) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).expect("a time that is none would be refused");
        Self { socket, path, _home: home }
    }

    fn launch(&self, server: &str) -> Launch {
        Launch::fixture(server).env("NOTIFY_SOCKET", &self.path)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("the master should say something");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// What is said until a datagram has this line, that one included.
    fn until(&self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while !heard.last().is_some_and(|said: &String| said.lines().any(|said| said == line)) {
            heard.push(self.next());
        }
        heard
    }

    /// What has been said and not heard.
    fn rest(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("a socket");
        let mut bytes = [0; 4096];
        let mut heard = Vec::new();
        while let Ok(length) = self.socket.recv(&mut bytes) {
            heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        self.socket.set_nonblocking(false).expect("a socket");
        heard
    }
}

/// The lines that change what a manager believes.
fn turns(heard: &[String]) -> Vec<&str> {
    let lines = heard.iter().flat_map(|said| said.lines());
    lines.filter(|line| ["READY=1", "RELOADING=1", "STOPPING=1"].contains(line)).collect()
}

fn last_status(heard: &[String]) -> &str {
    heard
        .iter()
        .flat_map(|said| said.lines())
        .filter_map(|line| line.strip_prefix("STATUS="))
        .next_back()
        .unwrap_or("")
}

fn monotonic_usec() -> u128 {
    let now = clock_gettime(ClockId::Monotonic);
    u128::try_from(now.tv_sec).expect("it counts up") * 1_000_000
        + u128::try_from(now.tv_nsec).expect("it counts up") / 1000
}

#[test]
fn a_start_reloads_and_a_stop_are_told_in_their_order() {
    let (manager, home) = (Manager::new(), Home::new());
    let server = home.release("good", "server.js");
    home.release("bad", "syntax-error.js");
    home.switch("good");
    let launch = Launch::of(server).home(&home).workers(2).env("NOTIFY_SOCKET", &manager.path);
    let mut master = launch.start();
    let start = manager.until("READY=1");
    assert_eq!(turns(&start), ["READY=1"]);
    assert_eq!(last_status(&start[..1]), "starting: 0 of 2 workers serve, generation 1");
    assert_eq!(last_status(&start), "running: 2 of 2 workers serve, generation 1");
    assert!(start.iter().any(|said| said.starts_with("EXTEND_TIMEOUT_USEC=")), "{start:?}");
    assert!(!start.iter().any(|said| said.contains("MAINPID") || said.contains("WATCHDOG")), "{start:?}");

    let before = monotonic_usec();
    master.reload().expect_code(0);
    let reload = manager.until("READY=1");
    assert_eq!(turns(&reload), ["RELOADING=1", "READY=1"]);
    let clock = reload[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").map(str::trim_end);
    let clock: u128 = clock.and_then(|usec| usec.parse().ok()).expect("both come together");
    assert!((before..monotonic_usec()).contains(&clock), "{before} {clock}");
    assert_eq!(
        last_status(&reload),
        "running: 2 of 2 workers serve, generation 2; last reload: generation 2 came to serve"
    );

    home.switch("bad");
    master.reload().expect_code(1);
    let rolled_back = manager.until("READY=1");
    assert_eq!(turns(&rolled_back), ["RELOADING=1", "READY=1"]);
    let status = last_status(&rolled_back);
    assert!(
        status.starts_with(
            "running: 2 of 2 workers serve, generation 2; last reload: generation 3 was rolled back: worker "
        ),
        "{status}"
    );

    master.signal(Signal::TERM);
    master.expect_end(0);
    let stop = manager.rest();
    assert_eq!(turns(&stop), ["STOPPING=1"]);
}

#[test]
fn it_is_not_ready_before_the_whole_first_generation_serves() {
    let (manager, stage) = (Manager::new(), Stage::new());
    let launch = stage.launch_program().workers(2).option("--ready-when", "notify");
    let master = launch.env("NOTIFY_SOCKET", &manager.path).start();
    let (mut first, mut second) = (stage.next(), stage.next());
    first.notify("READY=1");
    let half = manager.until("STATUS=running: 1 of 2 workers serve, generation 1");
    assert!(turns(&half).is_empty(), "{half:?}");
    second.notify("READY=1");
    manager.until("READY=1");
    drop(master);
}

#[test]
fn a_first_generation_that_never_serves_is_told_with_its_reason() {
    let manager = Manager::new();
    let mut master = manager.launch("syntax-error.js").workers(1).option("--attempts", "1").start();
    master.expect_end(3);
    let heard = manager.rest();
    assert!(!turns(&heard).contains(&"READY=1"), "{heard:?}");
    let status = last_status(&heard);
    assert!(status.starts_with("the start failed: worker 1 (slot 0, pid "), "{status}");
}

/// systemd waits for the reload that it has asked for by a signal.
#[test]
fn a_reload_that_cannot_begin_is_over_at_once() {
    let manager = Manager::new();
    let master = manager.launch("server.js").workers(1).config("").serve();
    manager.until("READY=1");
    master.configure("timeout = \"soon\"");
    master.signal(Signal::HUP);
    let reload = manager.until("READY=1");
    assert_eq!(turns(&reload), ["RELOADING=1", "READY=1"]);
    assert!(last_status(&reload).contains("last reload: refused: "), "{reload:?}");
}

/// Both signals are one wish, but systemd may have sent the second and somebody else the first.
#[test]
fn whoever_asks_for_the_reload_that_was_just_asked_for_hears_that_it_begins() {
    let manager = Manager::new();
    let master = manager.launch("server.js").workers(1).serve();
    manager.until("READY=1");
    master.signal(Signal::HUP);
    master.signal(Signal::USR2);
    let mut heard = manager.until("RELOADING=1");
    heard.extend(manager.until("RELOADING=1"));
    heard.extend(manager.until("READY=1"));
    assert_eq!(turns(&heard)[..1], ["RELOADING=1"], "{heard:?}");
}

/// A watchdog does not know that a hook is all that is left to do.
#[test]
fn a_watchdog_hears_of_the_master_until_the_end() {
    let manager = Manager::new();
    let launch = manager.launch("server.js").workers(1).env("WATCHDOG_USEC", "100000");
    let home = Home::new();
    let go = home.join("go");
    let waits = format!("stopped=exec:until [ -e '{}' ]; do sleep 0.05; done", go.display());
    let mut master = launch.hook(&waits).start();
    manager.until("READY=1");
    master.signal(Signal::TERM);
    manager.until("STATUS=over: 0 of 1 workers serve, generation 1");
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    fs::write(&go, "").expect("a directory of ours");
    master.expect_end(0);
}

/// Nor that what workers wrote is all that is left, and waits for its reader.
#[test]
fn a_watchdog_hears_of_a_master_whose_last_lines_are_not_read() {
    let manager = Manager::new();
    let home = Home::new();
    let server =
        home.program("writes", "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' 'x' >&2\nexec sleep 1000\n");
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let launch = Launch::of(server).home(&home).workers(1).env("NOTIFY_SOCKET", &manager.path);
    let launch = launch
        .env("WATCHDOG_USEC", "100000")
        .option("--stderr", "wait")
        .option("--ready-when", "started")
        .stderr(OwnedFd::from(writer));
    let mut master = launch.start();
    manager.until("READY=1");
    master.signal(Signal::TERM);
    manager.until("STATUS=over: 0 of 1 workers serve, generation 1");
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    io::copy(&mut reader, &mut io::sink()).expect("a pipe");
    assert_eq!(master.wait_end().code(), Some(0));
}

#[test]
fn an_abstract_name_is_a_socket_as_well() {
    let home = Home::new();
    let name = format!("recluster-test-manager-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let manager =
        Manager::reading(UnixDatagram::bind_addr(&address).expect("nobody has it"), PathBuf::new(), home);
    let launch = Launch::fixture("server.js").workers(1).env("NOTIFY_SOCKET", format!("@{name}"));
    let _master = launch.start();
    manager.until("READY=1");
}

#[test]
fn a_watchdog_hears_of_the_master_from_the_beginning() {
    let manager = Manager::new();
    let _master = manager.launch("server.js").workers(1).env("WATCHDOG_USEC", "100000").start();
    let start = manager.until("READY=1");
    assert!(start.iter().any(|said| said == "WATCHDOG=1\n"), "{start:?}");
    assert!(start.last().is_some_and(|said| said.lines().any(|line| line == "WATCHDOG=1")), "{start:?}");
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
}

/// The pid is systemd's child, which waits for this master and is not it.
#[test]
fn a_watchdog_of_another_process_does_not_and_the_master_says_who_it_is() {
    let manager = Manager::new();
    let launch =
        manager.launch("server.js").workers(1).env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    let mut master = launch.env("SYSTEMD_EXEC_PID", "1").start();
    let start = manager.until("READY=1");
    let this = format!("MAINPID={}", master.process().pid());
    assert!(start.last().is_some_and(|said| said.lines().any(|line| line == this)), "{start:?}");
    master.signal(Signal::TERM);
    master.expect_end(0);
    let heard = [start, manager.rest()].concat();
    assert!(!heard.iter().any(|said| said.contains("WATCHDOG")), "{heard:?}");
}

#[test]
fn a_manager_that_does_not_read_or_is_gone_is_in_nobodys_way() {
    let manager = Manager::new();
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("a socket");
    while filler.send_to(b"STATUS=full", &manager.path).is_ok() {}
    let mut master = manager.launch("server.js").workers(1).env("WATCHDOG_USEC", "20000").serve();
    master.reload().expect_code(0);
    let heard = manager.until("RELOADING=1");
    assert!(turns(&heard) == ["READY=1", "RELOADING=1"], "it has waited, in its order: {heard:?}");
    fs::remove_file(&manager.path).expect("it is there");
    drop(manager);
    master.reload().expect_code(0);
    master.signal(Signal::TERM);
    master.expect_end(0);
}

#[test]
fn workers_are_told_nothing_of_it() {
    let manager = Manager::new();
    let launch = manager.launch("server.js").workers(1).env("WATCHDOG_USEC", "100000").env("FDSTORE", "8");
    let master = launch.env("SYSTEMD_EXEC_PID", "1").serve();
    let env = master.get("/").json()["env"].clone();
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "FDSTORE", "SYSTEMD_EXEC_PID"] {
        assert!(env[name].is_null(), "{name}: {env}");
    }
    assert!(env["WORKER_ID"].is_string(), "it is a worker's: {env}");
    let heard = manager.until("READY=1");
    assert!(heard.last().is_some_and(|said| said.contains("1 of 1 workers serve")), "{heard:?}");
}
