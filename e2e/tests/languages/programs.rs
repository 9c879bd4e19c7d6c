//! Where the programs are: compiled, installed into `.cache`, or of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use recluster_e2e::{Home, Node, fixture, installed, repository};

use crate::installed::installed_into;

/// Compiles the server in C.
pub(crate) fn compiled(home: &Home) -> PathBuf {
    let compiler = installed("gcc");
    let program = home.join("hello");
    let mut command = Command::new(compiler);
    command.args(["-Wall", "-Wextra", "-Werror", "-O2", "-o"]).arg(&program);
    run(command.arg(fixture("languages/hello.c")));
    program
}

/// Builds the server in Go, of its standard library alone.
pub(crate) fn built_by_go(home: &Home) -> PathBuf {
    let go = installed("go");
    let program = home.join("hello");
    let mut command = Command::new(go);
    command.args(["build", "-o"]).arg(&program).arg(fixture("languages/hello.go"));
    run(command.env("GOCACHE", repository().join(".cache/go")).env("GOPROXY", "off"));
    program
}

/// A program of a Python package that `requirements.txt` names.
pub(crate) fn of_python(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| installed_into("languages", "requirements.txt", install_by_pip));
    directory.join("python/bin").join(name)
}

fn install_by_pip(directory: &Path, list: &Path) {
    let directory = directory.join("python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&directory));
    let pip = directory.join("bin/pip");
    run(Command::new(pip)
        .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(list));
}

/// Deno or Bun, as `package.json` names them.
pub(crate) fn runtime(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| installed_into("runtimes", "package.json", install_by_npm));
    directory.join("node_modules").join(if name == "deno" { "deno/deno" } else { "bun/bin/bun.exe" })
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
