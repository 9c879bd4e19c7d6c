//! The preload: a small file that Node workers load before the application, so that their drain loses no request. What it
//! does is in the file itself, `preload/drain.cjs`; this module puts it where node can read it.
//!
//! It has to be a file, because `--require` takes nothing else: it lies in the directory of the control sockets, under a
//! name that tells its contents, and is shared by all masters of the same build. It is looked at before every start
//! of a worker, since whatever cleans temporary directories may have taken it away.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use recluster_wire::env::NodeDrain;

use crate::runtime_dir;

const SOURCE: &str = include_str!("../preload/drain.cjs");

/// How much earlier than a drain's end idle connections are closed, so that the worker is gone in time.
const TO_EXIT: Duration = Duration::from_secs(1);

/// The lossless drain of Node workers, where it is on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preload {
    /// How long an idle connection is spared, if the drain lasts that long.
    pub(crate) idle_grace: Duration,
    /// The drain timeout after a reload.
    pub(crate) timeout: Duration,
}

impl Preload {
    /// What a worker is told that nobody can tell any more.
    pub(crate) fn settings(self) -> NodeDrain {
        NodeDrain { grace: self.grace(self.timeout), timeout: self.timeout }
    }

    /// How long idle connections are spared in a drain of so long. They are closed before its end: what arrives at the
    /// last moment is to be answered as well.
    pub(crate) fn grace(self, patience: Duration) -> Duration {
        self.idle_grace.min(patience.saturating_sub(TO_EXIT.min(patience / 5)))
    }
}

/// Puts the file where it belongs unless it is there; returns its path.
pub(crate) fn place() -> io::Result<PathBuf> {
    let mut contents = DefaultHasher::new();
    SOURCE.hash(&mut contents);
    let name = format!("drain-{:016x}.cjs", contents.finish());
    let mut refused = None;
    for directory in runtime_dir::candidates() {
        match place_in(&directory, &name) {
            Ok(path) => return Ok(path),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// What node is told to load it. Under node's permission model a file that is to be read has to be named.
pub(crate) fn arguments(file: &Path, node_args: &[OsString]) -> Vec<OsString> {
    let with = |option: &str| {
        let mut argument = OsString::from(option);
        argument.push(file);
        argument
    };
    let restricted = node_args.iter().any(|arg| arg == "--permission" || arg == "--experimental-permission");
    let permission = restricted.then(|| with("--allow-fs-read="));
    permission.into_iter().chain([with("--require=")]).collect()
}

fn place_in(directory: &Path, name: &str) -> io::Result<PathBuf> {
    runtime_dir::prepare(directory).map_err(io::Error::other)?;
    let path = directory.join(name);
    if fs::read(&path).is_ok_and(|contents| contents == SOURCE.as_bytes()) {
        return Ok(path);
    }
    // Whole or not at all: another master may be reading it.
    let unfinished = directory.join(format!("{name}.{}", std::process::id()));
    let written = fs::File::create(&unfinished)
        .and_then(|mut file| file.write_all(SOURCE.as_bytes()))
        .and_then(|()| fs::rename(&unfinished, &path));
    if written.is_err() {
        // It may never have come to be.
        let _ = fs::remove_file(&unfinished);
    }
    written.map(|()| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIX: Preload = Preload { idle_grace: Duration::from_secs(6), timeout: Duration::from_secs(30) };

    #[test]
    fn idle_connections_are_closed_before_a_drain_ends() {
        assert_eq!(SIX.grace(Duration::from_secs(30)), Duration::from_secs(6));
        assert_eq!(SIX.grace(Duration::from_secs(6)), Duration::from_secs(5));
        assert_eq!(SIX.grace(Duration::from_secs(3)), Duration::from_millis(2400));
        assert_eq!(SIX.grace(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_file_that_is_missing_or_not_ours_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let placed = || fs::read_to_string(place_in(directory.path(), "it.cjs").unwrap()).unwrap();
        assert_eq!(placed(), SOURCE);
        fs::write(directory.path().join("it.cjs"), "half").unwrap();
        assert_eq!(placed(), SOURCE);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_others_can_write_is_no_place_for_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(place_in(directory.path(), "it.cjs").is_err());
    }
}
