//! The way to the master's stdout, to its stderr or to files: a queue for each worker, bounded in bytes, and a thread that writes
//! what waits in them.
//! Only the thread waits for the reader. What it writes at once are whole lines of one worker.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, fstat};
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::config::unread::Unread;
use crate::guard::{Panicked, Part, guarded};
use crate::process::console::Outlet;
use crate::process::lines::LONGEST_PIECE;
use crate::process::slot_files::SlotFiles;
use crate::process::source::Source;
use crate::sink::Sink;

/// How much of one output of a worker may wait, in bytes.
const MOST_WAITING: usize = 4 << 20;
/// How much of all workers together may wait, in bytes. Where that much does, each has its share of it.
const MOST_OF_ALL: usize = 16 << 20;
/// How much of workers that have ended may wait, of all of them, in bytes.
const MOST_LEFT_BEHIND: usize = 8 << 20;
/// How much of the last words of workers may wait beside that where the reader is slow, of all of them, in bytes.
const MOST_LAST_WORDS: usize = 4 << 20;
/// How much is joined to one piece, in bytes.
const PIECE: usize = 64 << 10;
/// A file or a terminal that takes nothing for so long is treated as a slow reader: a terminal may have been stopped. A call
/// writes some kilobytes or a line.
const STUCK: Duration = Duration::from_secs(10);
/// How long a slow reader may take for what waits at the end of the cluster.
const FAREWELL: Duration = Duration::from_secs(1);
/// The size of the thread's stack.
const STACK: usize = 128 << 10;
/// What people are told has panicked.
const PART: Part = Part::vital("the thread that writes what workers write");

/// How long a worker with a full queue waits for room in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    None,
    UnlessStuck,
    Endless,
}

/// The way there. Its thread ends with the last of its clones and [`Lane`]s.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder(Arc<Owner>);

/// The queue of one output of a worker.
#[derive(Debug)]
pub(super) struct Lane {
    owner: Arc<Owner>,
    number: u64,
    room: Arc<Notify>,
}

#[derive(Debug)]
struct Owner(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    patience: Patience,
    queues: Mutex<Queues>,
    /// Something waits, or the owners are gone.
    work: Condvar,
    /// Nothing waits any more.
    empty: Notify,
}

#[derive(Debug)]
struct Queues {
    lanes: BTreeMap<u64, Queue>,
    /// The last one of which something was written.
    last: u64,
    /// When something was written last, or began to wait.
    progress: Instant,
    /// Files are to be opened anew.
    reopen: bool,
    /// No owner is left.
    over: bool,
}

/// What the thread does next.
enum Job {
    Reopen,
    Piece { lane: u64, source: Source, bytes: Vec<u8> },
}

#[derive(Debug)]
struct Queue {
    source: Source,
    pieces: VecDeque<Vec<u8>>,
    /// How much waits, the piece that is being written included.
    bytes: usize,
    room: Arc<Notify>,
    /// Nothing comes any more.
    closed: bool,
}

impl Forwarder {
    /// The way to this descriptor.
    pub(super) fn start(
        to: impl AsFd,
        outlet: impl Outlet,
        unread: Unread,
        panicked: Sink<Panicked>,
    ) -> io::Result<Self> {
        Self::start_with(outlet, Patience::of(unread, keeps_all(to)), panicked)
    }

    /// The way to files.
    pub(super) fn to_files(files: SlotFiles, unread: Unread, panicked: Sink<Panicked>) -> io::Result<Self> {
        Self::start_with(files, Patience::of(unread, true), panicked)
    }

    fn start_with(mut outlet: impl Outlet, patience: Patience, panicked: Sink<Panicked>) -> io::Result<Self> {
        let queues =
            Queues { lanes: BTreeMap::new(), last: 0, progress: Instant::now(), reopen: false, over: false };
        let shared = Arc::new(Shared {
            patience,
            queues: Mutex::new(queues),
            work: Condvar::new(),
            empty: Notify::new(),
        });
        let owner = Owner(Arc::clone(&shared));
        thread::Builder::new().name("recluster-output".to_owned()).stack_size(STACK).spawn(move || {
            guarded(PART, &panicked, || shared.work(&mut outlet));
        })?;
        Ok(Self(Arc::new(owner)))
    }

