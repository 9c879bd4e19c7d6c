//! The npm packages that the contenders and the servers are made of.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// The `node_modules` directory with the packages of `servers/package.json`. They are installed into `.cache/loss` when
/// that list has changed; meters at the same time wait for each other.
///
/// # Errors
///
/// When npm is not there or cannot install them.
pub fn packages() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cache = package.join("../../.cache/loss");
    fs::create_dir_all(&cache).context("failed to make .cache/loss")?;
    let cache = cache.canonicalize()?;
    let lock = File::create(cache.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let wanted = fs::read_to_string(package.join("servers/package.json"))?;
    let installed = cache.join("installed.json");
    if fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) {
        fs::write(cache.join("package.json"), &wanted)?;
        install(&cache)?;
        fs::write(installed, wanted)?;
    }
    Ok(cache.join("node_modules"))
}

fn install(directory: &Path) -> Result<()> {
    let npm = Command::new("npm")
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--ignore-scripts",
            "--loglevel=error",
        ])
        .current_dir(directory)
        .output()
        .context("failed to run npm")?;
    if !npm.status.success() {
        bail!("npm install failed: {}", String::from_utf8_lossy(&npm.stderr));
    }
    Ok(())
}
