//! The act itself: this process becomes another program, and what it has left passes.

use std::env;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::process::Command;

use crate::sys;
use crate::upgrade::table::Passing;

/// Tells a program the number of the memory in which something is left to it.
pub(crate) const MEMORY: &str = "RECLUSTER_UPGRADE";
/// Tells a program that it was gone back to, and why.
pub(crate) const BACK: &str = "RECLUSTER_UPGRADE_BACK";

/// How much of that is told: the kernel takes no variable that is too long.
const LONGEST_REASON: usize = 1000;

/// All that it takes, laid out beforehand.
#[derive(Debug)]
pub(crate) struct Exec {
    program: OwnedFd,
    memory: OwnedFd,
    words: Vec<CString>,
    env: Vec<CString>,
    /// What passes beside the memory.
    numbers: Vec<RawFd>,
    /// Ended where it was in vain.
    guard: Option<Box<Guard>>,
}

/// A process that watches over it, from right before it.
#[derive(Debug)]
pub(crate) struct Guard {
    command: Command,
    /// What it is given.
    _held: Vec<OwnedFd>,
}

impl Guard {
    /// What is held is given to it by the command.
    pub(crate) fn new(command: Command, held: Vec<OwnedFd>) -> Self {
        Self { command, _held: held }
    }
}

impl Exec {
    /// A program with these arguments (the first is its name) and with the environment of this one, to which this memory and these
    /// descriptors pass. It is told why, where it is gone back to.
    pub(crate) fn new(
        (program, memory): (OwnedFd, OwnedFd),
        words: &[OsString],
        numbers: Vec<RawFd>,
        back: Option<&str>,
    ) -> io::Result<Self> {
        let own = [MEMORY, BACK];
        let kept = env::vars_os().filter(|(name, _)| !own.iter().any(|own| name == own));
        let told = back.map(|reason| {
            let reason: String = reason.replace('\0', " ").chars().take(LONGEST_REASON).collect();
            (BACK.into(), reason.into())
        });
        let memory_at = (MEMORY.into(), memory.as_fd().as_raw_fd().to_string().into());
        let pair = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            text(name)
        };
        Ok(Self {
            env: kept.chain([memory_at]).chain(told).map(pair).collect::<io::Result<_>>()?,
            words: words.iter().cloned().map(text).collect::<io::Result<_>>()?,
            program,
            memory,
            numbers,
            guard: None,
        })
    }

    /// Has this process watch over it.
    pub(crate) fn guarded(self, guard: Option<Guard>) -> Self {
        Self { guard: guard.map(Box::new), ..self }
    }

    /// Becomes it. Returns only where that cannot be, and then nothing passes any more. To be called by the first thread, with the signals
    /// blocked that mean something.
    pub(crate) fn perform(&mut self) -> io::Error {
        let guard = match self.guard.as_mut().map(|guard| guard.command.spawn()).transpose() {
            Ok(guard) => guard,
            Err(error) => return io::Error::new(error.kind(), format!("no guard can be started: {error}")),
        };
        let numbers = self.numbers.iter().copied().chain([self.memory.as_raw_fd()]);
        let error = match Passing::let_through(numbers) {
            Ok(_passing) => sys::execute(self.program.as_fd(), &self.words, &self.env),
            Err(error) => error,
        };
        if let Some(mut guard) = guard {
            // It was just started, so this does not take long.
            let _ = guard.kill();
            let _ = guard.wait();
        }
        error
    }
}

fn text(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(io::Error::from)
}
