//! Where the programs are: compiled, installed into `.cache`, or of the machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use recluster_e2e::{Home, Node, fixture, not_installed, repository};

use crate::installed::installed_into;

/// Where administrators' programs are, which are not in everybody's `PATH`.
const SYSTEM: &str = "/usr/sbin";

/// Compiles the server in C.
pub(crate) fn compiled(home: &Home) -> Option<PathBuf> {
    let compiler = installed("gcc")?;
    let program = home.join("hello");
    let mut command = Command::new(compiler);
    command.args(["-Wall", "-Wextra", "-Werror", "-O2", "-o"]).arg(&program);
    run(command.arg(fixture("languages/hello.c")));
    Some(program)
}

/// Builds the server in Go, of its standard library alone.
pub(crate) fn built_by_go(home: &Home) -> Option<PathBuf> {
    let go = installed("go")?;
    let program = home.join("hello");
    let mut command = Command::new(go);
    command.args(["build", "-o"]).arg(&program).arg(fixture("languages/hello.go"));
    run(command.env("GOCACHE", repository().join(".cache/go")).env("GOPROXY", "off"));
    Some(program)
}

/// A program of the machine.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain([PathBuf::from(SYSTEM)]);
    let found = directories.map(|directory| directory.join(name)).find(|path| path.is_file());
    if found.is_none() {
        not_installed(name);
    }
    found
}

/// A program of a Python package that `requirements.txt` names.
pub(crate) fn of_python(name: &str) -> Option<PathBuf> {
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| installed_into("languages", "requirements.txt", install_by_pip));
    directory.as_ref().map(|directory| directory.join("python/bin").join(name))
}

fn install_by_pip(directory: &Path, list: &Path) -> Option<()> {
    let directory = directory.join("python");
    let made = Command::new("python3").args(["-m", "venv"]).arg(&directory).output();
    if !made.is_ok_and(|made| made.status.success()) {
        not_installed("python3 with venv");
        return None;
    }
    let pip = directory.join("bin/pip");
    run(Command::new(pip)
        .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(list));
    Some(())
}

/// Deno or Bun, as `package.json` names them.
pub(crate) fn runtime(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        installed_into("runtimes", "package.json", |directory, list| {
            install_by_npm(directory, list);
            Some(())
        })
    });
    let modules = directory.as_ref().expect("npm installs or fails").join("node_modules");
    modules.join(if name == "deno" { "deno/deno" } else { "bun/bin/bun.exe" })
}

/// Their binaries are put in place by install scripts. npm may be configured not to run any, so it is told not to, and
/// they are run by hand.
fn install_by_npm(directory: &Path, list: &Path) {
    fs::copy(list, directory.join("package.json")).expect("the repository is writable");
    run(Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"])
        .current_dir(directory));
    for script in ["deno/install.cjs", "bun/install.js"] {
        let script = directory.join("node_modules").join(script);
        run(Command::new(&Node::under_test().path).arg(script));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("it should run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
