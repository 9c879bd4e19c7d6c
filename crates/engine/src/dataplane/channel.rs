//! One worker's IPC channel: bytes and descriptors in, bytes and descriptors out, all of it bounded.
//!
//! `protocol` knows what the messages mean; this module knows how they travel.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use recluster_wire::env::Serialization;
use recluster_wire::node::{DEFAULT_MAX_LINE, FromWorker, HandleWindow, Payload, ToWorker};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::codec::Codec;
use super::handle::Handle;
use super::messages::Config;
use crate::config::messages::Messages;

/// How much is read at a time.
pub(super) const READ_BYTES: usize = 64 * 1024;
/// How many messages certainly fit the channel's buffer. (The default one of a unix socket takes 278 small ones.)
const RUN: usize = 100;
/// How many descriptors may have come without the message that names them.
const FDS_WAITING: usize = 16;
/// How many descriptors one read takes; the kernel gives out those of one message at a time.
const FDS_A_READ: usize = 4;

/// The longest string of Node, in characters. The text of a message is one before it is sent.
const NODE_STRING: usize = (1 << 29) - 24;
/// A line that is longer is no message of Node: of each character there are at most three bytes.
const LONGEST_LINE: u64 = 3 * NODE_STRING as u64;

/// How much a channel holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a worker's line may be, in bytes. A longer message of an application is skipped.
    pub(super) line: usize,
    /// How many bytes may wait for a worker that does not read.
    pub(super) queue: usize,
    /// How long a line may be that is skipped before it counts as one without an end, in bytes.
    pub(super) skipped: u64,
    /// How many bytes of what the worker's messages have led to may wait for the supervisor before its channel is no longer read.
    pub(super) facts: usize,
}

impl Limits {
    /// Where subscribers get messages.
    pub(super) const USUAL: Self =
        Self { line: DEFAULT_MAX_LINE, queue: 32 << 20, skipped: LONGEST_LINE, facts: 1 << 20 };
    /// Where a host program gets them, and makes strings of Node of them.
    pub(super) const AMPLE: Self = Self { line: NODE_STRING, queue: 512 << 20, ..Self::USUAL };
    /// Where nobody needs them, and nobody sends any: what Node says by itself is a few kB at most. Many workers may use up all of this
    /// at once.
    pub(super) const SCANT: Self = Self { line: 128 << 10, queue: 256 << 10, facts: 32 << 10, ..Self::USUAL };

    pub(super) fn of(config: &Config) -> Self {
        match config.messages {
            _ if config.is_hosted => Self::AMPLE,
            Messages::Heard => Self::USUAL,
            Messages::Logged | Messages::Unheard => Self::SCANT,
        }
    }
}

/// A worker broke a rule that its channel rests on; it must be cut off.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolViolation {
    #[error("a line on its channel is longer than {0} bytes")]
    LineTooLong(usize),
    #[error("it acknowledged a handle that it was not sent")]
    SurplusAck,
    #[error("it sent descriptors that no message names")]
    StrayDescriptors,
    #[error("it does not read its channel: {0} bytes wait for it")]
    QueueFull(usize),
    #[error("it is out of descriptors and could not take a listening socket")]
    OutOfDescriptors,
}

/// What a handle was sent for; kept until the worker says that it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sent {
    /// The connection of the `newconn` with this `seq`.
    Connection(u64),
    /// A listening socket.
    Socket,
    /// What a message of the host program carries.
    Message,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes, now in the decoder. There may be more.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The worker's end is closed; nothing will ever come.
    Closed,
}

/// What a message that waits costs beside its bytes.
const OUTGOING_COST: usize = 128;

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    /// How many of the bytes are gone.
    sent: usize,
    handle: Option<(Sent, Rc<OwnedFd>)>,
}

/// One worker's end of the socket pair, as the master holds it.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    limits: Limits,
    codec: Codec,
    received: VecDeque<OwnedFd>,
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    window: HandleWindow,
    /// Handles that were sent and not yet acknowledged, oldest first: acknowledgements carry no number.
    unanswered: VecDeque<Sent>,
    next_seq: u64,
    /// The worker sent a handle of its own: from then on it queues its messages until it reads our acknowledgement.
    took_handle: bool,
    /// How many messages were read since there was last nothing to read.
    run: usize,
    /// Once so many messages waited that the worker may have had to hold others back.
    crowded: bool,
}

impl Channel {
    pub(super) fn new(socket: OwnedFd, limits: Limits, serialization: Serialization) -> Self {
        Self {
            socket,
            limits,
            codec: Codec::new(serialization, limits.line),
            received: VecDeque::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            window: HandleWindow::new(),
            unanswered: VecDeque::new(),
            next_seq: 0,
            took_handle: false,
            run: 0,
            crowded: false,
        }
    }

    /// The number for the next cluster message.
    pub(super) fn seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether the worker ever sent a handle of its own.
    pub(super) fn took_handle(&self) -> bool {
        self.took_handle
    }

    /// Whether a handle could be sent at once: nothing waits before it, and the worker cannot take the one before for it.
    pub(super) fn takes_handles(&self) -> bool {
        self.queue.is_empty() && self.window.may_send()
    }

    /// Whether the worker may ever have had to hold a message back because we had not read enough of the others.
    pub(super) fn was_crowded(&self) -> bool {
        self.crowded
    }

