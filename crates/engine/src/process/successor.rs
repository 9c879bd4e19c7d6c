//! The program that is to take this one's place by `exec`: it is found, rehearses with all that it would be left, and is become.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use humantime::format_rfc3339_millis;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::aside::aside;
use crate::config::service_manager::ServiceManager;
use crate::process::binary::{self, MORE_RIGHTS, Program, look, path_of_own};
use crate::process::guard::{self, in_words};
use crate::process::hands::Hands;
use crate::process::launcher::Launcher;
use crate::process::shell_command::{Rest, run_to_end};
use crate::report::event::Event;
use crate::report::status::MasterStatus;
use crate::sys;
use crate::upgrade::envelope::Envelope;
use crate::upgrade::exec::{Exec, Guard};
use crate::upgrade::inheritance::PROGRAM;
use crate::upgrade::{AdoptError, Inheritance, Moment, SaveError, Saving, memory, plain};

/// The version of recluster.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The part in which is said how it came to the upgrade.
pub(crate) const PART: &str = "upgrade";

/// How a rehearsal is asked for: by words that a recluster which knows of no upgrade refuses before it does anything.
pub const COMMAND: &str = "upgrade";
/// The same: the option that names the memory.
pub const OPTION: &str = "--rehearsal=";
/// How long it may take, and how long it may be looked for.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the master may have rested before it becomes another program: one that is that slow would take as long once more.
const MOST_REST: Duration = Duration::from_secs(2);
/// How much of what it writes is read.
const MOST_SAID: u64 = 64 * 1024;
/// How long a line of it may be that is told.
const LONGEST_REASON: usize = 500;

/// The process that the kernel starts first, in a container as well.
const FIRST_PROCESS: u32 = 1;

/// Why a cluster within another program is not upgraded.
pub(crate) const NOT_HERE: &str = "this cluster runs within another program, as with the npm package, and nothing can be put in that \
    program's place: restart it to upgrade";

/// The program around a cluster: what it leaves, and how it is held.
pub trait Around: Send + Sync {
    /// Adds what it leaves itself. Changes nothing.
    fn save(&self, saving: &mut Saving) -> Result<(), SaveError>;
    /// Whether nothing that was said waits to be written. To be asked while everything still goes on: it may take a moment.
    fn has_said_all(&self) -> Result<(), String>;
    /// From now on no signal is taken. An error says what was taken and is not obeyed yet; then they are taken as before.
    fn hold(&self) -> Result<(), String>;
    /// They are taken again.
    fn go_on(&self);
}

/// Signals are not taken. When this is dropped they are.
pub(crate) struct Held<'a>(&'a dyn Around);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.go_on();
    }
}

/// What is needed to put another program in this one's place.
pub struct Successor {
    /// What this process was started with.
    words: Vec<OsString>,
    /// Where its program was when it was started, or why that is not known.
    path: Result<PathBuf, String>,
    /// That program, whatever its path leads to by now.
    own: Result<OwnedFd, String>,
    around: Box<dyn Around>,
    /// How many upgrades there were.
    upgrades: u32,
    /// The limit on open files that this process was started with, if it is another now.
    open_files: Option<u64>,
}

impl fmt::Debug for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Successor").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The program, if it is not the one at the path by which this one was started.
    pub(crate) binary: Option<PathBuf>,
    /// It is only tried.
    pub(crate) dry_run: bool,
    /// Whatever is in its way now is waited for.
    pub(crate) wait: bool,
}

/// An upgrade that is done; or one that could be, where it was only tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Upgraded {
    /// The version of the master before.
    pub from: String,
    /// The version of the one now.
    pub to: String,
    /// For how long the master rested. Connections that it accepts itself have waited in the kernel.
    pub rested: Duration,
}

/// What a program says after a rehearsal, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "it says one of these")]
pub enum Rehearsed {
    /// It could take over.
    Ready {
        /// Its version.
        version: String,
    },
    /// It could not.
    Refused {
        /// Why not.
        reason: String,
    },
}

impl Rehearsed {
    /// What this program says.
    pub fn of(outcome: Result<(), String>) -> Self {
        match outcome {
            Ok(()) => Self::Ready { version: VERSION.to_owned() },
            Err(reason) => Self::Refused { reason },
        }
    }
}

/// Why a program was not become.
#[derive(Debug)]
pub(crate) enum Unable {
    /// Something was in the way at this moment.
    Now(String),
    /// It cannot be run.
    Ever(String),
}

/// What is left of the upgrade itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    /// Since when the master has rested.
    pub(crate) rests_since: Moment,
    /// How many upgrades there were before.
    #[serde(default)]
    upgrades: u32,
    /// The path by which the first program was started.
    #[serde(default, with = "plain")]
    path: Option<PathBuf>,
}

/// How it came that this program has taken the place of another.
#[derive(Debug)]
pub struct Came {
    from: String,
    back: Option<String>,
    rests_since: Instant,
    upgrades: u32,
    path: Option<PathBuf>,
}

