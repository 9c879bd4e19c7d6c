//! From one line of a worker to one message, by way of what every line is: internal, or of a user.
//!
//! Nothing a worker writes is trusted: a field that is missing, of a wrong type or beyond its limits
//! makes the message [`Malformed`], and where the worker waits for an answer, that says how to give one.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use serde_json::value::RawValue;

use super::farewell::Alive;
use super::fields::{Fields, boolean, number, string, text};
use super::message::{
    DatagramKind, Farewell, Fault, FromWorker, HandleEnvelope, HandleKind, Held, MAX_REASON, Payload, Taken,
    UserCommand, UserMessage,
};
use super::query::{MAX_ADDRESS, listening, query_server};
use crate::Json;

/// The longest key of a server, in bytes. Workers build theirs from an address, a port and a type.
pub const MAX_KEY: usize = MAX_ADDRESS + 32;

/// How much of a worker's stderr one message may tell, in bytes.
const MAX_STDERR: usize = 16 * 1024;

/// What Node writes for [`FromWorker::HandleAck`], which comes once for each connection.
const HANDLE_ACK: &[u8] = br#"{"cmd":"NODE_HANDLE_ACK"}"#;

/// What Bun writes before an internal message.
const BUN_INTERNAL: u8 = 2;

/// What every `cmd` of an internal message begins with, and is longer than.
const INTERNAL: &[u8] = b"NODE_";

/// What a message is, by its `cmd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cmd {
    /// An envelope: it tells what came with the message in it.
    Handle,
    /// Another one between the two halves of the protocol.
    Internal,
    /// One of a user.
    User(UserCommand),
}

impl Cmd {
    /// Distinguishes as Node does: by a `cmd` that begins with `NODE_` and is longer. Without a `cmd` it is empty.
    pub(super) fn of(cmd: &[u8]) -> Self {
        match cmd {
            b"NODE_HANDLE" => Self::Handle,
            b"ready" => Self::User(UserCommand::Ready),
            b"disconnect" => Self::User(UserCommand::Disconnect),
            _ if cmd.starts_with(INTERNAL) && cmd.len() > INTERNAL.len() => Self::Internal,
            _ => Self::User(UserCommand::Other),
        }
    }
}

/// The two kinds of lines, in both directions.
#[expect(clippy::large_enum_variant, reason = "it lives for one call, which is made for every connection")]
pub(super) enum Shape<'a> {
    /// A message between the two halves of the protocol, by its `cmd`.
    Internal(Cow<'a, [u8]>, Fields<'a>),
    /// A message between the users on both sides.
    User(UserMessage),
}

/// Parses a line, without its newline.
pub(super) fn parse_line(line: &[u8]) -> FromWorker {
    if line == HANDLE_ACK {
        return FromWorker::HandleAck;
    }
    let json = line.strip_prefix(&[BUN_INTERNAL]).unwrap_or(line);
    match std::str::from_utf8(json) {
        Ok(text) => parse_message(text),
        Err(_) => malformed(Fault::NotJson),
    }
}

/// Parses a message, written as JSON.
pub(super) fn parse_message(text: &str) -> FromWorker {
    parse_text(text, Depth::Line)
}

/// Where a message stands.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    Line,
    Envelope,
}

fn parse_text(text: &str, depth: Depth) -> FromWorker {
    match shape(text) {
        Ok(Shape::Internal(cmd, fields)) => parse_internal(&cmd, &fields, depth).unwrap_or_else(malformed),
        Ok(Shape::User(message)) => FromWorker::User(message),
        Err(fault) => malformed(fault),
    }
}

/// Distinguishes internal messages from those of users.
pub(super) fn shape(source: &str) -> Result<Shape<'_>, Fault> {
    let Some(fields) = Fields::read(source) else {
        let json = Json::parse(source).map_err(|_| Fault::NotJson)?;
        let ready = json.as_str() == r#""ready""#;
        let command = if ready { UserCommand::Ready } else { UserCommand::Other };
        return Ok(Shape::User(UserMessage::new(Payload::Json(json), command)));
    };
    let cmd = text(fields.cmd).unwrap_or_default();
    Ok(match Cmd::of(&cmd) {
        Cmd::Handle | Cmd::Internal => Shape::Internal(cmd, fields),
        Cmd::User(command) => Shape::User(UserMessage::new(Payload::Json(Json::of_valid(source)), command)),
    })
}

