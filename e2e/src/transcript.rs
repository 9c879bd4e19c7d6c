//! Everything that a master and its workers said, in order, and the one way to wait for more of it.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::DEADLINE;
use crate::event::Event;
use crate::process::Process;

/// One line that was heard.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// An event of the master's log.
    Event(Event),
    /// Anything else on the master's stderr: its complaints, and what workers write to theirs.
    Stderr(String),
    /// The master's stdout: what workers write to theirs.
    Stdout(String),
}

impl Line {
    pub(crate) fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Stderr(_) | Self::Stdout(_) => None,
        }
    }

    pub(crate) fn stderr(&self) -> Option<&str> {
        match self {
            Self::Stderr(text) => Some(text),
            Self::Event(_) | Self::Stdout(_) => None,
        }
    }

    pub(crate) fn stdout(&self) -> Option<&str> {
        match self {
            Self::Stdout(text) => Some(text),
            Self::Event(_) | Self::Stderr(_) => None,
        }
    }
}

/// The growing list of lines, shared by the threads that read and the test that waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    lines: Vec<Line>,
    workers: Vec<Process>,
    open_sources: u32,
}

impl Transcript {
    /// Listens to the master's stderr: events and other lines.
    pub(crate) fn read_log(&self, source: impl Read + Send + 'static) {
        self.read(source, |text| Event::parse(&text).map_or(Line::Stderr(text), Line::Event));
    }

    /// Listens to a stderr without events.
    pub(crate) fn read_stderr(&self, source: impl Read + Send + 'static) {
        self.read(source, Line::Stderr);
    }

    /// Listens to the master's stdout.
    pub(crate) fn read_stdout(&self, source: impl Read + Send + 'static) {
        self.read(source, Line::Stdout);
    }

    /// Waits until `find` has found what it looks for among all lines so far.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &dyn fmt::Display, mut find: impl FnMut(&[Line]) -> Option<T>) -> T {
        let begin = Instant::now();
        let mut heard = self.heard();
        loop {
            if let Some(found) = find(&heard.lines) {
                return found;
            }
            let left = DEADLINE.saturating_sub(begin.elapsed());
            assert!(!left.is_zero(), "waited in vain for {what}");
            assert!(heard.open_sources > 0, "the master fell silent before {what}");
            heard = self.0.more.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until nobody can say anything more.
    #[track_caller]
    pub(crate) fn wait_silence(&self) {
        let begin = Instant::now();
        let mut heard = self.heard();
        while heard.open_sources > 0 {
            let left = DEADLINE.saturating_sub(begin.elapsed());
            assert!(!left.is_zero(), "waited in vain for the end of the output");
            heard = self.0.more.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a line of the stdout that contains this.
    #[track_caller]
    pub(crate) fn wait_stdout(&self, part: &str) -> String {
        self.wait(&format_args!("stdout with {part:?}"), |lines| {
            lines.iter().filter_map(Line::stdout).find(|text| text.contains(part)).map(str::to_owned)
        })
    }

    /// Waits for a line of the stderr that is no event and contains this.
    #[track_caller]
    pub(crate) fn wait_stderr(&self, part: &str) -> String {
        self.wait(&format_args!("stderr with {part:?}"), |lines| {
            lines.iter().filter_map(Line::stderr).find(|text| text.contains(part)).map(str::to_owned)
        })
    }

    /// Looks at all lines so far.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Line]) -> T) -> T {
        look(&self.heard().lines)
    }

    /// Looks at every worker that was ever started.
    pub(crate) fn with_workers<T>(&self, look: impl FnOnce(&[Process]) -> T) -> T {
        look(&self.heard().workers)
    }

    fn read(&self, source: impl Read + Send + 'static, classify: impl Fn(String) -> Line + Send + 'static) {
        self.heard().open_sources += 1;
        let transcript = self.clone();
        thread::spawn(move || {
            for bytes in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                transcript.push(classify(String::from_utf8_lossy(&bytes).into_owned()));
            }
            transcript.heard().open_sources -= 1;
            transcript.0.more.notify_all();
        });
    }

    fn push(&self, line: Line) {
        let mut heard = self.heard();
        if let Line::Event(event) = &line
            && event.name() == "spawned"
            // A worker that has ended already needs no handle.
            && let Ok(process) = Process::open(event.pid())
        {
            heard.workers.push(process);
        }
        heard.lines.push(line);
        self.0.more.notify_all();
    }

    /// A test that panicked elsewhere does not make the lines unreadable.
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.heard().lines {
            match line {
                Line::Event(event) => writeln!(f, "  {event}")?,
                Line::Stderr(text) => writeln!(f, "  stderr: {text}")?,
                Line::Stdout(text) => writeln!(f, "  stdout: {text}")?,
            }
        }
        Ok(())
    }
}
