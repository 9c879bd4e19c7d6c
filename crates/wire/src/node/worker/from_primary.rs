//! What the primary says to a worker, from lines.

use serde_json::value::RawValue;

use super::super::fields::{Field, Fields, number, text};
use super::super::message::{Fault, UserMessage};
use super::super::parse::{Shape, key, seq, shape};

/// One message of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromPrimary {
    /// The answer to a [`QueryServer`](super::ToPrimary::QueryServer).
    Reply(Reply),
    /// A connection for the server with this key; it comes in a [`Handle`](Self::Handle). The primary keeps the
    /// connection until we have answered with an [`Ack`](super::ToPrimary::Ack).
    NewConnection {
        /// What the ack has to name.
        seq: u64,
        /// The key of its reply.
        key: String,
    },
    /// Close your servers, then the channel.
    Disconnect,
    /// To an [`ExitedAfterDisconnect`](super::ToPrimary::ExitedAfterDisconnect).
    Ack {
        /// The `seq` of our message.
        ack: u64,
    },
    /// A file descriptor came with this line. Answered at once with one
    /// [`HandleAck`](super::ToPrimary::HandleAck), or `HandleNack` if there is no descriptor: then nothing of the
    /// message may be acted on.
    Handle(Box<FromPrimary>),
    /// A message of the user's code. `{cmd: 'disconnect'}` among them means that we are being let go.
    User(UserMessage),
    /// An internal message that means nothing to a worker of this kind.
    Unknown,
    /// A line that is not a valid message.
    Malformed(Fault),
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The query's `seq`.
    pub ack: u64,
    /// The primary's name for the server.
    pub key: String,
    /// The error, as the system numbers it, if the query failed. If it did not, and the reply came in a
    /// [`Handle`](FromPrimary::Handle), the descriptor is the socket; else the primary means to accept itself.
    pub outcome: Result<(), i32>,
}

impl FromPrimary {
    /// Parses a line, without its newline.
    pub fn parse(line: &[u8]) -> Self {
        std::str::from_utf8(line).map_or(Self::Malformed(Fault::NotJson), |text| Self::of_text(text, false))
    }

    fn of_text(text: &str, wrapped: bool) -> Self {
        let message = match shape(text) {
            Ok(Shape::Internal(cmd, fields)) => internal(&cmd, &fields, wrapped),
            Ok(Shape::User(message)) => Ok(Self::User(message)),
            Err(fault) => Err(fault),
        };
        message.unwrap_or_else(Self::Malformed)
    }
}

fn internal(cmd: &[u8], fields: &Fields<'_>, wrapped: bool) -> Result<FromPrimary, Fault> {
    match cmd {
        b"NODE_CLUSTER" => cluster(fields),
        b"NODE_HANDLE" if wrapped => Err(Fault::NestedHandle),
        b"NODE_HANDLE" => {
            let message = fields.msg.map_or("null", RawValue::get);
            Ok(FromPrimary::Handle(Box::new(FromPrimary::of_text(message, true))))
        }
        _ => Ok(FromPrimary::Unknown),
    }
}

fn cluster(fields: &Fields<'_>) -> Result<FromPrimary, Fault> {
    if fields.ack.is_some() {
        let ack = number(fields.ack).ok_or(Fault::Field("ack"))?;
        // Only replies to a query name a server.
        if fields.key.is_none() {
            return Ok(FromPrimary::Ack { ack });
        }
        return Ok(FromPrimary::Reply(Reply { ack, key: key(fields)?, outcome: outcome(fields.errno)? }));
    }
    Ok(match &*text(fields.act).ok_or(Fault::Field("act"))? {
        b"newconn" => FromPrimary::NewConnection { seq: seq(fields)?, key: key(fields)? },
        b"disconnect" => FromPrimary::Disconnect,
        _ => FromPrimary::Unknown,
    })
}

/// On the wire an error is below 0, and null or 0 is none.
fn outcome(errno: Field<'_>) -> Result<Result<(), i32>, Fault> {
    if errno.is_none() {
        return Ok(Ok(()));
    }
    match number::<i32>(errno).map(i32::checked_neg) {
        Some(Some(0)) => Ok(Ok(())),
        Some(Some(errno @ 1..)) => Ok(Err(errno)),
        _ => Err(Fault::Field("errno")),
    }
}
