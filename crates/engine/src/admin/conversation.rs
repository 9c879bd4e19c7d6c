//! One client's connection: its requests, one after the other, each of which is answered before the next one is read.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::admin::answer::Answer;
use crate::admin::head::{HEAD_LIMIT, Head, Method};
use crate::admin::site::Site;
use crate::control::room::Shared as Body;
use crate::control::seats::{Activity, Doing};

/// How long a client may be silent before a request: longer than Prometheus waits between two.
const IDLE: Duration = Duration::from_secs(150);
/// How long it may take to send one, from the first byte on.
const SENDING: Duration = Duration::from_secs(10);
/// How long it may take to read an answer.
const READING: Duration = Duration::from_secs(10);
/// How long is listened to a client whose connection is closed: else it might lose its answer.
const LINGER: Duration = Duration::from_secs(1);
/// How much is read at once.
const PIECE: usize = 2 * 1024;
/// How much of answers may wait to be read, of all clients together, in KiB.
const UNREAD: usize = 4 * 1024;
/// An answer of so many bytes may wait for every client.
const SHORT: usize = 4 * 1024;

/// What all clients share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) site: Arc<Site>,
    /// Room for answers that are not read at once.
    unread: Arc<Semaphore>,
    /// True when the server closes.
    pub(super) closing: watch::Receiver<bool>,
}

impl Shared {
    pub(super) fn new(site: Site, closing: watch::Receiver<bool>) -> Self {
        Self { site: Arc::new(site), unread: Arc::new(Semaphore::new(UNREAD)), closing }
    }

    /// Room for a body that is not read at once, if it needs any. One that several clients are given has it once.
    fn room(&self, body: &Body) -> io::Result<Option<Arc<OwnedSemaphorePermit>>> {
        if body.line().len() <= SHORT {
            return Ok(None);
        }
        let take = |bytes: usize| {
            let kibibytes = u32::try_from(bytes.div_ceil(1024).min(UNREAD)).map_err(io::Error::other)?;
            let room = Arc::clone(&self.unread).try_acquire_many_owned(kibibytes);
            room.map_err(|_| io::ErrorKind::OutOfMemory.into())
        };
        body.room(take).map(Some)
    }
}

/// A client.
#[derive(Debug)]
pub(super) struct Conversation<S> {
    stream: S,
    /// What it has sent and was not dealt with.
    bytes: Vec<u8>,
    from: String,
    shared: Shared,
    activity: Activity,
}

/// What became of a request.
enum Asked {
    Whole(Head),
    /// It is refused, and what follows cannot be understood.
    Refused(Answer),
    /// There is none.
    Nothing,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    pub(super) fn new(stream: S, from: String, shared: Shared, activity: Activity) -> Self {
        Self { stream, bytes: Vec::new(), from, shared, activity }
    }

    /// Answers until either side has had enough. An error means that the client is gone.
    pub(super) async fn attend(mut self) {
        while let Ok(true) = self.turn().await {}
    }

    /// Answers one request. Returns whether there may be another.
    async fn turn(&mut self) -> io::Result<bool> {
        self.activity.is(Doing::Nothing);
        let head = match self.next().await? {
            Asked::Whole(head) => head,
            Asked::Refused(answer) => {
                self.write(&answer, true, false).await?;
                return self.linger().await;
            }
            Asked::Nothing => return Ok(false),
        };
        self.activity.is(Doing::Waiting);
        let answer = self.shared.site.answer(&head, &self.from).await;
        let goes_on = head.keep_alive && !*self.shared.closing.borrow();
        self.write(&answer, head.method != Method::Head, goes_on).await?;
        if goes_on { Ok(true) } else { self.linger().await }
    }

    /// The next request, all of it.
    async fn next(&mut self) -> io::Result<Asked> {
        if self.bytes.is_empty() {
            let closing = &mut self.shared.closing.clone();
            tokio::select! {
                count = timeout(IDLE, read(&mut self.stream, &mut self.bytes)) => {
                    // It was silent for too long, or has left.
                    if count.unwrap_or(Ok(0))? == 0 {
                        return Ok(Asked::Nothing);
                    }
                }
                // An error means that the server is gone.
                _ = closing.wait_for(|closing| *closing) => return Ok(Asked::Nothing),
            }
        }
        self.activity.is(Doing::Stalled);
        let until = Instant::now() + SENDING;
        let late = || Asked::Refused(Answer::refusal(408, "the request did not come in time"));
        match timeout_at(until, self.whole()).await {
            Ok(asked) => asked,
            Err(_) => Ok(late()),
        }
    }

