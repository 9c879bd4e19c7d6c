//! What all clients of one control socket share, so that many of them cost the master no more than a few: room for long lines, one
//! status for all who wait for it, and places for those who wait long.

use std::io;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// How much of requests may be held for all clients together beside [`SHORT`] for each, and as much of answers, in KiB: whoever
/// takes all the room for requests takes none from answers.
const LONG_LINES: usize = 4 * 1024;
/// A line of so many bytes is held for every client.
pub(super) const SHORT: usize = 8 * 1024;
/// How many may wait for a reload at once.
pub(super) const WAITING: usize = 48;
/// How many may follow events at once.
pub(super) const FOLLOWING: usize = 64;

/// The room. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Room {
    requests: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    following: Arc<Semaphore>,
    status: Arc<Mutex<Option<Taken>>>,
}

/// A status as a line, and when it was asked for.
#[derive(Debug)]
struct Taken {
    begun: Instant,
    line: Arc<Shared>,
}

/// An answer that several clients are given.
#[derive(Debug)]
pub(crate) struct Shared {
    line: Box<[u8]>,
    /// The room that it has, while somebody has not read it.
    room: std::sync::Mutex<Weak<OwnedSemaphorePermit>>,
}

impl Shared {
    pub(crate) fn new(line: Vec<u8>) -> Self {
        Self { line: line.into(), room: std::sync::Mutex::default() }
    }

    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }

    /// The room that it has; or, where nobody has any for it, some that is taken.
    pub(crate) fn room(
        &self,
        take: impl FnOnce(usize) -> io::Result<OwnedSemaphorePermit>,
    ) -> io::Result<Arc<OwnedSemaphorePermit>> {
        let mut known = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = known.upgrade() {
            return Ok(room);
        }
        let room = Arc::new(take(self.line.len())?);
        *known = Arc::downgrade(&room);
        Ok(room)
    }
}

impl Default for Room {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(LONG_LINES)),
            answers: Arc::new(Semaphore::new(LONG_LINES)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            following: Arc::new(Semaphore::new(FOLLOWING)),
            status: Arc::default(),
        }
    }
}

impl Room {
    /// Waits for room for a line of so many bytes that is to be read.
    pub(super) async fn for_line(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        Arc::clone(&self.requests).acquire_many_owned(kibibytes(bytes)).await.map_err(io::Error::other)
    }

    /// Room for the rest of an answer that its client does not read at once, if there is any.
    pub(super) fn for_rest(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.answers).try_acquire_many_owned(kibibytes(bytes));
        room.map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    /// Room for an answer that is kept once, however many have not read it.
    pub(super) fn for_shared(&self, shared: &Shared) -> io::Result<Arc<OwnedSemaphorePermit>> {
        shared.room(|bytes| self.for_rest(bytes))
    }

    /// A place for one who waits for a reload, if one is free.
    pub(super) fn to_wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.waiting).try_acquire_owned().ok()
    }

    /// A place for one who follows events, if one is free.
    pub(super) fn to_follow(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.following).try_acquire_owned().ok()
    }

    /// The status as it is after this was called. Those who ask while one is taken share the next.
    pub(super) async fn status<E>(
        &self,
        take: impl AsyncFnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Arc<Shared>, E> {
        let asked = Instant::now();
        let mut taken = self.status.lock().await;
        if let Some(Taken { line, .. }) = taken.as_ref().filter(|taken| taken.begun > asked) {
            return Ok(Arc::clone(line));
        }
        let begun = Instant::now();
        let line = Arc::new(Shared::new(take().await?));
        *taken = Some(Taken { begun, line: Arc::clone(&line) });
        Ok(line)
    }
}

fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).min(LONG_LINES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_status_is_taken_after_it_was_asked_for_and_shared_by_all_who_wait() {
        let (room, count) = (Room::default(), AtomicU32::new(0));
        let ask = || {
            room.status(async || {
                let number = count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(number.to_string().into_bytes())
            })
        };
        let (first, second, third) = tokio::join!(ask(), ask(), ask());
        assert_eq!(first.unwrap().line(), b"0");
        assert_eq!(second.unwrap().line(), b"1", "it was asked for when the first was being taken");
        assert_eq!(third.unwrap().line(), b"1");
        assert_eq!(ask().await.unwrap().line(), b"2", "an old one is not given");
    }

    #[tokio::test]
    async fn long_lines_have_a_bound_together() {
        let room = Room::default();
        let held: Vec<_> = (0..16).map(|_| room.for_rest(256 * 1024).unwrap()).collect();
        assert!(room.for_rest(1).is_err());
        drop(held);
        assert!(room.for_rest(256 * 1024).is_ok());
    }

    #[tokio::test]
    async fn requests_that_never_end_take_no_room_from_answers() {
        let room = Room::default();
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(room.for_line(256 * 1024).await.unwrap());
        }
        assert!(room.for_rest(4 << 20).is_ok());
    }

    #[tokio::test]
    async fn an_answer_that_many_share_has_its_room_once_until_the_last_has_read_it() {
        let room = Room::default();
        let shared = Shared::new(vec![0; 3 << 20]);
        let held: Vec<_> = (0..100).map(|_| room.for_shared(&shared).unwrap()).collect();
        assert!(room.for_rest(2 << 20).is_err());
        assert!(room.for_rest(1 << 20).is_ok(), "it was charged once");
        drop(held);
        assert!(room.for_rest(4 << 20).is_ok());
        let other = room.for_rest(2 << 20).unwrap();
        assert!(room.for_shared(&shared).is_err(), "its room was given back");
        drop(other);
        assert!(room.for_shared(&shared).is_ok());
    }
}
