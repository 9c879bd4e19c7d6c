//! Workers' stderr: forwarded to the master's own stderr by whole lines, with the last ones kept for verdicts. If the reader
//! of the master's stderr is too slow, the worker waits or lines are lost, and their number is reported ([`Unread`]).
//!
//! [`Unread`]: crate::config::unread::Unread

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout_at;

use crate::process::event::Event;
use crate::process::exception::Exception;
use crate::process::forwarder::{Forwarder, LONGEST_PIECE, Lane};
use crate::process::in_use;
use crate::sink::Sink;
use crate::socket::holder::Wanted;

/// How many of the last bytes of a worker's stderr are kept.
const TAIL_BYTES: usize = 16 * 1024;
/// How many lines of these a verdict shows.
const TAIL_LINES: usize = 20;
/// How much of a worker's stderr is read at a time.
const STDERR_CHUNK: usize = 8 * 1024;
/// A line that is longer is passed on in pieces, in bytes.
const LONGEST_LINE: usize = LONGEST_PIECE - STDERR_CHUNK;
/// How long the end of a line is waited for before its beginning is passed on.
const LINE_WAIT: Duration = Duration::from_millis(100);
/// How often lost lines are reported.
const TELL_OF_LOSS: Duration = Duration::from_secs(1);

/// The last bytes that a worker wrote to its stderr.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(TAIL_BYTES);
        kept.drain(..excess);
    }

    fn text(&self) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }

    /// The last exception among what is kept. It may stand far above the last lines.
    pub(crate) fn exception(&self) -> Option<Exception> {
        Exception::last_in(&self.text())
    }

    /// The last line that says of an address that it is in use, one that names it first.
    pub(crate) fn address_in_use(&self) -> Option<String> {
        in_use::line_in(&self.text(), |line| Wanted::in_words(line).is_some())
    }

    /// The last lines, oldest first, without empty ones at either end.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.text();
        let lines: Vec<&str> = text.trim_matches('\n').lines().map(str::trim_end).collect();
        let skipped = lines.len().saturating_sub(TAIL_LINES);
        lines.into_iter().skip(skipped).map(str::to_owned).collect()
    }
}

/// Cuts what a worker writes into whole lines.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// When it is passed on without its end.
    due: Option<Instant>,
    /// The beginning of a line was passed on without its end.
    open: bool,
}

impl Lines {
    /// Takes what was read; returns what can be passed on.
    fn take(&mut self, words: &[u8]) -> Vec<u8> {
        self.partial.extend_from_slice(words);
        let whole = self.partial.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        if whole == 0 && self.partial.len() >= LONGEST_LINE {
            return self.take_partial();
        }
        let rest = self.partial.split_off(whole);
        let begun = self.due.filter(|_| whole == 0);
        self.due = (!rest.is_empty()).then(|| begun.unwrap_or_else(|| Instant::now() + LINE_WAIT));
        self.open &= whole == 0;
        std::mem::replace(&mut self.partial, rest)
    }

    /// What there is of a line.
    fn take_partial(&mut self) -> Vec<u8> {
        self.due = None;
        self.open |= !self.partial.is_empty();
        std::mem::take(&mut self.partial)
    }

    /// What there is of the last line, and its end.
    fn end(&mut self) -> Vec<u8> {
        let mut rest = self.take_partial();
        if std::mem::take(&mut self.open) {
            rest.push(b'\n');
        }
        rest
    }
}

/// A worker's stderr on its way to the master's.
pub(super) struct Stderr {
    worker: WorkerId,
    pipe: AsyncFd<OwnedFd>,
    tail: Tail,
    lines: Lines,
    /// Lines that were lost and not reported yet.
    lost: u64,
    told: Instant,
    lane: Lane,
    events: Sink<Event>,
}

impl Stderr {
    pub(super) fn new(
        worker: WorkerId,
        pipe: AsyncFd<OwnedFd>,
        tail: Tail,
        forwarder: &Forwarder,
        events: Sink<Event>,
    ) -> Self {
        let (lines, lane) = (Lines::default(), forwarder.lane());
        Self { worker, pipe, tail, lines, lost: 0, told: Instant::now(), lane, events }
    }

