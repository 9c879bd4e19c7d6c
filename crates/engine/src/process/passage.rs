//! A worker's stdout or stderr on its way: to the master's own by whole lines, or to a file, and into the ring of the last lines.
//! If the reader there is too slow, the worker waits or lines are lost, and their number is reported ([`Unread`]).
//!
//! [`Unread`]: crate::config::unread::Unread

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use recluster_core::WorkerId;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout_at;

use crate::process::event::Event;
use crate::process::forwarder::Lane;
use crate::process::lines::{self, CHUNK, Cut, Lines, count};
use crate::process::outlets::Outlets;
use crate::process::ring::Ring;
use crate::process::source::Source;
use crate::process::stderr::Tail;
use crate::report::stream::Stream;
use crate::sink::Sink;
use crate::sys;
use crate::upgrade::inheritance::{AdoptError, Inheritance};
use crate::upgrade::saving::{SaveError, Saving};
use crate::upgrade::store::{Store, Stored, Taken};

/// How often lost lines are reported.
const TELL_OF_LOSS: Duration = Duration::from_secs(1);

/// How much of what found no room is tried again at the worker's end, in bytes; it may be twice as much.
const LAST_WORDS: usize = 16 << 10;

/// One output of a worker on its way. Whoever has another one of these sees how far it has come.
#[derive(Clone, Debug)]
pub(super) struct Passage(Arc<Shared>);

/// One of which it is not known whether it is still on its way.
#[derive(Clone, Debug)]
pub(crate) struct Known(Weak<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    pipe: AsyncFd<OwnedFd>,
    /// What is kept for verdicts, of stderr.
    tail: Option<Tail>,
    lane: Lane,
    /// Who reads there takes the beginning of a line for a line.
    is_styled: bool,
    ring: Ring,
    events: Sink<Event>,
    told: Mutex<Instant>,
    /// Never locked while anything is waited for.
    words: Mutex<Words>,
}

/// What was read and is not passed on.
#[derive(Debug)]
struct Words {
    lines: Lines,
    /// Lines that were lost and not reported yet.
    lost: u64,
    /// The last lines that found no room, where none has found any since.
    unsaid: Vec<u8>,
}

/// One that another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    pub(super) source: Source,
    words: LeftWords,
}

#[derive(Debug, Serialize, Deserialize)]
struct LeftWords {
    lines: lines::Left,
    lost: u64,
    unsaid: Stored,
}

impl Left {
    fn purpose(source: Source) -> String {
        format!("worker/{}/{}", source.id.get(), source.stream.name())
    }

    /// Goes on with it.
    pub(super) fn adopt(
        self,
        tail: Option<Tail>,
        outlets: &Outlets,
        events: Sink<Event>,
        taken: &Taken,
        inheritance: &mut Inheritance,
    ) -> Result<Passage, AdoptError> {
        let Self { source, words: LeftWords { lines, lost, unsaid } } = self;
        let words = Words { lines: lines.take(taken)?, lost, unsaid: taken.bytes(unsaid)? };
        let purpose = Self::purpose(source);
        let pipe = inheritance.descriptor(&purpose)?;
        let pipe = sys::readable(pipe).map_err(|source| AdoptError::Duplicate { purpose, source })?;
        Ok(Passage::with(source, pipe, tail, outlets, events, words))
    }
}

