//! Where the programs are: compiled, installed by pip into `.cache/languages`, or of the machine.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use recluster_e2e::{Home, fixture, not_installed, repository};
use rustix::fs::{FlockOperation, flock};

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

/// A program of a Python package that `requirements.txt` names. They are installed when that list has changed; test
/// runs at the same time wait for each other.
pub(crate) fn of_python(name: &str) -> Option<PathBuf> {
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let cache = repository().join(".cache/languages");
        fs::create_dir_all(&cache).expect("the repository is writable");
        let lock = File::create(cache.join("lock")).expect("the repository is writable");
        flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");
        let wanted = fs::read_to_string(fixture("languages/requirements.txt")).expect("the list");
        let (python, done) = (cache.join("python"), cache.join("installed.txt"));
        let is_done = fs::read_to_string(&done).is_ok_and(|installed| installed == wanted);
        if !is_done {
            install(&python)?;
            fs::write(done, wanted).expect("the repository is writable");
        }
        Some(python.join("bin"))
    });
    directory.as_ref().map(|directory| directory.join(name))
}

fn install(directory: &Path) -> Option<()> {
    let made = Command::new("python3").args(["-m", "venv"]).arg(directory).output();
    if !made.is_ok_and(|made| made.status.success()) {
        not_installed("python3 with venv");
        return None;
    }
    let pip = directory.join("bin/pip");
    run(Command::new(pip)
        .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(fixture("languages/requirements.txt")));
    Some(())
}

fn run(command: &mut Command) {
    let output = command.output().expect("it should run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
