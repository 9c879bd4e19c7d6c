//! The worker's half of the protocol, for workers that are not Node: what they say, and what the primary says to them.
//!
//! It covers sockets that are shared. A worker of this kind has no use for connections one by one, and refuses those.
//!
//! ```
//! use recluster_wire::node::worker::{FromPrimary, ToPrimary};
//! use recluster_wire::node::{DEFAULT_MAX_LINE, Decoder};
//!
//! let mut hello = Vec::new();
//! ToPrimary::Online { seq: 0 }.encode(&mut hello);
//! assert_eq!(hello, b"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\",\"seq\":0}\n");
//!
//! let mut decoder = Decoder::new(DEFAULT_MAX_LINE);
//! decoder.push(b"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"disconnect\",\"seq\":0}\n");
//! let message = decoder.next_line()?.map(FromPrimary::parse);
//! assert_eq!(message, Some(FromPrimary::Disconnect));
//! # Ok::<(), recluster_wire::node::LineTooLong>(())
//! ```

mod from_primary;
mod to_primary;

pub use from_primary::{FromPrimary, Reply};
pub use to_primary::ToPrimary;
