//! What a channel leaves to the program after this one: half a message each way, and what is known of handles on their way.

use std::collections::VecDeque;

use recluster_wire::env::Serialization;
use recluster_wire::node::advanced::{FrameDecoder, Skipped};
use recluster_wire::node::{Decoder, HandleWindow, Skim};
use serde::{Deserialize, Serialize};

use super::{Channel, Limits, Outgoing, Sent};
use crate::dataplane::codec::Codec;
use crate::dataplane::passing::{Bytes, Passing, Taking};
use crate::upgrade::{AdoptError, SaveError};

/// A channel as it is left.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::dataplane) struct SavedChannel {
    socket: String,
    codec: SavedCodec,
    /// What was read and is no whole message yet.
    unfinished: Bytes,
    received: Vec<String>,
    queue: Vec<SavedOutgoing>,
    /// The messages of the queue, one behind the other.
    queued: Bytes,
    window: HandleWindow,
    unanswered: Vec<Sent>,
    next_seq: u64,
    took_handle: bool,
    run: usize,
    crowded: bool,
}

/// How messages are written, and a message that is skipped.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedCodec {
    Json(Option<Box<Skim>>),
    Advanced(Option<Box<Skipped>>),
}

/// What is left of a message that waits for the worker.
#[derive(Debug, Serialize, Deserialize)]
struct SavedOutgoing {
    length: usize,
    handle: Option<(Sent, String)>,
}

impl Channel {
    /// `name`: of its worker.
    pub(in crate::dataplane) fn save(
        &self,
        name: &str,
        passing: &mut Passing<'_>,
    ) -> Result<SavedChannel, SaveError> {
        let (unfinished, codec) = match &self.codec {
            Codec::Lines(decoder) => {
                let (bytes, skipped) = decoder.unfinished();
                (bytes.to_vec(), SavedCodec::Json(skipped.cloned().map(Box::new)))
            }
            Codec::Frames(decoder) => {
                let (bytes, skipped) = decoder.unfinished();
                (bytes.to_vec(), SavedCodec::Advanced(skipped.cloned().map(Box::new)))
            }
        };
        let (mut queue, mut queued) = (Vec::new(), Vec::new());
        for (index, Outgoing { bytes, sent, handle }) in self.queue.iter().enumerate() {
            let rest = bytes.get(*sent..).unwrap_or_default();
            queued.extend_from_slice(rest);
            let handle = handle.as_ref().map(|(what, fd)| {
                Ok::<_, SaveError>((*what, passing.descriptor(fd, &format!("{name}/queue/{index}"))?))
            });
            queue.push(SavedOutgoing { length: rest.len(), handle: handle.transpose()? });
        }
        let received = self.received.iter().enumerate();
        let received =
            received.map(|(index, fd)| passing.descriptor(fd, &format!("{name}/received/{index}")));
        let received = received.collect::<Result<_, SaveError>>()?;
        Ok(SavedChannel {
            socket: passing.descriptor(&self.socket, &format!("{name}/channel"))?,
            codec,
            unfinished: passing.bytes(unfinished, &format!("{name}/unfinished"))?,
            received,
            queue,
            queued: passing.bytes(queued, &format!("{name}/queued"))?,
            window: self.window.clone(),
            unanswered: self.unanswered.iter().copied().collect(),
            next_seq: self.next_seq,
            took_handle: self.took_handle,
            run: self.run,
            crowded: self.crowded,
        })
    }

    pub(in crate::dataplane) fn inherit(
        saved: SavedChannel,
        limits: Limits,
        taking: &mut Taking,
    ) -> Result<Self, AdoptError> {
        let unfinished = taking.bytes(saved.unfinished)?;
        let codec = match saved.codec {
            SavedCodec::Json(skipped) => {
                Codec::Lines(Decoder::resume(limits.line, &unfinished, skipped.map(|it| *it)))
            }
            SavedCodec::Advanced(skipped) => {
                Codec::Frames(FrameDecoder::resume(limits.line, &unfinished, skipped.map(|it| *it)))
            }
        };
        let queued = taking.bytes(saved.queued)?;
        let (mut queue, mut rest) = (VecDeque::new(), queued.as_slice());
        for SavedOutgoing { length, handle } in saved.queue {
            let Some((bytes, others)) = rest.split_at_checked(length) else {
                return Err(AdoptError::Contradiction("a worker's queue has too few bytes".to_owned()));
            };
            rest = others;
            let handle = handle.map(|(what, name)| Ok::<_, AdoptError>((what, taking.shared(&name)?)));
            queue.push_back(Outgoing { bytes: bytes.to_vec(), sent: 0, handle: handle.transpose()? });
        }
        let received = saved.received.iter().map(|name| taking.descriptor(name));
        Ok(Self {
            codec,
            received: received.collect::<Result<_, AdoptError>>()?,
            queued_bytes: queued.len(),
            queue,
            window: saved.window,
            unanswered: saved.unanswered.into(),
            next_seq: saved.next_seq,
            took_handle: saved.took_handle,
            run: saved.run,
            crowded: saved.crowded,
            ..Self::new(taking.descriptor(&saved.socket)?, limits, Serialization::default())
        })
    }

    /// For watching.
    pub(in crate::dataplane) fn socket(&self) -> &std::os::fd::OwnedFd {
        &self.socket
    }
}
