//! How messages are written on a worker's channel: as its process was told when it was started.

use recluster_wire::env::Serialization;
use recluster_wire::node::advanced::{self, FrameDecoder};
use recluster_wire::node::{Decoder, FromWorker, HandleKind, LineTooLong, Payload, ToWorker};

/// Both directions of one channel.
#[derive(Debug)]
pub(super) enum Codec {
    Lines(Decoder),
    Frames(FrameDecoder),
}

impl Codec {
    /// One that keeps messages of up to so many bytes.
    pub(super) fn new(serialization: Serialization, most: usize) -> Self {
        match serialization {
            Serialization::Json => Self::Lines(Decoder::new(most)),
            Serialization::Advanced => Self::Frames(FrameDecoder::new(most)),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Lines(decoder) => decoder.push(bytes),
            Self::Frames(decoder) => decoder.push(bytes),
        }
    }

    pub(super) fn next_message(&mut self) -> Result<Option<FromWorker>, LineTooLong> {
        match self {
            Self::Lines(decoder) => decoder.next_message(),
            Self::Frames(decoder) => decoder.next_message(),
        }
    }

    /// How much of a message was skipped that may have no end. A frame says where its end is.
    pub(super) fn skipping(&self) -> Option<u64> {
        match self {
            Self::Lines(decoder) => decoder.skipping(),
            Self::Frames(_) => None,
        }
    }

    pub(super) fn encode(&self, message: &ToWorker<'_>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        match self {
            Self::Lines(_) => message.encode(&mut bytes),
            Self::Frames(_) => message.encode_advanced(&mut bytes),
        }
        bytes
    }

    /// A message of the host program, beside a handle of this kind if there is one; none if the worker cannot read it.
    pub(super) fn encode_said(&self, said: &Payload, handle: Option<HandleKind>) -> Option<Vec<u8>> {
        match (self, said) {
            (_, Payload::Json(json)) => Some(self.encode(&match handle {
                None => ToWorker::User(json),
                Some(kind) => ToWorker::UserHandle { kind, json },
            })),
            (Self::Frames(_), Payload::Advanced(value)) => {
                let mut bytes = Vec::new();
                advanced::frame(value, &mut bytes);
                Some(bytes)
            }
            (Self::Lines(_), Payload::Advanced(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use recluster_wire::Json;

    use super::*;

    #[test]
    fn what_a_host_says_in_json_reaches_every_worker_and_a_value_only_who_reads_values() {
        let json = Payload::Json(Json::parse("[1]").unwrap());
        let value = Payload::Advanced([0xff, 15, b'T'].into());
        let lines = Codec::new(Serialization::Json, 100);
        assert_eq!(lines.encode_said(&json, None).unwrap(), b"[1]\n");
        assert_eq!(lines.encode_said(&value, None), None);
        let frames = Codec::new(Serialization::Advanced, 100);
        assert_eq!(frames.encode_said(&value, Some(HandleKind::NetSocket)).unwrap(), b"\0\0\0\x03\xff\x0fT");
        assert!(frames.encode_said(&json, None).unwrap().starts_with(b"\0\0\0\x0d\xff\x0fA"));
    }
}
