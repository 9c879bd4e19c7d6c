//! What this machine has. The build script uses this file too, so that it finds the same programs as the tests.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where administrators' programs are, which are not in everybody's `PATH`.
const SYSTEM: &str = "/usr/sbin";

/// Where programs are looked for.
pub(crate) fn directories() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain([PathBuf::from(SYSTEM)]).collect()
}

/// The path of a program, if it is installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    directories().into_iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// The path of the Node under test: `RECLUSTER_TEST_NODE`, or `node` from `PATH`.
pub(crate) fn node() -> Option<PathBuf> {
    env::var_os("RECLUSTER_TEST_NODE").map(PathBuf::from).or_else(|| find("node"))
}

/// The first two parts of a Node's version; zeros where it does not say it.
pub(crate) fn node_version(node: &Path) -> (u32, u32) {
    let output = Command::new(node).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut parts = text.trim().trim_start_matches('v').split('.').map_while(|part| part.parse().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The path of a Chromium that needs no screen.
pub(crate) fn browser() -> Option<PathBuf> {
    ["chromium", "chromium-headless-shell"].into_iter().find_map(find)
}
