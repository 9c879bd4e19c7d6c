//! What a worker says, as types.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::measures::Measures;
use crate::Json;

/// How long a name may be that people read, in characters.
pub(super) const MAX_NAME: usize = 64;

/// How many bytes of a string are kept: a name and what shows that it goes on, however it is escaped (a character in two parts, such as
/// `\ud83d\ude00`, has twelve bytes). Names that mean something here are shorter.
pub(super) const MAX_STRING: usize = 12 * (MAX_NAME + 1);

/// The longest reason that is kept of a [`FromWorker::CacheOff`], in bytes.
pub const MAX_REASON: usize = 1024;

/// One message of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromWorker {
    /// The process runs; none of the user's code has yet.
    Online,
    /// Asks for a socket. Without an answer the worker's `listen` hangs silently.
    QueryServer(QueryServer),
    /// A server listens, with one of our sockets or (Bun) with its own.
    Listening(Listening),
    /// The server that has been given this key is closed. May be missing if the worker exits.
    Close {
        /// The key of our reply.
        key: String,
    },
    /// The answer to a [`NewConnection`](super::ToWorker::NewConnection).
    Ack {
        /// The `seq` of our message.
        ack: u64,
        /// The connection is the worker's now. If false, it is still ours.
        accepted: bool,
    },
    /// The worker leaves by itself, and waits for our [`Ack`](super::ToWorker::Ack) to do so.
    ExitedAfterDisconnect {
        /// What the ack has to name.
        seq: u64,
    },
    /// A file descriptor came with this line. The worker sends nothing more before our
    /// [`HandleAck`](super::ToWorker::HandleAck), or `HandleNack` if there is no descriptor.
    Handle(HandleEnvelope),
    /// The oldest handle we sent and that is not yet answered for has arrived.
    HandleAck,
    /// The same handle was lost on its way, and its message with it.
    HandleNack,
    /// How many sockets that came from this server of the worker live here? Answered by a
    /// [`SocketCount`](super::ToWorker::SocketCount).
    SocketGetCount {
        /// The server's key, chosen by the worker.
        key: String,
    },
    /// Asks for a message when they are closed: [`SocketAllClosed`](super::ToWorker::SocketAllClosed).
    SocketNotifyClose {
        /// The server's key, chosen by the worker.
        key: String,
    },
    /// Our own preload reports the open connections and requests of a draining worker.
    Held(Held),
    /// Our own preload reports that the draining worker has no connection left, before it closes the channel.
    Farewell(Farewell),
    /// Our own preload reports for how long a server of the worker keeps idle connections: its `keepAliveTimeout`.
    Keeps(Duration),
    /// Our own preload reports how many connections the worker's servers have got and have, accepted by the worker or by
    /// the master.
    Taken(Taken),
    /// Our own preload reports what was written to the worker's stderr, which does not pass through the master: the last of it,
    /// 16 KiB at most.
    Stderr(String),
    /// Our own preload reports that the worker has begun to leave by itself.
    Leaves,
    /// Our own preload answers [`ToWorker::Ping`](super::ToWorker::Ping): the worker's loop turns.
    Pong,
    /// Our own preload reports why the worker has no compile cache, although it was told to have one: at most
    /// [`MAX_REASON`] bytes.
    CacheOff(String),
    /// Our own preload answers [`ToWorker::Measure`](super::ToWorker::Measure), or says the last of what it has counted before the
    /// worker ends.
    Measures(Box<Measures>),
    /// A message of the user's code.
    User(UserMessage),
    /// A message of the user's code that is longer than may be kept.
    Skipped(SkippedMessage),
    /// An internal message that this crate does not know. Node ignores such messages as well.
    Unknown,
    /// A line that is not a valid message.
    Malformed(Malformed),
}

