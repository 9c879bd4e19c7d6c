//! Where what workers write goes: to the master's stdout and stderr or to files, and into the ring of the last lines.

use std::io;
use std::time::Duration;

use crate::config::output::Output;
use crate::guard::Panicked;
use crate::process::console::Console;
use crate::process::event::Event;
use crate::process::forwarder::{Forwarder, Lane};
use crate::process::ring::Ring;
use crate::process::slot_files::SlotFiles;
use crate::process::source::Source;
use crate::report::error::StartError;
use crate::report::stream::Stream;
use crate::sink::Sink;

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

impl Outlets {
    /// Opens what is to be opened for a cluster of so many slots.
    /// `passes_stderr` says whether any of what workers write to their stderr comes here.
    pub(crate) fn start(
        output: Output,
        slots: u32,
        passes_stderr: bool,
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
        let Output { unread, style, log } = output;
        let (stderr, stdout) = if let Some(log) = log {
            let directory = log.directory.clone();
            let files = SlotFiles::open(log, style, slots, events)
                .map_err(|source| StartError::WorkerLog { directory, source })?;
            let files = Forwarder::to_files(files, unread, panicked)
                .map_err(system("start the thread for worker logs"))?;
            (files.clone(), Some(files))
        } else {
            let stderr = Console::stderr(style.clone());
            let stderr = Forwarder::start(io::stderr(), stderr, unread, panicked.clone())
                .map_err(system("start the thread for stderr"))?;
            let stdout = || Forwarder::start(io::stdout(), Console::stdout(style)?, unread, panicked);
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
