//! The log: one line for each event, as text or as JSON. `words` says what events are called, `sink` writes the lines.

mod aside;
mod changes;
mod deaths;
mod ended;
mod lost;
mod memory;
mod note;
mod sink;
mod starts;
mod survivors;
mod words;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use humantime::format_rfc3339_millis;
use recluster::control::Recorder;
use recluster::{Event, Level};
use serde::Serialize;

use self::deaths::Sum;
pub(crate) use self::memory::{Memory, Remembered};
pub(crate) use self::note::{Kept, Note};
pub(crate) use self::sink::Flusher;
use self::sink::Sink;
use crate::args::{Around, LogFormat, Verbosity};
use crate::error::Error;
use crate::name::Name;
use crate::paint::{printable, printable_json};

/// What to do about workers that die all the time.
const BACKOFF: &str = "--backoff DUR lets more and more time pass between respawns";

/// Clears a terminal and what was scrolled out of it, and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// How long `docker stop` waits until it kills.
const PATIENCE_OF_DOCKER: Duration = Duration::from_secs(10);

/// Writes the log.
#[derive(Debug)]
pub(crate) struct Journal {
    sink: Sink,
    style: Style,
    verbosity: Verbosity,
    memory: Remembered,
    /// Whether `--backoff` would help where workers die all the time: it is not set.
    hints_at_backoff: bool,
    /// Whether a reload by a changed file begins with an empty terminal.
    clears: bool,
    /// Clients of the control socket who ask for events hear the command's own lines as well.
    recorder: Option<Recorder>,
}

/// How a line looks.
#[derive(Debug)]
struct Style {
    format: LogFormat,
    cluster: String,
}

impl Journal {
    /// Whether the log file, if there is to be one, could be opened. Makes no file.
    pub(crate) fn check(args: &Around) -> Result<(), Error> {
        args.log_file.as_deref().map_or(Ok(()), |path| {
            sink::check(path).map_err(|source| Error::Log { path: Some(path.to_owned()), source })
        })
    }

    /// Opens the log file, or takes stderr. Where the file cannot be opened by its path any more, it is the one that was left. It goes on
    /// with what it remembers.
    pub(crate) fn open(
        name: &Name,
        args: &Around,
        left: Option<OwnedFd>,
        memory: Memory,
    ) -> Result<Self, Error> {
        let sink = match &args.log_file {
            None => Sink::stderr(),
            Some(path) => Sink::file(path.clone(), left),
        };
        Ok(Self {
            sink: sink.map_err(|source| Error::Log { path: args.log_file.clone(), source })?,
            style: Style { format: args.log_format, cluster: name.to_string() },
            verbosity: args.verbosity(),
            memory: Remembered::new(memory),
            hints_at_backoff: false,
            clears: false,
            recorder: None,
        })
    }

    /// By which its lines are waited for.
    pub(crate) fn flusher(&self) -> Flusher {
        self.sink.flusher()
    }

    /// By which what it remembers is left to another program.
    pub(crate) fn remembered(&self) -> Remembered {
        self.memory.clone()
    }

    /// Waits until no line is written any more, which is a fault of ours.
    pub(crate) async fn fails(&self) {
        self.sink.ends().await;
    }

    /// What people should know of the container that this is, if it is one: why it has no control socket, and for how long the first
    /// process may stop.
    pub(crate) fn hint_at_surroundings(&mut self, missing: Option<String>, stop_takes: Option<Duration>) {
        if let Some(reason) = missing {
            self.note(&Note::ControlMissing { reason });
        }
        if let Some(takes) = stop_takes.filter(|takes| *takes > PATIENCE_OF_DOCKER) {
            self.note(&Note::StopIsLong { seconds: takes.as_secs_f64() });
        }
    }

    /// `--backoff` would help where workers die all the time.
    pub(crate) fn hint_at_backoff(&mut self) {
        self.hints_at_backoff = true;
    }

    /// A reload by a changed file begins with an empty screen, if people read the log on one.
    pub(crate) fn clear_screen(&mut self) {
        self.clears = self.style.format == LogFormat::Text && self.sink.is_terminal();
    }

    /// From now on the command's own lines are recorded here too.
    pub(crate) fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Writes an event of the cluster, if the verbosity has it. For people, one of too many alike is summed up instead.
    pub(crate) fn event(&mut self, event: &Event) {
        let mut memory = self.memory.lock();
        let meaning = memory.deaths.hear(event, Instant::now());
        let is_summed_up = meaning.is_one_of_many && self.is_short();
        let again = meaning.again_after.filter(|_| !is_summed_up);
        let needs = if again.is_some() || memory.narrator.leaves_clients(event) {
            Verbosity::Normal
        } else {
            words::needs(event)
        };
        let words = match (event, again) {
            (Event::Serving { worker, .. }, Some(after)) => words::serves_again(worker, after),
            _ => memory.narrator.words(event),
        };
        drop(memory);
        if self.clears && matches!(event, Event::FilesChanged { .. }) {
            self.write_aside();
            self.put(CLEAR.to_owned());
        }
        if needs <= self.verbosity && !is_summed_up {
            self.write_event(&words, event);
        }
        if let Some(sum) = meaning.sum {
            self.sum_up(sum);
        }
    }

