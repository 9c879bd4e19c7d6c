//! The file that holds the master's process id.

pub(crate) mod keeper;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::thread::sleep;
use std::time::{Duration, Instant};

use recluster::Place;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::writable::may_create;

/// More than this is no process id, whatever it is: in bytes.
const LONGEST: u64 = 256;

/// How long a master is waited for that was killed and is about to end, and how often it is looked.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// A written pidfile. Dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub(crate) struct Pidfile {
    path: PathBuf,
    /// Why it does not name this process, as people know.
    known: Option<String>,
    /// The program before this one may have to go on with it.
    is_lent: bool,
}

/// What has become of a pidfile.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was gone, and is there again.
    Restored,
    /// It does not name this process, and is left alone.
    Lost { reason: String },
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
        write(path).map(|()| Self { path: path.to_owned(), known: None, is_lent: false })
    }

    /// The one that the program before has written, which was this same process. It stays, until it [belongs](Self::own) to this one.
    pub(crate) fn inherit(path: PathBuf) -> Self {
        Self { path, known: None, is_lent: true }
    }

    /// It is this program's.
    pub(crate) fn own(mut self) -> Self {
        self.is_lent = false;
        self
    }

    /// Writes the file again if it was removed. Returns what people do not know yet.
    pub(crate) fn keep(&mut self) -> Option<Fate> {
        let is_there = Place::of(&self.path)
            .and_then(|place| holder(&place))
            .is_ok_and(|holder| matches!(holder, Holder::Process(pid) if is_ours(pid)));
        if is_there {
            return self.known.take().map(|_| Fate::Restored);
        }
        match write(&self.path) {
            Ok(()) => {
                self.known = None;
                Some(Fate::Restored)
            }
            Err(error) => {
                let reason = error.to_string();
                let is_known = self.known.as_ref() == Some(&reason);
                self.known = Some(reason.clone());
                (!is_known).then_some(Fate::Lost { reason })
            }
        }
    }

    /// Whether the file could be written: it is not there or a dead process left it, and its draft could be made.
    pub(crate) fn check(path: &Path) -> Result<(), PidfileError> {
        let system = |source| PidfileError::System { path: path.to_owned(), source };
        let place = Place::of(path).map_err(system)?;
        is_free(&place, path)?;
        draft_of(&place).and_then(|draft| may_create(&draft)).map_err(system)
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if self.is_lent {
            return;
        }
        let Ok(place) = Place::of(&self.path) else { return };
        if matches!(holder(&place), Ok(Holder::Process(pid)) if is_ours(pid)) {
            // If it cannot be removed, it names a dead process, and the next master replaces it.
            let _ = place.remove();
        }
    }
}

fn write(path: &Path) -> Result<(), PidfileError> {
    let system = |source| PidfileError::System { path: path.to_owned(), source };
    let place = Place::of(path).map_err(system)?;
    is_free_soon(&place, path)?;
    let draft = draft_of(&place).map_err(system)?;
    write_and_sync(&draft).and_then(|()| draft.rename(&place)).map_err(|error| {
        let _ = draft.remove();
        system(error)
    })?;
    Ok(())
}

/// The same as [`is_free`]; a process that is just ending is waited for.
fn is_free_soon(place: &Place, path: &Path) -> Result<(), PidfileError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match is_free(place, path) {
            Err(PidfileError::Alive { pid, .. }) if is_dying(pid) && Instant::now() < until => sleep(PAUSE),
            settled => return settled,
        }
    }
}

