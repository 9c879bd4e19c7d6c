//! What a worker says to its primary, as lines.

use std::fmt;
use std::io::Write as _;

use super::super::encode::{Quoted, cluster};
use super::super::message::{Listening, QueryServer, SocketKind};
use crate::Json;

/// One message to the primary.
///
/// `seq` is the worker's own: it counts its cluster messages, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToPrimary<'a> {
    /// The process runs. The first message.
    Online {
        /// Our next number.
        seq: u64,
    },
    /// Asks for a socket, which a [`Reply`](super::Reply) brings.
    QueryServer(&'a QueryServer),
    /// A server listens now, on the socket that the query with the same `index` brought.
    Listening {
        /// Our next number.
        seq: u64,
        /// The query's.
        index: u32,
        /// Where; with the real port.
        at: &'a Listening,
    },
    /// The server with this key is closed.
    Close {
        /// Our next number.
        seq: u64,
        /// The key of the primary's reply.
        key: &'a str,
    },
    /// To a [`NewConnection`](super::FromPrimary::NewConnection).
    Ack {
        /// Our next number.
        seq: u64,
        /// The `seq` of its message.
        ack: u64,
        /// Whether the connection is ours now.
        accepted: bool,
    },
    /// We leave by ourselves; the primary answers with an [`Ack`](super::FromPrimary::Ack).
    ExitedAfterDisconnect {
        /// Our next number.
        seq: u64,
    },
    /// The descriptor of a [`Handle`](super::FromPrimary::Handle) has arrived.
    HandleAck,
    /// It has not.
    HandleNack,
    /// `{cmd: 'ready'}`: we serve.
    UserReady,
    /// `{cmd: 'disconnect'}`: replace me.
    UserDisconnect,
    /// A message of the user. One whose `cmd` begins with `NODE_` would be taken for one of the above.
    User(&'a Json),
}

impl ToPrimary<'_> {
    /// Appends the whole line, newline included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        writeln!(out, "{self}").expect("a Vec takes every write");
    }
}

/// The line, without its newline.
impl fmt::Display for ToPrimary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Online { seq } => cluster(f, seq, format_args!(r#""act":"online""#)),
            Self::QueryServer(query) => {
                cluster(f, query.seq, format_args!(r#""act":"queryServer",{}"#, Query(query)))
            }
            Self::Listening { seq, index, at } => {
                cluster(f, seq, format_args!(r#""act":"listening","index":{index},{}"#, Place(at)))
            }
            Self::Close { seq, key } => {
                cluster(f, seq, format_args!(r#""act":"close","key":{}"#, Quoted(key)))
            }
            Self::Ack { seq, ack, accepted } => {
                cluster(f, seq, format_args!(r#""ack":{ack},"accepted":{accepted}"#))
            }
            Self::ExitedAfterDisconnect { seq } => {
                cluster(f, seq, format_args!(r#""act":"exitedAfterDisconnect""#))
            }
            Self::HandleAck => f.write_str(r#"{"cmd":"NODE_HANDLE_ACK"}"#),
            Self::HandleNack => f.write_str(r#"{"cmd":"NODE_HANDLE_NACK"}"#),
            Self::UserReady => f.write_str(r#"{"cmd":"ready"}"#),
            Self::UserDisconnect => f.write_str(r#"{"cmd":"disconnect"}"#),
            Self::User(json) => json.fmt(f),
        }
    }
}

/// The fields of a query.
struct Query<'a>(&'a QueryServer);

impl fmt::Display for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = self.0;
        let place =
            Listening { address: query.address.clone(), port: query.port, kind: query.kind, fd: query.fd };
        let data = query.data.as_ref().map_or("null", Json::as_str);
        write!(f, r#""index":{},"data":{data},{},"flags":{}"#, query.index, Place(&place), query.flags)?;
        if let Some(length) = query.backlog {
            write!(f, r#","backlog":{length}"#)?;
        }
        if query.readable_all {
            f.write_str(r#","readableAll":true"#)?;
        }
        if query.writable_all {
            f.write_str(r#","writableAll":true"#)?;
        }
        Ok(())
    }
}

/// The fields that say where a server listens.
struct Place<'a>(&'a Listening);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listening { address, port, kind, fd } = self.0;
        f.write_str(r#""address":"#)?;
        match address {
            Some(address) => Quoted(address).fmt(f)?,
            None => f.write_str("null")?,
        }
        match (port, kind) {
            (Some(port), _) => write!(f, r#","port":{port}"#)?,
            (None, Some(SocketKind::Unix)) => f.write_str(r#","port":-1"#)?,
            (None, _) => f.write_str(r#","port":null"#)?,
        }
        write!(f, r#","addressType":{}"#, kind.map_or("null", address_type))?;
        if let Some(fd) = fd {
            write!(f, r#","fd":{fd}"#)?;
        }
        Ok(())
    }
}

/// Node's word for a kind of socket, as it stands in the line.
fn address_type(kind: SocketKind) -> &'static str {
    match kind {
        SocketKind::Tcp4 => "4",
        SocketKind::Tcp6 => "6",
        SocketKind::Unix => "-1",
        SocketKind::Udp4 => r#""udp4""#,
        SocketKind::Udp6 => r#""udp6""#,
    }
}
