//! Telling a hook of an event: a command has it on its stdin, a server is sent it. Neither can take longer than
//! [`LIMIT`], nor has anything of ours but that event.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use recluster_core::Exit;
use recluster_wire::env::is_withheld;
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::config::hook::{Action, Hook};
use crate::config::hook_url::HookUrl;
use crate::process::hands::Hands;
use crate::process::health_check::status_of;
use crate::process::privileges::Privileges;
use crate::process::program::ResolvedProgram;
use crate::process::shell_command::{Rest, run_to_end};
use crate::process::stdio;
use crate::report::signal::signal_name;
use crate::sys;

/// How long a hook may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// Tells a command which event it is.
const EVENT: &str = "RECLUSTER_EVENT";
/// How much of what a command writes to its stderr is kept, and how long a line of it may be that is told.
const TAIL: usize = 4096;
/// How much a pipe has room for.
const PIPE: usize = 1 << 16;
const LINE: usize = 200;
/// How much of an answer is read: its status line is enough.
const HEAD: usize = 1024;

/// Where and as whom a command runs: as the workers do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) directory: PathBuf,
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) privileges: Privileges,
}

impl Surroundings {
    /// Those of the workers that run this.
    pub(crate) fn of(program: &ResolvedProgram) -> Self {
        let ResolvedProgram { directory, env, privileges, .. } = program;
        Self { directory: directory.clone(), env: env.clone(), privileges: privileges.clone() }
    }
}

/// Tells a hook of an event, which is a line of JSON. If this is dropped, a command and all that it has started end.
///
/// # Errors
///
/// Why the hook has not done it, in words.
pub(crate) async fn tell(
    hook: &Hook,
    line: &[u8],
    surroundings: &Surroundings,
    hands: &Hands,
) -> Result<(), String> {
    let told = async {
        match &hook.action {
            Action::Exec(command) => {
                let command = command_for(command, hook.on.name(), surroundings);
                run(command, line, surroundings, hands).await
            }
            Action::Post(url) => post(url, line).await,
        }
    };
    match timeout(LIMIT, told).await {
        Ok(result) => result,
        Err(_) => Err(format!("it took longer than {} s and was ended", LIMIT.as_secs())),
    }
}

fn command_for(command: &str, event: &str, surroundings: &Surroundings) -> Command {
    let Surroundings { directory, env, privileges } = surroundings;
    let mut hook = Command::new("/bin/sh");
    let directory = if directory.is_dir() { directory } else { Path::new("/") };
    let environment = env.iter().filter(|(name, _)| !is_withheld(name));
    hook.args(["-c", command]).current_dir(directory).env_clear().envs(environment).env(EVENT, event);
    privileges.give_user(&mut hook);
    sys::term_when_parent_dies(&mut hook);
    sys::inherit_nothing(&mut hook);
    hook
}

/// Runs a command that has this on its stdin. What it writes to its stderr last is the reason, if it fails.
async fn run(
    mut command: Command,
    line: &[u8],
    surroundings: &Surroundings,
    hands: &Hands,
) -> Result<(), String> {
    let lacks = |error: io::Error| format!("it could not be run: {error}");
    let (theirs, ours) = pipe::pipe().map_err(lacks)?;
    command.stdin(in_memory(line).map_err(lacks)?).stdout(Stdio::null());
    let theirs = theirs.into_blocking_fd().map_err(lacks)?;
    stdio::hand_over(&theirs, surroundings.privileges.user());
    command.stderr(theirs);
    let mut said = Said { ours, tail: Vec::new(), is_open: true };
    let mut running = std::pin::pin!(run_to_end(command, Rest::Lives, hands));
    let exit = loop {
        tokio::select! {
            () = said.more(), if said.is_open => {}
            ended = &mut running => break ended.map_err(lacks)?,
        }
    };
    let what = match exit {
        Exit::Code(0) => return Ok(()),
        Exit::Code(code) => format!("it ended with status {code}"),
        Exit::Signal(signal) => format!("it was ended by {}", signal_name(signal)),
    };
    Err(said.last_line().map_or(what.clone(), |said| format!("{what}: {said}")))
}

/// A file without a name that has this in it, to be read from its beginning.
fn in_memory(line: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("recluster-event", MemfdFlags::CLOEXEC)?);
    file.write_all(line)?;
    file.rewind()?;
    Ok(file.into())
}

/// What a command writes to its stderr: the end of it.
struct Said {
    ours: pipe::Receiver,
    tail: Vec<u8>,
    is_open: bool,
}

impl Said {
    /// Takes what comes next.
    async fn more(&mut self) {
        let mut chunk = [0; TAIL];
        let count = self.ours.read(&mut chunk).await.unwrap_or(0);
        self.is_open = count > 0;
        self.add(chunk.get(..count).unwrap_or_default());
    }

    fn add(&mut self, chunk: &[u8]) {
        self.tail.extend_from_slice(chunk);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }

