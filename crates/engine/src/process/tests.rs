//! Real processes: what they find when they start, how they are signalled, and how their end is seen.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recluster_core as core;
use recluster_core::{Exit, SpawnFailure, WorkerId};
use recluster_wire::env::{NodeDrain, NodeMetrics};
use recluster_wire::node::IdleGrace;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::{Signal, kill_process_group};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::event::Event;
use super::outlets::Outlets;
use super::program::{Program, ResolvedProgram};
use super::runtime::{Because, NodeKind, Runtime};
use super::spawn::{SpawnOptions, Spawned, command, environment, failure_of, spawn, spawn_error};
use super::stdio::Stdio;
use super::{Process, groups};
use crate::config::drain_signal::DrainSignal;
use crate::config::listen::Listen;
use crate::config::output::Output;
use crate::sink::Sink;
use crate::socket::bind::{Bound, bind};

/// No test takes this long.
const DEADLINE: Duration = Duration::from_secs(30);

fn options() -> SpawnOptions<'static> {
    SpawnOptions {
        worker: WorkerId::from_number(7),
        number: 17,
        slot: 2,
        generation: 3,
        slots: 4,
        raw_stdio: false,
        takes_stdout: false,
        end_with_master: false,
        cluster: None,
        open_files: None,
        preload: None,
        inspect_port: None,
        sockets: Vec::new(),
        notify: None,
        watchdog: None,
        drain_signal: DrainSignal::Term,
    }
}

/// A shell that runs this script, and whose stdout comes to us.
fn shell(script: &str) -> ResolvedProgram {
    let mut program = Program::new(PathBuf::from("/bin/sh"));
    program.args = ["-c", script].map(OsString::from).into();
    program.environment = Some([("PATH".into(), "/usr/bin:/bin".into())].into());
    program.stdio = [Stdio::Null, Stdio::Pipe, Stdio::Tail];
    program.resolve().unwrap()
}

fn node(kind: NodeKind, binary: &str) -> ResolvedProgram {
    let runtime = Runtime::Node {
        kind,
        binary: binary.into(),
        name: Path::new(binary).file_name().unwrap().into(),
        args: kind.default_args().iter().chain(&["--inspect"]).map(OsString::from).collect(),
        because: Because::Said,
    };
    ResolvedProgram { runtime, server: "/app/server.js".into(), args: vec!["--port".into()], ..shell("") }
}

fn tcp(text: &str) -> Bound {
    bind(&text.parse::<Listen>().unwrap()).unwrap()
}

/// A shell that was started, watched by a runtime.
struct Running {
    process: Process,
    stdout: BufReader<UnixStream>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Our end of its channel.
    channel: OwnedFd,
}

impl Running {
    fn start(program: &ResolvedProgram, options: &SpawnOptions<'_>) -> Self {
        let Spawned { process, channel, watch, pipes: [_, stdout, _] } = spawn(program, options).unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        let sink = Sink::new(move |event| drop(sender.send(event)));
        let outlets = Outlets::start(Output::default(), 1, true, None, sink.clone()).unwrap();
        watch.start(&outlets, sink).unwrap();
        let stdout = UnixStream::from(stdout.unwrap());
        stdout.set_nonblocking(false).unwrap();
        stdout.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { process, stdout: BufReader::new(stdout), events, channel }
    }

    fn script(script: &str) -> Self {
        Self::start(&shell(script), &options())
    }

    /// The next line of its stdout.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits for its end, and reaps it.
    async fn end(mut self) -> Exit {
        let event = timeout(DEADLINE, self.events.recv()).await.unwrap().unwrap();
        assert!(matches!(event, Event::Ended(worker) if worker == WorkerId::from_number(7)), "{event:?}");
        let exit = self.process.exit();
        self.process.reap();
        exit
    }
}

