//! The `recluster` command. The server is given as a symlink, so that other code can be put in its place.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

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
    if settings.watched {
        let mut at = OsString::from("unix:");
        at.push(admin_of(home));
        command.arg("--admin").arg(at);
    }
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

/// `top`, on a terminal that `script` makes.
pub(super) fn top(settings: &Settings, home: &Home) -> Result<Command> {
    let mut command = settings.command(home, Path::new("script"))?;
    command.args(["-qefc", "exec \"$TOP\" top --control \"$CONTROL\"", "/dev/null"]);
    command
        .env("TOP", &settings.recluster)
        .env("CONTROL", home.join("control"))
        .env("TERM", "xterm-256color");
    Ok(command)
}

/// Where a master that is watched answers HTTP.
pub(crate) fn admin_of(home: &Home) -> PathBuf {
    home.join("admin")
}

/// Lets the symlink point to another file, in one step.
pub(crate) fn deploy(home: &Home, file: &Path) -> Result<()> {
    let next = home.join("next.js");
    symlink(file, &next).and_then(|()| fs::rename(next, home.join(CURRENT))).context("failed to deploy")
}
