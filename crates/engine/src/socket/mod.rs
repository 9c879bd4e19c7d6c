//! Sockets before anybody uses them: where their files are.

pub(crate) mod runtime_dir;
