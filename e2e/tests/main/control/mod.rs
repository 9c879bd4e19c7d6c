//! The control socket and the commands that use it; the admin listener.

mod admin;
mod config;
mod events;
mod history;
mod json;
mod logs;
mod page;
mod prometheus;
mod replace;
mod scale;
mod socket;
mod status;
mod top;
mod worker_metrics;
