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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use recluster_core::{Exit, WorkerId};
use recluster_wire::env::is_withheld;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use crate::config::ready::ReadyCheck;
use crate::guard::{Part, guarded_task};
use crate::process::event::{Event, HandOver};
use crate::process::hands::Hands;
use crate::process::privileges::Privileges;
use crate::process::shell_command::{self, Group, Rest};
use crate::report::signal::signal_name;
use crate::sink::Sink;
use crate::upgrade::{SaveError, plain};

/// The pause before a check that has not passed yet is made again.
const SOON: Duration = Duration::from_millis(250);
/// A serving worker that fails this many checks in a row is replaced.
const PATIENCE: u32 = 3;
/// How much of a response is read: its status line is enough.
const HEAD: usize = 1024;
/// Names the control socket to the command `recluster` and to its clients.
const CONTROL: &str = "RECLUSTER_CONTROL";

/// Of this the master has too little: it says nothing of the worker.
const SHORT: [i32; 6] =
    [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EAGAIN, libc::EADDRNOTAVAIL];

/// Why a check has not passed.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// The worker has failed it.
    Failed(String),
    /// It could not be made.
    NotMade(String),
}

impl Fault {
    /// What this error of the system means, where people are told of it in these words.
    fn of(error: &io::Error, words: String) -> Self {
        let is_short = error.raw_os_error().is_some_and(|errno| SHORT.contains(&errno));
        if is_short { Self::NotMade(words) } else { Self::Failed(words) }
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// What people are told has panicked.
const PART: Part = Part::dispensable("what checks a worker");

/// How often a worker is asked, and how long it may take to answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// How far the checks of a worker have come.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Course {
    /// It has passed once.
    has_passed: bool,
    /// How many it has failed in a row since then.
    failures: u32,
    /// The last one could be made.
    is_checked: bool,
    /// When the next one is made.
    #[serde(with = "plain")]
    next: Instant,
    /// One is being made.
    #[serde(skip)]
    asks: bool,
}

/// What is to be told of a check.
enum Said {
    Failed(String),
    Passed,
    NotMade(String),
    Unhealthy(String),
}

impl Course {
    /// One was made, or could not be.
    fn goes_on(&mut self, asked: Result<(), Fault>, every: Duration) -> Option<Said> {
        let now = Instant::now();
        (self.asks, self.next) = (false, now.checked_add(every).unwrap_or(now));
        match asked {
            Err(Fault::Failed(reason) | Fault::NotMade(reason)) if !self.has_passed => {
                self.next = now + SOON;
                Some(Said::Failed(reason))
            }
            Ok(()) if !self.has_passed => {
                self.has_passed = true;
                Some(Said::Passed)
            }
            Err(Fault::NotMade(reason)) => {
                std::mem::take(&mut self.is_checked).then_some(Said::NotMade(reason))
            }
            Ok(()) => {
                (self.is_checked, self.failures) = (true, 0);
                None
            }
            Err(Fault::Failed(reason)) => {
                (self.is_checked, self.failures) = (true, self.failures + 1);
                let is_enough = self.failures >= PATIENCE;
                is_enough.then(|| {
                    self.failures = 0;
                    Said::Unhealthy(reason)
                })
            }
        }
    }
}

/// The checks of a worker, which end with this.
#[derive(Debug)]
pub(crate) struct Checking {
    task: JoinHandle<()>,
    checks: Checks,
    course: Arc<Mutex<Course>>,
}

/// Checks that have not begun, or that another program goes on with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    checks: Checks,
    course: Course,
}

impl Checking {
    #[cfg(test)]
    pub(crate) fn of(checks: Checks, task: JoinHandle<()>) -> Self {
        let Left { checks, course } = checks.unbegun();
        Self { task, checks, course: Arc::new(Mutex::new(course)) }
    }

