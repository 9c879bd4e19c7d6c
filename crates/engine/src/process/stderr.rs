//! Workers' stderr: forwarded to the master's own stderr, with the last lines kept for verdicts. A worker never blocks. If
//! the reader of the master's stderr is too slow, lines are lost, and their number is reported.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use tokio::io::unix::AsyncFd;

use crate::process::event::Event;
use crate::process::exception::Exception;
use crate::sink::Sink;

/// How many of the last bytes of a worker's stderr are kept.
const TAIL_BYTES: usize = 16 * 1024;
/// How many lines of these a verdict shows.
const TAIL_LINES: usize = 20;
/// How much of a worker's stderr is read at a time.
const STDERR_CHUNK: usize = 8 * 1024;
/// How many chunks are read after the worker's end: more than fits into a pipe.
const LAST_CHUNKS: usize = 16;
/// How often lost lines are reported.
const TELL_OF_LOSS: Duration = Duration::from_secs(1);
/// How many chunks may wait for the reader of the master's stderr.
const CHUNKS_WAITING: usize = 256;

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

    /// The last lines, oldest first, without empty ones at either end.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.text();
        let lines: Vec<&str> = text.trim_matches('\n').lines().map(str::trim_end).collect();
        let skipped = lines.len().saturating_sub(TAIL_LINES);
        lines.into_iter().skip(skipped).map(str::to_owned).collect()
    }
}

/// The way to the master's stderr: a bounded queue, read by a thread that may block.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder(SyncSender<Vec<u8>>);

impl Forwarder {
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, chunks) = sync_channel::<Vec<u8>>(CHUNKS_WAITING);
        thread::Builder::new().name("recluster-stderr".to_owned()).stack_size(64 * 1024).spawn(
            move || {
                for chunk in chunks {
                    // If the reader of our stderr is gone, the workers serve all the same.
                    let _ = io::stderr().write_all(&chunk);
                }
            },
        )?;
        Ok(Self(sender))
    }

    /// Passes a chunk on; returns how many lines of it are lost because the reader is too slow.
    pub(crate) fn forward(&self, chunk: &[u8]) -> u64 {
        match self.0.try_send(chunk.to_vec()) {
            Err(TrySendError::Full(chunk)) => {
                chunk.split(|&byte| byte == b'\n').count().saturating_sub(1).max(1) as u64
            }
            Ok(()) | Err(TrySendError::Disconnected(_)) => 0,
        }
    }
}

/// A worker's stderr on its way to the master's.
pub(super) struct Stderr {
    worker: WorkerId,
    pipe: AsyncFd<OwnedFd>,
    tail: Tail,
    /// Lines that were lost and not reported yet.
    lost: u64,
    told: Instant,
    forwarder: Forwarder,
    events: Sink<Event>,
}

impl Stderr {
    pub(super) fn new(
        worker: WorkerId,
        pipe: AsyncFd<OwnedFd>,
        tail: Tail,
        forwarder: Forwarder,
        events: Sink<Event>,
    ) -> Self {
        Self { worker, pipe, tail, lost: 0, told: Instant::now(), forwarder, events }
    }

    /// Waits for output and forwards it. False at the end of the pipe. Without a pipe it waits for ever.
    pub(super) async fn pass_on(stderr: Option<&mut Self>) -> bool {
        let Some(stderr) = stderr else { return std::future::pending().await };
        let mut chunk = [0_u8; STDERR_CHUNK];
        let read = match stderr.pipe.readable().await {
            Ok(mut ready) => ready.try_io(|pipe| Ok(rustix::io::read(pipe.get_ref(), &mut chunk)?)),
            Err(_) => return false,
        };
        match read {
            Ok(Ok(0)) => {
                stderr.tell_of_loss();
                false
            }
            Ok(Ok(count)) => {
                stderr.take(chunk.get(..count).unwrap_or_default());
                true
            }
            Ok(Err(error)) => error.kind() == io::ErrorKind::Interrupted,
            // There was nothing to read.
            Err(_) => true,
        }
    }

    /// Forwards what is in the pipe after the worker's end. The amount is bounded: a child may still write to it.
    pub(super) fn take_last_words(&mut self) {
        let mut chunk = [0_u8; STDERR_CHUNK];
        for _ in 0..LAST_CHUNKS {
            match rustix::io::read(self.pipe.get_ref(), &mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(count) => self.take(chunk.get(..count).unwrap_or_default()),
            }
        }
        self.tell_of_loss();
    }

    fn take(&mut self, words: &[u8]) {
        self.tail.push(words);
        self.lost += self.forwarder.forward(words);
        if self.told.elapsed() >= TELL_OF_LOSS {
            self.tell_of_loss();
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
    fn a_tail_without_words_is_empty() {
        assert!(Tail::default().lines().is_empty());
        assert_eq!(Tail::default().exception(), None);
    }
}
