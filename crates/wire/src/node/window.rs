//! When the next file descriptor may be sent to a worker.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many bytes Node reads from a channel at once, at most.
pub const NODE_READ: usize = 65_536;

/// The handles on their way to one worker, and whether another may join them.
///
/// Node keeps the last descriptor it received in a single place, and gives it to the next handle message
/// that it finds complete. The kernel helps: a read ends behind the bytes that were sent with a
/// descriptor, so that one read has plain messages and then at most one handle message. But a read also
/// ends after [`NODE_READ`] bytes. If that cuts a handle message, its descriptor comes with the first
/// part; the next read brings the rest, glued to the *next* handle message, whose descriptor takes the
/// place of the first. One connection then reaches the wrong server, and another none.
///
/// Hence the rule, where *plain* is the number of bytes sent without a descriptor since the last handle
/// message:
/// 1. A handle message is sent as one piece, or not at all.
/// 2. If plain and it together fit into one read, it cannot be cut, and others may follow it at once.
/// 3. Else it may be cut, and nothing with a descriptor may follow before the worker has answered for it.
///
/// Plain messages may be sent at any time. How many handles *should* be on their way is the caller's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandleWindow {
    plain: usize,
    outstanding: usize,
    /// The last handle sent may be cut by a read.
    fragile: bool,
}

/// The worker answered for a handle that was never sent: it breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurplusAck;

impl HandleWindow {
    /// Nothing has been sent yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a message with a descriptor may be sent now. Where not, it may once
    /// [`outstanding`](Self::outstanding) is 0.
    pub fn may_send(&self) -> bool {
        !self.fragile
    }

    /// So many bytes without a descriptor were written to the channel.
    pub fn sent_plain(&mut self, len: usize) {
        self.plain = self.plain.saturating_add(len);
    }

    /// A handle message of `len` bytes, newline included, was written in one piece.
    pub fn sent_handle(&mut self, len: usize) {
        self.fragile |= self.plain.saturating_add(len) > NODE_READ;
        self.outstanding += 1;
        self.plain = 0;
    }

    /// A handle message was written in more than one piece, against the first rule. Its descriptor went
    /// with the first piece.
    pub fn sent_handle_in_pieces(&mut self) {
        self.sent_handle(usize::MAX);
    }

    /// The worker answered for the oldest outstanding handle, with ACK or with NACK.
    pub fn acked(&mut self) -> Result<(), SurplusAck> {
        self.outstanding = self.outstanding.checked_sub(1).ok_or(SurplusAck)?;
        // A fragile handle is the youngest, since none was sent after it.
        self.fragile &= self.outstanding > 0;
        Ok(())
    }

    /// How many handles the worker has not answered for.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }
}

impl fmt::Display for SurplusAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the worker acknowledged a handle that was not sent")
    }
}

impl std::error::Error for SurplusAck {}
