//! Node's other way to write messages, `serialization: 'advanced'`: each is a value in V8's format, with its length before it.
//!
//! The same messages mean the same on both ways. So what a worker says is read as JSON here and understood by the one parser
//! of all messages, and what it is told is written as JSON and turned into a value; but messages of users are passed on as they
//! are, unread. (`v8.deserialize` reads them, with Node's own ways for Buffers.)
//!
//! Each frame is a length of four bytes, the highest first, and so many bytes: the mark `0xff`, the version of the format, and
//! one value. Node 18 to 26 write version 15.

mod frames;
mod grammar;
mod reader;
mod text;
pub(super) mod write;

pub use frames::{FrameDecoder, Skipped};
pub use write::{frame, write};
