//! Health checks: a worker serves only after its check has passed, and is replaced if it fails several times in a row later.
//!
//! A check must reach one certain worker, although all workers share the listening sockets. For a Node worker the master
//! makes a connection and hands it to that worker. A program that is not Node is asked on a listener of its own, or by a
//! command that finds the worker's pid in its environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
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
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::config::ready::ReadyCheck;
use crate::guard::{Part, guarded_task};
use crate::process::event::{Event, HandOver};
use crate::process::hands::Hands;
use crate::process::privileges::Privileges;
use crate::process::shell_command::{Rest, run_to_end};
use crate::report::signal::signal_name;
use crate::sink::Sink;

/// The pause before a check that has not passed yet is made again.
const SOON: Duration = Duration::from_millis(250);
/// A serving worker that fails this many checks in a row is replaced.
const PATIENCE: u32 = 3;
/// How much of a response is read: its status line is enough.
const HEAD: usize = 1024;
/// Names the control socket to the command `recluster` and to its clients.
const CONTROL: &str = "RECLUSTER_CONTROL";

/// What people are told has panicked.
const PART: Part = Part::dispensable("what checks a worker");

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
    Process(Box<Asked>),
}

/// Whom a command asks about, and where it runs: as the worker does.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) pid: u32,
    pub(crate) slot: u32,
    pub(crate) directory: PathBuf,
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) privileges: Privileges,
}

impl Checks {
    /// Checks the worker until it passes, reports that, and goes on checking. The task is aborted when the worker ends.
    pub(crate) fn start(
        self,
        worker: WorkerId,
        target: Target,
        events: Sink<Event>,
        hands: Hands,
    ) -> JoinHandle<()> {
        let tell = events.clone();
        let panicked = Sink::new(move |panic| tell.send(Event::Unheard(worker, panic)));
        tokio::spawn(guarded_task(PART, panicked, self.watch(worker, target, events, hands)))
    }

