//! `--balance sticky`: every connection of one client reaches the same slot.

pub(crate) mod client;
mod evenness;
mod faults;
mod keys;
mod proxies;
mod proxy;
mod refusals;
mod slow;
mod socket_io;
mod status;

use recluster_e2e::Launch;

/// A cluster of the server of most tests that tells its clients apart by their addresses.
pub(crate) fn by_address() -> Launch {
    Launch::fixture("server.js").option("--balance", "sticky")
}

/// One that tells its clients apart by this key, for which it waits as long as it takes.
pub(crate) fn by(key: &str) -> Launch {
    by_address().option("--sticky-by", key).option("--peek-timeout", "1h")
}