    /// Whether people read the log, and do not want everything.
    fn is_short(&self) -> bool {
        self.style.format == LogFormat::Text && self.verbosity < Verbosity::Verbose
    }

    /// When [`look`](Self::look) has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        let memory = self.memory.lock();
        memory.deaths.due().into_iter().chain(memory.aside.due()).min()
    }

    /// Writes what waits, and says that a row of respawns is over, if it is.
    pub(crate) fn look(&mut self, now: Instant) {
        if self.memory.lock().aside.due().is_some_and(|due| due <= now) {
            self.write_aside();
        }
        let over = self.memory.lock().deaths.over(now);
        if let Some(sum) = over {
            self.sum_up(sum);
        }
    }

    fn sum_up(&mut self, sum: Sum) {
        let Sum { respawns, within, is_over } = sum;
        let hint = (self.hints_at_backoff && !is_over).then_some(BACKOFF);
        self.note(&Note::RespawnRow { respawns, seconds: within.as_secs_f64(), over: is_over, hint });
    }

    fn write_event(&mut self, words: &str, event: &Event) {
        if matches!(event, Event::Message { .. }) && !self.sink.has_room_for_chatter() {
            self.memory.lock().lost += 1;
            return;
        }
        self.memory.lock().aside.forget_what_is_said_again(event);
        if self.is_short() && aside::may_be_said_again(event) {
            self.write_aside();
            let line = self.style.line(SystemTime::now(), words, event);
            self.memory.lock().aside.put(event, line, Instant::now());
        } else {
            self.write(words, event);
        }
    }

    fn write_aside(&mut self) {
        let waiting = self.memory.lock().aside.take();
        if let Some(line) = waiting {
            self.put(line);
        }
    }

    /// Writes a note of the command itself, if the verbosity has it.
    pub(crate) fn note(&mut self, note: &Note) {
        if let Some(recorder) = &self.recorder
            && note.is_recorded()
        {
            recorder.note(note.level(), note);
        }
        if note.needs() <= self.verbosity {
            let line = self.memory.lock().narrator.line(note.words());
            self.write(&line, note);
        }
    }

    /// Opens the log file anew, as after a rotation.
    pub(crate) fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(()) => self.note(&Note::LogReopened),
            Err(error) => self.note(&Note::LogNotReopened { error: error.to_string() }),
        }
    }

    /// Waits a moment until everything is written.
    pub(crate) fn close(mut self) {
        self.write_aside();
        self.sink.close();
    }

    fn write(&mut self, words: &str, record: &impl Leveled) {
        self.write_aside();
        self.put(self.style.line(SystemTime::now(), words, record));
    }

    fn put(&mut self, line: String) {
        let mut memory = self.memory.lock();
        if memory.lost > 0 {
            let note = Note::LinesMissed { lines: memory.lost };
            let words = memory.narrator.line(note.words());
            if self.sink.write(self.style.line(SystemTime::now(), &words, &note)) {
                memory.lost = 0;
            }
        }
        if !self.sink.write(line) {
            memory.lost += 1;
        }
    }
}

impl Style {
    fn line(&self, now: SystemTime, words: &str, record: &impl Leveled) -> String {
        let time = format_rfc3339_millis(now).to_string();
        match self.format {
            LogFormat::Text => format!("{time} {} {}\n", self.cluster, printable(words)),
            LogFormat::Json => {
                let line = serde_json::to_string(&Record {
                    time,
                    cluster: &self.cluster,
                    level: record.level(),
                    what: record,
                });
                let line =
                    line.unwrap_or_else(|error| format!("{{\"event\":\"not_json\",\"error\":\"{error}\"}}"));
                printable_json(line) + "\n"
            }
        }
    }
}

/// What a line is made of.
trait Leveled: Serialize {
    /// How much it matters.
    fn level(&self) -> Level;
}

impl Leveled for Event {
    fn level(&self) -> Level {
        Self::level(self)
    }
}

impl Leveled for Note {
    fn level(&self) -> Level {
        Self::level(self)
    }
}

/// An event as a JSON line.
#[derive(Serialize)]
struct Record<'a, T> {
    time: String,
    cluster: &'a str,
    level: Level,
    #[serde(flatten)]
    what: &'a T,
}

#[cfg(test)]
mod tests;
