//! Node's `cluster` protocol, seen from the primary: what its workers write to the channel and what
//! they expect there. The same for Node 18 to 26, Deno, and Bun as far as Bun goes. [`worker`] has the
//! other half, for workers that are not Node.
//!
//! A message is one line of JSON, or a value of V8 in a frame ([`advanced`]), which says the same. A line whose `cmd` begins with `NODE_` is internal; any other JSON
//! value is a message between the users on both sides. A line may carry one file descriptor, and then
//! it is an envelope (`NODE_HANDLE`) around the message proper.
//!
//! The caller owns the socket and the descriptors. It feeds what it reads to a [`Decoder`], writes
//! what [`ToWorker::encode`] yields, and asks a [`HandleWindow`] before it sends a descriptor.
//!
//! ```
//! use recluster_wire::node::{Decoder, FromWorker, ToWorker, DEFAULT_MAX_LINE};
//!
//! let mut decoder = Decoder::new(DEFAULT_MAX_LINE);
//! decoder.push(b"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"exitedAfterDisconnect\",\"seq\":4}\n");
//!
//! let mut answer = Vec::new();
//! while let Some(message) = decoder.next_message()? {
//!     if let FromWorker::ExitedAfterDisconnect { seq } = message {
//!         ToWorker::Ack { seq: 0, ack: seq }.encode(&mut answer);
//!     }
//! }
//! assert_eq!(answer, b"{\"cmd\":\"NODE_CLUSTER\",\"ack\":4,\"seq\":0}\n");
//! # Ok::<(), recluster_wire::node::LineTooLong>(())
//! ```

pub mod advanced;
mod buffer;
mod decode;
mod encode;
mod farewell;
mod fields;
mod listener_key;
mod measures;
mod message;
mod parse;
mod query;
mod skim;
mod window;
pub mod worker;

pub use crate::env::IdleGrace;
pub use decode::{DEFAULT_MAX_LINE, Decoder, LineTooLong};
pub use encode::ToWorker;
pub use listener_key::ListenerKey;
pub use measures::{
    CODES, COLLECTION_BOUNDS, COLLECTIONS, Measures, Memory, REQUEST_BOUNDS, RESOURCES, Requests,
    SERVER_ERRORS, Spans,
};
pub use message::{
    DatagramKind, Farewell, Fault, FromWorker, HandleEnvelope, HandleKind, Held, Listening, MAX_REASON,
    Malformed, Payload, QueryServer, SkippedMessage, SocketKind, Taken, UnansweredQuery, UserCommand,
    UserMessage,
};
pub use parse::MAX_KEY;
pub use query::MAX_ADDRESS;
pub use skim::Skim;
pub use window::{HandleWindow, NODE_READ, SurplusAck};
