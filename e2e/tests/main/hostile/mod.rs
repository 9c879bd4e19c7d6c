//! Workers that misbehave and machines that run short: everyone else is served.

mod messages;
mod refused_connections;
mod scarcity;
