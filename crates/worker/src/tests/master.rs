//! The master's end: it speaks the primary's half of the protocol, and waits no longer than a test may take.

use std::collections::VecDeque;
use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use recluster_wire::node::{DEFAULT_MAX_LINE, Decoder, FromWorker, ToWorker};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::worker::{Start, Worker};

/// No test takes this long unless it fails.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

pub(super) struct Master {
    socket: UnixStream,
    decoder: Decoder,
    heard: VecDeque<FromWorker>,
}

impl Master {
    /// A worker with nothing but a channel, which has said hello.
    pub(super) fn with_worker() -> (Self, Worker) {
        Self::with(Start::default())
    }

    /// A worker that was started with this and a channel, and has said hello.
    pub(super) fn with(start: Start) -> (Self, Worker) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let worker = Worker::begin(Start { channel: Some(theirs), ..start }).expect("a worker");
        let decoder = Decoder::new(DEFAULT_MAX_LINE);
        let mut master = Self { socket: ours, decoder, heard: VecDeque::new() };
        assert_eq!(master.hear(), Some(FromWorker::Online));
        (master, worker)
    }

    /// The next message of the worker; none at the end of the channel.
    pub(super) fn hear(&mut self) -> Option<FromWorker> {
        let mut bytes = [0; 4096];
        while self.heard.is_empty() {
            let count = self.socket.read(&mut bytes).expect("the worker speaks in time");
            if count == 0 {
                return None;
            }
            self.decoder.push(&bytes[..count]);
            while let Some(message) = self.decoder.next_message().expect("a short line") {
                self.heard.push_back(message);
            }
        }
        self.heard.pop_front()
    }

    pub(super) fn tell(&self, message: ToWorker<'_>) {
        self.write(message, &mut SendAncillaryBuffer::default());
    }

    /// With a descriptor.
    pub(super) fn pass(&self, message: ToWorker<'_>, descriptor: impl AsFd) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        self.write(message, &mut control);
    }

    /// The descriptor goes with the first piece of a line that is longer than the channel's buffer.
    fn write(&self, message: ToWorker<'_>, control: &mut SendAncillaryBuffer<'_, '_, '_>) {
        let mut line = Vec::new();
        message.encode(&mut line);
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let sent = sendmsg(&self.socket, &[IoSlice::new(rest)], control, SendFlags::NOSIGNAL);
            rest = &rest[sent.expect("the worker reads")..];
            control.clear();
        }
    }
}

/// What a call that waits returns, if it does so in time.
pub(super) fn in_time<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    later(call).recv_timeout(DEADLINE).expect("it returns in time")
}

/// As `in_time`, for a call that something else has to happen for.
pub(super) fn later<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (done, result) = mpsc::channel();
    // A test that has failed does not wait for it.
    thread::spawn(move || done.send(call()).unwrap_or(()));
    result
}