/// A worker wants to listen (TCP, unix socket) or to bind (UDP).
///
/// The fields agree with each other: without an `fd` there is a `kind`, and a unix socket has an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryServer {
    /// What the reply has to name as its `ack`.
    pub seq: u64,
    /// The number of this server among those of the worker that ask for the same address.
    pub index: u32,
    /// An IP address (maybe with a `%zone`), a path, or an abstract unix name with its leading NUL.
    /// None: any address, IPv6 first.
    pub address: Option<String>,
    /// 0 or none: a random port. None as well for a unix socket.
    pub port: Option<u16>,
    /// None only for an `fd`.
    pub kind: Option<SocketKind>,
    /// The number of a socket that the primary has inherited.
    pub fd: Option<u32>,
    /// libuv's flags; [`ipv6_only`](Self::ipv6_only) and [`reuse_addr`](Self::reuse_addr) read them.
    pub flags: u32,
    /// The length of the accept queue, if the user named one; see [`listen_backlog`](Self::listen_backlog).
    pub backlog: Option<u32>,
    /// A unix socket is to be readable by all users.
    pub readable_all: bool,
    /// A unix socket is to be writable by all users.
    pub writable_all: bool,
    /// The keys of TLS session tickets. The first worker's are to be returned to all workers of the
    /// listener; and something in every reply, errors included, or a TLS worker dies of it.
    pub data: Option<Json>,
}

/// What a worker says of a server that has begun to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// As in [`QueryServer`].
    pub address: Option<String>,
    /// The real port.
    pub port: Option<u16>,
    /// As in [`QueryServer`].
    pub kind: Option<SocketKind>,
    /// As in [`QueryServer`].
    pub fd: Option<u32>,
}

/// The connections of a worker, whoever accepted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many it has got since it began.
    pub connections: u64,
    /// How many are open; none if it does not say.
    pub open: Option<u64>,
    /// Of how many of those that came since its last report it says whether they last.
    pub lately: u32,
    /// How many of these are open still.
    pub lasting: u32,
}

/// What a draining worker still has, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Open connections that its servers accepted.
    pub connections: u32,
    /// How many of these are upgraded (WebSocket) or speak no HTTP.
    pub upgraded: u32,
    /// Requests without a whole response.
    pub requests: u32,
}

/// What a draining worker tells at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Farewell {
    /// What keeps its event loop alive, by Node's names (`process.getActiveResourcesInfo()`): how many of each.
    pub alive: BTreeMap<String, u32>,
    /// It runs what its application has for SIGTERM. That is not to be sent any more.
    pub handles: bool,
}

/// Which sort of socket a worker asks for: Node's `addressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketKind {
    /// TCP over IPv4; without an address, over IPv6 and IPv4 as the machine has them.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// A unix stream socket.
    Unix,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
}

/// A message that came with a file descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandleEnvelope {
    /// What the descriptor is; none if we do not know the word for it, or have skipped it.
    pub kind: Option<HandleKind>,
    /// The worker's server that accepted this socket and wants to count it.
    pub key: Option<String>,
    /// What was wrapped; never another handle.
    pub message: Box<FromWorker>,
}

/// What a file descriptor becomes at its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleKind {
    /// A bare stream socket, listening or connected.
    NetNative,
    /// A connection: `net.Socket`.
    NetSocket,
    /// A listening socket: `net.Server`.
    NetServer,
    /// A bound socket that does not listen: `net.BoundSocket` of Node 26.
    NetBoundSocket,
    /// A bare UDP socket.
    DatagramNative,
    /// A UDP socket: `dgram.Socket`.
    DatagramSocket(DatagramKind),
}

/// The address family of a `dgram.Socket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramKind {
    /// IPv4.
    Udp4,
    /// IPv6.
    Udp6,
}

/// A message of the user's code, unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserMessage {
    payload: Payload,
    command: UserCommand,
}

/// What users say to each other, as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The text of a line.
    Json(Json),
    /// A value in V8's format, its version first: a message of a channel with
    /// [`Serialization::Advanced`](crate::env::Serialization). Where a descriptor travels with it, the value is the
    /// envelope, and the message its field `msg`: a part of a value is none by itself, as it may refer to the rest.
    Advanced(Box<[u8]>),
}

