//! Which Node the workers run under, and npm packages for those that need some.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};

use crate::binary::repository;
use crate::{fixture, machine};

/// The Node under test: `RECLUSTER_TEST_NODE`, or `node` from `PATH`.
#[derive(Clone, Debug)]
pub struct Node {
    /// The path of the binary.
    pub path: String,
    /// Its version.
    pub major: u32,
    /// The second part of its version.
    pub minor: u32,
}

impl Node {
    /// The Node under test.
    pub fn under_test() -> &'static Self {
        static NODE: OnceLock<Node> = OnceLock::new();
        NODE.get_or_init(|| {
            let path = machine::node().expect("the tests need Node.js");
            let (major, minor) = machine::node_version(&path);
            assert!(major >= 18, "{} is not Node 18 or newer", path.display());
            let path = path.to_string_lossy().into_owned();
            Self { path, major, minor }
        })
    }

    /// Whether it runs TypeScript files as they are.
    pub fn strips_types(&self) -> bool {
        (self.major, self.minor) >= (22, 18)
    }

    /// A command that runs a fixture as a client beside the cluster.
    pub fn client(&self, name: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.arg(fixture(name)).env_remove("NODE_OPTIONS");
        command
    }
}

/// The `node_modules` directory with the packages of `fixtures/frameworks/package.json`. They are installed into
/// `.cache/frameworks` when that list has changed; test runs at the same time wait for each other.
pub fn modules() -> &'static Path {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| {
        let cache = repository().join(".cache/frameworks");
        fs::create_dir_all(&cache).expect("the repository is writable");
        let lock = File::create(cache.join("lock")).expect("the repository is writable");
        flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");
        let wanted = fs::read_to_string(fixture("frameworks/package.json")).expect("the list is readable");
        let installed = cache.join("installed.json");
        if fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) {
            fs::write(cache.join("package.json"), &wanted).expect("the repository is writable");
            install(&cache);
            fs::write(installed, wanted).expect("the repository is writable");
        }
        cache.join("node_modules")
    })
}

fn install(directory: &Path) {
    let npm = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"])
        .current_dir(directory)
        .output()
        .expect("the tests need npm");
    assert!(npm.status.success(), "npm install failed: {}", String::from_utf8_lossy(&npm.stderr));
}
