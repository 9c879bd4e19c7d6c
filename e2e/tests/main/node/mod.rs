//! What Node and its applications rely on in a worker.

mod channel;
mod compile_cache;
mod examples;
mod frameworks;
mod inspector;
mod judged;
mod messages;
mod preload;
mod preload_unseen;
