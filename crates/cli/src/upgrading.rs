//! What this command leaves to the program that takes its place beside what its cluster leaves, goes on with, and says after a dry run.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use recluster::control::{Leaver, Socket, look_at_left};
use recluster::host::{
    self, AdoptError, Came, GUARD_COMMAND, GUARD_OPTION, Inheritance, REHEARSAL_COMMAND, REHEARSAL_OPTION,
    Rehearsed, SaveError, Saving, Seat, WayBack,
};
use recluster::{ClusterBuilder, admin};
use serde::{Deserialize, Serialize};

use crate::args::Command;
use crate::config::{CommandLine, Error as ConfigError, Invocation, Said, Word};
use crate::describe::{describe, set};
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::log::{Flusher, Journal, Memory, Remembered};
use crate::name::Name;
use crate::signals::{Gate, Terminal};
use crate::worker_lines;

const PART: &str = "command";
const LOG: &str = "log";

/// What was decided at the start, and holds for as long as the cluster does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) name: String,
    /// The limit on open files that this process was started with, if it is another now.
    pub(crate) open_files: Option<u64>,
    pub(crate) terminal: Terminal,
    pub(crate) pidfile: Option<Word>,
    /// What the command line and the config file said at the start.
    #[serde(default)]
    pub(crate) said: Said,
}

/// What is around a cluster, for the moment at which another program takes over.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    kept: Kept,
    gate: Gate,
    log: Flusher,
    remembered: Remembered,
    /// Unknown until it is served.
    control: Arc<OnceLock<Leaver>>,
    admin: Arc<OnceLock<admin::Leaver>>,
}

impl Around {
    pub(crate) fn new(kept: Kept, gate: Gate, journal: &Journal) -> Self {
        let (log, remembered) = (journal.flusher(), journal.remembered());
        Self { kept, gate, log, remembered, control: Arc::default(), admin: Arc::default() }
    }

    /// The limit on open files that this process was started with, if it is another now.
    pub(crate) fn open_files(&self) -> Option<u64> {
        self.kept.open_files
    }

    /// There is a control socket.
    pub(crate) fn has_control(&self, leaver: Leaver) {
        // There is one of them.
        let _ = self.control.set(leaver);
    }

    /// There is an admin listener.
    pub(crate) fn has_admin(&self, leaver: admin::Leaver) {
        // There is one of them.
        let _ = self.admin.set(leaver);
    }
}

impl host::Around for Around {
    fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        if let Some(control) = self.control.get() {
            control.save(saving)?;
        }
        if let Some(passed) = self.log.with_file(|file| saving.pass(file, LOG)) {
            passed?;
        }
        if let Some(admin) = self.admin.get() {
            admin.save(saving)?;
        }
        self.remembered.save(saving)?;
        saving.put(PART, &self.kept)
    }

    fn has_said_all(&self) -> Result<(), String> {
        if self.log.flush() { Ok(()) } else { Err("lines of the log wait, and nobody reads them".to_owned()) }
    }

    fn hold(&self) -> Result<(), String> {
        self.has_said_all()?;
        self.gate.hold()
    }

    fn go_on(&self) {
        self.gate.release();
    }
}

/// What the program before has left to this one.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) inheritance: Inheritance,
    pub(crate) came: Came,
    pub(crate) kept: Kept,
    pub(crate) name: Name,
    pub(crate) socket: Option<Socket>,
    /// The file of the log, if it was one, and what the log remembers.
    pub(crate) log: (Option<OwnedFd>, Memory),
}

impl Left {
    /// Must be called in a tokio runtime with IO enabled.
    pub(crate) fn read(mut inheritance: Inheritance) -> Result<Self, AdoptError> {
        let came = Came::of(&inheritance)?;
        let kept = kept_in(&inheritance)?;
        let name = name_in(&kept)?;
        let socket = Socket::adopt(&mut inheritance)?;
        let log = (inheritance.optional(LOG)?, Memory::left(&mut inheritance)?);
        Ok(Self { inheritance, came, kept, name, socket, log })
    }
}

/// What was decided at the start.
fn kept_in(inheritance: &Inheritance) -> Result<Kept, AdoptError> {
    let nothing = || AdoptError::Contradiction("nothing is said of the command".to_owned());
    inheritance.see(PART)?.ok_or_else(nothing)
}

