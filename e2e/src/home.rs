//! A directory that one or several masters call their own: control sockets, releases, whatever a test writes.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use crate::command::Finished;
use crate::{command, fixture};

/// A temporary directory; it is removed with the last handle to it.
#[derive(Clone, Debug)]
pub struct Home(Arc<TempDir>);

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// An empty directory. Its path is short: names of unix sockets have little room.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("recluster-").tempdir_in("/tmp");
        Self(Arc::new(directory.expect("/tmp is writable")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Runs the command, with this directory as its `XDG_RUNTIME_DIR`, and waits for its end.
    pub fn recluster(&self, args: &[&str]) -> Finished {
        let mut command = command(self.path());
        command.args(args).current_dir(self.path());
        Finished::run(command)
    }

    /// Makes a release, a directory with a fixture as its `server.js`, and lets the symlink `current` point to it.
    /// Returns the path of the server file by way of the symlink.
    pub fn release(&self, name: &str, server: &str) -> PathBuf {
        let directory = self.join(name);
        fs::create_dir(&directory).expect("a release has a new name");
        fs::copy(fixture(server), directory.join("server.js")).expect("a fixture can be copied");
        self.switch(name);
        self.join("current").join("server.js")
    }

    /// Lets the symlink `current` point to a release, in one step.
    pub fn switch(&self, name: &str) {
        self.link("current", name);
    }

    /// Lets a symlink point to another file of this directory, in one step.
    pub fn link(&self, link: &str, target: &str) {
        let next = self.join("next-link");
        symlink(self.join(target), &next).expect("the directory is ours");
        fs::rename(next, self.join(link)).expect("the directory is ours");
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, text).expect("the directory is ours");
        path
    }

    /// Writes the config file of a cluster that has one.
    pub(crate) fn configure(&self, text: &str) -> PathBuf {
        self.write("recluster.toml", text)
    }

    /// Writes a shell script that can be executed.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        self.program(name, &format!("#!/bin/sh\n{text}\n"))
    }

    /// Writes a file that can be executed.
    ///
    /// Another process does. What this one writes may be open in a child too that another thread has just forked, until that
    /// is another program; and a file that is open for writing cannot be executed (`ETXTBSY`).
    #[track_caller]
    pub fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "rm -f -- \"$1\" && cat >\"$1\" && chmod 755 -- \"$1\"", "sh"]).arg(&path);
        let mut shell = shell.stdin(Stdio::piped()).spawn().expect("a shell can be started");
        let mut stdin = shell.stdin.take().expect("it is piped");
        stdin.write_all(text.as_bytes()).expect("it is read");
        drop(stdin);
        assert!(shell.wait().expect("it is a child").success(), "{} cannot be written", path.display());
        path
    }

    /// Copies a program, by another process as well.
    #[track_caller]
    pub fn copy_of(&self, program: &Path, name: &str) -> PathBuf {
        let path = self.join(name);
        let copied = Command::new("cp").arg("--").arg(program).arg(&path).status();
        assert!(copied.expect("cp can be run").success(), "{} cannot be copied", program.display());
        path
    }

    /// Reads a file.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.join(name)).expect("the file should be there")
    }
    /// Reads a file that may not be there yet.
    pub fn read_if_there(&self, name: &str) -> String {
        fs::read_to_string(self.join(name)).unwrap_or_default()
    }
}