#[tokio::test]
async fn a_program_finds_its_sockets_its_channel_and_its_place() {
    let bound = [tcp("web=127.0.0.1:0"), tcp("127.0.0.1:0")];
    let options = SpawnOptions {
        sockets: bound.iter().collect(),
        cluster: Some("/run/it.sock".as_ref()),
        notify: Some("/run/it.notify".into()),
        watchdog: Some(Duration::from_secs(2)),
        ..options()
    };
    let script = "echo $LISTEN_PID $WATCHDOG_PID $$; echo $LISTEN_FDS $LISTEN_FDNAMES $RECLUSTER_CHANNEL_FD; \
                  echo $WORKER_ID $RECLUSTER_WORKERS $RECLUSTER_GENERATION $RECLUSTER_CLUSTER; echo $NOTIFY_SOCKET $WATCHDOG_USEC; \
                  for fd in 3 4; do readlink /proc/$$/fd/$fd; done; echo hello >&5; read -r word <&5; echo $word; pwd";
    let mut running = Running::start(&shell(script), &options);
    let pid = running.process.pid().as_raw_nonzero();
    assert_eq!(running.line(), format!("{pid} {pid} {pid}"));
    assert_eq!(running.line(), "2 web:unknown 5");
    assert_eq!(running.line(), "2 4 3 /run/it.sock");
    assert_eq!(running.line(), "/run/it.notify 2000000");
    for bound in &bound {
        let ours = fs::read_link(format!("/proc/self/fd/{}", bound.socket.as_raw_fd())).unwrap();
        assert_eq!(running.line(), ours.to_str().unwrap());
    }
    let mut channel = UnixStream::from(running.channel.try_clone().unwrap());
    channel.set_nonblocking(false).unwrap();
    let mut word = [0; 6];
    channel.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"hello\n");
    channel.write_all(b"welcome\n").unwrap();
    assert_eq!(running.line(), "welcome");
    assert_eq!(running.line(), fs::canonicalize(".").unwrap().to_str().unwrap());
    assert_eq!(running.end().await, Exit::Code(0));
}

/// Several workers wait at one socket, and whoever finds it empty must not wait in `accept`. Where a program knows that, it
/// sees to it; one that does not look at what it takes over is helped, and nobody else, who may want to wait there.
#[tokio::test]
async fn sockets_that_nginx_takes_over_do_not_block() {
    let bound = [tcp("127.0.0.1:0"), tcp("127.0.0.1:0"), tcp("127.0.0.1:0")];
    let options = SpawnOptions { sockets: bound.iter().collect(), ..options() };
    let blocks =
        || bound.each_ref().map(|bound| !fcntl_getfl(&bound.socket).unwrap().contains(OFlags::NONBLOCK));
    for (value, expected) in
        [(None, [true; 3]), (Some("/etc/nginx"), [true; 3]), (Some("4;5;"), [true, false, false])]
    {
        let mut program = shell("");
        program.env.extend(value.map(|value| ("NGINX".into(), value.into())));
        assert_eq!(Running::start(&program, &options).end().await, Exit::Code(0));
        assert_eq!(blocks(), expected, "{value:?}");
    }
}