impl Came {
    /// As it was left.
    ///
    /// # Errors
    ///
    /// When that cannot be read.
    pub fn of(inheritance: &Inheritance) -> Result<Self, AdoptError> {
        let left: Option<Left> = inheritance.see(PART)?;
        let Left { rests_since, upgrades, path } =
            left.ok_or_else(|| AdoptError::Contradiction("nothing is said of an upgrade".to_owned()))?;
        let back = inheritance.came_back().map(str::to_owned);
        let upgrades = if back.is_some() { upgrades } else { upgrades.saturating_add(1) };
        let from = inheritance.program().to_owned();
        Ok(Self { from, back, rests_since: rests_since.into(), upgrades, path })
    }

    /// The same as people are told it.
    pub(crate) fn event(&self) -> Event {
        if let Some(reason) = &self.back {
            return Event::UpgradeFailed { reason: reason.clone() };
        }
        let (from, to) = (self.from.clone(), VERSION.to_owned());
        Event::Upgraded { from, to, rested: self.rests_since.elapsed() }
    }

    /// What has come of it, now that connections are accepted.
    pub fn outcome(&self) -> Result<Upgraded, String> {
        match &self.back {
            Some(reason) => {
                Err(format!("the new program could not take over, and recluster {VERSION} goes on: {reason}"))
            }
            None => Ok(Upgraded {
                from: self.from.clone(),
                to: VERSION.to_owned(),
                rested: self.rests_since.elapsed(),
            }),
        }
    }
}

impl Successor {
    /// For a process that was started with these words, and what is around its cluster. To be called before its path can lead to anything
    /// else.
    pub fn new(
        words: Vec<OsString>,
        came: Option<&Came>,
        open_files: Option<u64>,
        around: impl Around + 'static,
    ) -> Self {
        let known = came.and_then(|came| came.path.clone());
        let path = known.map_or_else(|| path_of_own(words.first()).map_err(|error| error.to_string()), Ok);
        let upgrades = came.map_or(0, |came| came.upgrades);
        let own = binary::own().map_err(|error| error.to_string());
        Self { words, path, own, around: Box::new(around), upgrades, open_files }
    }

    fn left(&self, rests_since: Moment) -> Left {
        Left { rests_since, upgrades: self.upgrades, path: self.path.clone().ok() }
    }

    /// What the program around the cluster leaves.
    pub(crate) fn saving(&self) -> Result<Saving, SaveError> {
        let refused =
            |reason| SaveError::Refused(format!("the program that runs now cannot be read: {reason}"));
        let own = self.own.as_ref().map_err(refused)?;
        if sys::has_more_rights() {
            return Err(SaveError::Refused(format!("the program that runs now: {MORE_RIGHTS}")));
        }
        let mut saving = Saving::new(VERSION);
        saving.pass(own, PROGRAM)?;
        self.around.save(&mut saving)?;
        Ok(saving)
    }

    /// Whether nothing that this process has to say waits for a reader.
    pub(crate) fn has_said_all(&self) -> Result<(), SaveError> {
        self.around.has_said_all().map_err(SaveError::Refused)
    }

