//! A running master: what it says, what it is told, how it ends.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::command;
use crate::command::{Finished, Running};
use crate::event::{Event, Pattern, on};
use crate::home::Home;
use crate::http::{self, Connection, Response};
use crate::process::Process;
use crate::transcript::{Line, Transcript};

/// A master that was started. When dropped, what is left of it and of its workers is killed.
#[derive(Debug)]
pub struct Master {
    child: Child,
    process: Process,
    home: Home,
    control: Option<PathBuf>,
    transcript: Transcript,
}

impl Master {
    pub(crate) fn start(
        mut command: Command,
        home: Home,
        control: Option<PathBuf>,
        [stdout, stderr]: [Option<OwnedFd>; 2],
    ) -> Self {
        command.stdin(Stdio::null()).stdout(stdout.map_or_else(Stdio::piped, Stdio::from));
        command.stderr(stderr.map_or_else(Stdio::piped, Stdio::from));
        let mut child = command.spawn().expect("the recluster command was just built");
        let process = Process::open(child.id()).expect("a child that was not waited for has a pidfd");
        let transcript = Transcript::default();
        if let Some(log) = child.stderr.take() {
            transcript.read_log(log);
        }
        if let Some(output) = child.stdout.take() {
            transcript.read_stdout(output);
        }
        Self { child, process, home, control, transcript }
    }

    /// Runs a command that becomes a master, whose log must be JSON.
    pub fn by(command: Command, home: &Home) -> Self {
        Self::start(command, home.clone(), None, [None, None])
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its directory.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Waits for the first event of this kind since the start.
    #[track_caller]
    pub fn wait(&self, pattern: Pattern) -> Event {
        self.wait_all(1, pattern).remove(0)
    }

    /// Waits until there were so many events of this kind; returns the first so many.
    #[track_caller]
    pub fn wait_all(&self, count: usize, pattern: Pattern) -> Vec<Event> {
        let what = format!("{count} × {pattern}");
        self.transcript.wait(&what, move |lines| {
            let found: Vec<Event> =
                events(lines).filter(|event| pattern.matches(event)).take(count).cloned().collect();
            (found.len() == count).then_some(found)
        })
    }

    /// All events of this kind so far.
    pub fn seen(&self, pattern: &Pattern) -> Vec<Event> {
        self.transcript.look(|lines| events(lines).filter(|event| pattern.matches(event)).cloned().collect())
    }

    /// All events so far.
    pub fn log(&self) -> Vec<Event> {
        self.transcript.look(|lines| events(lines).cloned().collect())
    }

    /// Waits until a line of the master's stdout, where workers write, contains this.
    #[track_caller]
    pub fn wait_stdout(&self, part: &str) -> String {
        self.transcript.wait_stdout(part)
    }

    /// Waits until a line of the master's stderr that is no event contains this.
    #[track_caller]
    pub fn wait_stderr(&self, part: &str) -> String {
        self.transcript.wait_stderr(part)
    }

    /// The lines of the master's stderr so far that are no events.
    pub fn stderr(&self) -> Vec<String> {
        self.transcript.look(|lines| lines.iter().filter_map(Line::stderr).map(str::to_owned).collect())
    }

    /// The lines of the master's stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        self.transcript.look(|lines| lines.iter().filter_map(Line::stdout).map(str::to_owned).collect())
    }

