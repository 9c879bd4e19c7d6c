//! The channel to the master: one thread reads it, any thread may write to it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use recluster_wire::node::worker::{FromPrimary, Reply, ToPrimary};
use recluster_wire::node::{DEFAULT_MAX_LINE, Decoder, Listening, QueryServer, UserCommand};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};

use crate::Error;
use crate::messages::Inbox;
use crate::shutdown::Latch;
use crate::watched::Watched;

/// How long the master may take to answer a request for a socket.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How much is read at a time.
const READ_BYTES: usize = 64 * 1024;
/// How many descriptors are taken from one read; the kernel hands out one message's at a time.
const FDS_A_READ: usize = 4;

/// Our end of the channel.
#[derive(Debug)]
pub(crate) struct Channel {
    writer: Arc<Writer>,
    questions: Arc<Watched<Questions>>,
    latch: Arc<Latch>,
}

/// The answer to a request for a socket.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The socket.
    Socket(OwnedFd),
    /// The master accepts, and would pass connections on.
    Passing,
    /// It fails with this error of the system.
    Refused(i32),
}

/// The requests that wait for an answer, and the answers that wait to be fetched.
#[derive(Debug, Default)]
struct Questions {
    open: BTreeMap<u64, Option<Answer>>,
    /// No answer will come any more.
    ended: bool,
}

#[derive(Debug)]
struct Writer {
    socket: Arc<UnixStream>,
    next_seq: Mutex<u64>,
}

impl Channel {
    /// Sends the first message to the master and starts the thread that reads.
    pub(crate) fn open(socket: UnixStream, latch: Arc<Latch>, inbox: Arc<Inbox>) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        let socket = Arc::new(socket);
        let writer = Arc::new(Writer { socket: Arc::clone(&socket), next_seq: Mutex::new(0) });
        let questions = Arc::new(Watched::default());
        // A master that is gone already is noticed by the reader.
        let _ = writer.say_numbered(|seq| ToPrimary::Online { seq });
        let reader = Reader {
            socket,
            writer: Arc::clone(&writer),
            questions: Arc::clone(&questions),
            latch: Arc::clone(&latch),
            inbox,
            received: VecDeque::new(),
        };
        thread::Builder::new().name("recluster-channel".into()).spawn(|| reader.run())?;
        Ok(Self { writer, questions, latch })
    }

    /// Says something that has no number.
    pub(crate) fn say(&self, message: &ToPrimary<'_>) -> Result<(), Error> {
        self.writer.say(message).map_err(tell_error)
    }

    /// Says that a server listens.
    pub(crate) fn announce(&self, index: u32, at: &Listening) -> Result<(), Error> {
        self.writer.say_numbered(|seq| ToPrimary::Listening { seq, index, at }).map(drop).map_err(tell_error)
    }

    /// Asks for a socket, and waits for the answer. The query's `seq` is set here.
    pub(crate) fn ask(&self, query: &mut QueryServer) -> Result<Answer, Error> {
        let questions = &self.questions;
        let mut seq = self.writer.lock();
        query.seq = *seq;
        // Registered before the answer can arrive.
        questions.change(|questions| questions.open.insert(query.seq, None));
        let said = self.writer.write(&ToPrimary::QueryServer(query));
        *seq += 1;
        drop(seq);
        let until = Instant::now().checked_add(ANSWER_WITHIN);
        let answer = said.map_err(tell_error).and_then(|()| {
            let fetch = |questions: &mut Questions| self.fetch(questions, query.seq);
            questions.wait(until, fetch).unwrap_or(Err(Error::NoAnswer))
        });
        questions.change(|questions| questions.open.remove(&query.seq));
        answer
    }

    fn fetch(&self, questions: &mut Questions, seq: u64) -> Option<Result<Answer, Error>> {
        if let Some(answer) = questions.open.get_mut(&seq).and_then(Option::take) {
            return Some(Ok(answer));
        }
        if questions.ended {
            return Some(Err(Error::MasterGone));
        }
        // A master that lets a worker go does not answer it any more.
        self.latch.is_requested().then_some(Err(Error::ShuttingDown))
    }
}

fn tell_error(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe { Error::MasterGone } else { Error::Tell(error) }
}