    /// From now on no signal is taken, for as long as this is there.
    pub(crate) fn hold(&self) -> Result<Held<'_>, SaveError> {
        self.around.hold().map_err(SaveError::Refused)?;
        Ok(Held(&*self.around))
    }

    /// Looks at the program, which may be on a disk that is slow.
    pub(crate) async fn find(&self, binary: Option<PathBuf>) -> Result<Program, String> {
        let unknown =
            |reason| format!("where this program is cannot be known ({reason}): name one (--binary)");
        let path = match binary {
            Some(path) => path,
            None => self.path.clone().map_err(unknown)?,
        };
        let shown = path.clone();
        let look = move || look(&path).map_err(|reason| format!("{}: {reason}", path.display()));
        // A file system that has gone may keep whoever asks it for ever.
        match timeout(LIMIT, aside(look)).await {
            Ok(looked) => looked.map_err(|error| error.to_string())?,
            Err(_) => {
                Err(format!("{}: nothing is heard of it within {} s", shown.display(), LIMIT.as_secs()))
            }
        }
    }

    /// Has the program look at all that it would be left. Its version, or why it cannot take over.
    pub(crate) async fn rehearse(
        &self,
        program: &Program,
        mut saving: Saving,
        hands: &Hands,
    ) -> Result<String, String> {
        let lacks = |error: io::Error| format!("it could not be tried: {error}");
        let rests_since = Instant::now().into();
        saving.put(PART, &self.left(rests_since)).map_err(|error| error.to_string())?;
        let (memory, numbers) = sealed(&saving.into_envelope().0).map_err(lacks)?;
        let (out, their_out) = ends().map_err(lacks)?;
        let (err, their_err) = ends().map_err(lacks)?;
        let command = self.rehearsal(program, &memory, numbers, their_out, their_err);
        let ended = async { tokio::join!(run_to_end(command, Rest::Dies, hands), said(out), said(err)) };
        let Ok((ended, out, err)) = timeout(LIMIT, ended).await else {
            return Err(format!(
                "the dry run of the new program took longer than {} s and was ended",
                LIMIT.as_secs()
            ));
        };
        let exit = ended.map_err(|error| format!("the new program cannot be run: {error}"))?;
        let last = out.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        match serde_json::from_str(last) {
            Ok(Rehearsed::Ready { version }) => Ok(version),
            Ok(Rehearsed::Refused { reason }) => Err(format!("the new program cannot take over: {reason}")),
            Err(_) => {
                let first = err.lines().map(str::trim).find(|line| !line.is_empty());
                let told =
                    first.map(|line| format!(": {}", line.chars().take(LONGEST_REASON).collect::<String>()));
                Err(format!(
                    "the new program is no recluster that could take over: its dry run ended {}{}",
                    in_words(exit),
                    told.unwrap_or_default()
                ))
            }
        }
    }

    fn rehearsal(
        &self,
        Program(program): &Program,
        memory: &OwnedFd,
        mut numbers: Vec<RawFd>,
        out: OwnedFd,
        err: OwnedFd,
    ) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        let (name, words) =
            self.words.split_first().map_or((None, &[][..]), |(name, words)| (Some(name), words));
        if let Some(name) = name {
            command.arg0(name);
        }
        numbers.push(memory.as_raw_fd());
        command.args([COMMAND, &format!("{OPTION}{}", memory.as_raw_fd()), "--"]).args(words);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        sys::term_when_parent_dies(&mut command);
        sys::inherit_nothing(&mut command);
        sys::pass(&mut command, numbers);
        command
    }

    /// Becomes the program, while signals are held. Returns only where that cannot be, and why; all is as before then. Blocks its thread.
    pub(crate) fn become_it(
        &self,
        Program(program): &Program,
        mut saving: Saving,
        rests_since: Instant,
        launcher: &Launcher,
        _held: &Held<'_>,
    ) -> Unable {
        if let Err(error) = saving.put(PART, &self.left(rests_since.into())) {
            return Unable::Ever(error.to_string());
        }
        let guard = match self.guard(&mut saving) {
            Ok(guard) => guard,
            Err(reason) => return Unable::Now(reason),
        };
        let (envelope, _kept) = saving.into_envelope();
        let exec = sealed(&envelope).and_then(|(memory, numbers)| {
            let exec = Exec::new((program.try_clone()?, memory), &self.words, numbers, None)?;
            Ok(exec.guarded(guard))
        });
        if let Some(reason) = is_too_long(rests_since.elapsed()) {
            return Unable::Ever(reason);
        }
        let failed = match exec {
            Ok(exec) => launcher.become_it(exec),
            Err(error) => error,
        };
        // The thread has something else to do, or there is no room for a process at the moment.
        let is_busy = failed.kind() == io::ErrorKind::WouldBlock;
        let call = failed.raw_os_error().map_or("", |_| " (execveat)");
        let reason = format!("this process cannot become the new program{call}: {failed}");
        if is_busy { Unable::Now(reason) } else { Unable::Ever(reason) }
    }

    /// What watches over the new program until it serves; none for the first process of a container, which takes all others with it, and
    /// which none of them can kill. A service manager starts a master again itself.
    fn guard(&self, saving: &mut Saving) -> Result<Option<Guard>, String> {
        if process::id() == FIRST_PROCESS {
            return Ok(None);
        }
        let is_restarted = ServiceManager::of_process().is_some();
        let guard = guard::guard(&self.words, self.open_files, is_restarted, saving);
        guard.map(Some).map_err(|error| format!("no guard can be started: {error}"))
    }
}

/// Why it is called off after the master has rested for so long.
fn is_too_long(rested: Duration) -> Option<String> {
    let (rested, most) = (rested.as_millis(), MOST_REST.as_millis());
    (rested > most).then(|| {
        format!("it was called off: the master had rested for {rested} ms by then, and is to rest for {most} ms at most")
    })
}

fn sealed(envelope: &Envelope) -> io::Result<(OwnedFd, Vec<RawFd>)> {
    let numbers = envelope.descriptors.iter().map(|entry| entry.number).collect();
    Ok((memory::seal(&envelope.write()?)?, numbers))
}

/// Our end of a pipe, and the one of the process that writes.
fn ends() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (theirs, ours) = pipe::pipe()?;
    Ok((ours, theirs.into_blocking_fd()?))
}

/// This program, which begins now.
pub(crate) fn now(successor: Option<&Successor>) -> MasterStatus {
    MasterStatus {
        version: VERSION.to_owned(),
        since: format_rfc3339_millis(SystemTime::now()).to_string(),
        upgrades: successor.map_or(0, |successor| successor.upgrades),
    }
}

/// What comes out of a pipe, as far as anybody reads it.
async fn said(pipe: pipe::Receiver) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is what there is.
    let _ = pipe.take(MOST_SAID).read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
