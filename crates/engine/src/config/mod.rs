//! Settings: how a user writes them, and what they mean.

pub(crate) mod account;
pub(crate) mod address;
pub(crate) mod admin;
pub(crate) mod balance;
pub(crate) mod compile_cache;
pub(crate) mod drain_signal;
pub(crate) mod env_file;
pub(crate) mod hook;
pub(crate) mod hook_url;
pub(crate) mod limit;
pub(crate) mod limits;
pub(crate) mod listen;
pub(crate) mod messages;
pub(crate) mod output;
pub(crate) mod ready;
pub(crate) mod scale;
pub(crate) mod service_manager;
pub(crate) mod size;
pub(crate) mod unread;
pub(crate) mod variable;
pub(crate) mod watched;
pub(crate) mod which;
pub(crate) mod worker_metrics;
pub(crate) mod working_directory;
