//! Workers that end, fail, hang or grow: they are replaced.

mod health_checks;
mod hooks;
mod idle;
mod orphans;
mod out_of_memory;
mod panics;
mod recycling;
mod respawn;
mod sd_notify;
mod service_manager;
mod stopped_by_terminals;
mod systemd;
mod watchdog;
