//! Where the `recluster` command under test is: built once per test run, beside the test itself.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// The path of the `recluster` command, which is built first if it is not up to date; or of the one that
/// `RECLUSTER_TEST_COMMAND` names, such as one that is to be released.
pub fn recluster() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(given) = given("RECLUSTER_TEST_COMMAND") {
            return given;
        }
        build(&["--bin", "recluster"]);
        beside("recluster")
    })
}

/// The path of an example of the library, which is built first if it is not up to date.
pub fn library_example(name: &str) -> PathBuf {
    build(&["--example", name]);
    beside("examples").join(name)
}

/// The path of one of the servers in `examples/rust`, which is built first if it is not up to date.
pub fn rust_example(name: &str) -> PathBuf {
    build(&["--bin", name]);
    beside(name)
}

/// The path of the loss meter's clients alone, which are built first if they are not up to date.
pub fn loss_load() -> PathBuf {
    rust_example("loss-load")
}

/// The path of the addon of the npm package, which is built first if it is not up to date; or of the one that
/// `RECLUSTER_TEST_ADDON` names.
pub fn addon() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(given) = given("RECLUSTER_TEST_ADDON") {
            return given;
        }
        build(&["--lib"]);
        beside("librecluster_npm.so")
    })
}

fn given(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?);
    assert!(path.is_file(), "{variable} is no file: {}", path.display());
    Some(path)
}

/// The command `recluster` with an environment that holds nothing a surrounding cluster or shell may have left.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(recluster());
    for name in ["RECLUSTER_CONTROL", "WEB_CONCURRENCY", "NODE_ENV", "NODE_OPTIONS", "PORT", "LISTEN_FDS"] {
        command.env_remove(name);
    }
    command.env("XDG_RUNTIME_DIR", home);
    command
}

/// Cargo does not build another package's binary for a test, so the test asks for it: the same profile, the same
/// target directory as its own executable, and of the whole workspace, so that what both need is built once.
fn build(what: &[&str]) {
    let profile_dir = profile_dir();
    let target_dir = profile_dir.parent().expect("TARGET/PROFILE");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--profile", profile]).args(what);
    command.arg("--target-dir").arg(target_dir).current_dir(repository());
    // What cargo tells a test about its package would make it build again what depends on these variables.
    for (name, _) in env::vars_os() {
        if ["CARGO_MANIFEST_", "CARGO_PKG_", "OUT_DIR"]
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    let status = command.status().expect("cargo should run");
    assert!(status.success(), "did not build: {what:?}");
}

/// The path of a binary that cargo puts into the same directory as the test's own profile.
pub(crate) fn beside(name: &str) -> PathBuf {
    profile_dir().join(name)
}

fn profile_dir() -> PathBuf {
    let test = env::current_exe().expect("the test knows its own path");
    test.ancestors().nth(2).expect("TARGET/PROFILE/deps/TEST").to_owned()
}