    async fn whole(&mut self) -> io::Result<Asked> {
        loop {
            match Head::read(&self.bytes) {
                Ok(Some((head, length))) => {
                    self.bytes.drain(..length);
                    let is_whole = self.skip_body(&head).await?;
                    return Ok(if is_whole { Asked::Whole(head) } else { Asked::Nothing });
                }
                Ok(None) => {}
                Err(answer) => return Ok(Asked::Refused(answer)),
            }
            if read(&mut self.stream, &mut self.bytes).await? == 0 {
                return Ok(Asked::Nothing);
            }
        }
    }

    /// Reads the body, which says nothing here, and keeps none of it. Returns whether it was there.
    async fn skip_body(&mut self, head: &Head) -> io::Result<bool> {
        let mut left = usize::try_from(head.length).unwrap_or(usize::MAX);
        if head.awaits_continue && self.bytes.len() < left {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        loop {
            let here = self.bytes.len().min(left);
            self.bytes.drain(..here);
            left -= here;
            if left == 0 {
                return Ok(true);
            }
            if read(&mut self.stream, &mut self.bytes).await? == 0 {
                return Ok(false);
            }
        }
    }

    /// Writes an answer. A client that does not read it gives way to others, and all of these have so much room for their long answers.
    async fn write(&mut self, answer: &Answer, with_body: bool, goes_on: bool) -> io::Result<()> {
        let head = answer.head(goes_on);
        let (head, body) = (head.as_bytes(), if with_body { answer.body.line() } else { &[] });
        self.activity.is(Doing::Reading);
        // Nothing is waited for while an answer has no room.
        let sent_head = write_at_once(&mut self.stream, head).await?;
        let sent = if sent_head < head.len() { 0 } else { write_at_once(&mut self.stream, body).await? };
        let (head, rest) = (head.get(sent_head..), body.get(sent..).unwrap_or_default());
        let _room = if rest.is_empty() { None } else { self.shared.room(&answer.body)? };
        let written = async {
            self.stream.write_all(head.unwrap_or_default()).await?;
            self.stream.write_all(rest).await?;
            self.stream.flush().await
        };
        timeout_at(Instant::now() + READING, written).await?
    }

    /// Says that nothing more will come, and throws away what the client sends until it has heard that: a connection that is closed
    /// with something unread is reset, and the client may lose its answer.
    async fn linger(&mut self) -> io::Result<bool> {
        self.activity.is(Doing::Stalled);
        self.stream.shutdown().await?;
        let heard = async {
            loop {
                self.bytes.clear();
                if read(&mut self.stream, &mut self.bytes).await? == 0 {
                    return Ok::<_, io::Error>(());
                }
            }
        };
        // A client that goes on all the same has had its time.
        let _ = timeout(LINGER, heard).await;
        Ok(false)
    }
}

/// Reads some more, never beyond what a head may have and one piece. Returns how much; nothing at the end.
async fn read(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<usize> {
    let most = PIECE.min((HEAD_LIMIT + PIECE).saturating_sub(bytes.len()).max(1));
    bytes.reserve(most);
    stream.take(most as u64).read_buf(bytes).await
}

/// Writes what is taken at once. Returns how much.
async fn write_at_once(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    poll_fn(|context| {
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *stream).poll_write(context, rest)? {
                Poll::Ready(0) | Poll::Pending => break,
                Poll::Ready(more) => sent += more,
            }
        }
        Poll::Ready(Ok(sent))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use tokio::io::duplex;
    use tokio::sync::{broadcast, mpsc};

    use super::*;
    use crate::admin::answer::PLAIN;
    use crate::admin::changes::Changes;
    use crate::admin::keeper::Keeper;
    use crate::admin::page::Page;
    use crate::admin::picture::Pictures;
    use crate::api::cluster::Cluster;
    use crate::process::ring::Ring;
    use crate::supervisor::input::Progress;

    /// What the socket of a client takes.
    const SOCKET: usize = SHORT / 2;

    fn shared() -> Shared {
        let events = broadcast::Sender::new(1).downgrade();
        let progress = watch::channel(Progress::default()).1;
        let cluster = Cluster {
            inputs: mpsc::unbounded_channel().0,
            events,
            progress,
            ring: Ring::of(Vec::new()),
            look: None,
            survivors: Arc::default(),
        };
        let changes = Changes::new(cluster.clone(), None, mpsc::channel(1).0);
        let (keeper, page) = (Keeper::new(None), Page::default());
        let site = Site { pictures: Pictures::new(cluster), keeper, page, hosts: None, changes };
        Shared::new(site, watch::channel(false).1)
    }

    /// Gives this answer to a client that does not read, as far as that goes.
    fn begin(shared: &Shared, answer: &Answer) -> (Pin<Box<impl Future<Output = io::Result<()>>>>, bool) {
        begin_by(SOCKET, shared, answer)
    }

    /// The same, by a socket that takes so much.
    fn begin_by(
        socket: usize,
        shared: &Shared,
        answer: &Answer,
    ) -> (Pin<Box<impl Future<Output = io::Result<()>>>>, bool) {
        let (here, there) = duplex(socket);
        let mut client = Conversation::new(here, String::new(), shared.clone(), Activity::default());
        let answer = answer.clone();
        let mut writing = Box::pin(async move {
            let _there = there;
            client.write(&answer, true, true).await
        });
        let waits = writing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        (writing, waits)
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_keep_no_short_one_back_and_none_that_is_read_at_once() {
        let shared = shared();
        let _held = shared.unread.clone().try_acquire_many_owned(4 * 1024).unwrap();
        let short = Answer::new(200, PLAIN, vec![b'x'; SHORT]);
        assert!(begin(&shared, &short).1, "it waits to be read");
        let long = Answer::new(200, PLAIN, vec![b'x'; SHORT + 1]);
        assert!(!begin(&shared, &long).1, "there is no room");
        let (here, mut there) = duplex(4 * SHORT);
        let mut client = Conversation::new(here, String::new(), shared.clone(), Activity::default());
        client.write(&long, true, true).await.unwrap();
        drop(client);
        let mut heard = Vec::new();
        there.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard.len(), long.head(true).len() + SHORT + 1, "it is read at once");
    }

    #[tokio::test]
    async fn a_body_that_many_are_given_has_its_room_once() {
        let shared = shared();
        let answer = Answer::new(200, PLAIN, vec![b'x'; 3 << 20]);
        let held = [0; 3].map(|_| begin(&shared, &answer));
        assert!(held.iter().all(|(_, waits)| *waits));
        assert_eq!(shared.unread.available_permits(), 1024);
        let other = Answer::new(200, PLAIN, vec![b'x'; 3 << 20]);
        assert!(!begin(&shared, &other).1, "the bound is that of all together");
        drop(held);
        assert_eq!(shared.unread.available_permits(), UNREAD);
    }

    /// Else as many as there are clients could be held.
    #[tokio::test]
    async fn a_body_has_its_room_also_while_its_head_is_not_read() {
        let shared = shared();
        let answer = Answer::new(200, PLAIN, vec![b'x'; 3 << 20]);
        let (held, waits) = begin_by(10, &shared, &answer);
        assert!(waits && shared.unread.available_permits() == 1024);
        assert!(!begin_by(10, &shared, &Answer::new(200, PLAIN, vec![b'x'; 3 << 20])).1, "there is no room");
        drop(held);
    }

    #[tokio::test]
    async fn a_request_and_the_reading_of_an_answer_have_ten_seconds() {
        let begun = Instant::now();
        let (here, mut slow) = duplex(4 * SHORT);
        let mut client = Conversation::new(here, String::new(), shared(), Activity::default());
        // The beginning of a request.
        client.bytes.extend_from_slice(b"GET /metrics HTTP/1.1\r\n");
        let slow = async {
            let mut heard = Vec::new();
            slow.read_to_end(&mut heard).await.unwrap();
            assert!(heard.starts_with(b"HTTP/1.1 408 "), "{}", heard.escape_ascii());
        };
        let shared = shared();
        let answer = Answer::new(200, PLAIN, vec![b'x'; SHORT]);
        let (deaf, waits) = begin(&shared, &answer);
        assert!(waits);
        let ((), (), deaf) = tokio::join!(client.attend(), slow, deaf);
        assert_eq!(deaf.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= SENDING.max(READING));
    }

    #[tokio::test]
    async fn no_more_is_held_than_a_head_and_a_piece() {
        let mut bytes = Vec::new();
        let endless = vec![b'x'; 4 * HEAD_LIMIT];
        let mut stream = &endless[..];
        for _ in 0..=HEAD_LIMIT / PIECE {
            read(&mut stream, &mut bytes).await.unwrap();
        }
        assert!(bytes.len() <= HEAD_LIMIT + PIECE && bytes.len() >= HEAD_LIMIT, "{}", bytes.len());
    }
}
