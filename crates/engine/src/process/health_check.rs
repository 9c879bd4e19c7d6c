//! Health checks: a worker serves only once its check passes, and is renewed when it fails again and again later.
//!
//! A check must reach this very worker, whose neighbours share its sockets. In a Node worker an HTTP request therefore goes
//! over a connection that the master makes and hands to just that worker; a program of another kind is asked on a
//! listener of its own, or by a command that is told whom to ask about.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use recluster_core::{Exit, WorkerId};
use recluster_wire::env::is_withheld;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::config::ready::ReadyCheck;
use crate::process::event::{Event, HandOver};
use crate::process::shell_command;
use crate::report::signal::signal_name;
use crate::sink::Sink;

/// How soon a check is made again that has not passed yet.
const SOON: Duration = Duration::from_millis(250);
/// How many checks in a row a serving worker may fail before it is renewed.
const PATIENCE: u32 = 3;
/// How much of a response is read: its status line is enough.
const HEAD: usize = 1024;

/// How often a worker is asked, and how long it may take to answer.
#[derive(Clone, Debug)]
pub(crate) struct Checks {
    pub(crate) check: ReadyCheck,
    pub(crate) every: Duration,
    pub(crate) timeout: Duration,
}

/// Whom a check asks.
#[derive(Debug)]
pub(crate) enum Target {
    /// A Node worker, over a connection that is handed to it.
    HandOver,
    /// A listener of the worker's own.
    Own(SocketAddr),
    /// The worker's process, by a command.
    Process(Asked),
}

/// Whom a command asks about, and where it runs: as the worker does.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) pid: u32,
    pub(crate) slot: u32,
    pub(crate) directory: PathBuf,
    pub(crate) env: BTreeMap<OsString, OsString>,
}

impl Checks {
    /// Asks until the worker passes, says so, and goes on asking. Ends with the worker, whose process aborts it.
    pub(crate) async fn watch(self, worker: WorkerId, target: Target, events: Sink<Event>) {
        while let Err(reason) = self.ask(worker, &target, &events).await {
            events.send(Event::CheckFailed(worker, reason));
            sleep(SOON).await;
        }
        events.send(Event::CheckPassed(worker));
        let mut failures = 0;
        loop {
            sleep(self.every).await;
            match self.ask(worker, &target, &events).await {
                Ok(()) => failures = 0,
                Err(reason) => {
                    failures += 1;
                    if failures >= PATIENCE {
                        failures = 0;
                        events.send(Event::Unhealthy(worker, reason));
                    }
                }
            }
        }
    }

    /// One check. One that hangs has failed.
    async fn ask(&self, worker: WorkerId, target: &Target, events: &Sink<Event>) -> Result<(), String> {
        let asked = async {
            match (&self.check, target) {
                (ReadyCheck::Http(path), Target::HandOver) => {
                    get(hand_over(worker, events).await?, path).await
                }
                (ReadyCheck::Http(path), Target::Own(address)) => {
                    get(TcpStream::connect(address).await.map_err(|error| error.to_string())?, path).await
                }
                (ReadyCheck::Command(command), Target::Process(asked)) => run(command, asked).await,
                (ReadyCheck::Http(_), Target::Process(_))
                | (ReadyCheck::Command(_), Target::HandOver | Target::Own(_)) => {
                    Err("this worker cannot be asked in this way".to_owned())
                }
            }
        };
        match timeout(self.timeout, asked).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }
}

/// Makes a connection and hands its other end to the worker.
async fn hand_over(worker: WorkerId, events: &Sink<Event>) -> Result<TcpStream, String> {
    let (ours, theirs) = pair().await.map_err(|error| format!("no connection could be made: {error}"))?;
    let (reply, taken) = oneshot::channel();
    // If the supervisor is gone, the reply is dropped with the message.
    events.send(Event::HandOver(worker, HandOver { connection: theirs, reply }));
    match taken.await {
        Ok(true) => Ok(ours),
        Ok(false) | Err(_) => Err("it has no server to be asked on".to_owned()),
    }
}

/// The two ends of a TCP connection within this machine. The server sees an ordinary connection from 127.0.0.1.
async fn pair() -> io::Result<(TcpStream, OwnedFd)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let expected = ours.local_addr()?;
    loop {
        let (theirs, peer) = listener.accept().await?;
        // Somebody else may have found the port.
        if peer == expected {
            return Ok((ours, theirs.into_std()?.into()));
        }
    }
}