fn name_in(kept: &Kept) -> Result<Name, AdoptError> {
    kept.name.parse().map_err(|_| AdoptError::Contradiction("its name is none".to_owned()))
}

/// By which the program before is gone back to, until nothing can fail any more. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Return(Arc<Mutex<Option<(WayBack, Seat)>>>);

impl Return {
    pub(crate) fn by(way_back: WayBack, seat: Seat) -> Self {
        Self(Arc::new(Mutex::new(Some((way_back, seat)))))
    }

    /// Nothing can fail any more: what was left is this program's alone.
    pub(crate) fn is_over(&self) {
        if let Some((way_back, _)) = self.take() {
            way_back.is_over();
        }
    }

    /// Goes back, if that can be. Returns where it cannot, and why.
    pub(crate) fn go(&self, reason: String) -> Option<String> {
        let (way_back, seat) = self.take()?;
        Some(seat.go_back(way_back, reason))
    }

    fn take(&self) -> Option<(WayBack, Seat)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is to be run: as the program before was told, unless the same is said still.
pub(crate) fn invocation(inheritance: &Inheritance, line: &CommandLine) -> Result<Invocation, Error> {
    as_told(&kept_in(inheritance)?.said, line.read())
}

/// What is said now, where it is the same as was said then or nothing is known of that; else that.
fn as_told(then: &Said, now: Result<Invocation, ConfigError>) -> Result<Invocation, Error> {
    match now {
        Ok(now) if then.is_empty() || now.said == *then => Ok(now),
        now if then.is_empty() => Ok(now?),
        _ => Ok(then.read()?),
    }
}

/// The number of a memory, and the words of a master, where this process was started for something else by this command and option.
fn asked(own: &str, own_option: &str) -> Option<(OsString, Vec<OsString>)> {
    let mut words = env::args_os();
    let name = words.next()?;
    let command = words.next()?;
    let option = words.next()?;
    let memory = option.to_str()?.strip_prefix(own_option)?;
    if command != own || words.next()? != "--" {
        return None;
    }
    Some((memory.into(), [name].into_iter().chain(words).collect()))
}

/// Watches over a master, where this process was started for that.
pub(crate) fn guard() -> Option<ExitStatus> {
    let (memory, words) = asked(GUARD_COMMAND, GUARD_OPTION)?;
    let Err(reason) = host::keep_watch(&memory, &words) else { return Some(ExitStatus::Success) };
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "recluster: {reason}");
    Some(ExitStatus::Failure)
}

/// Looks at all that this program would be left, where it was started for that; says what comes of it.
pub(crate) fn rehearse() -> Option<ExitStatus> {
    let (memory, words) = asked(REHEARSAL_COMMAND, REHEARSAL_OPTION)?;
    let said = Rehearsed::of(looks(&memory, words));
    let written = serde_json::to_string(&said).map_err(io::Error::from);
    let written = written.and_then(|line| writeln!(io::stdout(), "{line}"));
    Some(if written.is_ok() { ExitStatus::Success } else { ExitStatus::Failure })
}

/// Whether a cluster could go on so. All is looked at, and nothing is begun.
fn looks(memory: &OsString, words: Vec<OsString>) -> Result<(), String> {
    let mut inheritance = Inheritance::in_memory(memory).map_err(|error| error.to_string())?;
    let line = CommandLine::new(words, recluster::logical_directory());
    let line = line.map_err(|error| error.to_string())?;
    // What is wrong by now would be so at the next reload.
    let now = line.read().map_err(|error| error.to_string())?;
    let kept = kept_in(&inheritance).map_err(|error| error.to_string())?;
    let name = name_in(&kept).map_err(|error| error.to_string())?;
    let invocation = as_told(&kept.said, Ok(now)).map_err(|error| error.to_string())?;
    let Command::Run(run) = invocation.command else {
        return Err("it takes the words that the master was started with for another command".to_owned());
    };
    let looked = Came::of(&inheritance).and_then(|_| Memory::left(&mut inheritance));
    let looked = looked.and_then(|_| look_at_left(&mut inheritance));
    looked.map_err(|error| error.to_string())?;
    let builder = set(describe(&run), worker_lines::style(&run, &name), ClusterBuilder::line_style);
    builder.rehearse(&mut inheritance).map_err(|error| error.to_string())
}
