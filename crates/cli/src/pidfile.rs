//! The file that holds the master's process id.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::writable::may_create;

/// A written pidfile. Dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub(crate) struct Pidfile {
    path: PathBuf,
}

/// Why a pidfile could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidfileError {
    #[error("process {pid}, which the pidfile {} names, is still running", path.display())]
    Alive { path: PathBuf, pid: i32 },
    #[error("{} holds something else than a process id, so it is not overwritten", path.display())]
    NotAPidfile { path: PathBuf },
    #[error("cannot write the pidfile {}: {source}", path.display())]
    System { path: PathBuf, source: io::Error },
}

impl Pidfile {
    /// Writes the file, whole or not at all. One that a dead process left is replaced.
    pub(crate) fn write(path: &Path) -> Result<Self, PidfileError> {
        Self::check(path)?;
        let system = |source| PidfileError::System { path: path.to_owned(), source };
        let draft = draft_of(path);
        write_and_sync(&draft).and_then(|()| fs::rename(&draft, path)).map_err(|error| {
            let _ = fs::remove_file(&draft);
            system(error)
        })?;
        Ok(Self { path: path.to_owned() })
    }

    /// Whether the file could be written: it is not there or a dead process left it, and its draft could be made.
    pub(crate) fn check(path: &Path) -> Result<(), PidfileError> {
        let system = |source| PidfileError::System { path: path.to_owned(), source };
        match holder(path).map_err(system)? {
            Holder::Nobody => {}
            Holder::Process(pid) if is_ours(pid) || !is_alive(pid) => {}
            Holder::Process(pid) => {
                return Err(PidfileError::Alive { path: path.to_owned(), pid: pid_number(pid) });
            }
            Holder::Unclear => return Err(PidfileError::NotAPidfile { path: path.to_owned() }),
        }
        may_create(&draft_of(path)).map_err(system)
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if matches!(holder(&self.path), Ok(Holder::Process(pid)) if is_ours(pid)) {
            // If it cannot be removed, it names a dead process, and the next master replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What a pidfile says.
enum Holder {
    /// It is not there, or empty.
    Nobody,
    Process(Pid),
    /// It holds something else.
    Unclear,
}

fn holder(path: &Path) -> io::Result<Holder> {
    let bytes = match fs::metadata(path) {
        // Opening a pipe could wait for ever.
        Ok(about) if !about.is_file() => return Ok(Holder::Unclear),
        Ok(_) => fs::read(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    if text.is_empty() {
        return Ok(Holder::Nobody);
    }
    let number: Option<i32> = text.parse().ok().filter(|number| *number > 0);
    Ok(number.and_then(Pid::from_raw).map_or(Holder::Unclear, Holder::Process))
}

/// The file beside a pidfile that is written first and then takes its place.
fn draft_of(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", process::id()));
    draft.into()
}

fn write_and_sync(path: &Path) -> io::Result<()> {
    // A process of the same pid may have left one. What is there now is made by this process: it follows no link of others.
    let _ = fs::remove_file(path);
    let mut file = fs::File::create_new(path)?;
    writeln!(file, "{}", process::id())?;
    file.sync_all()
}

fn is_alive(pid: Pid) -> bool {
    // A process of another user, which may not be signalled, is alive too.
    !matches!(test_kill_process(pid), Err(Errno::SRCH))
}

fn is_ours(pid: Pid) -> bool {
    u32::try_from(pid_number(pid)).is_ok_and(|pid| pid == process::id())
}

fn pid_number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::parent_id;

    use super::*;

    #[test]
    fn it_holds_our_pid_while_it_lives() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.pid");
        let pidfile = Pidfile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
        drop(pidfile);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_file_of_a_living_process_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.pid");
        let theirs = format!("{}\n", parent_id());
        fs::write(&path, &theirs).unwrap();
        assert!(matches!(Pidfile::write(&path), Err(PidfileError::Alive { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
    }

    #[test]
    fn the_file_of_a_dead_process_is_replaced() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.pid");
        let mut child = process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        for stale in [child.id().to_string(), String::new()] {
            fs::write(&path, stale).unwrap();
            drop(Pidfile::write(&path).unwrap());
        }
    }

    #[test]
    fn anything_else_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("server.js");
        for precious in ["listen()", "-1", "0", "99999999999"] {
            fs::write(&path, precious).unwrap();
            assert!(matches!(Pidfile::write(&path), Err(PidfileError::NotAPidfile { .. })), "{precious}");
            assert_eq!(fs::read_to_string(&path).unwrap(), precious);
        }
    }

    #[test]
    fn a_file_that_took_our_place_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.pid");
        let pidfile = Pidfile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(pidfile);
        assert!(path.exists());
    }
}