/// No other process has it, and it is a pidfile or nothing.
fn is_free(place: &Place, path: &Path) -> Result<(), PidfileError> {
    let path = path.to_owned();
    match holder(place) {
        Ok(Holder::Nobody) => Ok(()),
        Ok(Holder::Process(pid)) if is_ours(pid) || !is_alive(pid) => Ok(()),
        Ok(Holder::Process(pid)) => Err(PidfileError::Alive { path, pid: pid_number(pid) }),
        Ok(Holder::Unclear) => Err(PidfileError::NotAPidfile { path }),
        Err(source) => Err(PidfileError::System { path, source }),
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

fn holder(place: &Place) -> io::Result<Holder> {
    match place.kind()? {
        None => return Ok(Holder::Nobody),
        Some(FileType::RegularFile) => {}
        Some(_) => return Ok(Holder::Unclear),
    }
    // A pipe may have taken its place, and opening that could wait for ever.
    let file = place.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    if text.is_empty() {
        return Ok(Holder::Nobody);
    }
    let number: Option<i32> = text.parse().ok().filter(|number| *number > 0);
    Ok(number.and_then(Pid::from_raw).map_or(Holder::Unclear, Holder::Process))
}

/// The file beside a pidfile that is written first and then takes its place.
fn draft_of(place: &Place) -> io::Result<Place> {
    place.beside(&ending())
}

fn ending() -> String {
    format!(".{}", process::id())
}

fn write_and_sync(draft: &Place) -> io::Result<()> {
    // A process of the same pid may have left one. What is there now is made by this process: it follows no link of others.
    let _ = draft.remove();
    let mut file = draft.open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
    writeln!(file, "{}", process::id())?;
    file.sync_all()
}

fn is_alive(pid: Pid) -> bool {
    // A process of another user, which may not be signalled, is alive too. One that has ended is there until its parent looks.
    !matches!(test_kill_process(pid), Err(Errno::SRCH)) && !has_ended(pid_number(pid))
}

/// A master that was killed may not have been reaped yet: it holds nothing any more.
fn has_ended(pid: i32) -> bool {
    let status = status_of(pid);
    let state = line(&status, "State").unwrap_or_default();
    // Of a process whose first thread has ended before the others, the kernel says the same.
    state.starts_with(['Z', 'X']) && line(&status, "Threads") == Some("1")
}

/// It was sent KILL, or its first thread has ended: the others are about to.
fn is_dying(pid: i32) -> bool {
    const KILL: u64 = 1 << 8;
    let status = status_of(pid);
    let pending = |name| line(&status, name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    let is_ending = line(&status, "State").is_some_and(|state| state.starts_with(['Z', 'X']));
    is_ending || (pending("SigPnd") | pending("ShdPnd")) & KILL != 0
}

fn status_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

/// What a line says.
fn line<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn is_ours(pid: Pid) -> bool {
    u32::try_from(pid_number(pid)).is_ok_and(|pid| pid == process::id())
}

fn pid_number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::process::parent_id;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use rustix::fs::{CWD, RenameFlags, renameat_with};

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
    fn a_process_that_has_ended_and_was_not_reaped_has_it_no_more() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.pid");
        let mut child = process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(&path, child.id().to_string()).unwrap();
        assert!(matches!(Pidfile::write(&path), Err(PidfileError::Alive { .. })));
        child.kill().unwrap();
        // Whether it has ended by now or is about to.
        drop(Pidfile::write(&path).unwrap());
        child.wait().unwrap();
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
    fn a_link_is_kept_and_what_it_leads_to_is_the_pidfile() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        symlink("it.pid", &link).unwrap();
        let pidfile = Pidfile::write(&link).unwrap();
        assert_eq!(fs::read_to_string(base.path().join("it.pid")).unwrap(), format!("{}\n", process::id()));
        drop(pidfile);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_check_looks_where_the_file_would_be_written() {
        let base = tempfile::tempdir().unwrap();
        // Nothing can be made beside what the link leads to, whatever permissions say.
        let (link, away) = (base.path().join("link"), base.path().join("away"));
        symlink("/proc/recluster.pid", &link).unwrap();
        let checked = Pidfile::check(&link).unwrap_err().to_string();
        assert_eq!(checked, Pidfile::write(&link).unwrap_err().to_string());
        // And nothing can be made beside this one, which leads to where something can.
        symlink(base.path().join("it.pid"), &away).unwrap();
        Pidfile::check(&away).unwrap();
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 2, "it left nothing");
        let long = base.path().join("x".repeat(254));
        let checked = Pidfile::check(&long).unwrap_err().to_string();
        assert_eq!(checked, Pidfile::write(&long).unwrap_err().to_string());
    }

    #[test]
    fn a_draft_that_is_planted_is_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let (path, precious) = (base.path().join("it.pid"), base.path().join("precious"));
        fs::write(&precious, "data").unwrap();
        symlink(&precious, base.path().join(format!("it.pid{}", ending()))).unwrap();
        drop(Pidfile::write(&path).unwrap());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "data");
    }

    /// The directory's owner lets its path lead elsewhere, and back.
    #[test]
    fn what_was_not_looked_at_is_not_overwritten() {
        let base = tempfile::tempdir().unwrap();
        let at = |path: &str| base.path().join(path);
        for directory in ["hostile", "others"] {
            fs::create_dir(at(directory)).unwrap();
        }
        let precious = at("others/it.pid");
        fs::write(&precious, "precious").unwrap();
        symlink(at("others"), at("link")).unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let (hostile, link) = (at("hostile"), at("link"));
                    renameat_with(CWD, hostile, CWD, link, RenameFlags::EXCHANGE).unwrap();
                }
            });
            for _ in 0..500 {
                drop(Pidfile::write(&at("hostile/it.pid")));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    }

    #[test]
    fn one_that_is_gone_is_written_again_and_one_of_others_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.pid");
        let mut pidfile = Pidfile::write(&path).unwrap();
        assert_eq!(pidfile.keep(), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(pidfile.keep(), Some(Fate::Restored));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
        for theirs in [format!("{}\n", parent_id()), "precious".to_owned()] {
            fs::write(&path, &theirs).unwrap();
            assert!(matches!(pidfile.keep(), Some(Fate::Lost { .. })), "{theirs}");
            assert_eq!(pidfile.keep(), None, "it is told once");
            assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(pidfile.keep(), Some(Fate::Restored));
        drop(pidfile);
        assert!(!path.exists());
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
