//! pm2 in cluster mode: its command line, and its daemon in a directory of its own.

use std::env;
use std::path::Path;

use anyhow::{Context, Result};
use tokio::process::Command;

use super::Settings;
use crate::home::Home;

/// The name of the application.
const NAME: &str = "loss";
/// How long a new worker may take to listen before pm2 goes on as if it did. Its default, 3 s, is no time on a machine
/// that is busy with a load.
const LISTEN_TIMEOUT_MS: &str = "30000";

pub(super) fn start(settings: &Settings, home: &Home) -> Result<Command> {
    let mut command = pm2(settings, home)?;
    command.arg("start").arg(settings.server_file());
    command.args(["--name", NAME, "--instances", &settings.workers.to_string()]);
    command.args(["--kill-timeout", &settings.timeout.as_millis().to_string()]);
    command.args(["--listen-timeout", LISTEN_TIMEOUT_MS]);
    Ok(command)
}

pub(super) fn reload(settings: &Settings, home: &Home) -> Result<Command> {
    let mut command = pm2(settings, home)?;
    command.args(["reload", NAME]);
    Ok(command)
}

fn pm2(settings: &Settings, home: &Home) -> Result<Command> {
    let mut command = settings.command(home, &settings.node)?;
    command.arg(settings.modules.join("pm2/bin/pm2")).env("PM2_HOME", home.join("pm2"));
    // The daemon takes its node from there.
    let node = settings.node.parent().unwrap_or(Path::new("/"));
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([node.to_owned()].into_iter().chain(env::split_paths(&path)));
    command.env("PATH", path.context("the path of node has a colon in it")?);
    Ok(command)
}
