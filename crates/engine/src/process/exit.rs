//! The eyes on a worker's process: its end is seen by pidfd, and its stderr is passed on until then.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use tokio::io::unix::AsyncFd;

use crate::process::event::Event;
use crate::process::stderr::{Forwarder, Tail};
use crate::sink::Sink;
use crate::sys;

/// How much of a worker's stderr is read at a time.
const STDERR_CHUNK: usize = 8 * 1024;
/// How many chunks of last words are read: more than fits a pipe.
const LAST_CHUNKS: usize = 16;
/// How often people are told of lines that were lost.
const TELL_OF_LOSS: Duration = Duration::from_secs(1);

/// What is needed to watch a process.
pub(crate) struct Watch {
    pub(crate) worker: WorkerId,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) tail: Tail,
}

impl Watch {
    /// Passes the worker's stderr on until its process ends, and reports the end when its last words are in.
    pub(crate) fn start(self, forwarder: Forwarder, events: Sink<Event>) -> io::Result<()> {
        let end = sys::readable(self.pidfd)?;
        let (worker, tail, told) = (self.worker, self.tail, Instant::now());
        let pipe = self.stderr.map(sys::readable).transpose()?;
        let mut stderr =
            pipe.map(|pipe| Stderr { worker, pipe, tail, lost: 0, told, forwarder, events: events.clone() });
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = end.readable() => break,
                    open = Stderr::pass_on(stderr.as_mut()) => if !open { stderr = None },
                }
            }
            if let Some(stderr) = &mut stderr {
                stderr.take_last_words();
            }
            // The supervisor is gone only when the cluster is over.
            events.send(Event::Ended(worker));
            // A child of the worker may hold the pipe and go on writing.
            while stderr.is_some() && Stderr::pass_on(stderr.as_mut()).await {}
        });
        Ok(())
    }
}

/// A worker's stderr on its way to the master's.
struct Stderr {
    worker: WorkerId,
    pipe: AsyncFd<OwnedFd>,
    tail: Tail,
    /// Lines that were not passed on, and not told of yet.
    lost: u64,
    told: Instant,
    forwarder: Forwarder,
    events: Sink<Event>,
}

impl Stderr {
    /// Waits for words and passes them on; false at their end. Without a pipe it waits for ever.
    async fn pass_on(stderr: Option<&mut Self>) -> bool {
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
            // Nothing there, after all.
            Err(_) => true,
        }
    }

    /// Takes what is in the pipe now: the last words of a worker, unless somebody else goes on writing.
    fn take_last_words(&mut self) {
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
