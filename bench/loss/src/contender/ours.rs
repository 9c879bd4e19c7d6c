//! The `recluster` command. The server is given as a symlink, so that other code can be put in its place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use tokio::process::Command;

use super::Settings;
use crate::home::Home;

/// The symlink to the server file.
const CURRENT: &str = "current.js";

pub(super) fn start(settings: &Settings, home: &Home, options: &[&str]) -> Result<Command> {
    deploy(home, &settings.server_file())?;
    let mut command = settings.command(home, &settings.recluster)?;
    command.arg("run").arg("--control").arg(home.join("control")).arg("--node").arg(&settings.node);
    command.args(["--workers", &settings.workers.to_string()]);
    command.args(["--timeout", &format!("{}ms", settings.timeout.as_millis())]);
    command.args(options).args(&settings.options).arg(home.join(CURRENT));
    Ok(command)
}

pub(super) fn reload(settings: &Settings, home: &Home) -> Result<Command> {
    client(settings, home, &["reload"])
}

pub(super) fn client(settings: &Settings, home: &Home, arguments: &[&str]) -> Result<Command> {
    let mut command = settings.command(home, &settings.recluster)?;
    command.args(arguments).arg("--control").arg(home.join("control"));
    Ok(command)
}

/// Lets the symlink point to another file, in one step.
pub(crate) fn deploy(home: &Home, file: &Path) -> Result<()> {
    let next = home.join("next.js");
    symlink(file, &next).and_then(|()| fs::rename(next, home.join(CURRENT))).context("failed to deploy")
}
