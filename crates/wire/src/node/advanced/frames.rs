//! Bytes to frames, and frames to messages, with a limit on what may be held.

use serde::{Deserialize, Serialize};

use super::reader::{Reach, Reader};
use super::write::LENGTH;
use crate::node::buffer::Buffer;
use crate::node::decode::LineTooLong;
use crate::node::message::{Fault, FromWorker, HandleEnvelope, Payload, UserMessage};
use crate::node::parse::{malformed, parse_message};
use crate::node::skim::Skim;

/// How long a message between the two halves of the protocol may be: it is written as JSON to be read. Node's have a few kB.
const MOST_INTERNAL: usize = 1 << 20;
/// How much of a value is looked at at a time, so that its JSON takes little room.
const STEP: usize = 16 << 10;

/// Cuts the bytes of one worker's channel into messages, as [`Decoder`](crate::node::Decoder) does with lines.
///
/// Call [`next_message`](Self::next_message) after each [`push`](Self::push) until it has no more: then no more is ever
/// allocated than the limit and one push together.
#[derive(Debug)]
pub struct FrameDecoder {
    most: usize,
    buffer: Buffer,
    skipped: Option<Box<Skipped>>,
    overflowed: bool,
}

/// A frame that is skipped, as far as it has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Skipped {
    length: u64,
    left: u64,
    glance: Glance,
}

/// What a value says of itself to those who look through it once.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Glance {
    reader: Reader,
    skim: Skim,
}

impl FrameDecoder {
    /// A decoder that keeps messages of up to `most` bytes, their length not counted.
    pub fn new(most: usize) -> Self {
        Self { most, buffer: Buffer::default(), skipped: None, overflowed: false }
    }

    /// One that goes on where another has stopped: with what that [had](Self::unfinished).
    pub fn resume(most: usize, bytes: &[u8], skipped: Option<Skipped>) -> Self {
        let mut decoder = Self { skipped: skipped.map(Box::new), ..Self::new(most) };
        decoder.push(bytes);
        decoder
    }

    /// The bytes that wait for the rest of their message, or to be handed out; and the message that is skipped, as far as it has come.
    pub fn unfinished(&self) -> (&[u8], Option<&Skipped>) {
        (self.buffer.rest(), self.skipped.as_deref())
    }

    /// Takes what was read from the channel, cut anywhere. Ignored after a [`LineTooLong`].
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.overflowed {
            self.buffer.push(bytes, self.most.saturating_add(LENGTH));
        }
    }

    /// The next whole message of a worker, or none before more bytes are pushed. One of a user that is longer than the limit
    /// is [skipped](FromWorker::Skipped), in an envelope or not.
    ///
    /// Fails where a message between the two halves of the protocol is too long, and from then on always.
    pub fn next_message(&mut self) -> Result<Option<FromWorker>, LineTooLong> {
        if self.overflowed {
            return Err(self.overflow());
        }
        if self.skipped.is_none() {
            let Some(length) = self.next_length() else { return Ok(None) };
            if length <= self.most as u64 {
                return self.whole(length);
            }
            self.buffer.take(LENGTH);
            self.skipped = Some(Box::new(Skipped { length, left: length, glance: Glance::new() }));
        }
        self.skip()
    }

    /// How many bytes wait for the rest of their message, or to be handed out.
    pub fn buffered(&self) -> usize {
        self.buffer.rest().len()
    }

    fn next_length(&mut self) -> Option<u64> {
        let length = self.buffer.rest().first_chunk::<LENGTH>().map(|bytes| u32::from_be_bytes(*bytes));
        if length.is_none() {
            self.buffer.forget_taken();
        }
        length.map(u64::from)
    }

    /// The message of so many bytes, if it has come.
    fn whole(&mut self, length: u64) -> Result<Option<FromWorker>, LineTooLong> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if self.buffer.rest().len() < length.saturating_add(LENGTH) {
            self.buffer.forget_taken();
            return Ok(None);
        }
        self.buffer.take(LENGTH);
        let taken = self.buffer.take(length);
        match parse_value(self.buffer.get(taken)) {
            Some(message) => Ok(Some(message)),
            None => Err(self.overflow()),
        }
    }

    /// Looks through what there is of a message that is too long, and forgets it.
    fn skip(&mut self) -> Result<Option<FromWorker>, LineTooLong> {
        let Some(skipped) = &mut self.skipped else { return Ok(None) };
        let left = usize::try_from(skipped.left).unwrap_or(usize::MAX);
        let taken = self.buffer.take(left);
        skipped.left -= taken.len() as u64;
        skipped.glance.read(self.buffer.get(taken));
        if skipped.glance.skim.is_internal() {
            return Err(self.overflow());
        }
        if skipped.left > 0 {
            self.buffer.forget_taken();
            return Ok(None);
        }
        Ok(self.skipped.take().map(|skipped| skipped.glance.skim.skipped(skipped.length)))
    }

    fn overflow(&mut self) -> LineTooLong {
        *self = Self { overflowed: true, ..Self::new(self.most) };
        LineTooLong { limit: self.most }
    }
}

impl UserMessage {
    /// What people may call messages of its kind: the first string by which libraries tell theirs from those of others
    /// (`topic`, `type`, `cmd` …), else its first key or what sort of value it is. Short, and without control characters.
    pub fn name(&self) -> String {
        match self.payload() {
            Payload::Json(json) => {
                let mut skim = Skim::default();
                skim.read(json.as_str().as_bytes());
                skim.name()
            }
            Payload::Advanced(value) => Glance::at(value).skim.name(),
        }
    }
}

impl Glance {
    fn new() -> Self {
        Self { reader: Reader::new(Reach::Names), skim: Skim::default() }
    }

    /// Looks through a whole value.
    fn at(value: &[u8]) -> Self {
        let mut glance = Self::new();
        glance.read(value);
        glance
    }

    fn read(&mut self, bytes: &[u8]) {
        for step in bytes.chunks(STEP) {
            self.reader.read(step);
            self.skim.read(&self.reader.take_json());
        }
    }
}

/// The message that a value is; none if it is one between the two halves of the protocol, and longer than these are.
///
/// A value that we cannot read is one of a user, as far as it was read: its reader may know more of the format.
fn parse_value(value: &[u8]) -> Option<FromWorker> {
    let glance = Glance::at(value);
    if glance.reader.version().is_none() {
        return Some(malformed(Fault::NotAValue));
    }
    let user = || FromWorker::User(UserMessage::new(Payload::Advanced(value.into()), glance.skim.command()));
    if glance.skim.is_internal() {
        return (value.len() <= MOST_INTERNAL).then(|| internal(value));
    }
    if !glance.skim.is_envelope() {
        return Some(user());
    }
    Some(FromWorker::Handle(match json_of(value, Reach::AllButMsg).map(|text| parse_message(&text)) {
        Some(FromWorker::Handle(envelope)) => HandleEnvelope { message: Box::new(user()), ..envelope },
        // What came with it has to be answered for in any case.
        _ => HandleEnvelope { kind: None, key: None, message: Box::new(malformed(Fault::NotAValue)) },
    }))
}

fn internal(value: &[u8]) -> FromWorker {
    match json_of(value, Reach::All).map(|text| parse_message(&text)) {
        Some(FromWorker::User(_)) | None => malformed(Fault::NotAValue),
        Some(message) => message,
    }
}

/// The value as JSON; none if it cannot be read to its end.
fn json_of(value: &[u8], reach: Reach) -> Option<String> {
    let mut reader = Reader::new(reach);
    reader.read(value);
    reader.is_whole().then(|| String::from_utf8(reader.take_json()).ok()).flatten()
}
