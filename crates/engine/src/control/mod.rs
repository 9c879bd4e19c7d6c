//! The control socket: how another process asks a running cluster something.
//!
//! Each cluster has one unix socket. A master binds it with [`Socket::bind`] before it starts anything, so that it fails
//! early if the name is taken, and answers requests with [`Socket::serve`]. A client uses [`find`] and [`Client`]. Their
//! messages are in [`protocol`].
//!
//! Nothing that a client does can stop the master: the number of clients, the length of their lines and their time are
//! limited, and only root and the user that the master runs as may connect.

mod asked;
mod client;
mod discover;
mod greeting;
pub(crate) mod keeping;
pub(crate) mod leaving;
pub(crate) mod lines;
pub mod protocol;
mod recent;
pub(crate) mod room;
pub(crate) mod seats;
mod server;
mod socket;
mod telling;
#[cfg(test)]
mod tests;

pub use crate::socket::places::directories;
pub use crate::socket::runtime_dir::DirectoryError;
pub use asked::Asked;
pub use client::{Client, ClientError};
pub use discover::{FindError, find, running, socket_path};
pub use greeting::{Listener, listener_at};
pub use keeping::Kept;
pub use leaving::{Leaver, Outcome, look as look_at_left};
pub use recent::Recorder;
pub use server::{News, Server};
pub use socket::{BindError, Socket};
