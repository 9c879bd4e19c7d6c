//! The npm package `recluster`: reloaded by SIGUSR2, and done when its callback is called.

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::Settings;
use crate::home::Home;

pub(super) fn start(settings: &Settings, home: &Home) -> Result<Command> {
    let mut command = settings.command(home, &settings.node)?;
    command
        .arg(Settings::servers().join("reference.js"))
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