fn variables(program: &ResolvedProgram, options: &SpawnOptions<'_>) -> BTreeMap<String, String> {
    let text = |text: OsString| text.into_string().unwrap();
    environment(program, options).into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn the_environment_suits_the_kind_of_program() {
    let bound = [tcp("web=127.0.0.1:0")];
    let grace = IdleGrace { least: Duration::from_secs(6), most: Duration::from_secs(29) };
    let drain = NodeDrain {
        grace,
        timeout: Duration::from_secs(30),
        counts: false,
        writes: false,
        metrics: NodeMetrics::Off,
        inherits: [false; 2],
    };
    let options = SpawnOptions {
        sockets: bound.iter().collect(),
        preload: Some(("/preload.cjs".into(), Some(drain))),
        ..options()
    };
    let of_node = variables(&node(NodeKind::Node, "/usr/bin/node"), &options);
    let of_shell = variables(&shell(""), &options);
    for variables in [&of_node, &of_shell] {
        assert_eq!(variables["WORKER_ID"], "2");
        assert_eq!((variables["LISTEN_FDS"].as_str(), variables["LISTEN_FDNAMES"].as_str()), ("1", "web"));
        assert_eq!(variables["PWD"], fs::canonicalize(".").unwrap().to_str().unwrap());
    }
    // A Node worker has its channel as descriptor 3, and asks for its sockets there.
    assert_eq!((of_node["NODE_CHANNEL_FD"].as_str(), of_node["NODE_UNIQUE_ID"].as_str()), ("3", "17"));
    assert!(!of_node.contains_key("RECLUSTER_CHANNEL_FD") && !of_node.contains_key("EINHORN_FD_COUNT"));
    assert!(!of_shell.contains_key("NODE_CHANNEL_FD"));
    assert_eq!((of_shell["RECLUSTER_CHANNEL_FD"].as_str(), of_shell["EINHORN_FD_0"].as_str()), ("4", "3"));
    assert_eq!(of_shell["SERVER_STARTER_PORT"], format!("{}=3", bound[0].address));
}

#[test]
fn a_node_worker_tells_of_a_stderr_that_does_not_pass_through_the_master() {
    let with_preload = || SpawnOptions { preload: Some(("/preload.cjs".into(), None)), ..options() };
    let tells = |stderr: Stdio, options: &SpawnOptions<'_>| {
        let mut program = node(NodeKind::Node, "/usr/bin/node");
        program.stdio = [Stdio::Null, Stdio::Inherit, stderr];
        let variables = variables(&program, options);
        assert!(!variables.contains_key("RECLUSTER_DRAIN"), "it does not drain by the preload");
        variables.contains_key("RECLUSTER_TELLS")
    };
    for stderr in [Stdio::Inherit, Stdio::Null, Stdio::Pipe] {
        assert!(tells(stderr, &with_preload()));
    }
    assert!(!tells(Stdio::Tail, &with_preload()), "what the master reads itself need not be told");
    assert!(tells(Stdio::Tail, &SpawnOptions { raw_stdio: true, ..with_preload() }));
    assert!(!tells(Stdio::Inherit, &options()), "nobody would tell");
}

#[test]
fn what_the_user_says_does_not_hide_what_we_say() {
    let mut program = shell("");
    program.env.extend([("WORKER_ID".into(), "99".into()), ("OWN".into(), "yes".into())]);
    let variables = variables(&program, &options());
    assert_eq!((variables["WORKER_ID"].as_str(), variables["OWN"].as_str()), ("2", "yes"));
}

#[test]
fn each_kind_of_node_has_its_command_line() {
    let grace = IdleGrace { least: Duration::ZERO, most: Duration::ZERO };
    let drain = NodeDrain {
        grace,
        timeout: Duration::ZERO,
        counts: false,
        writes: false,
        metrics: NodeMetrics::Off,
        inherits: [false; 2],
    };
    let with_preload = SpawnOptions { preload: Some(("/preload.cjs".into(), Some(drain))), ..options() };
    let words = |program: &ResolvedProgram, options: &SpawnOptions<'_>| {
        let command = command(program, options);
        let words = [command.get_program()].into_iter().chain(command.get_args());
        words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        words(&node(NodeKind::Node, "/opt/node"), &with_preload),
        "/opt/node --require=/preload.cjs --inspect /app/server.js --port"
    );
    assert_eq!(
        words(&node(NodeKind::Deno, "/opt/deno"), &options()),
        "/opt/deno run -A --inspect /app/server.js --port"
    );
    assert_eq!(
        words(&node(NodeKind::Bun, "/opt/bun"), &options()),
        "/opt/bun --inspect /app/server.js --port"
    );
    let shell = shell("exit");
    assert_eq!(words(&shell, &options()), format!("{} -c exit", shell.server.display()));
}