impl Writer {
    /// Writes one whole message. Messages of other threads do not mix with it: the lock on the number is held.
    fn say(&self, message: &ToPrimary<'_>) -> io::Result<()> {
        let _held = self.lock();
        self.write(message)
    }

    fn say_numbered<'a>(&self, message: impl FnOnce(u64) -> ToPrimary<'a>) -> io::Result<()> {
        let mut seq = self.lock();
        self.write(&message(*seq))?;
        *seq += 1;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.next_seq.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, message: &ToPrimary<'_>) -> io::Result<()> {
        let mut line = Vec::with_capacity(96);
        message.encode(&mut line);
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match send(&*self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The thread that reads the master's messages.
struct Reader {
    socket: Arc<UnixStream>,
    writer: Arc<Writer>,
    questions: Arc<Watched<Questions>>,
    latch: Arc<Latch>,
    inbox: Arc<Inbox>,
    /// Descriptors, in the order of the messages that they belong to.
    received: VecDeque<OwnedFd>,
}

impl Reader {
    fn run(mut self) {
        let mut decoder = Decoder::new(DEFAULT_MAX_LINE);
        let mut scratch = vec![0; READ_BYTES];
        'channel: while let Ok(count @ 1..) = self.receive(&mut scratch) {
            decoder.push(scratch.get(..count).unwrap_or_default());
            loop {
                match decoder.next_line() {
                    Ok(Some(line)) => self.hear(FromPrimary::parse(line)),
                    Ok(None) => break,
                    // Where the next message would begin is unknown.
                    Err(_) => break 'channel,
                }
            }
        }
        self.questions.change(|questions| questions.ended = true);
        self.inbox.end();
        // Without a master this worker is neither ended nor replaced.
        self.request_shutdown();
    }

    fn receive(&mut self, bytes: &mut [u8]) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_A_READ))];
        loop {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(bytes)];
            match recvmsg(&*self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
                Ok(got) => {
                    for message in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(fds) = message {
                            self.received.extend(fds);
                        }
                    }
                    return Ok(got.bytes);
                }
            }
        }
    }

    fn hear(&mut self, message: FromPrimary) {
        let FromPrimary::Handle(message) = message else {
            return self.act_on(message, None);
        };
        let socket = self.received.pop_front();
        let arrived = socket.is_some();
        // If the master is gone, the next read says so.
        let _ = self.writer.say(if arrived { &ToPrimary::HandleAck } else { &ToPrimary::HandleNack });
        if arrived {
            self.act_on(*message, socket);
        }
    }

    fn act_on(&self, message: FromPrimary, socket: Option<OwnedFd>) {
        match message {
            FromPrimary::Reply(reply) => self.answered(reply, socket),
            FromPrimary::NewConnection { seq: ack, .. } => {
                // The master keeps it until it is accepted, and gives it to another worker.
                let _ = self.writer.say_numbered(|seq| ToPrimary::Ack { seq, ack, accepted: false });
            }
            FromPrimary::Disconnect => self.request_shutdown(),
            FromPrimary::User(message) => match message.command() {
                UserCommand::Disconnect => self.request_shutdown(),
                UserCommand::Ready | UserCommand::Other => {
                    // On a channel of lines every message is one.
                    if let Some(json) = message.into_payload().into_json() {
                        self.inbox.take_in(json);
                    }
                }
            },
            FromPrimary::Ack { .. }
            | FromPrimary::Handle(_)
            | FromPrimary::Unknown
            | FromPrimary::Malformed(_) => {}
        }
    }

    fn answered(&self, reply: Reply, socket: Option<OwnedFd>) {
        let Reply { ack, key, outcome } = reply;
        let answer = match (outcome, socket) {
            (Err(errno), _) => Answer::Refused(errno),
            (Ok(()), Some(socket)) => Answer::Socket(socket),
            (Ok(()), None) => {
                // This worker takes no single connections: none may be routed to it.
                let _ = self.writer.say_numbered(|seq| ToPrimary::Close { seq, key: &key });
                Answer::Passing
            }
        };
        self.questions.change(|questions| {
            // An answer that no request waits for is dropped, and its socket closed.
            if let Some(open) = questions.open.get_mut(&ack) {
                *open = Some(answer);
            }
        });
    }

    fn request_shutdown(&self) {
        self.latch.request();
        // This wakes the threads that wait for an answer as well.
        self.questions.change(|_| ());
    }
}
