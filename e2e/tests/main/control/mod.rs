//! The control socket and the commands that use it.

mod scale;
mod socket;
mod status;
