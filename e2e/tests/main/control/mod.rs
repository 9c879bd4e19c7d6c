//! The control socket and the commands that use it.

mod events;
mod json;
mod scale;
mod socket;
mod status;
