//! The control socket: how another process asks a running cluster something.
//!
//! One unix socket a cluster. A master binds it with [`Socket::bind`] before it starts anything, so that a name that
//! is taken is found out early, and answers on it with [`Socket::serve`]; whoever wants something uses [`find`] and
//! [`Client`]. What they say to each other is in [`protocol`].
//!
//! This module uses the crate's public API and its directories alone, and nothing that a client does can stop the master: there are
//! limits on clients, on the length of their lines and on the time they may take, and only the user that the master
//! runs as, and root, are listened to at all.

mod client;
mod discover;
mod lines;
pub mod protocol;
mod server;
mod socket;
#[cfg(test)]
mod tests;

pub use crate::socket::runtime_dir::{DirectoryError, directories};
pub use client::{Client, ClientError};
pub use discover::{FindError, find, socket_path};
pub use server::{Asked, Server};
pub use socket::{BindError, Socket};
