//! A worker's stdout or stderr on its way: to the master's own by whole lines, or to a file.
//! If the reader there is too slow, the worker waits or lines are lost, and their number is reported ([`Unread`]).
//!
//! [`Unread`]: crate::config::unread::Unread

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout_at;

use crate::process::event::Event;
use crate::process::forwarder::Lane;
use crate::process::lines::{CHUNK, Lines, count};
use crate::process::outlets::Outlets;
use crate::process::source::Source;
use crate::process::stderr::Tail;
use crate::sink::Sink;

/// How often lost lines are reported.
const TELL_OF_LOSS: Duration = Duration::from_secs(1);

/// One output of a worker on its way.
pub(super) struct Passage {
    source: Source,
    pipe: AsyncFd<OwnedFd>,
    /// What is kept for verdicts, of stderr.
    tail: Option<Tail>,
    lines: Lines,
    /// Lines that were lost and not reported yet.
    lost: u64,
    told: Instant,
    lane: Lane,
    events: Sink<Event>,
}

impl Passage {
    pub(super) fn new(
        source: Source,
        pipe: AsyncFd<OwnedFd>,
        tail: Option<Tail>,
        outlets: &Outlets,
        events: Sink<Event>,
    ) -> Self {
        Self {
            source,
            pipe,
            tail,
            lines: Lines::new(outlets.line_wait()),
            lost: 0,
            told: Instant::now(),
            lane: outlets.lane(source),
            events,
        }
    }

    /// Waits for output and forwards it. False at the end of the pipe. Without a pipe it waits for ever.
    pub(super) async fn pass_on(passage: Option<&mut Self>) -> bool {
        let Some(passage) = passage else { return std::future::pending().await };
        // While there is no room the pipe is left unread, and the worker waits when that is full.
        passage.lane.room().await;
        let due = passage.lines.due;
        let Some(ready) = until(due, passage.pipe.readable()).await else {
            let partial = passage.lines.take_partial();
            passage.leave(&partial, false);
            return true;
        };
        // Not while it is waited: the room would be a part of every worker's task.
        let mut chunk = [0_u8; CHUNK];
        let read = match ready {
            Ok(mut ready) => ready.try_io(|pipe| Ok(rustix::io::read(pipe.get_ref(), &mut chunk)?)),
            Err(_) => return false,
        };
        match read {
            Ok(Ok(0)) => {
                passage.end();
                false
            }
            Ok(Ok(count)) => {
                passage.take(chunk.get(..count).unwrap_or_default(), false);
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
        let mut chunk = [0_u8; CHUNK];
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

    /// Passes on what children of a worker that has ended still write.
    pub(super) async fn outlive(mut passage: Option<Self>) {
        while passage.is_some() && Self::pass_on(passage.as_mut()).await {}
    }

    fn end(&mut self) {
        let rest = self.lines.end();
        self.leave(&rest, true);
        self.tell_of_loss();
    }

    fn take(&mut self, words: &[u8], last: bool) {
        if let Some(tail) = &self.tail {
            tail.push(words);
        }
        let lines = self.lines.take(words);
        self.leave(&lines, last);
        if self.told.elapsed() >= TELL_OF_LOSS {
            self.tell_of_loss();
        }
    }

    fn leave(&mut self, lines: &[u8], last: bool) {
        if lines.is_empty() {
            return;
        }
        if !self.lane.leave(lines, last) {
            self.lost += count(lines);
        }
    }

    fn tell_of_loss(&mut self) {
        self.told = Instant::now();
        if self.lost > 0 {
            let (id, stream) = (self.source.id, self.source.stream);
            // The supervisor is gone only when the cluster is over.
            self.events.send(Event::LinesLost(id, stream, std::mem::take(&mut self.lost)));
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

    /// Each worker has such tasks for as long as it lives.
    #[test]
    fn whoever_waits_for_output_holds_no_room_for_it() {
        assert!(size_of_val(&Passage::pass_on(None)) < CHUNK / 4);
    }
}