fn parse_internal(cmd: &[u8], fields: &Fields<'_>, depth: Depth) -> Result<FromWorker, Fault> {
    Ok(match cmd {
        b"NODE_CLUSTER" => parse_cluster(fields)?,
        b"NODE_HANDLE" if depth == Depth::Envelope => return Err(Fault::NestedHandle),
        b"NODE_HANDLE" => FromWorker::Handle(envelope(fields)),
        b"NODE_HANDLE_ACK" => FromWorker::HandleAck,
        b"NODE_HANDLE_NACK" => FromWorker::HandleNack,
        b"NODE_SOCKET_GET_COUNT" => FromWorker::SocketGetCount { key: key(fields)? },
        b"NODE_SOCKET_NOTIFY_CLOSE" => FromWorker::SocketNotifyClose { key: key(fields)? },
        b"NODE_RECLUSTER_HELD" => FromWorker::Held(held(fields)?),
        b"NODE_RECLUSTER_FAREWELL" => FromWorker::Farewell(farewell(fields)?),
        b"NODE_RECLUSTER_KEEPS" => FromWorker::Keeps(keeps(fields)?),
        b"NODE_RECLUSTER_STDERR" => FromWorker::Stderr(stderr(fields)?),
        b"NODE_RECLUSTER_LEAVES" => FromWorker::Leaves,
        b"NODE_RECLUSTER_PONG" => FromWorker::Pong,
        b"NODE_RECLUSTER_CACHE_OFF" => {
            FromWorker::CacheOff(string(fields.reason, MAX_REASON).ok_or(Fault::Field("reason"))?)
        }
        b"NODE_RECLUSTER_MEASURES" => {
            let said = fields.measures.and_then(|said| serde_json::from_str(said.get()).ok());
            FromWorker::Measures(said.ok_or(Fault::Field("measures"))?)
        }
        b"NODE_RECLUSTER_TAKEN" => FromWorker::Taken(taken(fields)?),
        _ => FromWorker::Unknown,
    })
}

fn held(fields: &Fields<'_>) -> Result<Held, Fault> {
    Ok(Held {
        connections: connections(fields)?,
        upgraded: number(fields.upgraded).ok_or(Fault::Field("upgraded"))?,
        requests: number(fields.requests).ok_or(Fault::Field("requests"))?,
    })
}

fn taken(fields: &Fields<'_>) -> Result<Taken, Fault> {
    Ok(Taken {
        connections: connections(fields)?,
        open: number(fields.open),
        lately: number(fields.lately).unwrap_or_default(),
        lasting: number(fields.lasting).unwrap_or_default(),
    })
}

fn farewell(fields: &Fields<'_>) -> Result<Farewell, Fault> {
    let Alive(alive) =
        fields.alive.and_then(|alive| serde_json::from_str(alive.get()).ok()).ok_or(Fault::Field("alive"))?;
    let handles = boolean(fields.handles).ok_or(Fault::Field("handles"))?;
    Ok(Farewell { alive, handles })
}

/// In milliseconds.
fn keeps(fields: &Fields<'_>) -> Result<Duration, Fault> {
    number(fields.timeout).map(Duration::from_millis).ok_or(Fault::Field("timeout"))
}

/// The last of it. Half a surrogate pair becomes what it would be in UTF-8.
fn stderr(fields: &Fields<'_>) -> Result<String, Fault> {
    let written = text(fields.text).ok_or(Fault::Field("text"))?;
    let last = written.get(written.len().saturating_sub(MAX_STDERR)..).unwrap_or_default();
    Ok(String::from_utf8_lossy(last).into_owned())
}

fn connections<N: FromStr>(fields: &Fields<'_>) -> Result<N, Fault> {
    number(fields.connections).ok_or(Fault::Field("connections"))
}

/// An envelope is never malformed itself: its sender waits for an answer to the descriptor in any case.
fn envelope(fields: &Fields<'_>) -> HandleEnvelope {
    HandleEnvelope {
        kind: handle_kind(fields),
        key: string(fields.key, MAX_KEY),
        message: Box::new(parse_text(fields.msg.map_or("null", RawValue::get), Depth::Envelope)),
    }
}

fn handle_kind(fields: &Fields<'_>) -> Option<HandleKind> {
    match &*text(fields.handle_type)? {
        b"net.Native" => Some(HandleKind::NetNative),
        b"net.Socket" => Some(HandleKind::NetSocket),
        b"net.Server" => Some(HandleKind::NetServer),
        b"net.BoundSocket" => Some(HandleKind::NetBoundSocket),
        b"dgram.Native" => Some(HandleKind::DatagramNative),
        b"dgram.Socket" => match &*text(fields.datagram_type)? {
            b"udp4" => Some(HandleKind::DatagramSocket(DatagramKind::Udp4)),
            b"udp6" => Some(HandleKind::DatagramSocket(DatagramKind::Udp6)),
            _ => None,
        },
        _ => None,
    }
}

fn parse_cluster(fields: &Fields<'_>) -> Result<FromWorker, Fault> {
    if fields.ack.is_some() {
        return Ok(FromWorker::Ack {
            ack: number(fields.ack).ok_or(Fault::Field("ack"))?,
            accepted: boolean(fields.accepted).ok_or(Fault::Field("accepted"))?,
        });
    }
    Ok(match &*text(fields.act).ok_or(Fault::Field("act"))? {
        b"online" => FromWorker::Online,
        b"queryServer" => query_server(seq(fields)?, fields),
        b"listening" => FromWorker::Listening(listening(fields)?),
        b"close" => FromWorker::Close { key: key(fields)? },
        b"exitedAfterDisconnect" => FromWorker::ExitedAfterDisconnect { seq: seq(fields)? },
        _ => FromWorker::Unknown,
    })
}

pub(super) fn seq(fields: &Fields<'_>) -> Result<u64, Fault> {
    number(fields.seq).ok_or(Fault::Field("seq"))
}

pub(super) fn key(fields: &Fields<'_>) -> Result<String, Fault> {
    string(fields.key, MAX_KEY).ok_or(Fault::Field("key"))
}

pub(super) fn malformed(fault: Fault) -> FromWorker {
    FromWorker::Malformed(fault.into())
}