    /// Reads once, into the decoder.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> Result<Read, ProtocolViolation> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_A_READ))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let mut parts = [IoSliceMut::new(scratch)];
            match recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.run = 0;
                    return Ok(Read::Nothing);
                }
                // A worker that is gone with unread messages resets the channel: there is nothing more to read.
                Err(_) => return Ok(Read::Closed),
                Ok(got) => break got,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.received.extend(fds);
            }
        }
        // Where the master is out of descriptors, the message finds none here, and is answered with a NACK.
        if self.received.len() > FDS_WAITING {
            return Err(ProtocolViolation::StrayDescriptors);
        }
        match scratch.get(..got.bytes) {
            Some([]) | None => Ok(Read::Closed),
            Some(bytes) => {
                self.codec.push(bytes);
                Ok(Read::Bytes(bytes.len()))
            }
        }
    }

    /// The next whole message of what was read.
    pub(super) fn next_message(&mut self) -> Result<Option<FromWorker>, ProtocolViolation> {
        let message =
            self.codec.next_message().map_err(|_| ProtocolViolation::LineTooLong(self.limits.line))?;
        self.run += usize::from(message.is_some());
        self.crowded |= self.run > RUN;
        Ok(message)
    }

    /// How much of a line was skipped that seems to have no end, in bytes.
    pub(super) fn endless(&self) -> Option<u64> {
        self.codec.skipping().filter(|&bytes| bytes > self.limits.skipped)
    }

    /// The descriptor that came with a handle message.
    pub(super) fn take_received(&mut self) -> Option<OwnedFd> {
        let fd = self.received.pop_front();
        self.took_handle = true;
        fd
    }

    /// The worker says that the oldest unanswered handle has arrived, or was lost.
    pub(super) fn answered(&mut self) -> Result<Sent, ProtocolViolation> {
        self.window.acked().map_err(|_| ProtocolViolation::SurplusAck)?;
        self.unanswered.pop_front().ok_or(ProtocolViolation::SurplusAck)
    }

    /// Sends a message, or queues it behind what already waits.
    pub(super) fn send(&mut self, message: &ToWorker<'_>) -> Result<(), ProtocolViolation> {
        self.enqueue(self.codec.encode(message), None)
    }

    /// Sends a message that carries a listening socket, or queues it behind what already waits.
    pub(super) fn send_socket(
        &mut self,
        message: &ToWorker<'_>,
        socket: Rc<OwnedFd>,
    ) -> Result<(), ProtocolViolation> {
        self.enqueue(self.codec.encode(message), Some((Sent::Socket, socket)))
    }

    /// Sends a message of the host program, and what it carries, or queues it behind what already waits. False if the worker
    /// cannot read it.
    pub(super) fn send_said(
        &mut self,
        said: &Payload,
        handle: Option<Handle>,
    ) -> Result<bool, ProtocolViolation> {
        let Some(bytes) = self.codec.encode_said(said, handle.as_ref().map(|handle| handle.kind)) else {
            return Ok(false);
        };
        let handle = handle.map(|Handle { fd, .. }| (Sent::Message, Rc::new(fd)));
        self.enqueue(bytes, handle).map(|()| true)
    }

    /// Tries to hand a connection over now. Never queues: a connection waits where any worker can take it.
    pub(super) fn try_send_connection(
        &mut self,
        key: &str,
        connection: &OwnedFd,
        closes: bool,
    ) -> Option<u64> {
        if !self.takes_handles() {
            return None;
        }
        let seq = self.next_seq;
        let bytes = self.codec.encode(&ToWorker::NewConnection { seq, key, closes });
        let sent = self.transmit(&bytes, Some(connection.as_fd())).ok()?;
        self.next_seq += 1;
        self.note_handle(Sent::Connection(seq), sent, bytes.len());
        if sent < bytes.len() {
            // The kernel took a part: the rest follows without the descriptor, before anything else.
            self.queued_bytes += bytes.len() - sent;
            self.queue.push_back(Outgoing { bytes, sent, handle: None });
        }
        Some(seq)
    }

    /// Writes as much of the queue as the worker's end takes.
    pub(super) fn flush(&mut self) {
        while let Some(first) = self.queue.front() {
            let rest = first.bytes.get(first.sent..).unwrap_or_default();
            let handle = first.handle.clone();
            if handle.is_some() && !self.window.may_send() {
                return;
            }
            let Ok(sent) = self.transmit(rest, handle.as_ref().map(|(_, fd)| fd.as_fd())) else { return };
            let len = rest.len();
            match handle {
                Some((what, _)) => self.note_handle(what, sent, len),
                None => self.window.sent_plain(sent),
            }
            self.queued_bytes -= sent;
            if let Some(first) = self.queue.front_mut() {
                first.sent += sent;
                first.handle = None;
            }
            if sent == len {
                self.queue.pop_front();
            }
        }
    }

    fn enqueue(
        &mut self,
        bytes: Vec<u8>,
        handle: Option<(Sent, Rc<OwnedFd>)>,
    ) -> Result<(), ProtocolViolation> {
        self.flush();
        // What is refused is not sent later either.
        let waits = self.queued_bytes + self.queue.len() * OUTGOING_COST;
        if waits + bytes.len() + OUTGOING_COST > self.limits.queue {
            return Err(ProtocolViolation::QueueFull(self.limits.queue));
        }
        self.queued_bytes += bytes.len();
        self.queue.push_back(Outgoing { bytes, sent: 0, handle });
        self.flush();
        Ok(())
    }

    fn note_handle(&mut self, what: Sent, sent: usize, len: usize) {
        if sent == len {
            self.window.sent_handle(len);
        } else {
            self.window.sent_handle_in_pieces();
        }
        self.unanswered.push_back(what);
    }

    fn transmit(&self, bytes: &[u8], handle: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        let parts = [IoSlice::new(bytes)];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if let Some(fd) = handle.as_ref() {
                control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
            }
            match sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                // No room, too many descriptors in flight, or a worker that is gone (reading finds that out).
                other => return Ok(other?),
            }
        }
    }
}

pub(super) mod saved;
#[cfg(test)]
mod tests;