/// A GET, as short as it can be, and what its status says.
async fn get(mut stream: TcpStream, path: &str) -> Result<(), String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: recluster\r\nConnection: close\r\n\r\n"
    );
    let lost = |error: io::Error| error.to_string();
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut head = Vec::with_capacity(HEAD);
    while !head.contains(&b'\n') && head.len() < HEAD {
        if stream.read_buf(&mut head).await.map_err(lost)? == 0 {
            break;
        }
    }
    match status_of(&head) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("GET {path} was answered with status {status}")),
        None => Err(format!("GET {path} was not answered in HTTP")),
    }
}

fn status_of(head: &[u8]) -> Option<u16> {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().next()?;
    let (version, rest) = line.split_once(' ')?;
    version.starts_with("HTTP/1.").then(|| rest.get(..3)?.parse().ok())?
}

async fn run(command: &str, asked: &Asked) -> Result<(), String> {
    let mut check = Command::new("/bin/sh");
    let environment = asked.env.iter().filter(|(name, _)| !is_withheld(name));
    check.args(["-c", command]).current_dir(&asked.directory).env_clear().envs(environment);
    check.env("RECLUSTER_PID", asked.pid.to_string()).env("WORKER_ID", asked.slot.to_string());
    check.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match shell_command::run_to_end(&mut check).await {
        Ok(Exit::Code(0)) => Ok(()),
        Ok(Exit::Code(code)) => Err(format!("`{command}` ended with status {code}")),
        Ok(Exit::Signal(signal)) => Err(format!("`{command}` was ended by {}", signal_name(signal))),
        Err(error) => Err(format!("`{command}` could not be run: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_as_they_are_written() {
        let http = ReadyCheck::Http("/healthz?full=1".to_owned());
        assert_eq!("/healthz?full=1".parse(), Ok(http.clone()));
        assert_eq!("http:/healthz?full=1".parse(), Ok(http));
        assert_eq!("exec: ./check.sh".parse(), Ok(ReadyCheck::Command("./check.sh".to_owned())));
        for wrong in ["", "healthz", "http:healthz", "http://a/b c", "exec:", "/a\r\nb"] {
            let error = wrong.parse::<ReadyCheck>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("'{wrong}' is no check: write http:/path, or exec: and a command")
            );
        }
    }

    #[test]
    fn a_status_is_read_from_the_first_line() {
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status_of(b"HTTP/1.0 503\r\n"), Some(503));
        for nonsense in [&b""[..], b"SSH-2.0-OpenSSH", b"HTTP/1.1 ok", b"HTTP/1.1"] {
            assert_eq!(status_of(nonsense), None);
        }
    }

    fn asked() -> Asked {
        let env = [("KEY".into(), "x".into()), ("PATH".into(), "/usr/bin:/bin".into())].into();
        Asked { pid: 7, slot: 1, directory: "/".into(), env }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_command_says_by_its_status() {
        runtime().block_on(async {
            assert_eq!(
                run(
                    "test $RECLUSTER_PID = 7 && test $WORKER_ID = 1 && test $KEY = x && test $PWD = /",
                    &asked()
                )
                .await,
                Ok(())
            );
            assert_eq!(run("exit 3", &asked()).await, Err("`exit 3` ended with status 3".to_owned()));
        });
    }

    #[test]
    fn a_check_that_hangs_has_failed_and_is_ended() {
        let checks = Checks {
            check: ReadyCheck::Command("sleep 60".to_owned()),
            every: Duration::ZERO,
            timeout: Duration::from_millis(50),
        };
        let target = Target::Process(asked());
        let asked = runtime().block_on(checks.ask(WorkerId::from_number(1), &target, &Sink::new(drop)));
        assert_eq!(asked, Err("no answer within 50ms".to_owned()));
    }

    #[test]
    fn the_two_ends_belong_together() {
        runtime().block_on(async {
            let (mut ours, theirs) = pair().await.unwrap();
            let theirs = std::net::TcpStream::from(theirs);
            theirs.set_nonblocking(true).unwrap();
            let mut theirs = TcpStream::from_std(theirs).unwrap();
            theirs.write_all(b"x").await.unwrap();
            assert_eq!(ours.read_u8().await.unwrap(), b'x');
        });
    }
}