    /// Waits for output and forwards it. False at the end of the pipe. Without a pipe it waits for ever.
    pub(super) async fn pass_on(stderr: Option<&mut Self>) -> bool {
        let Some(stderr) = stderr else { return std::future::pending().await };
        // While there is no room the pipe is left unread, and the worker waits when that is full.
        stderr.lane.room().await;
        let due = stderr.lines.due;
        let Some(ready) = until(due, stderr.pipe.readable()).await else {
            let partial = stderr.lines.take_partial();
            stderr.leave(&partial, false);
            return true;
        };
        // Not while it is waited: the room would be a part of every worker's task.
        let mut chunk = [0_u8; STDERR_CHUNK];
        let read = match ready {
            Ok(mut ready) => ready.try_io(|pipe| Ok(rustix::io::read(pipe.get_ref(), &mut chunk)?)),
            Err(_) => return false,
        };
        match read {
            Ok(Ok(0)) => {
                stderr.end();
                false
            }
            Ok(Ok(count)) => {
                stderr.take(chunk.get(..count).unwrap_or_default(), false);
                true
            }
            Ok(Err(error)) => error.kind() == io::ErrorKind::Interrupted,
            // There was nothing to read.
            Err(_) => true,
        }
    }

    /// Forwards what is in the pipe at the worker's end. A child of the worker may go on to write to it.
    pub(super) fn take_last_words(&mut self) {
        let mut left = rustix::io::ioctl_fionread(self.pipe.get_ref()).unwrap_or(0);
        let mut chunk = [0_u8; STDERR_CHUNK];
        while left > 0 {
            match rustix::io::read(self.pipe.get_ref(), &mut chunk) {
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    left = left.saturating_sub(count as u64);
                    self.take(chunk.get(..count).unwrap_or_default(), true);
                }
            }
        }
        self.end();
    }

    fn end(&mut self) {
        let rest = self.lines.end();
        self.leave(&rest, true);
        self.tell_of_loss();
    }

    fn take(&mut self, words: &[u8], last: bool) {
        self.tail.push(words);
        let lines = self.lines.take(words);
        self.leave(&lines, last);
        if self.told.elapsed() >= TELL_OF_LOSS {
            self.tell_of_loss();
        }
    }

    fn leave(&mut self, lines: &[u8], last: bool) {
        if !lines.is_empty() && !self.lane.leave(lines, last) {
            self.lost += lines.split(|&byte| byte == b'\n').count().saturating_sub(1).max(1) as u64;
        }
    }

    fn tell_of_loss(&mut self) {
        self.told = Instant::now();
        if self.lost > 0 {
            // The supervisor is gone only when the cluster is over.
            self.events.send(Event::LinesLost(self.worker, std::mem::take(&mut self.lost)));
        }
    }
}

/// None if that takes until then.
async fn until<T>(due: Option<Instant>, what: impl Future<Output = T>) -> Option<T> {
    match due {
        None => Some(what.await),
        Some(due) => timeout_at(due.into(), what).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_end() {
        let tail = Tail::default();
        for number in 0..100_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 99999"));
    }

    #[test]
    fn an_exception_is_found_above_the_last_lines() {
        let tail = Tail::default();
        tail.push(b"Error: no database\n    at boot (/srv/server.js:7:5) {\n");
        for number in 0..100 {
            tail.push(format!("  field{number}: 'value',\n").as_bytes());
        }
        assert!(!tail.lines().concat().contains("no database"));
        let exception = tail.exception().map(|exception| exception.to_string());
        assert_eq!(exception.as_deref(), Some("Error: no database (at /srv/server.js:7:5)"));
    }

    #[test]
    fn lines_are_passed_on_when_they_are_whole() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"one\ntw"), b"one\n");
        assert!(lines.due.is_some());
        assert_eq!(lines.take(b"o"), b"");
        assert_eq!(lines.take(b"\n"), b"two\n");
        assert_eq!(lines.due, None);
        assert_eq!(lines.end(), b"");
    }

    #[test]
    fn the_beginning_of_a_line_is_passed_on_when_its_end_does_not_come() {
        let mut lines = Lines::default();
        lines.take(b"a prompt> ");
        assert_eq!(lines.take_partial(), b"a prompt> ");
        assert_eq!(lines.take(b"its answer"), b"");
        assert_eq!(lines.end(), b"its answer\n", "what others say begins on a line of its own");
        assert_eq!(lines.end(), b"");
        lines.take(b"another> ");
        lines.take_partial();
        assert_eq!(lines.end(), b"\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_on_in_pieces() {
        let mut lines = Lines::default();
        let mut passed_on = 0;
        for _ in 0..100 {
            let piece = lines.take(&[b'x'; STDERR_CHUNK]);
            assert!(piece.len() <= LONGEST_PIECE);
            passed_on += piece.len();
        }
        assert_eq!(passed_on + lines.end().len(), 100 * STDERR_CHUNK + 1);
    }

    /// Each worker has such a task for as long as it lives.
    #[test]
    fn whoever_waits_for_output_holds_no_room_for_it() {
        assert!(size_of_val(&Stderr::pass_on(None)) < STDERR_CHUNK / 4);
    }

    #[test]
    fn a_tail_without_words_is_empty() {
        assert!(Tail::default().lines().is_empty());
        assert_eq!(Tail::default().exception(), None);
    }
}
