//! Workers that misbehave and machines that run short: everyone else is served.

mod full_disk;
mod messages;
mod refused_connections;
mod scarcity;