    async fn watch(self, worker: WorkerId, target: Target, events: Sink<Event>, hands: Hands) {
        while let Err(reason) = self.ask(worker, &target, &events, &hands).await {
            events.send(Event::CheckFailed(worker, reason));
            sleep(SOON).await;
        }
        events.send(Event::CheckPassed(worker));
        let mut failures = 0;
        loop {
            sleep(self.every).await;
            match self.ask(worker, &target, &events, &hands).await {
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

    /// Makes one check. A check that hangs has failed.
    async fn ask(
        &self,
        worker: WorkerId,
        target: &Target,
        events: &Sink<Event>,
        hands: &Hands,
    ) -> Result<(), String> {
        let asked = async {
            match (&self.check, target) {
                (ReadyCheck::Http(path), Target::HandOver) => {
                    get(hand_over(worker, events).await?, path).await
                }
                (ReadyCheck::Http(path), Target::Own(address)) => {
                    get(TcpStream::connect(address).await.map_err(|error| error.to_string())?, path).await
                }
                (ReadyCheck::Command(command), Target::Process(asked)) => run(command, asked, hands).await,
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
    // If the supervisor is gone, the reply channel is dropped with the event.
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
        // Another process may have connected to the port.
        if peer == expected {
            return Ok((ours, theirs.into_std()?.into()));
        }
    }
}

/// Sends a GET request, and judges the status of the response.
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

/// The status in the first line of a response.
pub(crate) fn status_of(head: &[u8]) -> Option<u16> {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().next()?;
    let (version, rest) = line.split_once(' ')?;
    version.starts_with("HTTP/1.").then(|| rest.get(..3)?.parse().ok())?
}

async fn run(command: &str, asked: &Asked, hands: &Hands) -> Result<(), String> {
    let mut check = Command::new("/bin/sh");
    // An empty variable of ours is as if it were not set. Not every program that a command starts knows that.
    let is_unset = |name: &OsStr, value: &OsStr| is_withheld(name) || (name == CONTROL && value.is_empty());
    let environment = asked.env.iter().filter(|(name, value)| !is_unset(name, value));
    check.args(["-c", command]).current_dir(&asked.directory).env_clear().envs(environment);
    check.env("RECLUSTER_PID", asked.pid.to_string()).env("WORKER_ID", asked.slot.to_string());
    asked.privileges.give_user(&mut check);
    check.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match run_to_end(check, Rest::Dies, hands).await {
        Ok(Exit::Code(0)) => Ok(()),
        Ok(Exit::Code(code)) => Err(format!("`{command}` ended with status {code}")),
        Ok(Exit::Signal(signal)) => Err(format!("`{command}` was ended by {}", signal_name(signal))),
        Err(error) => Err(format!("`{command}` could not be run in {}: {error}", asked.directory.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::awaited::Awaited;
    use crate::process::hands::Chore;

    #[test]
    fn a_status_is_read_from_the_first_line() {
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status_of(b"HTTP/1.0 503\r\n"), Some(503));
        for nonsense in [&b""[..], b"SSH-2.0-OpenSSH", b"HTTP/1.1 ok", b"HTTP/1.1"] {
            assert_eq!(status_of(nonsense), None);
        }
    }

    /// This thread itself.
    fn hands() -> Hands {
        Hands::new(None, Awaited::default(), Sink::new(|chore: Chore| chore()))
    }

    fn asked() -> Asked {
        let env = [("KEY".into(), "x".into()), ("PATH".into(), "/usr/bin:/bin".into())].into();
        Asked { pid: 7, slot: 1, directory: "/".into(), env, privileges: Privileges::default() }
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
                    &asked(),
                    &hands()
                )
                .await,
                Ok(())
            );
            assert_eq!(
                run("exit 3", &asked(), &hands()).await,
                Err("`exit 3` ended with status 3".to_owned())
            );
        });
    }

    #[test]
    fn a_check_that_hangs_has_failed_and_is_ended() {
        let checks = Checks {
            check: ReadyCheck::Command("sleep 60".to_owned()),
            every: Duration::ZERO,
            timeout: Duration::from_millis(50),
        };
        let target = Target::Process(Box::new(asked()));
        let asked =
            runtime().block_on(checks.ask(WorkerId::from_number(1), &target, &Sink::new(drop), &hands()));
        assert_eq!(asked, Err("no answer within 50ms".to_owned()));
    }

    #[test]
    fn that_nobody_checks_the_worker_any_more_is_told_with_the_reason() {
        runtime().block_on(async {
            let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
            let sink = Sink::new(move |event| {
                assert!(!matches!(event, Event::CheckFailed(..)), "out of order");
                sender.send(event).unwrap();
            });
            let _checking = http("/").start(WORKER, Target::Process(Box::new(asked())), sink, hands());
            let Some(Event::Unheard(WORKER, panicked)) = events.recv().await else {
                panic!("it is not told")
            };
            assert_eq!((panicked.part, &*panicked.reason), (PART, "out of order"));
            assert!(panicked.place.unwrap().contains("health_check.rs:"));
        });
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

    fn http(path: &str) -> Checks {
        let check = ReadyCheck::Http(path.to_owned());
        Checks { check, every: Duration::ZERO, timeout: Duration::from_secs(30) }
    }

    /// Answers one connection after the other, each with the next of these responses; returns what was asked.
    async fn answer(listener: TcpListener, responses: &[&str]) -> Vec<String> {
        let mut asked = Vec::new();
        for response in responses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            asked.push(String::from_utf8(request).unwrap().lines().next().unwrap().to_owned());
            stream.write_all(response.as_bytes()).await.unwrap();
        }
        asked
    }

    const WORKER: WorkerId = WorkerId::from_number(1);

    #[test]
    fn an_http_check_goes_by_the_status() {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = Target::Own(listener.local_addr().unwrap());
            let checks = http("/healthz");
            let sink = Sink::new(|event| panic!("{event:?}"));
            let asking = async {
                let mut results = Vec::new();
                for _ in 0..4 {
                    results.push(checks.ask(WORKER, &target, &sink, &hands()).await);
                }
                results
            };
            let responses =
                ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 503 Busy\r\n\r\n", "SSH-2.0\r\n", ""];
            let (results, asked) = tokio::join!(asking, answer(listener, &responses));
            assert_eq!(asked, ["GET /healthz HTTP/1.1"; 4]);
            let not_http = || Err("GET /healthz was not answered in HTTP".to_owned());
            assert_eq!(
                results,
                [Ok(()), Err("GET /healthz was answered with status 503".to_owned()), not_http(), not_http()]
            );
            // Bound, and not listening.
            let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            let target = Target::Own(silent.local_addr().unwrap().as_socket().unwrap());
            let refused = checks.ask(WORKER, &target, &sink, &hands()).await;
            assert_eq!(refused, Err("Connection refused (os error 111)".to_owned()));
        });
    }

    #[test]
    fn a_check_that_cannot_reach_its_target_fails() {
        let sink = Sink::new(drop);
        let asked =
            runtime().block_on(http("/").ask(WORKER, &Target::Process(Box::new(asked())), &sink, &hands()));
        assert_eq!(asked, Err("this worker cannot be asked in this way".to_owned()));
    }

    #[test]
    fn a_node_worker_is_asked_over_a_connection_that_is_handed_to_it() {
        runtime().block_on(async {
            let checks = http("/");
            let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
            let sink = Sink::new(move |event| sender.send(event).unwrap());
            let worker = async {
                let Some(Event::HandOver(WORKER, HandOver { connection, reply })) = events.recv().await
                else {
                    panic!("no connection")
                };
                reply.send(true).unwrap();
                let stream = std::net::TcpStream::from(connection);
                stream.set_nonblocking(true).unwrap();
                TcpStream::from_std(stream).unwrap().write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
                let Some(Event::HandOver(WORKER, HandOver { reply, .. })) = events.recv().await else {
                    panic!("no connection")
                };
                reply.send(false).unwrap();
            };
            let asking = async {
                assert_eq!(checks.ask(WORKER, &Target::HandOver, &sink, &hands()).await, Ok(()));
                let refused = checks.ask(WORKER, &Target::HandOver, &sink, &hands()).await;
                assert_eq!(refused, Err("it has no server to be asked on".to_owned()));
            };
            tokio::join!(worker, asking);
        });
    }

    /// The first check fails and the second passes; after another failure and a success, three fail in a row.
    #[test]
    fn only_failures_in_a_row_make_a_serving_worker_unhealthy() {
        let directory = tempfile::tempdir().unwrap();
        // The n-th check ends with the n-th of these digits.
        let script = "n=$(wc -l < count); echo >> count; exit $(echo 101011100000 | cut -c $((n + 1)))";
        std::fs::write(directory.path().join("count"), "").unwrap();
        let check = ReadyCheck::Command(script.to_owned());
        let checks = Checks { check, every: Duration::ZERO, timeout: Duration::from_secs(30) };
        let target = Target::Process(Box::new(Asked { directory: directory.path().to_owned(), ..asked() }));
        runtime().block_on(async {
            let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
            let sink = Sink::new(move |event| sender.send(event).unwrap());
            let mut watching = std::pin::pin!(checks.watch(WORKER, target, sink, hands()));
            let mut heard = Vec::new();
            while heard.len() < 3 {
                tokio::select! {
                    () = &mut watching => panic!("a watch ends with its worker"),
                    event = events.recv() => heard.push(event.unwrap()),
                }
            }
            let [Event::CheckFailed(..), Event::CheckPassed(WORKER), Event::Unhealthy(WORKER, reason)] =
                &heard[..]
            else {
                panic!("{heard:?}")
            };
            assert!(reason.ends_with("ended with status 1"), "{reason}");
            let checks = std::fs::read_to_string(directory.path().join("count")).unwrap().lines().count();
            assert!(checks >= 7, "three in a row are the fifth to the seventh, not the third: {checks}");
        });
    }

    #[test]
    fn a_command_sees_a_control_socket_and_no_empty_variable() {
        let mut asked = asked();
        runtime().block_on(async {
            asked.env.insert(CONTROL.into(), "/run/it.sock".into());
            let command = "test \"$RECLUSTER_CONTROL\" = /run/it.sock";
            assert_eq!(run(command, &asked, &hands()).await, Ok(()));
            asked.env.insert(CONTROL.into(), "".into());
            assert_eq!(run("test -z \"${RECLUSTER_CONTROL+set}\"", &asked, &hands()).await, Ok(()));
        });
    }

    #[test]
    fn a_command_that_is_ended_by_a_signal_has_failed() {
        let ended = runtime().block_on(run("kill -9 $$", &asked(), &hands()));
        assert_eq!(ended, Err("`kill -9 $$` was ended by SIGKILL".to_owned()));
    }
}
