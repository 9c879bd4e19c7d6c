//! What a program that embeds a cluster says and holds: the builder, the start, the handle, and what a host of Node needs.

pub(crate) mod builder;
mod changes;
pub(crate) mod cluster;
mod configuration;
pub mod host;
pub(crate) mod output;
mod privileges;
mod rehearsal;
pub(crate) mod start;
mod succession;