/// A message of the user's code of which only this is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedMessage {
    /// How long its line was, in bytes and without the newline.
    pub bytes: u64,
    /// What it means to us.
    pub command: UserCommand,
    /// As [`UserMessage::name`].
    pub name: String,
}

/// The user messages that mean something to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserCommand {
    /// `{cmd: 'ready'}`, or the bare string `'ready'` that pm2's users send: I serve.
    Ready,
    /// `{cmd: 'disconnect'}`: I am failing, replace me.
    Disconnect,
    /// Anything else: it concerns the users alone.
    Other,
}

/// A line that is not a valid message, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong with it.
    pub fault: Fault,
    /// The worker waits for an answer all the same: give it an
    /// [`ErrorReply`](super::ToWorker::ErrorReply) with EINVAL.
    pub unanswered: Option<UnansweredQuery>,
}

/// What an answer to a malformed [`QueryServer`] needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnansweredQuery {
    /// What the reply has to name as its `ack`.
    pub seq: u64,
    /// What the reply has to return.
    pub data: Option<Json>,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not one JSON value in UTF-8, or nothing at all.
    NotJson,
    /// An internal message in which this field is missing, of a wrong type or beyond its limits.
    Field(&'static str),
    /// Not a value in V8's format, on a channel for such.
    NotAValue,
    /// An envelope around an envelope.
    NestedHandle,
}

impl QueryServer {
    /// The length of the accept queue to ask the kernel for: 511, as Node, unless the user named one.
    pub fn listen_backlog(&self) -> i32 {
        const NODES_DEFAULT: i32 = 511;
        self.backlog.map_or(NODES_DEFAULT, |length| i32::try_from(length).unwrap_or(i32::MAX))
    }

    /// An IPv6 socket is to take no IPv4 traffic.
    pub fn ipv6_only(&self) -> bool {
        self.flags & 1 != 0
    }

    /// A UDP socket is to share its address with others that agree (`SO_REUSEADDR`). On TCP the bit
    /// means nothing: there the option is always on.
    pub fn reuse_addr(&self) -> bool {
        self.flags & 4 != 0
    }
}

impl SocketKind {
    /// Whether it takes datagrams, not connections.
    pub fn is_udp(self) -> bool {
        matches!(self, Self::Udp4 | Self::Udp6)
    }
}

impl HandleKind {
    /// Node's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetNative => "net.Native",
            Self::NetSocket => "net.Socket",
            Self::NetServer => "net.Server",
            Self::NetBoundSocket => "net.BoundSocket",
            Self::DatagramNative => "dgram.Native",
            Self::DatagramSocket(_) => "dgram.Socket",
        }
    }
}

impl DatagramKind {
    /// Node's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp4 => "udp4",
            Self::Udp6 => "udp6",
        }
    }
}

impl UserMessage {
    pub(super) fn new(payload: Payload, command: UserCommand) -> Self {
        Self { payload, command }
    }

    /// The message as the worker wrote it.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The message as the worker wrote it.
    pub fn into_payload(self) -> Payload {
        self.payload
    }

    /// What it means to us.
    pub fn command(&self) -> UserCommand {
        self.command
    }
}

impl Payload {
    /// How long it is, in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(json) => json.as_str().len(),
            Self::Advanced(value) => value.len(),
        }
    }

    /// Whether there is nothing, which is no message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text, if it is one.
    pub fn json(&self) -> Option<&Json> {
        match self {
            Self::Json(json) => Some(json),
            Self::Advanced(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn into_json(self) -> Option<Json> {
        match self {
            Self::Json(json) => Some(json),
            Self::Advanced(_) => None,
        }
    }
}

impl From<Fault> for Malformed {
    fn from(fault: Fault) -> Self {
        Self { fault, unanswered: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("a line is not JSON"),
            Self::NotAValue => f.write_str("a message is not a value in V8's format"),
            Self::Field(name) => write!(f, "field `{name}` of an internal message is missing or absurd"),
            Self::NestedHandle => f.write_str("a handle message is wrapped in another"),
        }
    }
}
