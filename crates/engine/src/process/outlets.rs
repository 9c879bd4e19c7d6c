//! Where what workers write goes: to the master's stdout and stderr or to files, and into the ring of the last lines.

use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::output::Output;
use crate::guard::Panicked;
use crate::process::console::Console;
use crate::process::event::Event;
use crate::process::forwarder::{self, Forwarder, Lane};
use crate::process::ring::{self, Ring};
use crate::process::slot_files::SlotFiles;
use crate::process::source::Source;
use crate::report::error::StartError;
use crate::report::stream::Stream;
use crate::sink::Sink;
use crate::upgrade::store::{Store, Taken};
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving};

/// How long the end of a line is waited for before its beginning is passed on.
const LINE_WAIT: Duration = Duration::from_millis(100);
/// The same where each line has a style: its beginning becomes a line of its own.
const STYLED_WAIT: Duration = Duration::from_secs(1);

/// Where what workers write goes.
#[derive(Clone, Debug)]
pub(crate) struct Outlets {
    stderr: Forwarder,
    /// The same one where both go to files. None where stdout does not pass through the master.
    stdout: Option<Forwarder>,
    ring: Ring,
    /// Each line has a style, and stands alone.
    is_styled: bool,
}

/// What another program goes on with.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Left {
    stderr: forwarder::Left,
    /// None where both go to files, or stdout does not pass through the master.
    stdout: Option<forwarder::Left>,
    ring: ring::Kept,
    /// Whether stdout passes through the master.
    takes_stdout: bool,
}

/// The name of the part.
const PART: &str = "outlets";
/// The purpose of the memory with what waits to be written.
const WAITING: &str = "outlets/waiting";

impl Left {
    /// What was left, to go on with.
    pub(crate) fn of(output: &Output, inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let mut left = Self::read(output, inheritance)?;
        left.ring = left.ring.complete(inheritance)?;
        let taken = Taken::of(WAITING, inheritance)?;
        left.stdout.iter_mut().chain([&mut left.stderr]).try_for_each(|left| left.take(&taken))?;
        Ok(left)
    }

    /// What was left, for a program that only looks at it. What passes through the master is what did before.
    pub(crate) fn read(output: &Output, inheritance: &mut Inheritance) -> Result<Self, AdoptError> {
        let left: Self = inheritance.needed(PART)?;
        if left.takes_stdout == output.takes_stdout() {
            return Ok(left);
        }
        let now = if left.takes_stdout { "no longer does" } else { "does now" };
        Err(AdoptError::Contradiction(format!(
            "by the settings, what workers write to stdout {now} pass through the master: that takes a restart"
        )))
    }
}

impl Outlets {
    /// Opens what is to be opened for a cluster of so many slots.
    /// `passes_stderr` says whether any of what workers write to their stderr comes here. With what another program has left, nothing
    /// is written before it is told to go on.
    pub(crate) fn start(
        output: Output,
        slots: u32,
        passes_stderr: bool,
        left: Option<Left>,
        events: Sink<Event>,
    ) -> Result<Self, StartError> {
        let system = |what| move |source| StartError::System { what, source };
        let tell = events.clone();
        let panicked = Sink::new(move |panic: Panicked| tell.send(Event::Panicked(panic)));
        let is_styled = output.style.is_some();
        let takes_stdout = output.takes_stdout();
        let streams = [(takes_stdout, Stream::Stdout), (passes_stderr, Stream::Stderr)];
        let ring =
            Ring::of(streams.into_iter().filter_map(|(passes, stream)| passes.then_some(stream)).collect());
        let (left_stderr, left_stdout) = match left {
            Some(Left { stderr, stdout, ring: kept, takes_stdout: _ }) => {
                ring.go_on(kept);
                (Some(stderr), Some(stdout.unwrap_or_default()))
            }
            None => (None, None),
        };
        let Output { unread, style, log } = output;
        let (stderr, stdout) = if let Some(log) = log {
            let directory = log.directory.clone();
            let mut left_stderr = left_stderr;
            let written = left_stderr.as_mut().map(|left| std::mem::take(&mut left.files));
            let files = SlotFiles::open(log, style, slots, written, events)
                .map_err(|source| StartError::WorkerLog { directory, source })?;
            let files = Forwarder::to_files(files, unread, left_stderr, panicked)
                .map_err(system("start the thread for worker logs"))?;
            (files.clone(), Some(files))
        } else {
            let stderr = Console::stderr(style.clone());
            let stderr = Forwarder::start(io::stderr(), stderr, unread, left_stderr, panicked.clone())
                .map_err(system("start the thread for stderr"))?;
            let stdout =
                || Forwarder::start(io::stdout(), Console::stdout(style)?, unread, left_stdout, panicked);
            let stdout =
                takes_stdout.then(stdout).transpose().map_err(system("start the thread for stdout"))?;
            (stderr, stdout)
        };
        Ok(Self { stderr, stdout, ring, is_styled })
    }

    #[cfg(test)]
    pub(super) fn to(stderr: Forwarder) -> Self {
        Self { stderr, stdout: None, ring: Ring::of(vec![Stream::Stderr]), is_styled: false }
    }

    /// The last lines.
    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn is_styled(&self) -> bool {
        self.is_styled
    }

    pub(super) fn line_wait(&self) -> Duration {
        if self.is_styled { STYLED_WAIT } else { LINE_WAIT }
    }

    /// A queue for one output of a worker.
    pub(super) fn lane(&self, source: Source) -> Lane {
        match (source.stream, &self.stdout) {
            (Stream::Stdout, Some(stdout)) => stdout.lane(source),
            (Stream::Stdout, None) | (Stream::Stderr, _) => self.stderr.lane(source),
        }
    }

    /// Writes nothing for now. False where one was in the middle of a piece until then: its reader does not read.
    pub(crate) fn rest(&self, until: Instant) -> bool {
        self.stdout.iter().chain([&self.stderr]).all(|forwarder| forwarder.rest(until))
    }

    /// Leaves all that workers have written to another program. All is to rest.
    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        let stdout = self.stdout.as_ref().filter(|stdout| !stdout.is(&self.stderr));
        let mut store = Store::new(WAITING);
        let left = Left {
            stderr: self.stderr.save(&mut store)?,
            stdout: stdout.map(|stdout| stdout.save(&mut store)).transpose()?,
            ring: self.ring.save(saving)?,
            takes_stdout: self.stdout.is_some(),
        };
        store.pass(saving)?;
        saving.put(PART, &left)
    }

    /// Does what takes long before all is to rest and to be saved.
    pub(crate) fn save_ahead(&self) {
        self.ring.write_ahead();
    }

    /// Goes on after a rest, or with what another program has left.
    pub(crate) fn go_on(&self) {
        self.ring.forget_ahead();
        self.stdout.iter().chain([&self.stderr]).for_each(Forwarder::go_on);
    }

    /// Opens files anew.
    pub(crate) fn reopen(&self) {
        self.stderr.reopen();
    }

    /// Waits until what workers wrote has been written, if that does not take too long.
    pub(crate) async fn flush(&self) {
        let stdout = async {
            if let Some(stdout) = &self.stdout {
                stdout.flush().await;
            }
        };
        // Where nobody reads either, the time of one is that of the other.
        tokio::join!(self.stderr.flush(), stdout);
    }
}
