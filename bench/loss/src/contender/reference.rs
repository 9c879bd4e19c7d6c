//! The npm package `recluster`, the reference's or ours: reloaded by SIGUSR2, and done when its callback is called.

use std::path::Path;

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::Settings;
use crate::home::Home;

/// The package is a name for node to look up, or a directory.
pub(super) fn start(settings: &Settings, home: &Home, package: &Path) -> Result<Command> {
    let mut command = settings.command(home, &settings.node)?;
    command
        .arg(Settings::servers().join("reference.js"))
        .env("LOSS_PACKAGE", package)
        .env("LOSS_SERVER", settings.server_file())
        .env("LOSS_WORKERS", settings.workers.to_string())
        .env("LOSS_TIMEOUT_SECONDS", settings.timeout.as_secs_f64().to_string());
    Ok(command)
}

pub(super) fn reload(master: &Child) {
    let pid = master.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid {
        // A master that has ended is found out by who waits for the verdict.
        let _ = kill_process(pid, Signal::USR2);
    }
}
