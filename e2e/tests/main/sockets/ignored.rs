//! A program that does not take the sockets of `--listen`: clients wait there in vain. The log says so once, with what to do.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use recluster_e2e::{Home, Launch, Master, Process, Stage, eventually, on};
use rustix::process::Signal;

/// Closes the socket, binds a port of the kernel's choice, and writes it down. Where it had the socket open, it would have more time.
const BINDS: &str = "exec 3<&-; exec python3 -c \"import signal, socket; s = socket.create_server(('127.0.0.1', 0)); \
                     open('port', 'w').write(str(s.getsockname()[1])); signal.pause()\"";

fn program(home: &Home, script: &str) -> Launch {
    Launch::of(home.script("program", script)).home(home).workers(1)
}

fn connected(master: &Master) -> TcpStream {
    TcpStream::connect(master.bound_ip(0)).expect("the kernel takes it")
}

/// A script that starts a server without `exec`, and one that is the server: what each listens on is named.
#[test]
fn clients_that_wait_behind_a_server_with_a_port_of_its_own_are_told() {
    let wrapper = (
        Home::new(),
        format!("exec 3<&-\n({BINDS})\ntrue"),
        "what worker 1 has started (process ",
        "ends in `exec`",
    );
    let server = (Home::new(), BINDS.to_owned(), "worker 1 (process ", "or is run without --listen");
    for (home, script, who, what) in [wrapper, server] {
        let master = program(&home, &script).listen("127.0.0.1:0").start();
        master.wait(on("bound"));
        let _clients = [connected(&master), connected(&master)];
        let said = master.wait(on("listen_ignored"));
        assert_eq!(said.at("/addresses/0/tcp"), &serde_json::json!(master.bound_ip(0)));
        let (said, port) = (said.text("/reason"), home.read("port"));
        let listens = format!("listens on port {port} by itself; the program has to accept on the socket");
        assert!(said.starts_with(who) && said.contains(&listens) && said.contains(what), "{said}");
        assert_eq!(master.seen(&on("listen_ignored")).len(), 1);
    }
}

/// The child of a wrapper that closes what it does not know, at a unix socket; and after a reload once more.
#[test]
fn a_unix_socket_that_no_process_has_open_is_told_once_of_each_generation() {
    let home = Home::new();
    let path = home.join("it.sock");
    let launch = program(&home, "exec 3<&-\nexec sleep 1000000").listen(&format!("unix:{}", path.display()));
    let master = launch.option("--timeout", "0").start();
    master.wait(on("bound"));
    let _client = UnixStream::connect(&path).expect("the kernel takes it");
    let said = master.wait(on("listen_ignored")).text("/reason").to_owned();
    assert!(said.starts_with("no process of a worker has the socket open any more: "), "{said}");
    master.reload().expect_code(0);
    master.wait_all(2, on("listen_ignored"));
}

/// Clients wait for each of these at least as long as for the one that is told: one that has not begun to accept, though it
/// listens for its own purposes; one that hangs after its first client; one that is stopped.
#[test]
fn a_server_that_is_merely_slow_is_not_told() {
    let stage = Stage::new();
    let late = stage.launch_program().workers(1).listen("127.0.0.1:0").start();
    let mut puppet = stage.next();
    late.wait(on("started"));
    let mut late_client = connected(&late);

    let homes = [Home::new(), Home::new(), Home::new()];
    let accepts =
        "import signal, socket; s = socket.socket(fileno=3); own = socket.create_server(('127.0.0.1', 0))";
    let hangs = program(
        &homes[0],
        &format!(
            "exec python3 -c \"{accepts}; c = s.accept(); print('has one', flush=True); signal.pause()\""
        ),
    );
    let hangs = hangs.listen("127.0.0.1:0").serve();
    let _first = connected(&hangs);
    hangs.wait_stdout("has one");
    let _second = connected(&hangs);

    let stopped = program(&homes[1], &format!("exec python3 -c \"{accepts}; signal.pause()\""))
        .listen("127.0.0.1:0")
        .serve();
    let process = Process::open(stopped.wait(on("spawned")).pid()).expect("it lives");
    process.signal(Signal::STOP);
    eventually("it is stopped", || process.status_line("State").contains('T'));
    let _third = connected(&stopped);

    let ignored = program(&homes[2], BINDS).listen("127.0.0.1:0").serve();
    let _fourth = connected(&ignored);
    ignored.wait(on("listen_ignored"));
    for (what, master) in [("late", &late), ("hangs", &hangs), ("stopped", &stopped)] {
        assert!(master.seen(&on("listen_ignored")).is_empty(), "{what}");
    }
    late_client.write_all(b"GET / HTTP/1.1\r\nHost: it\r\n\r\n").expect("it is open");
    puppet.serve_one(0, "late");
    let mut answer = String::new();
    late_client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("late"), "{answer}");
    process.signal(Signal::CONT);
}

/// As daemons do: the first process ends, and another one has a session of its own, none of the descriptors that it was given, and a
/// socket that listens.
#[test]
fn a_daemon_is_told_and_named_in_the_verdict() {
    let home = Home::new();
    let daemon = "import os, socket\ns = socket.create_server(('127.0.0.1', 0))\nif os.fork(): os._exit(0)\nos.setsid()\n\
                  if os.fork(): os._exit(0)\nos.closerange(0, s.fileno())\n\
                  open('pid', 'w').write(str(os.getpid()))\nimport signal\nsignal.pause()";
    home.write("daemon.py", daemon);
    let launch =
        program(&home, "rm -f pid\nexec python3 daemon.py").option("--attempts", "1").option("--bake", "1h");
    let mut master = launch.listen("127.0.0.1:0").start();
    let said = master.wait(on("backgrounded")).text("/reason").to_owned();
    assert!(said.starts_with("it has put a process into the background (process "), "{said}");
    assert!(said.contains("run the server in the foreground"), "{said}");
    assert_eq!(master.wait(on("start_failed")).text("/failure/hint"), said);
    master.expect_end(3);
    eventually("the daemon has written its pid", || !home.read_if_there("pid").is_empty());
    let pid = home.read("pid");
    assert!(said.contains(&pid) || !fs::exists(format!("/proc/{pid}")).unwrap_or(false), "{said}");
    if let Ok(daemon) = Process::open(pid.parse().expect("a pid")) {
        daemon.signal(Signal::KILL);
    }
}

/// Whoever serves, and ends by itself, has said nothing of what it leaves: that has its time, as ever.
#[test]
fn a_script_that_leaves_its_server_in_the_background_is_told_once_although_it_is_begun_again() {
    let home = Home::new();
    let master = program(&home, "sleep 1000000 &").listen("127.0.0.1:0").option("--bake", "0s").start();
    master.wait(on("backgrounded"));
    master.wait_all(3, on("respawning"));
    assert_eq!(master.seen(&on("backgrounded")).len(), 1);
}
