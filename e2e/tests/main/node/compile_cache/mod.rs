//! `--compile-cache`: Node workers keep compiled code for those that come after them.

mod kept;
mod refused;

use std::fs;
use std::path::{Path, PathBuf};

use recluster_e2e::{Home, Launch, Master, fixture};
use rustix::process::geteuid;
use serde_json::Value;

/// The server with its other file, in a release of its own.
fn release(home: &Home, name: &str) -> PathBuf {
    let server = home.release(name, "compiled.js");
    fs::copy(fixture("compiled-part.js"), server.with_file_name("compiled-part.js")).expect("a fixture");
    server
}

/// One worker of it, which keeps compiled code in this directory.
fn cluster(home: &Home, directory: &str) -> Launch {
    if !home.join("current").exists() {
        release(home, "1");
    }
    let config = format!("compile-cache = \"{directory}\"\n");
    Launch::of(home.join("current/server.js")).home(home).workers(1).config(&config)
}

/// The same, with what Node says of it in the worker's stderr.
fn that_tells(home: &Home, directory: &str) -> Launch {
    cluster(home, directory).env("NODE_DEBUG_NATIVE", "COMPILE_CACHE")
}

/// What this user's workers have in a cache.
fn own(home: &Home, directory: &str) -> PathBuf {
    home.join(directory).join(format!("compile-{}", geteuid().as_raw()))
}

/// The entries there, whichever Node has made them.
fn entries(own: &Path) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let is_whole = |path: &PathBuf| path.extension().is_none();
    list(own).iter().flat_map(|version| list(version)).filter(is_whole).collect()
}

/// Where the worker that answers keeps compiled code, and the names of variables about it.
fn seen(master: &Master, path: &str) -> (Option<String>, Vec<String>) {
    let body = master.get(path).body;
    let seen: Value = serde_json::from_str(&body).expect("JSON");
    let names = seen["names"].as_array().expect("a list");
    let names = names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect();
    (seen["cache"].as_str().map(str::to_owned), names)
}