#[tokio::test]
async fn a_status_and_a_signal_are_told_apart() {
    assert_eq!(Running::script("exit 7").end().await, Exit::Code(7));
    assert_eq!(Running::script("kill -9 $$").end().await, Exit::Signal(libc::SIGKILL));
}

/// A shell with this trap and a child. The child says that it is there when it has no trap of its parent any more.
fn patient(trap: &str) -> String {
    format!(
        "trap '{trap}' TERM USR1 HUP INT QUIT USR2 WINCH; sh -c 'echo there; exec sleep 1000' & wait; wait"
    )
}

#[tokio::test]
async fn a_signal_goes_to_the_whole_group() {
    let mut running = Running::script(&patient("exit 7"));
    assert_eq!(running.line(), "there");
    assert_eq!((running.process.told, running.process.sent), (false, None));
    running.process.signal(core::Signal::Term);
    assert_eq!((running.process.told, running.process.sent), (true, Some(core::Signal::Term)));
    assert_eq!(running.line(), "", "the child had the other end as well, and is gone");
    assert_eq!(running.end().await, Exit::Code(7));
}

#[tokio::test]
async fn a_weaker_signal_does_not_hide_a_stronger_one() {
    let mut running = Running::script(&patient(""));
    running.line();
    running.process.signal(core::Signal::Kill);
    running.process.signal(core::Signal::Term);
    assert_eq!(running.process.sent, Some(core::Signal::Kill));
    assert_eq!(running.end().await, Exit::Signal(libc::SIGKILL));
}

#[tokio::test]
async fn a_drain_begins_with_the_signal_of_the_users_choice() {
    let signals = [
        (DrainSignal::Term, "TERM"),
        (DrainSignal::Int, "INT"),
        (DrainSignal::Quit, "QUIT"),
        (DrainSignal::Hup, "HUP"),
        (DrainSignal::Usr1, "USR1"),
        (DrainSignal::Usr2, "USR2"),
        (DrainSignal::Winch, "WINCH"),
    ];
    for (drain_signal, name) in signals {
        // A shell may miss a signal that comes just before it waits, and dash one that comes while it starts a process. So it counts.
        let count = "i=0; while [ $((i += 1)) -lt 99999999 ]; do :; done";
        let script = format!("trap 'echo {name}; kill -9 0' {name}; echo there; {count}");
        let mut running = Running::start(&shell(&script), &SpawnOptions { drain_signal, ..options() });
        assert_eq!(running.line(), "there");
        running.process.let_go();
        assert!(running.process.told);
        let is_term = drain_signal == DrainSignal::Term;
        assert_eq!(running.process.sent, is_term.then_some(core::Signal::Term));
        assert_eq!(running.line(), name);
        running.end().await;
    }
}

#[tokio::test]
async fn a_process_can_be_signalled_alone() {
    let mut running = Running::script(&patient(""));
    running.line();
    let pid = running.process.pid();
    running.process.signal_alone(Signal::KILL).unwrap();
    let mut stdout = running.stdout.get_ref().try_clone().unwrap();
    assert_eq!(running.end().await, Exit::Signal(libc::SIGKILL));
    assert!(groups::living().contains(&pid.as_raw_nonzero().get()), "its child goes on");
    kill_process_group(pid, Signal::KILL).unwrap();
    assert_eq!(stdout.read(&mut [0]).unwrap(), 0);
}

#[tokio::test]
async fn a_hung_process_is_aborted() {
    let mut running = Running::script("ulimit -c 0; sleep 1000 & echo there; wait");
    running.line();
    running.process.abort();
    assert_eq!(running.end().await, Exit::Signal(libc::SIGABRT));
}

