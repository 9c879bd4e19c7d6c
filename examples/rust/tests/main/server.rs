//! A server of this directory as a process, and a client of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, Signal, kill_process};

/// No test takes this long unless it fails.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const HYPER: &str = env!("CARGO_BIN_EXE_hyper");
pub(crate) const EVERY: [&str; 4] =
    [env!("CARGO_BIN_EXE_axum"), HYPER, env!("CARGO_BIN_EXE_threads"), env!("CARGO_BIN_EXE_actix")];

/// A server that listens. It is killed if its test ends before it does.
pub(crate) struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
}

impl Server {
    /// Starts a program on a port of its own choice.
    pub(crate) fn alone(program: &str) -> Self {
        Self::start(Command::new(program).env("PORT", "0"))
    }

    /// Starts a program as a master would, with these descriptors from 3 on; the shell knows the pid.
    pub(crate) fn worker(program: &str, descriptors: Vec<OwnedFd>, variables: &[(&str, String)]) -> Self {
        let mappings = (3..).zip(descriptors).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$0\"", program]);
        command.envs(variables.iter().cloned()).fd_mappings(mappings.collect()).expect("distinct numbers");
        Self::start(&mut command)
    }

    fn start(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut server = Self { process, stdout, address: String::new() };
        let line = server.line();
        let (_, address) = line.split_once(" listens on http://").expect(&line);
        server.address = address.trim().to_owned();
        server
    }

    /// The next line of its output.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("UTF-8");
        assert!(!line.is_empty(), "it says something");
        line
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends TERM.
    pub(crate) fn term(&self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("it lives");
    }

    /// Waits until it has ended by itself: with success, and having cleaned up.
    pub(crate) fn ends_well(mut self) {
        let line = self.line();
        assert!(line.ends_with(" has cleaned up\n"), "{line}");
        assert!(self.exit().success());
    }

    /// Sends TERM until it has ended by one that nobody handled: those that come at once again are the same request.
    pub(crate) fn ends_by_term(mut self) {
        while matches!(self.process.try_wait(), Ok(None)) {
            self.term();
            thread::yield_now();
        }
        assert_eq!(self.exit().signal(), Some(Signal::TERM.as_raw()));
    }

    fn exit(&mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.process);
        let (done, overdue) = mpsc::channel::<()>();
        thread::spawn(move || {
            if overdue.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
                // It is not reaped before the sender is dropped, so that the pid is still its own.
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let status = self.process.wait().expect("a child");
        drop(done);
        status
    }

    /// A connection on which half a request is written.
    pub(crate) fn half_a_request(&self) -> TcpStream {
        let mut client = TcpStream::connect(&self.address).expect("it listens");
        client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").expect("it reads");
        client
    }

    /// The body of the answer to one request.
    pub(crate) fn get(&self) -> String {
        finish(self.half_a_request())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Without effect on one that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes the other half of a request, and reads the body of the answer.
pub(crate) fn finish(mut client: TcpStream) -> String {
    client.write_all(b"Connection: close\r\n\r\n").expect("it reads");
    let mut response = String::new();
    client.read_to_string(&mut response).expect("it answers");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    let (_, body) = response.split_once("\r\n\r\n").expect("a whole response");
    body.trim().to_owned()
}