impl Known {
    /// What is left of it, if it is still on its way.
    pub(super) fn save(&self, store: &mut Store, saving: &mut Saving) -> Result<Option<Left>, SaveError> {
        let Some(shared) = self.0.upgrade() else { return Ok(None) };
        let source = shared.source;
        saving.pass(shared.pipe.get_ref(), Left::purpose(source))?;
        let Words { lines, lost, unsaid } = &*shared.words();
        let words = LeftWords { lines: lines.save(store)?, lost: *lost, unsaid: store.add(unsaid)? };
        Ok(Some(Left { source, words }))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Passage {
    pub(super) fn new(
        source: Source,
        pipe: AsyncFd<OwnedFd>,
        tail: Option<Tail>,
        outlets: &Outlets,
        events: Sink<Event>,
    ) -> Self {
        let words = Words { lines: Lines::new(outlets.line_wait()), lost: 0, unsaid: Vec::new() };
        Self::with(source, pipe, tail, outlets, events, words)
    }

    fn with(
        source: Source,
        pipe: AsyncFd<OwnedFd>,
        tail: Option<Tail>,
        outlets: &Outlets,
        events: Sink<Event>,
        words: Words,
    ) -> Self {
        Self(Arc::new(Shared {
            source,
            pipe,
            tail,
            lane: outlets.lane(source),
            is_styled: outlets.is_styled(),
            ring: outlets.ring().clone(),
            events,
            told: Mutex::new(Instant::now()),
            words: Mutex::new(words),
        }))
    }

    /// Whether it is this output of this worker.
    pub(super) fn is_of(&self, worker: WorkerId, stream: Stream) -> bool {
        (self.0.source.id, self.0.source.stream) == (worker, stream)
    }

    pub(super) fn known(&self) -> Known {
        Known(Arc::downgrade(&self.0))
    }

    /// Waits for output and forwards it. False at the end of the pipe. Without a pipe it waits for ever.
    pub(super) async fn pass_on(passage: Option<&Self>) -> bool {
        let Some(Self(passage)) = passage else { return std::future::pending().await };
        // While there is no room the pipe is left unread, and the worker waits when that is full.
        passage.lane.room().await;
        let due = passage.words().lines.due;
        let Some(ready) = until(due, passage.pipe.readable()).await else {
            let begun = passage.words().lines.take_characters();
            passage.leave(&begun, false);
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
    pub(super) fn take_last_words(&self) {
        self.0.take_last_words();
    }

    /// Passes on what children of a worker that has ended still write.
    pub(super) async fn outlive(passage: Option<Self>) {
        while passage.is_some() && Self::pass_on(passage.as_ref()).await {}
    }
}

impl Shared {
    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_last_words(&self) {
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

    fn end(&self) {
        let rest = self.words().lines.end();
        self.leave(&rest, true);
        self.words().lose_unsaid();
        self.tell_of_loss();
    }

    fn take(&self, words: &[u8], last: bool) {
        if let Some(tail) = &self.tail {
            tail.push(words);
        }
        let lines = self.words().lines.take(words);
        self.leave(&lines, last);
        let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= TELL_OF_LOSS {
            self.tell_of_loss();
        }
    }

    fn leave(&self, cut: &Cut, last: bool) {
        let (lines, continues) = cut.as_lines();
        self.ring.push(self.source, continues, lines);
        let mut words = self.words();
        if last {
            words.say_unsaid(&self.lane);
        }
        let passed_on = if self.is_styled { lines } else { &cut.bytes };
        if passed_on.is_empty() {
            return;
        }
        if self.lane.leave(passed_on, last) {
            words.lose_unsaid();
        } else {
            words.lose(passed_on);
        }
    }

    fn tell_of_loss(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let lost = std::mem::take(&mut self.words().lost);
        if lost > 0 {
            let (id, stream) = (self.source.id, self.source.stream);
            // The supervisor is gone only when the cluster is over.
            self.events.send(Event::LinesLost(id, stream, lost));
        }
    }
}

impl Words {
    /// What found no room is lost, but for the end of it: that may be the last of all.
    fn lose(&mut self, lines: &[u8]) {
        self.unsaid.extend_from_slice(lines);
        // Not each time: they may be many short ones.
        if self.unsaid.len() <= 2 * LAST_WORDS {
            return;
        }
        let excess = self.unsaid.len() - LAST_WORDS;
        let newline = self.unsaid.iter().skip(excess).position(|&byte| byte == b'\n');
        let kept = self.unsaid.split_off(newline.map_or(self.unsaid.len(), |newline| excess + newline + 1));
        self.lost += count(&std::mem::replace(&mut self.unsaid, kept));
    }

    fn lose_unsaid(&mut self) {
        self.lost += count(&std::mem::take(&mut self.unsaid));
    }

    fn say_unsaid(&mut self, lane: &Lane) {
        let unsaid = std::mem::take(&mut self.unsaid);
        if !unsaid.is_empty() && !lane.leave(&unsaid, true) {
            self.lost += count(&unsaid);
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
    use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
    use std::sync::mpsc;

    use super::*;
    use crate::config::unread::Unread;
    use crate::process::console::Console;
    use crate::process::forwarder::Forwarder;
    use crate::process::stdio::set_nonblocking;
    use crate::report::worker::Worker;
    use crate::upgrade::fixtures::inherited;

    /// Each worker has such tasks for as long as it lives.
    #[test]
    fn whoever_waits_for_output_holds_no_room_for_it() {
        assert!(size_of_val(&Passage::pass_on(None)) < CHUNK / 4);
    }

    /// The stderr of a worker on its way to a pipe: what it writes to, its passage, what is passed on, what is reported.
    fn passage() -> (PipeWriter, Passage, PipeReader, mpsc::Receiver<Event>) {
        let (reader, to) = io::pipe().unwrap();
        let console = Console::plain(to.try_clone().unwrap());
        let forwarder = Forwarder::start(&to, console, Unread::Lose, None, Sink::new(|_| {})).unwrap();
        let (ours, worker) = io::pipe().unwrap();
        let ours = OwnedFd::from(ours);
        set_nonblocking(&ours).unwrap();
        let about = Worker { id: 7, slot: 0, generation: 1, pid: Some(7) };
        let source = Source { id: WorkerId::from_number(7), worker: about, stream: Stream::Stderr };
        let (sender, events) = mpsc::channel();
        let sink = Sink::new(move |event| drop(sender.send(event)));
        let pipe = sys::readable(ours).unwrap();
        (worker, Passage::new(source, pipe, None, &Outlets::to(forwarder), sink), reader, events)
    }

    #[tokio::test]
    async fn the_last_words_of_a_flood_that_nobody_reads_are_passed_on_and_every_other_line_is_counted() {
        const LINES: u64 = 6 * 1024;
        let (mut worker, passage, reader, events) = passage();
        for number in 0..LINES / 8 {
            for line in number * 8..number * 8 + 8 {
                writeln!(worker, "{line:1023}").unwrap();
            }
            assert!(Passage::pass_on(Some(&passage)).await);
        }
        drop(worker);
        while Passage::pass_on(Some(&passage)).await {}
        drop(passage);
        let read: Vec<String> = BufReader::new(reader).lines().map(Result::unwrap).collect();
        assert_eq!(read.last().map(|line| line.trim()), Some(&*(LINES - 1).to_string()));
        let lost = |event| if let Event::LinesLost(_, Stream::Stderr, lines) = event { lines } else { 0 };
        let lost: u64 = events.iter().map(lost).sum();
        assert!(lost > 0, "a reader that reads nothing has no room for 6 MiB");
        assert_eq!(read.len() as u64 + lost, LINES);
    }

    /// Half a line is whole where another program goes on with it, for those who read and for the ring.
    #[tokio::test]
    async fn half_a_line_goes_on_elsewhere() {
        let (mut worker, passage, _reader, _events) = passage();
        let begun = ["half a ".repeat(1000).as_bytes(), &[0xff]].concat();
        worker.write_all(&[b"first\n", &*begun].concat()).unwrap();
        while passage.0.words().lines.due.is_none() {
            Passage::pass_on(Some(&passage)).await;
        }
        let mut saving = Saving::new("it");
        let mut store = Store::new("words");
        let left = passage.known().save(&mut store, &mut saving).unwrap().unwrap();
        let text = serde_json::to_string(&left).unwrap();
        store.pass(&mut saving).unwrap();
        saving.put("passages", &[left]).unwrap();
        let mut inheritance = inherited(saving);
        let left = inheritance.needed::<Vec<Left>>("passages").unwrap().pop().unwrap();
        assert_eq!(serde_json::to_string(&left).unwrap(), text);
        let (reader, to) = io::pipe().unwrap();
        let console = Console::plain(to.try_clone().unwrap());
        let forwarder = Forwarder::start(&to, console, Unread::Lose, None, Sink::new(|_| {})).unwrap();
        let outlets = Outlets::to(forwarder);
        let taken = Taken::of("words", &mut inheritance).unwrap();
        let goes_on = left.adopt(None, &outlets, Sink::new(|_| {}), &taken, &mut inheritance).unwrap();
        drop(passage);
        worker.write_all(b"line\n").unwrap();
        drop(worker);
        while Passage::pass_on(Some(&goes_on)).await {}
        let mut line = Vec::new();
        BufReader::new(reader).read_until(b'\n', &mut line).unwrap();
        assert_eq!(line, [&*begun, b"line\n"].concat());
    }
}