#[test]
fn a_process_that_cannot_be_watched_is_ended() {
    let mut process = spawn(&shell("sleep 1000"), &options()).unwrap().process;
    process.kill_and_reap();
    assert!(!Path::new(&format!("/proc/{}", process.pid().as_raw_nonzero())).exists());
    assert_eq!(process.exit(), Exit::Code(255), "it was reaped, so nothing is known of it");
}

#[tokio::test]
async fn the_usage_of_a_process_is_known() {
    let mut running = Running::script(&patient("exit 7"));
    running.line();
    let usage = running.process.usage().unwrap();
    assert!(usage.memory > 0 && usage.cpu_seconds >= 0.0 && !usage.is_stopped);
    running.process.kill_and_reap();
    assert_eq!(running.process.usage(), None);
}

#[tokio::test]
async fn the_last_words_are_kept_for_the_verdict() {
    let running = Running::script("echo first >&2; echo last >&2; exit 1");
    let tail = running.process.tail.clone();
    assert_eq!(running.end().await, Exit::Code(1));
    assert_eq!(tail.lines(), ["first", "last"]);
}

/// A child of the worker holds its stderr open, and must not delay the news of its end.
#[tokio::test]
async fn an_end_is_reported_while_a_child_holds_stderr() {
    let mut running = Running::script("sleep 1000 & echo there; echo gone >&2; exit 3");
    running.line();
    let (pid, tail) = (running.process.pid(), running.process.tail.clone());
    assert_eq!(running.end().await, Exit::Code(3));
    assert_eq!(tail.lines(), ["gone"]);
    kill_process_group(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn raw_stdio_leaves_no_tail() {
    let mut program = shell("echo unseen >&2; exit 1");
    program.stdio = [Stdio::Null, Stdio::Pipe, Stdio::Null];
    let running = Running::start(&program, &SpawnOptions { raw_stdio: true, ..options() });
    let tail = running.process.tail.clone();
    running.end().await;
    assert!(tail.lines().is_empty());
}

#[test]
fn standard_descriptors_go_where_they_are_said_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let file: OwnedFd = fs::File::create(&path).unwrap().into();
    let mut program = shell("read -r word; echo \"[$word]\"; echo error >&2");
    program.stdio = [Stdio::Null, Stdio::Fd(file.into()), Stdio::Pipe];
    let spawned = spawn(&program, &options()).unwrap();
    let [None, None, Some(stderr)] = spawned.pipes else { panic!("{:?}", spawned.pipes) };
    let mut stderr = UnixStream::from(stderr);
    stderr.set_nonblocking(false).unwrap();
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(said, "error\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "[]\n");
    let mut process = spawned.process;
    process.kill_and_reap();
}

#[test]
fn an_error_says_whether_trying_again_may_help() {
    for errno in [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EINTR, libc::ETXTBSY] {
        assert_eq!(failure_of(&io::Error::from_raw_os_error(errno)), SpawnFailure::Temporary);
    }
    for error in [io::Error::from_raw_os_error(libc::ENOENT), io::Error::other("no")] {
        assert_eq!(failure_of(&error), SpawnFailure::Hopeless);
    }
}

#[test]
fn a_program_that_cannot_run_is_an_error_in_words() {
    let program = ResolvedProgram { server: "/nowhere/server".into(), ..shell("") };
    let error = spawn(&program, &options()).err().unwrap();
    assert_eq!(failure_of(&error), SpawnFailure::Hopeless);
    assert_eq!(spawn_error(&error), "/nowhere/server: No such file or directory (os error 2)");
    assert_eq!(
        spawn_error(&io::Error::from_raw_os_error(libc::ENOEXEC)),
        "it is no program for this machine; a script must begin with a line such as #!/bin/sh"
    );
}

#[test]
fn the_program_has_the_name_that_was_asked_for() {
    let program = shell("");
    assert_eq!(program.name(), OsStr::new("/bin/sh"));
    assert_eq!(node(NodeKind::Deno, "/opt/deno").name(), OsStr::new("deno"));
}
