//! What a cluster listens on, who binds it, and how long it stays open.

mod adopted;
mod closed_again;
mod ignored;
mod kept;
mod kept_files;
mod lifetime;
mod listen_option;
mod listen_option_errors;
pub(crate) mod node;
mod node_errors;
mod taken;
mod unix;
