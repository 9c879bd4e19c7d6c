//! Makes a mutant: copies the source, replaces, compiles, runs the simulator against it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{fs, io, process};

use crate::{Mutant, Outcome};

/// The crate under test.
const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// A directory in which one mutant after the other is made. What they have in common is compiled once.
pub(crate) struct Workshop {
    directory: PathBuf,
}

impl Workshop {
    /// Opens one with this name.
    pub(crate) fn open(name: &str) -> Self {
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutants-{}-{name}", process::id()));
        fs::create_dir_all(&directory).expect("the target directory can be written");
        Self { directory }
    }

    /// Lets the simulator judge one mutant.
    pub(crate) fn try_out(&self, mutant: &Mutant, seeds: u32) -> Outcome {
        let source = self.directory.join("src");
        copy(&Path::new(CRATE).join("src"), &source).expect("the source can be copied");
        match apply(mutant, &source).and_then(|()| self.compile()) {
            Ok(simulator) => judge(&simulator, seeds),
            Err(trouble) => trouble,
        }
    }

    /// The policy and the simulator against it. Not optimised: a mutant is compiled for longer than it lives.
    fn compile(&self) -> Result<PathBuf, Outcome> {
        let (policy, simulator) = (self.directory.join("librecluster_core.rlib"), self.directory.join("sim"));
        let link = format!("--extern=recluster_core={}", policy.display());
        self.rustc(
            &["--crate-type=rlib", "--crate-name=recluster_core"],
            &self.directory.join("src/lib.rs"),
            &policy,
        )?;
        self.rustc(
            &["--test", "--crate-name=sim", &link],
            &Path::new(CRATE).join("tests/sim/main.rs"),
            &simulator,
        )?;
        Ok(simulator)
    }

    /// Calls the compiler that stands beside the cargo that built this test.
    fn rustc(&self, flags: &[&str], source: &Path, output: &Path) -> Result<(), Outcome> {
        let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
        let mut command = Command::new(if rustc.exists() { rustc } else { "rustc".into() });
        command.args(["--edition=2024", "--cap-lints=allow"]).args(flags);
        command.arg(format!("-Cincremental={}", self.directory.join("incremental").display()));
        let said = command.arg(source).arg("-o").arg(output).output().expect("the compiler can be run");
        if said.status.success() { Ok(()) } else { Err(Outcome::DoesNotCompile(words(&said))) }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What cannot be removed stays in the target directory, where it does no harm.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Replaces the mutant's texts; or says which one is not there exactly once.
fn apply(mutant: &Mutant, source: &Path) -> Result<(), Outcome> {
    for edit in mutant.edits {
        let file = source.join(edit.file);
        let text = fs::read_to_string(&file).unwrap_or_default();
        let times = text.matches(edit.old).count();
        if times != 1 {
            let trouble = format!("in {} this occurs {times} times: {}", edit.file, edit.old);
            return Err(Outcome::NoLongerApplies(trouble));
        }
        fs::write(&file, text.replacen(edit.old, edit.new, 1)).expect("the copy can be written");
    }
    Ok(())
}

fn judge(simulator: &Path, seeds: u32) -> Outcome {
    let mut command = Command::new(simulator);
    command.env_remove("RECLUSTER_SIM_SEED").env("RECLUSTER_SIM_SEEDS", seeds.to_string());
    let said = command.env("RUST_BACKTRACE", "0").output().expect("the simulator can be run");
    if said.status.success() {
        return Outcome::Survived;
    }
    let words = words(&said);
    let caught = |line: &&str| line.contains(" broke invariant ") && !line.contains(" broke invariant 0 ");
    match words.lines().find(caught) {
        Some(line) => Outcome::Caught(line.to_owned()),
        None => Outcome::Broke(words.clone()),
    }
}

fn words(said: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}