    /// Leaves them to another program. A connection that asks is made anew by that; a command would be cut off.
    pub(crate) fn save(&self) -> Result<Left, SaveError> {
        let course = *self.course.lock().unwrap_or_else(PoisonError::into_inner);
        if course.asks && matches!(self.checks.check, ReadyCheck::Command(_)) {
            return Err(SaveError::Refused("the command of a check runs".to_owned()));
        }
        Ok(Left { checks: self.checks.clone(), course })
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Left {
    pub(crate) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Checks the worker until it passes, reports that, and goes on checking.
    pub(crate) fn go_on(
        self,
        worker: WorkerId,
        target: Target,
        events: Sink<Event>,
        hands: Hands,
    ) -> Checking {
        let Self { checks, course } = self;
        let course = Arc::new(Mutex::new(course));
        let tell = events.clone();
        let panicked = Sink::new(move |panic| tell.send(Event::Unheard(worker, panic)));
        let watched = checks.clone().watch(worker, target, events, hands, Arc::clone(&course));
        Checking { task: tokio::spawn(guarded_task(PART, panicked, watched)), checks, course }
    }
}

impl Checks {
    /// That have not begun.
    pub(crate) fn unbegun(self) -> Left {
        let course =
            Course { has_passed: false, failures: 0, is_checked: true, next: Instant::now(), asks: false };
        Left { checks: self, course }
    }

    async fn watch(
        self,
        worker: WorkerId,
        target: Target,
        events: Sink<Event>,
        hands: Hands,
        shared: Arc<Mutex<Course>>,
    ) {
        let course = || shared.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = course().next;
            sleep_until(next.into()).await;
            course().asks = true;
            let asked = self.ask(worker, &target, &events, &hands).await;
            let told = course().goes_on(asked, self.every);
            if let Some(told) = told {
                events.send(match told {
                    Said::Failed(reason) => Event::CheckFailed(worker, reason),
                    Said::Passed => Event::CheckPassed(worker),
                    Said::NotMade(reason) => Event::NotChecked(worker, reason),
                    Said::Unhealthy(reason) => Event::Unhealthy(worker, reason),
                });
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
    ) -> Result<(), Fault> {
        match (&self.check, target) {
            (ReadyCheck::Http(path), Target::HandOver) => {
                self.in_time(async { get(hand_over(worker, events).await?, path).await }).await
            }
            (ReadyCheck::Http(path), Target::Own(address)) => {
                let asked = async {
                    let connected = TcpStream::connect(address).await;
                    get(connected.map_err(|error| Fault::of(&error, error.to_string()))?, path).await
                };
                self.in_time(asked).await
            }
            (ReadyCheck::Command(command), Target::Process(asked)) => {
                // It waits for whatever is being started, which may hang. The worker has no part in that.
                let late =
                    |_| Fault::NotMade(format!("`{command}` was not started within {:?}", self.timeout));
                let started = timeout(self.timeout, start(command, asked, hands)).await.map_err(late)?;
                self.in_time(ended(command, asked, started?)).await
            }
            (ReadyCheck::Http(_), Target::Process(_))
            | (ReadyCheck::Command(_), Target::HandOver | Target::Own(_)) => {
                Err("this worker cannot be asked in this way".to_owned().into())
            }
        }
    }

    async fn in_time(&self, asked: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
        match timeout(self.timeout, asked).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {:?}", self.timeout).into()),
        }
    }
}

/// Makes a connection and hands its other end to the worker.
async fn hand_over(worker: WorkerId, events: &Sink<Event>) -> Result<TcpStream, Fault> {
    let not_made = |error| Fault::NotMade(format!("no connection could be made: {error}"));
    let (ours, theirs) = pair().await.map_err(not_made)?;
    let (reply, taken) = oneshot::channel();
    // If the supervisor is gone, the reply channel is dropped with the event.
    events.send(Event::HandOver(worker, HandOver { connection: theirs, reply }));
    match taken.await {
        Ok(true) => Ok(ours),
        Ok(false) | Err(_) => Err("it has no server to be asked on".to_owned().into()),
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
async fn get(mut stream: TcpStream, path: &str) -> Result<(), Fault> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: recluster\r\nConnection: close\r\n\r\n"
    );
    let lost = |error: io::Error| Fault::Failed(error.to_string());
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut head = Vec::with_capacity(HEAD);
    while !head.contains(&b'\n') && head.len() < HEAD {
        if stream.read_buf(&mut head).await.map_err(lost)? == 0 {
            break;
        }
    }
    match status_of(&head) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("GET {path} was answered with status {status}").into()),
        None => Err(format!("GET {path} was not answered in HTTP").into()),
    }
}

/// The status in the first line of a response.
pub(crate) fn status_of(head: &[u8]) -> Option<u16> {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().next()?;
    let (version, rest) = line.split_once(' ')?;
    version.starts_with("HTTP/1.").then(|| rest.get(..3)?.parse().ok())?
}

/// Starts a command that asks.
async fn start(command: &str, asked: &Asked, hands: &Hands) -> Result<Group, Fault> {
    let mut check = Command::new("/bin/sh");
    // An empty variable of ours is as if it were not set. Not every program that a command starts knows that.
    let is_unset = |name: &OsStr, value: &OsStr| is_withheld(name) || (name == CONTROL && value.is_empty());
    let environment = asked.env.iter().filter(|(name, value)| !is_unset(name, value));
    check.args(["-c", command]).current_dir(&asked.directory).env_clear().envs(environment);
    check.env("RECLUSTER_PID", asked.pid.to_string()).env("WORKER_ID", asked.slot.to_string());
    asked.privileges.give_user(&mut check);
    check.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell_command::start(check, hands).await.map_err(|error| not_run(command, asked, &error))
}

/// What a command says by its end.
async fn ended(command: &str, asked: &Asked, started: Group) -> Result<(), Fault> {
    match started.ended(Rest::Dies).await {
        Ok(Exit::Code(0)) => Ok(()),
        Ok(Exit::Code(code)) => Err(format!("`{command}` ended with status {code}").into()),
        Ok(Exit::Signal(signal)) => Err(format!("`{command}` was ended by {}", signal_name(signal)).into()),
        Err(error) => Err(not_run(command, asked, &error)),
    }
}

fn not_run(command: &str, asked: &Asked, error: &io::Error) -> Fault {
    Fault::of(error, format!("`{command}` could not be run in {}: {error}", asked.directory.display()))
}

#[cfg(test)]
mod tests;
