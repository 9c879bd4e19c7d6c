//! The way to the master's stdout, to its stderr or to files: a queue for each worker, bounded in bytes, and a thread that writes
//! what waits in them.
//! Only the thread waits for the reader. What it writes at once are whole lines of one worker.

mod left;

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
use crate::process::console::{LeftFile, Outlet};
use crate::process::lines::LONGEST_PIECE;
use crate::process::slot_files::SlotFiles;
use crate::process::source::Source;
use crate::sink::Sink;
use crate::upgrade::SaveError;
use crate::upgrade::store::Store;

pub(super) use self::left::Left;
use self::left::{LeftLane, TakenLane};

/// How much of one output of a worker may wait, in bytes.
const MOST_WAITING: usize = 4 << 20;
/// How much of all workers together may wait, in bytes. Where that much does, each has its share of it.
const MOST_OF_ALL: usize = 16 << 20;
/// How much of workers that have ended may wait, of all of them, in bytes, and what each of them counts for beside what it has said: workers that
/// end again and again, each with a few words, are many.
const MOST_LEFT_BEHIND: usize = 8 << 20;
const ENDED: usize = 4 << 10;
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
    /// The thread has begun to rest.
    rests: Condvar,
}

#[derive(Debug)]
struct Queues {
    lanes: BTreeMap<u64, Queue>,
    waiting: Waiting,
    /// The last one of which something was written.
    last: u64,
    /// When something was written last, or began to wait.
    progress: Instant,
    /// Files are to be opened anew.
    reopen: bool,
    /// No owner is left.
    over: bool,
    /// Nothing is to be written for now.
    is_to_rest: bool,
    /// What the thread had written when it began to rest, if it does.
    rests: Option<BTreeMap<u32, LeftFile>>,
}

/// How much waits in all lanes, in bytes: they may be too many to be counted again and again.
#[derive(Debug, Default, PartialEq, Eq)]
struct Waiting {
    all: usize,
    /// Of workers that have ended: how many these are, and how much of it is theirs.
    ended: usize,
    left_behind: usize,
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
    /// Another program has left it, and nobody has taken it over.
    is_left: bool,
}

impl Forwarder {
    /// The way to this descriptor.
    pub(super) fn start(
        to: impl AsFd,
        outlet: impl Outlet,
        unread: Unread,
        left: Option<Left>,
        panicked: Sink<Panicked>,
    ) -> io::Result<Self> {
        Self::start_with(outlet, Patience::of(unread, keeps_all(to)), left, panicked)
    }

    /// The way to files.
    pub(super) fn to_files(
        files: SlotFiles,
        unread: Unread,
        left: Option<Left>,
        panicked: Sink<Panicked>,
    ) -> io::Result<Self> {
        Self::start_with(files, Patience::of(unread, true), left, panicked)
    }

