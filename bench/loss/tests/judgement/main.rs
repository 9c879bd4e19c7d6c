//! What the meter counts as lost and what not, shown by servers that misbehave in one way each.

#![expect(clippy::unwrap_used, reason = "a test is over where its own servers fail")]
#![expect(clippy::indexing_slicing, reason = "a test is over where what it looks for is not there")]

mod http1;
mod http2;
mod server;
mod tls;
mod websocket;
