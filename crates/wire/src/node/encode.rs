//! What the primary says to a worker, as lines.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::SocketAddr;

use super::advanced::write::{frame, write};
use super::message::HandleKind;
use crate::Json;
use crate::env::IdleGrace;

/// One message to a worker.
///
/// `seq` is ours: it counts the cluster messages to one worker, from 0. `key` names a server of the
/// worker; it is opaque to the worker, must not be empty, and must be unique among that worker's live
/// servers, or the worker dies of an assertion. `data` is what the listener's first worker sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToWorker<'a> {
    /// To a [`QueryServer`](super::QueryServer): we accept, and pass each connection on.
    RoundRobinReply {
        /// Our next number.
        seq: u64,
        /// The query's `seq`.
        ack: u64,
        /// Our name for the server.
        key: &'a str,
        /// The listener's data.
        data: Option<&'a Json>,
        /// What `server.address()` shall say, for TCP. The worker believes it, but a port other than
        /// the one it asked for is EADDRINUSE to it.
        sockname: Option<SocketAddr>,
    },
    /// To a [`QueryServer`](super::QueryServer): here is the socket itself. Carries a descriptor.
    SharedReply {
        /// Our next number.
        seq: u64,
        /// The query's `seq`.
        ack: u64,
        /// Our name for the server.
        key: &'a str,
        /// The listener's data.
        data: Option<&'a Json>,
        /// [`NetNative`](HandleKind::NetNative) or [`DatagramNative`](HandleKind::DatagramNative).
        kind: HandleKind,
    },
    /// To a [`QueryServer`](super::QueryServer): it fails.
    ErrorReply {
        /// Our next number.
        seq: u64,
        /// The query's `seq`.
        ack: u64,
        /// Any name: a server that failed needs none.
        key: &'a str,
        /// The listener's data, or the query's own.
        data: Option<&'a Json>,
        /// The error as the system numbers it, above 0 (on the wire it is negative). Any other number
        /// would be a success to the worker, and is sent as EINVAL.
        errno: i32,
    },
    /// A connection for a server that got a reply. Carries a descriptor.
    NewConnection {
        /// Our next number; the answer names it.
        seq: u64,
        /// The server.
        key: &'a str,
        /// It is to be closed behind the first response, which our preload in the worker sees to. Workers without it
        /// ignore this.
        closes: bool,
    },
    /// Close your servers, then the channel. At most once per worker.
    Disconnect {
        /// Our next number.
        seq: u64,
    },
    /// To an [`ExitedAfterDisconnect`](super::FromWorker::ExitedAfterDisconnect).
    Ack {
        /// Our next number.
        seq: u64,
        /// The `seq` of its message.
        ack: u64,
    },
    /// The descriptor of a [`Handle`](super::FromWorker::Handle) has arrived. One too many kills the worker.
    HandleAck,
    /// It has not.
    HandleNack,
    /// To a [`SocketGetCount`](super::FromWorker::SocketGetCount).
    SocketCount {
        /// Its key.
        key: &'a str,
        /// How many sockets of that server live here.
        count: u64,
    },
    /// To a [`SocketNotifyClose`](super::FromWorker::SocketNotifyClose), once none is left here.
    SocketAllClosed {
        /// Its key.
        key: &'a str,
    },
    /// For our own preload in the worker: answer with [`FromWorker::Pong`](super::FromWorker::Pong) as soon as your loop turns.
    /// Workers without it ignore this.
    Ping,
    /// For our own preload in the worker: write what the compile cache has gathered. Workers without it ignore this.
    FlushCache,
    /// For our own preload in the worker: answer with [`FromWorker::Measures`](super::FromWorker::Measures) as soon as your loop turns.
    /// Workers without it ignore this.
    Measure,
    /// To our own preload in the worker, before [`UserDisconnect`](Self::UserDisconnect) and
    /// [`Disconnect`](Self::Disconnect): answer with `Connection: close`, and spare idle connections for the grace. Said
    /// again, it changes the grace.
    /// Workers without it ignore this.
    Drain {
        /// In whole milliseconds.
        grace: IdleGrace,
    },
    /// The user message `{cmd: 'disconnect'}`: you are being let go.
    UserDisconnect,
    /// A message of the user.
    User(&'a Json),
    /// A message of the user with a handle. Carries a descriptor.
    UserHandle {
        /// What it becomes in the worker.
        kind: HandleKind,
        /// The message beside it.
        json: &'a Json,
    },
}

impl ToWorker<'_> {
    /// Appends the whole line, newline included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        writeln!(out, "{self}").expect("a Vec takes every write");
    }

    /// Appends the whole frame, for a worker that is told so ([`advanced`](super::advanced)).
    pub fn encode_advanced(&self, out: &mut Vec<u8>) {
        frame(&write(&Json::of_valid(&self.to_string())), out);
    }

    /// Whether exactly one descriptor has to travel with the line, in the same `sendmsg`.
    pub fn carries_handle(&self) -> bool {
        match self {
            Self::SharedReply { .. } | Self::NewConnection { .. } | Self::UserHandle { .. } => true,
            Self::RoundRobinReply { .. }
            | Self::ErrorReply { .. }
            | Self::Disconnect { .. }
            | Self::Ack { .. }
            | Self::HandleAck
            | Self::HandleNack
            | Self::SocketCount { .. }
            | Self::SocketAllClosed { .. }
            | Self::Ping
            | Self::FlushCache
            | Self::Measure
            | Self::Drain { .. }
            | Self::UserDisconnect
            | Self::User(_) => false,
        }
    }
}