    /// With what another program has left it rests at first.
    fn start_with(
        mut outlet: impl Outlet,
        patience: Patience,
        left: Option<Left>,
        panicked: Sink<Panicked>,
    ) -> io::Result<Self> {
        let is_to_rest = left.is_some();
        let lanes = left.map(|left| left.taken).unwrap_or_default();
        let lanes: BTreeMap<_, _> =
            (1..).zip(lanes).map(|(number, left)| (number, Queue::left(left))).collect();
        let all = lanes.values().map(|queue| queue.bytes).sum();
        let queues = Queues {
            lanes,
            waiting: Waiting { all, ..Waiting::default() },
            last: 0,
            progress: Instant::now(),
            reopen: false,
            over: false,
            is_to_rest,
            rests: None,
        };
        let shared = Arc::new(Shared {
            patience,
            queues: Mutex::new(queues),
            work: Condvar::new(),
            empty: Notify::new(),
            rests: Condvar::new(),
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
        // One that another program has left goes on, in its order.
        let left = queues.lanes.iter_mut().find(|(_, queue)| queue.is_left && queue.source == source);
        if let Some((number, queue)) = left {
            queue.is_left = false;
            return Lane { owner: Arc::clone(&self.0), number: *number, room: Arc::clone(&queue.room) };
        }
        let number = queues.lanes.last_key_value().map_or(1, |(last, _)| last + 1);
        let queue = queues.lanes.entry(number).or_insert_with(|| Queue::of(source));
        Lane { owner: Arc::clone(&self.0), number, room: Arc::clone(&queue.room) }
    }

    /// Whether both are one way.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Writes nothing for now. False where it was in the middle of a piece until then.
    pub(super) fn rest(&self, until: Instant) -> bool {
        let shared = &self.0.0;
        let mut queues = shared.lock();
        queues.is_to_rest = true;
        shared.work.notify_one();
        while queues.rests.is_none() {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            queues = shared.rests.wait_timeout(queues, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// What waits to be written. It is to rest.
    pub(super) fn save(&self, store: &mut Store) -> Result<Left, SaveError> {
        let queues = self.0.0.lock();
        let mut lanes = Vec::new();
        for queue in queues.lanes.values().filter(|queue| !queue.pieces.is_empty()) {
            let pieces = queue.pieces.iter().map(|piece| store.add(piece)).collect::<Result<_, _>>()?;
            lanes.push(LeftLane { source: queue.source, pieces });
        }
        Ok(Left { lanes, files: queues.rests.clone().unwrap_or_default(), taken: Vec::new() })
    }

    /// Goes on after a rest. Of what another program has left nobody else takes anything over.
    pub(super) fn go_on(&self) {
        let mut queues = self.0.0.lock();
        (queues.is_to_rest, queues.rests) = (false, None);
        let is_left =
            |(number, queue): (&u64, &mut Queue)| std::mem::take(&mut queue.is_left).then_some(*number);
        let left: Vec<u64> = queues.lanes.iter_mut().filter_map(is_left).collect();
        for number in left {
            queues.close(number);
        }
        self.0.0.work.notify_one();
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
                if queues.waiting.all == 0 {
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
        if queues.have_room(self.number, LONGEST_PIECE) && !queues.waiting.is_too_much_of_ended() {
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
        if queues.waiting.all == 0 {
            queues.progress = Instant::now();
        }
        if queues.waiting.is_too_much_of_ended() {
            return false;
        }
        let is_kept = last
            && match shared.patience {
                Patience::None => {
                    queues.waiting.all.saturating_add(lines.len()) <= MOST_OF_ALL + MOST_LAST_WORDS
                }
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
        queues.waiting.all += lines.len();
        shared.work.notify_one();
        true
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.owner.0.lock().close(self.number);
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
        Self {
            source,
            pieces: VecDeque::new(),
            bytes: 0,
            room: Arc::default(),
            closed: false,
            is_left: false,
        }
    }

    fn left(TakenLane { source, pieces }: TakenLane) -> Self {
        let bytes = pieces.iter().map(Vec::len).sum();
        Self { pieces, bytes, is_left: true, ..Self::of(source) }
    }
}

impl Queues {
    /// Whether so much more of this worker may wait. A piece finds room in any case where nothing of its worker waits.
    fn have_room(&self, lane: u64, bytes: usize) -> bool {
        let own = self.lanes.get(&lane).map_or(0, |queue| queue.bytes).saturating_add(bytes);
        let share = (MOST_OF_ALL / self.lanes.len().max(1)).max(LONGEST_PIECE);
        own <= MOST_WAITING && (own <= share || self.waiting.all.saturating_add(bytes) <= MOST_OF_ALL)
    }

    /// Nothing comes in this lane any more.
    fn close(&mut self, lane: u64) {
        let Some(queue) = self.lanes.get_mut(&lane).filter(|queue| !queue.closed) else { return };
        queue.closed = true;
        self.waiting.ended += 1;
        self.waiting.left_behind += queue.bytes;
        self.written(lane, 0);
    }

    /// So much of this lane waits no more.
    fn written(&mut self, lane: u64, bytes: usize) {
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        queue.bytes = queue.bytes.saturating_sub(bytes);
        self.waiting.all = self.waiting.all.saturating_sub(bytes);
        if !queue.closed {
            return;
        }
        self.waiting.left_behind = self.waiting.left_behind.saturating_sub(bytes);
        if queue.bytes == 0 {
            self.waiting.ended = self.waiting.ended.saturating_sub(1);
            self.lanes.remove(&lane);
        }
    }
}

impl Waiting {
    /// Whether so much of workers that have ended waits that no more is taken.
    fn is_too_much_of_ended(&self) -> bool {
        self.left_behind.saturating_add(self.ended.saturating_mul(ENDED)) > MOST_LEFT_BEHIND
    }
}

impl Shared {
    /// Writes until nothing can come any more.
    fn work(&self, outlet: &mut impl Outlet) {
        let progress = || self.lock().progress = Instant::now();
        while let Some(job) = self.next(outlet) {
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
    fn next(&self, outlet: &impl Outlet) -> Option<Job> {
        let mut queues = self.lock();
        loop {
            if queues.is_to_rest {
                if queues.over {
                    // It has never gone on with what another program has left, which writes it.
                    return None;
                }
                if queues.rests.is_none() {
                    queues.rests = Some(outlet.save());
                    self.rests.notify_all();
                }
                queues = self.work.wait(queues).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
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
        queues.written(lane, bytes);
        // There is more room for everybody.
        queues.lanes.values().filter(|queue| !queue.closed).for_each(|queue| queue.room.notify_one());
        if queues.waiting.all == 0 {
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
mod tests;
