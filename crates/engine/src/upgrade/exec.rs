//! The act itself: this process becomes another program, and what it has left passes.

use std::env;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::sys;
use crate::upgrade::table::Passing;

/// Tells a program the number of the memory in which something is left to it.
pub(crate) const MEMORY: &str = "RECLUSTER_UPGRADE";
/// Tells a program that it was gone back to, and why.
pub(crate) const BACK: &str = "RECLUSTER_UPGRADE_BACK";
/// Tells the same program for how long it may try that: until this second of the monotonic clock.
pub(crate) const UNTIL: &str = "RECLUSTER_UPGRADE_UNTIL";

/// How often something is tried that the machine has no room for at the moment.
const PAUSE: Duration = Duration::from_millis(50);

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
    /// descriptors pass. It is told why, and until when it may try that, where it is gone back to.
    pub(crate) fn new(
        (program, memory): (OwnedFd, OwnedFd),
        words: &[OsString],
        numbers: Vec<RawFd>,
        back: Option<(&str, u64)>,
    ) -> io::Result<Self> {
        let back = back.map(|(reason, until)| [(BACK, short(reason)), (UNTIL, until.to_string())]);
        let told = back.into_iter().flatten().map(|(name, value)| (name.into(), value.into()));
        let memory_at = (MEMORY.into(), memory.as_fd().as_raw_fd().to_string().into());
        Self::told((program, memory), words, numbers, [memory_at].into_iter().chain(told))
    }

    /// The same, but that these arguments alone tell of the memory.
    pub(crate) fn by_words(
        (program, memory): (OwnedFd, OwnedFd),
        words: &[OsString],
        numbers: Vec<RawFd>,
    ) -> io::Result<Self> {
        Self::told((program, memory), words, numbers, [].into_iter())
    }

    fn told(
        (program, memory): (OwnedFd, OwnedFd),
        words: &[OsString],
        numbers: Vec<RawFd>,
        told: impl Iterator<Item = (OsString, OsString)>,
    ) -> io::Result<Self> {
        let own = [MEMORY, BACK, UNTIL];
        let kept = env::vars_os().filter(|(name, _)| !own.iter().any(|own| name == own));
        let pair = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            text(name)
        };
        Ok(Self {
            env: kept.chain(told).map(pair).collect::<io::Result<_>>()?,
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

    /// The same, which is tried for so long where the machine has no room for it at the moment.
    pub(crate) fn perform_within(&mut self, patience: Duration) -> io::Error {
        let until = Instant::now() + patience;
        loop {
            let error = self.perform();
            if !is_short(&error) || Instant::now() >= until {
                return error;
            }
            sleep(PAUSE);
        }
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

/// Whether it may be otherwise a moment later: memory, processes and descriptors come and go.
pub(crate) fn is_short(error: &io::Error) -> bool {
    let short = [libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENFILE];
    error.raw_os_error().is_some_and(|number| short.contains(&number))
}

/// So much of a reason as fits into a variable.
pub(crate) fn short(reason: &str) -> String {
    reason.replace('\0', " ").chars().take(LONGEST_REASON).collect()
}

fn text(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_otherwise_a_moment_later_is_tried_again() {
        let error = io::Error::from_raw_os_error;
        for number in [libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENFILE] {
            assert!(is_short(&error(number)), "{}", error(number));
        }
        for number in [libc::ENOENT, libc::EACCES, libc::EPERM, libc::ENOEXEC, libc::E2BIG] {
            assert!(!is_short(&error(number)), "{}", error(number));
        }
        assert!(!is_short(&io::Error::other("Cannot allocate memory")));
    }

    #[test]
    fn a_reason_is_told_as_far_as_a_variable_holds_it() {
        assert_eq!(short("a\0b"), "a b");
        assert_eq!(short(&"ä".repeat(LONGEST_REASON + 1)), "ä".repeat(LONGEST_REASON));
    }
}