/// The line, without its newline.
impl fmt::Display for ToWorker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RoundRobinReply { seq, ack, key, data, sockname } => {
                let (reply, sockname) = (Reply { ack, key, data }, Sockname(sockname));
                cluster(f, seq, format_args!(r#"{reply},"errno":null{sockname}"#))
            }
            Self::SharedReply { seq, ack, key, data, kind } => {
                let reply = Reply { ack, key, data };
                envelope(f, kind, |f| cluster(f, seq, format_args!(r#"{reply},"errno":0"#)))
            }
            Self::ErrorReply { seq, ack, key, data, errno } => {
                let (reply, errno) = (Reply { ack, key, data }, wire_errno(errno));
                cluster(f, seq, format_args!(r#"{reply},"errno":{errno}"#))
            }
            Self::NewConnection { seq, key, closes } => envelope(f, HandleKind::NetNative, |f| {
                let closes = if closes { r#","recluster":"close""# } else { "" };
                cluster(f, seq, format_args!(r#""act":"newconn","key":{}{closes}"#, Quoted(key)))
            }),
            Self::Disconnect { seq } => cluster(f, seq, format_args!(r#""act":"disconnect""#)),
            Self::Ack { seq, ack } => cluster(f, seq, format_args!(r#""ack":{ack}"#)),
            Self::HandleAck => f.write_str(r#"{"cmd":"NODE_HANDLE_ACK"}"#),
            Self::HandleNack => f.write_str(r#"{"cmd":"NODE_HANDLE_NACK"}"#),
            Self::SocketCount { key, count } => {
                let key = Quoted(key);
                write!(f, r#"{{"cmd":"NODE_SOCKET_COUNT","key":{key},"count":{count}}}"#)
            }
            Self::SocketAllClosed { key } => {
                let key = Quoted(key);
                write!(f, r#"{{"cmd":"NODE_SOCKET_ALL_CLOSED","key":{key}}}"#)
            }
            Self::Ping => f.write_str(r#"{"cmd":"NODE_RECLUSTER_PING"}"#),
            Self::FlushCache => f.write_str(r#"{"cmd":"NODE_RECLUSTER_FLUSH"}"#),
            Self::Measure => f.write_str(r#"{"cmd":"NODE_RECLUSTER_MEASURE"}"#),
            Self::Drain { grace: IdleGrace { least, most } } => {
                let (least, most) = (least.as_millis(), most.as_millis());
                write!(f, r#"{{"cmd":"NODE_RECLUSTER_DRAIN","grace":{least},"most":{most}}}"#)
            }
            Self::UserDisconnect => f.write_str(r#"{"cmd":"disconnect"}"#),
            Self::User(json) => json.fmt(f),
            Self::UserHandle { kind, json } => envelope(f, kind, |f| json.fmt(f)),
        }
    }
}

pub(super) fn cluster(f: &mut fmt::Formatter<'_>, seq: u64, body: fmt::Arguments<'_>) -> fmt::Result {
    write!(f, r#"{{"cmd":"NODE_CLUSTER",{body},"seq":{seq}}}"#)
}

fn envelope(
    f: &mut fmt::Formatter<'_>,
    kind: HandleKind,
    message: impl FnOnce(&mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    let word = kind.as_str();
    write!(f, r#"{{"cmd":"NODE_HANDLE","type":"{word}","#)?;
    if let HandleKind::DatagramSocket(family) = kind {
        let family = family.as_str();
        write!(f, r#""dgramType":"{family}","#)?;
    }
    f.write_str(r#""msg":"#)?;
    message(f)?;
    f.write_char('}')
}

/// The fields that all replies to a query begin with.
struct Reply<'a> {
    ack: u64,
    key: &'a str,
    data: Option<&'a Json>,
}

impl fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ack, key) = (self.ack, Quoted(self.key));
        let data = self.data.map_or("null", Json::as_str);
        write!(f, r#""ack":{ack},"key":{key},"data":{data}"#)
    }
}

/// The field `sockname`, led by its comma, or nothing.
struct Sockname(Option<SocketAddr>);

impl fmt::Display for Sockname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = self.0 else { return Ok(()) };
        let (address, port) = (name.ip(), name.port());
        let family = if name.is_ipv4() { "IPv4" } else { "IPv6" };
        write!(f, r#","sockname":{{"address":"{address}","family":"{family}","port":{port}}}"#)
    }
}

/// Node numbers errors below 0.
fn wire_errno(errno: i32) -> i32 {
    const EINVAL: i32 = 22;
    -(if errno > 0 { errno } else { EINVAL })
}

/// A string as JSON writes it.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                '\0'..' ' => write!(f, "\\u{:04x}", u32::from(character))?,
                _ => f.write_char(character)?,
            }
        }
        f.write_char('"')
    }
}
