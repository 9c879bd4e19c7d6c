//! A master of which a part has panicked may begin anew as the same process, where that is wanted: with the arguments, environment and
//! directory that it was started with, and with the listening sockets, which are the kernel's and so are what they were. Nothing else of
//! what it knew goes on: a step that has panicked may have changed half of it, and nobody can tell which half.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::process::binary;
use crate::process::guard;
use crate::process::launcher::Launcher;
use crate::process::successor::{Around, Unable};
use crate::upgrade::saving::Arrival;

/// One that panics again so soon would do it again and again.
const PROBATION: Duration = Duration::from_secs(60);

/// What is needed for that.
pub struct AfterPanic {
    /// What this process was started with.
    words: Vec<OsString>,
    own: OwnedFd,
    /// The limit on open files that this process was started with, if it is another now.
    open_files: Option<u64>,
    around: Box<dyn Around>,
    /// When this program began, if the one before has panicked.
    anew_since: Option<Instant>,
}

impl fmt::Debug for AfterPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterPanic").field("words", &self.words).finish_non_exhaustive()
    }
}

impl AfterPanic {
    /// For a process that was started with these words, and what is around its cluster. It may begin anew itself, after a panic.
    ///
    /// # Errors
    ///
    /// When its own program cannot be opened.
    pub fn new(
        words: Vec<OsString>,
        open_files: Option<u64>,
        has_panicked: bool,
        around: impl Around + 'static,
    ) -> io::Result<Self> {
        let own = binary::own()?;
        let anew_since = has_panicked.then(Instant::now);
        Ok(Self { words, own, open_files, around: Box::new(around), anew_since })
    }

    /// Whether the program before this one has panicked, which was the same process.
    pub(crate) fn has_panicked(&self) -> bool {
        self.anew_since.is_some()
    }

    /// Whether it has begun anew just now.
    pub(crate) fn is_too_soon(&self) -> bool {
        self.anew_since.is_some_and(|since| since.elapsed() < PROBATION)
    }

    /// Begins anew with these sockets, having let workers go. Returns only where that cannot be, and why. Blocks its thread.
    pub(crate) fn begin(
        &self,
        arrivals: &[Arrival],
        reason: &str,
        launcher: &Launcher,
        let_go: impl FnOnce(),
    ) -> Unable {
        let own = self.own.try_clone();
        let exec = own.and_then(|own| guard::anew(own, &self.words, self.open_files, arrivals, reason));
        let exec = match exec {
            Ok(exec) => exec,
            Err(error) => return Unable::Now(error.to_string()),
        };
        if let Err(reason) = self.around.hold() {
            return Unable::Now(reason);
        }
        let_go();
        let failed = launcher.become_it(exec);
        self.around.go_on();
        Unable::Now(failed.to_string())
    }
}
