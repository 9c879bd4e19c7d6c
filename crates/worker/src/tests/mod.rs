//! A worker against a master that the tests play: both ends of a channel in one process.

mod adopted;
mod alone;
mod given;
mod leaving;
mod master;
mod messages;
mod shared;
mod words;
