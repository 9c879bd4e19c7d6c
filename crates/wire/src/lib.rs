//! What a recluster master and its workers say to each other.
//!
//! Message shapes and codecs, and nothing else: bytes go in and messages come out, messages go in and
//! bytes come out. The crate opens no socket, reads no clock and starts no process, so that all of it
//! can be tested by calling functions. Of other crates it uses serde and `serde_json` only.
//!
//! - [`node`] is the dialogue on a worker's channel, which is that of Node's `cluster` module.
//! - [`notify`] is what a worker says by `sd_notify`.
//! - [`env`](mod@env) holds the environment variables that a worker is started with.
//! - [`Json`] is a JSON text that is passed on unread.

#![forbid(unsafe_code)]

pub mod env;
mod json;
pub mod node;
pub mod notify;

pub use json::{Json, NotJson};
