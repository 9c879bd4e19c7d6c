//! Counts the requests that a cluster loses while it is reloaded under load.
//!
//! A request is *lost* when at least one byte of it was handed to the kernel and no whole, correct answer came back; so
//! is a connection that could not be made. The clients behave as real ones do: they honour `Connection: close`,
//! `Keep-Alive: timeout` and GOAWAY, and look for the end of a connection before they send on it.
//!
//! [`Load`] is the clients, [`Tally`] what became of their requests, a [`Contender`] a cluster that can be reloaded, and
//! a [`Trial`] one run of a load against a contender.

mod body;
mod chaos;
mod client;
mod clients;
mod contender;
mod endpoint;
mod home;
mod http1;
mod load;
mod mix;
mod packages;
mod pinned;
mod request;
mod stream;
mod tally;
mod trial;
mod watchers;

pub use chaos::Chaos;
pub use contender::{Contender, Server, Settings};
pub use endpoint::{Connector, Endpoint};
pub use load::Load;
pub use mix::{BadMix, Kind, Mix};
pub use packages::packages;
pub use tally::{Cause, Counts, Loss, Tally};
pub use trial::{Outcome, Trial};
