//! `upgrade`: another program takes the master's place, under its workers.

mod back;
mod clients;
mod guard;
mod kept;
mod load;
mod refused;
mod short;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use recluster_e2e::{Finished, Home, Master, recluster};

/// The version of the command under test, and that of the other one, which are of the same length.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const NEXT: &str = "9.9.9";

/// The command under test, with these words in it instead of others of the same length. Another process writes it: a file that is open
/// for writing cannot be run.
#[track_caller]
fn variant(home: &Home, name: &str, words: &[(&str, &str)]) -> PathBuf {
    let path = home.path().join(name);
    let scripts = words.iter().map(|(from, to)| {
        assert_eq!(from.len(), to.len(), "the rest of the program stays where it is");
        format!("s|{}|{to}|g;", from.replace('.', "\\."))
    });
    let script: String = scripts.collect();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "LC_ALL=C sed \"$1\" <\"$2\" >\"$3\" && chmod 755 \"$3\"", "sh", &script]);
    let status = shell.arg(recluster()).arg(&path).stdin(Stdio::null()).status().expect("there is a shell");
    assert!(status.success(), "sed cannot edit a program");
    path
}

/// The command under test, as if it were another version.
fn next(home: &Home) -> PathBuf {
    variant(home, "recluster-next", &[(VERSION, NEXT)])
}

/// A program that does these things when it has taken a master's place.
fn that_does(home: &Home, name: &str, things: &str) -> PathBuf {
    let path = home.path().join(name);
    let mut copy = Command::new("/bin/cp");
    let status = copy.arg(env!("CARGO_BIN_EXE_successor")).arg(&path).status().expect("there is cp");
    assert!(status.success(), "cp cannot copy a program");
    home.write(&format!("{name}.does"), things);
    path
}

#[track_caller]
fn upgrade(master: &Master, binary: &Path) -> Finished {
    master.client(&["upgrade", "--json", "--binary", binary.to_str().expect("a path of ours is text")])
}
