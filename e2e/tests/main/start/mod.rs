//! How a cluster starts, and what its command says and writes.

mod command_line;
mod environment;
mod first_start;
mod kubernetes;
mod log;
mod many;
mod pipes;
mod privileges;
mod read_only;
mod ready;
mod stdio;
mod watch;
mod worker_log;