    /// The last line that says something. Others may hold the pipe still; what they write is not waited for, and no more is
    /// read than a pipe has room for: they may write without end.
    fn last_line(&mut self) -> Option<String> {
        let mut chunk = [0; TAIL];
        for _ in 0..PIPE / TAIL {
            let Ok(count @ 1..) = self.ours.try_read(&mut chunk) else { break };
            self.add(chunk.get(..count).unwrap_or_default());
        }
        let text = String::from_utf8_lossy(&self.tail);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().take(LINE).collect())
    }
}

/// Sends this to a server, which is to answer with a status from 200 to 299.
async fn post(url: &HookUrl, line: &[u8]) -> Result<(), String> {
    let lost = |error: io::Error| format!("{}: {error}", url.authority());
    let mut stream = TcpStream::connect(url.place()).await.map_err(lost)?;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: recluster/{}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        url.target(),
        url.authority(),
        env!("CARGO_PKG_VERSION"),
        line.len()
    );
    stream.write_all(&[head.as_bytes(), line].concat()).await.map_err(lost)?;
    let mut answer = Vec::with_capacity(HEAD);
    while !answer.contains(&b'\n') && answer.len() < HEAD {
        if stream.read_buf(&mut answer).await.map_err(lost)? == 0 {
            break;
        }
    }
    match status_of(&answer) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(format!("{} answered with status {status}", url.authority())),
        None => Err(format!("{} did not answer in HTTP", url.authority())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use tokio::net::TcpListener;

    use super::*;
    use crate::process::awaited::Awaited;
    use crate::process::hands::Chore;
    use crate::sink::Sink;

    /// This thread itself.
    fn hands() -> Hands {
        Hands::new(None, Awaited::default(), Sink::new(|chore: Chore| chore()))
    }

    fn surroundings() -> Surroundings {
        let env = [("KEY".into(), "x".into()), ("PATH".into(), "/usr/bin:/bin".into())].into();
        Surroundings { directory: "/".into(), env, privileges: Privileges::default() }
    }

    async fn told(hook: &str) -> Result<(), String> {
        tell(&hook.parse().unwrap(), b"{\"on\":\"it\"}\n", &surroundings(), &hands()).await
    }

    #[tokio::test]
    async fn a_command_has_the_event_on_its_stdin_and_its_name_in_the_environment() {
        let test = "test \"$(cat)\" = '{\"on\":\"it\"}' && test \"$RECLUSTER_EVENT\" = crashed && test $KEY = x && \
                    test $PWD = /";
        assert_eq!(told(&format!("crashed=exec:{test}")).await, Ok(()));
    }

    #[tokio::test]
    async fn a_command_inherits_nothing_of_ours() {
        // Nothing keeps it from being passed on: so it is with what a master was started with.
        let (ours, _theirs) = rustix::pipe::pipe().unwrap();
        let has_it = |number: i32| format!("stopped=exec:test -e /proc/$$/fd/{number}");
        assert_eq!(told(&has_it(2)).await, Ok(()));
        assert_eq!(told(&has_it(ours.as_raw_fd())).await, Err("it ended with status 1".to_owned()));
    }

    #[tokio::test]
    async fn a_command_that_fails_says_why() {
        assert_eq!(told("crashed=exec:exit 3").await, Err("it ended with status 3".to_owned()));
        let curl = told("crashed=exec:echo one >&2; echo 'no route' >&2; echo >&2; exit 7").await;
        assert_eq!(curl, Err("it ended with status 7: no route".to_owned()));
        assert_eq!(told("crashed=exec:kill -9 $$").await, Err("it was ended by SIGKILL".to_owned()));
        let much = told("crashed=exec:head -c 300000 /dev/zero | tr '\\0' x >&2; exit 1").await.unwrap_err();
        assert_eq!(much, format!("it ended with status 1: {}", "x".repeat(LINE)));
    }

    #[tokio::test]
    async fn a_command_is_done_though_others_hold_its_stderr() {
        assert_eq!(told("crashed=exec:sleep 20 & exit 0").await, Ok(()));
    }

    #[tokio::test]
    async fn a_command_whose_directory_is_gone_runs_all_the_same() {
        let surroundings = Surroundings { directory: "/nowhere".into(), ..surroundings() };
        let told = tell(&"started=exec:test $PWD = /".parse().unwrap(), b"", &surroundings, &hands()).await;
        assert_eq!(told, Ok(()));
    }

    /// Answers one connection with this, and returns what came.
    async fn answer(listener: TcpListener, answer: &'static [u8]) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8(request).unwrap()
    }

    #[tokio::test]
    async fn a_server_is_sent_the_event_and_its_status_counts() {
        for (status, expected) in [
            (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], None),
            (b"HTTP/1.1 302 Found\r\n\r\n", Some("answered with status 302")),
            (b"SSH-2.0\r\n", Some("did not answer in HTTP")),
            (b"", Some("did not answer in HTTP")),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let place = listener.local_addr().unwrap();
            let hook = format!("crashed=http://{place}/in?a=b");
            let (result, request) = tokio::join!(told(&hook), answer(listener, status));
            assert_eq!(result.err(), expected.map(|what| format!("{place} {what}")));
            let head = format!("POST /in?a=b HTTP/1.1\r\nHost: {place}\r\n");
            assert!(request.starts_with(&head) && request.contains("Content-Length: 12\r\n"), "{request}");
        }
    }
}
