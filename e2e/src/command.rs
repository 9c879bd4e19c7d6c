//! Runs a command to its end within the deadline, with everything that it wrote.

use std::process::{Child, Command, ExitStatus, Stdio};

use crate::Process;
use crate::transcript::{Line, Transcript};

/// A command that runs beside the test. It is killed when dropped before its end.
#[derive(Debug)]
pub struct Running {
    child: Child,
    process: Process,
    transcript: Transcript,
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its stdout.
    pub stdout: String,
    /// What it wrote to its stderr.
    pub stderr: String,
}

impl Running {
    /// Starts a command. It reads nothing.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let process = Process::open(child.id()).expect("a child that was not waited for has a pidfd");
        let transcript = Transcript::default();
        transcript.read_stderr(child.stderr.take().expect("it is piped"));
        transcript.read_stdout(child.stdout.take().expect("it is piped"));
        Self { child, process, transcript }
    }

    /// Waits until a line of its stdout contains this.
    #[track_caller]
    pub fn wait_stdout(&self, part: &str) -> String {
        self.transcript.wait_stdout(part)
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        self.process.wait_end();
        let status = self.child.wait().expect("the child was not waited for before");
        self.transcript.wait_silence();
        Finished { status, stdout: self.text(Line::stdout), stderr: self.text(Line::stderr) }
    }

    fn text(&self, of: impl Fn(&Line) -> Option<&str>) -> String {
        self.transcript.look(|lines| lines.iter().filter_map(of).flat_map(|line| [line, "\n"]).collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Runs a command to its end.
    pub fn run(command: Command) -> Self {
        Running::start(command).finish()
    }

    /// Its exit status; -1 where a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Asserts its exit status.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code(), code, "{self:#?}");
        self
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