    /// Sends the master a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the master's end and returns how it ended. Its last events can be waited for afterwards.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        self.process.wait_end();
        self.child.wait().expect("the child can be waited for")
    }

    /// Waits for the master's end, which must have this exit status, and for the last word of its log.
    #[track_caller]
    pub fn expect_end(&mut self, code: i32) {
        let status = self.wait_end();
        assert_eq!(status.code(), Some(code), "{status}");
        self.transcript.wait_silence();
    }

    /// Waits until every worker that was ever started has ended.
    pub fn wait_workers_gone(&self) {
        self.transcript.with_workers(|workers| {
            for worker in workers {
                worker.wait_end();
            }
        });
    }

    /// The workers that were started so far and still live.
    pub fn live_pids(&self) -> Vec<u32> {
        self.transcript
            .with_workers(|workers| workers.iter().filter(|w| w.lives()).map(Process::pid).collect())
    }

    /// Takes hold of a worker's process.
    #[track_caller]
    pub fn worker(&self, event: &Event) -> Process {
        Process::open(event.pid()).expect("the worker should live")
    }

    /// Runs a client command, such as `reload`, against this master, and waits for its end.
    pub fn client(&self, args: &[&str]) -> Finished {
        self.begin_client(args).finish()
    }

    /// Starts a client command and does not wait.
    pub fn begin_client(&self, args: &[&str]) -> Running {
        let mut command = command(self.home.path());
        command.args(args);
        if let Some(control) = &self.control {
            command.arg("--control").arg(control);
        }
        Running::start(command)
    }

    /// The control socket, where the harness has chosen it.
    pub fn control(&self) -> &Path {
        self.control.as_deref().expect("the master has a control socket of its own")
    }

    /// Where the admin listener of [`Launch::with_admin`](crate::Launch::with_admin) is.
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.wait(on("starting")).text("/admin").parse().expect("a TCP address")
    }

    /// Reloads by the client command and waits for the verdict, in its answer and in the log.
    #[track_caller]
    pub fn reload(&self) -> Finished {
        let before = self.seen(&on("reloaded")).len();
        let finished = self.client(&["reload"]);
        self.wait_all(before + 1, on("reloaded"));
        finished
    }

    /// Writes the config file of [`crate::Launch::config`] anew: the next reload reads it.
    pub fn configure(&self, text: &str) {
        self.home.configure(text);
    }

    /// The cluster's status by the client command.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.client(&["status", "--json"]).json()
    }

    /// The process of the active worker of each slot.
    #[track_caller]
    pub fn active_pids(&self) -> Vec<u32> {
        let status = self.status();
        let slots = status["slots"].as_array().expect("the status has slots");
        let workers = status["workers"].as_array().expect("the status has workers");
        let active =
            slots.iter().filter_map(|slot| workers.iter().find(|worker| worker["id"] == slot["active"]));
        active.filter_map(|worker| worker["pid"].as_u64()?.try_into().ok()).collect()
    }

    /// Where the cluster listens by TCP: the first address that a worker named.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.transcript.wait(&"a TCP listener", |lines| {
            events(lines).filter(|event| on("listening").matches(event)).find_map(tcp_address)
        })
    }

    /// Where the master listens: what the log says of the listener of this number, counted from 0.
    #[track_caller]
    pub fn bound(&self, index: usize) -> Event {
        self.wait_all(index + 1, on("bound")).remove(index)
    }

    /// Where the master listens by IP, or takes datagrams, with the listener of this number.
    #[track_caller]
    pub fn bound_ip(&self, index: usize) -> SocketAddr {
        let bound = self.bound(index);
        let address = ["/address/tcp", "/address/udp"].iter().find_map(|at| bound.at(at).as_str());
        address.and_then(|address| address.parse().ok()).expect("an IP address")
    }

    /// Where this worker listens by TCP.
    #[track_caller]
    pub fn address_of(&self, listening: &Event) -> SocketAddr {
        tcp_address(listening).expect("a TCP address")
    }

    /// One request on a connection of its own, which must be answered.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        let response = http::get(self.address(), path);
        response.expect("the request should be answered")
    }

    /// A new connection.
    #[track_caller]
    pub fn connect(&self) -> Connection<std::net::TcpStream> {
        Connection::open(self.address()).expect("somebody should listen")
    }

    /// A request on a connection of its own that a worker has, and that lasts until it is finished.
    #[track_caller]
    pub fn begin_request(&self) -> Connection<std::net::TcpStream> {
        let mut connection = self.connect();
        connection.begin_request().expect("a worker should take the request");
        connection
    }

    /// A request whose answer may be lost, because it kills the worker that it reaches.
    pub fn try_get(&self, path: &str) -> io::Result<Response> {
        http::get(self.address(), path)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the master of the failed test said:\n{}", self.transcript);
        }
        // It may have ended already, and so may its workers: nothing is left to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.transcript.with_workers(|workers| {
            for worker in workers {
                worker.signal(Signal::KILL);
            }
        });
    }
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "master {}", self.process.pid())
    }
}

fn events(lines: &[Line]) -> impl Iterator<Item = &Event> {
    lines.iter().filter_map(Line::event)
}

fn tcp_address(listening: &Event) -> Option<SocketAddr> {
    listening.at("/address/tcp").as_str()?.parse().ok()
}