    /// A queue for one output of a worker.
    pub(super) fn lane(&self, source: Source) -> Lane {
        let mut queues = self.0.0.lock();
        let number = queues.lanes.last_key_value().map_or(1, |(last, _)| last + 1);
        let queue = queues.lanes.entry(number).or_insert_with(|| Queue::of(source));
        Lane { owner: Arc::clone(&self.0), number, room: Arc::clone(&queue.room) }
    }

    /// Opens files anew.
    pub(super) fn reopen(&self) {
        self.0.0.lock().reopen = true;
        self.0.0.work.notify_one();
    }

    /// Waits until nothing waits any more, if that does not take too long.
    pub(crate) async fn flush(&self) {
        let (shared, begun) = (&self.0.0, Instant::now());
        loop {
            let until = {
                let queues = shared.lock();
                if queues.lanes.values().all(|queue| queue.bytes == 0) {
                    return;
                }
                match shared.patience {
                    Patience::None => begun + FAREWELL,
                    Patience::UnlessStuck | Patience::Endless => queues.progress.max(begun) + STUCK,
                }
            };
            if until <= Instant::now() {
                return;
            }
            // Whether it was in time is asked above.
            let _ = timeout_at(until.into(), shared.empty.notified()).await;
        }
    }
}

impl Lane {
    /// Waits until there is room for a piece, or no hope for it.
    pub(super) async fn room(&self) {
        while let Some(until) = self.wait_until() {
            // Whether it was in time is asked again.
            let _ = timeout_at(until.into(), self.room.notified()).await;
        }
    }

    fn wait_until(&self) -> Option<Instant> {
        let shared = &self.owner.0;
        let queues = shared.lock();
        if queues.have_room(self.number, LONGEST_PIECE) && queues.left_behind() <= MOST_LEFT_BEHIND {
            return None;
        }
        match shared.patience {
            Patience::None => None,
            Patience::UnlessStuck => Some(queues.progress + STUCK).filter(|until| *until > Instant::now()),
            Patience::Endless => Some(Instant::now() + STUCK),
        }
    }

    /// Leaves whole lines to be written. False if they are lost for want of room. `last` are those of a worker that has ended:
    /// a pipe holds no more, and they say most.
    pub(super) fn leave(&self, lines: &[u8], last: bool) -> bool {
        let shared = &self.owner.0;
        let mut queues = shared.lock();
        if queues.lanes.values().all(|queue| queue.bytes == 0) {
            queues.progress = Instant::now();
        }
        if queues.left_behind() > MOST_LEFT_BEHIND {
            return false;
        }
        let is_kept = last
            && match shared.patience {
                Patience::None => queues.all().saturating_add(lines.len()) <= MOST_OF_ALL + MOST_LAST_WORDS,
                Patience::UnlessStuck | Patience::Endless => true,
            };
        if !is_kept && !queues.have_room(self.number, lines.len()) {
            return false;
        }
        let Some(queue) = queues.lanes.get_mut(&self.number) else { return false };
        queue.bytes += lines.len();
        match queue.pieces.back_mut() {
            Some(piece) if piece.len() + lines.len() <= PIECE => piece.extend_from_slice(lines),
            _ => queue.pieces.push_back(lines.to_vec()),
        }
        shared.work.notify_one();
        true
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut queues = self.owner.0.lock();
        if let Some(queue) = queues.lanes.get_mut(&self.number) {
            queue.closed = true;
        }
        queues.lanes.retain(|_, queue| !queue.closed || queue.bytes > 0);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.work.notify_one();
    }
}

impl Patience {
    fn of(unread: Unread, keeps_all: bool) -> Self {
        match unread {
            Unread::Wait => Self::Endless,
            Unread::Lose if keeps_all => Self::UnlessStuck,
            Unread::Lose => Self::None,
        }
    }
}

impl Queue {
    fn of(source: Source) -> Self {
        Self { source, pieces: VecDeque::new(), bytes: 0, room: Arc::default(), closed: false }
    }
}

impl Queues {
    /// Whether so much more of this worker may wait. A piece finds room in any case where nothing of its worker waits.
    fn have_room(&self, lane: u64, bytes: usize) -> bool {
        let own = self.lanes.get(&lane).map_or(0, |queue| queue.bytes).saturating_add(bytes);
        let share = (MOST_OF_ALL / self.lanes.len().max(1)).max(LONGEST_PIECE);
        own <= MOST_WAITING && (own <= share || self.all().saturating_add(bytes) <= MOST_OF_ALL)
    }

    /// How much waits of all workers.
    fn all(&self) -> usize {
        self.lanes.values().map(|queue| queue.bytes).sum()
    }

    /// How much waits of workers that have ended.
    fn left_behind(&self) -> usize {
        self.lanes.values().filter(|queue| queue.closed).map(|queue| queue.bytes).sum()
    }
}

impl Shared {
    /// Writes until nothing can come any more.
    fn work(&self, outlet: &mut impl Outlet) {
        let progress = || self.lock().progress = Instant::now();
        while let Some(job) = self.next() {
            match job {
                Job::Reopen => outlet.reopen(),
                Job::Piece { lane, source, bytes } => {
                    outlet.write(&source, &bytes, &progress);
                    self.written(lane, bytes.len());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece of the next worker in turn. None at the end.
    fn next(&self) -> Option<Job> {
        let mut queues = self.lock();
        loop {
            if std::mem::take(&mut queues.reopen) {
                return Some(Job::Reopen);
            }
            let last = queues.last;
            let later = (Bound::Excluded(last), Bound::Unbounded);
            let in_turn = queues.lanes.range(later).chain(queues.lanes.range(..=last));
            let next =
                in_turn.map(|(number, queue)| (*number, queue)).find(|(_, queue)| !queue.pieces.is_empty());
            if let Some((number, _)) = next {
                queues.last = number;
                let queue = queues.lanes.get_mut(&number)?;
                return Some(Job::Piece {
                    lane: number,
                    source: queue.source,
                    bytes: queue.pieces.pop_front()?,
                });
            }
            if queues.over {
                return None;
            }
            queues = self.work.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn written(&self, lane: u64, bytes: usize) {
        let mut queues = self.lock();
        if let Some(queue) = queues.lanes.get_mut(&lane) {
            queue.bytes = queue.bytes.saturating_sub(bytes);
        }
        // There is more room for everybody.
        queues.lanes.values().for_each(|queue| queue.room.notify_one());
        queues.lanes.retain(|_, queue| !queue.closed || queue.bytes > 0);
        if queues.lanes.values().all(|queue| queue.bytes == 0) {
            self.empty.notify_one();
        }
    }
}

/// Whether it is no pipe and no socket: nobody has to read what is written there, or a person does.
fn keeps_all(output: impl AsFd) -> bool {
    let kind = fstat(output).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::RegularFile | FileType::CharacterDevice | FileType::BlockDevice))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
    use std::os::fd::OwnedFd;

    use recluster_core::WorkerId;

    use super::*;
    use crate::process::console::Console;
    use crate::process::stdio::set_nonblocking;
    use crate::report::stream::Stream;
    use crate::report::worker::Worker;

    fn source() -> Source {
        let worker = Worker { id: 1, slot: 0, generation: 1, pid: Some(7) };
        Source { id: WorkerId::from_number(1), worker, stream: Stream::Stderr }
    }

    fn forwarder(patience: Patience) -> (Forwarder, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Forwarder::start_with(Console::plain(writer), patience, Sink::new(|_| {})).unwrap(), reader)
    }

    const LINE: &[u8] = &[b'\n'; 1024];

    /// Leaves lines until there is no room; how many bytes found some.
    fn fill(lane: &Lane) -> usize {
        std::iter::repeat_with(|| lane.leave(LINE, false)).take_while(|kept| *kept).count() * LINE.len()
    }

    #[test]
    fn a_reader_that_does_not_read_costs_no_more_than_the_limit_for_each_worker() {
        let (forwarder, mut reader) = forwarder(Patience::None);
        let lanes = [forwarder.lane(source()), forwarder.lane(source())];
        let mut kept = 0;
        // The thread writes until the pipe is full but for a part of its last page. Then nothing but that makes room.
        while rustix::io::ioctl_fionread(&reader).unwrap() <= 15 * 4096 {
            kept += lanes.iter().map(fill).sum::<usize>();
        }
        kept += lanes.iter().map(fill).sum::<usize>();
        assert!((2 * MOST_WAITING..=2 * MOST_WAITING + (1 << 20)).contains(&kept), "{kept}");
        assert!((0..64).all(|_| lanes[0].leave(LINE, true)), "there is room for last words");
        kept += 64 * LINE.len();
        let more = std::iter::repeat_with(|| lanes[0].leave(LINE, true)).take_while(|kept| *kept).count();
        kept += more * LINE.len();
        assert!(kept <= MOST_OF_ALL + MOST_LAST_WORDS + (1 << 20), "as much as a bound allows: {kept}");
        assert_eq!(lanes[0].wait_until(), None, "nobody waits");
        drop((forwarder, lanes));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read.len(), kept, "the thread ends when all is written");
    }

    #[test]
    fn many_workers_share_what_may_wait() {
        let (forwarder, _reader) = forwarder(Patience::None);
        let lanes: Vec<Lane> = (0..64).map(|_| forwarder.lane(source())).collect();
        assert!(fill(&lanes[0]) >= MOST_WAITING, "one may have much while the others have nothing");
        let kept = lanes.iter().map(fill).collect::<Vec<_>>();
        assert!(kept.iter().sum::<usize>() <= MOST_OF_ALL * 2, "{kept:?}");
        assert!(kept[1..].iter().all(|kept| *kept >= LONGEST_PIECE), "and each has some: {kept:?}");
    }

    #[test]
    fn workers_that_have_ended_share_a_limit() {
        for patience in [Patience::None, Patience::UnlessStuck, Patience::Endless] {
            let (forwarder, _reader) = forwarder(patience);
            let living = forwarder.lane(source());
            for _ in 0..10 {
                fill(&forwarder.lane(source()));
            }
            let left_behind = forwarder.0.0.lock().left_behind();
            assert!(
                (MOST_LEFT_BEHIND..=MOST_LEFT_BEHIND + MOST_WAITING).contains(&left_behind),
                "{left_behind}"
            );
            assert!(!living.leave(LINE, true));
            assert_eq!(living.wait_until().is_some(), patience != Patience::None, "who may wait waits");
            assert!(forwarder.0.0.lock().lanes.len() < 7);
        }
    }

    #[test]
    fn for_a_file_a_worker_waits_unless_it_is_stuck() {
        let (forwarder, _reader) = forwarder(Patience::UnlessStuck);
        let lane = forwarder.lane(source());
        assert_eq!(lane.wait_until(), None);
        fill(&lane);
        assert!(lane.wait_until().is_some_and(|until| until > Instant::now()));
        assert!(lane.leave(LINE, true), "the last words of a worker are kept");
        let long_ago = Instant::now().checked_sub(STUCK).unwrap();
        forwarder.0.0.lock().progress = long_ago;
        assert_eq!(lane.wait_until(), None);
    }

    #[tokio::test]
    async fn one_that_waits_goes_on_when_there_is_room() {
        let (forwarder, mut reader) = forwarder(Patience::Endless);
        let lane = forwarder.lane(source());
        let kept = fill(&lane);
        forwarder.0.0.lock().progress = Instant::now().checked_sub(STUCK).unwrap();
        assert!(lane.wait_until().is_some(), "however long that takes");
        let read = thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            read.len()
        });
        lane.room().await;
        assert!(lane.leave(LINE, false));
        forwarder.flush().await;
        drop((forwarder, lane));
        assert_eq!(read.join().unwrap(), kept + LINE.len());
    }

    #[test]
    fn lines_of_several_workers_come_whole_and_in_order_though_the_pipe_does_not_block() {
        let (reader, writer) = io::pipe().unwrap();
        let owned = OwnedFd::from(writer);
        set_nonblocking(&owned).unwrap();
        let writer = io::PipeWriter::from(owned);
        let forwarder =
            Forwarder::start_with(Console::plain(writer), Patience::None, Sink::new(|_| {})).unwrap();
        let lanes = [forwarder.lane(source()), forwarder.lane(source()), forwarder.lane(source())];
        for number in 0..10_000 {
            for (worker, lane) in lanes.iter().enumerate() {
                assert!(lane.leave(format!("{worker} {number}\n").as_bytes(), false));
            }
        }
        drop((forwarder, lanes));
        let mut next = [0; 3];
        for line in BufReader::new(reader).lines().map(Result::unwrap) {
            let (worker, number) = line.split_once(' ').unwrap();
            let next = &mut next[worker.parse::<usize>().unwrap()];
            assert_eq!(number.parse(), Ok(*next));
            *next += 1;
        }
        assert_eq!(next, [10_000; 3]);
    }
}
