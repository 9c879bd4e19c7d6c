//! The files of unix sockets, which lead to our sockets whatever workers and others do to them: many a server removes the file
//! before it listens, or when it ends, though other workers still use the socket. What does not answer is left alone: connections are
//! not to wait for a file system.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::messages::Fact;
use super::reactor::{Reactor, Timer, Token};
use super::reports::Reports;
use crate::socket::answers::answers;
use crate::socket::file::{Found, SocketFile};
use crate::socket::watch::FileWatch;

/// How often the files are looked at where nothing else is a reason to: where one leads elsewhere, or the kernel does not say
/// when one is gone.
const LOOK: Duration = Duration::from_secs(1);
/// How often where they are as they should be, and it does. It does not see what happens further up than in their directories.
const LOOK_ALL_THE_SAME: Duration = Duration::from_secs(60);

/// The files of the sockets that are open.
#[derive(Debug, Default)]
pub(super) struct Names {
    files: Vec<Weak<SocketFile>>,
    /// None where there is no file yet, or the kernel has no room for another one.
    watch: Option<FileWatch>,
    /// When they were looked at by the clock.
    looked: Option<Instant>,
    /// When they are to be. Other moments that were set are out of date.
    due: Option<Instant>,
}

impl Names {
    pub(super) fn add(&mut self, file: &Arc<SocketFile>, reactor: &mut Reactor) {
        if self.files.iter().any(|known| known.as_ptr() == Arc::as_ptr(file)) {
            return;
        }
        self.files.push(Arc::downgrade(file));
        if self.watch.is_none() {
            self.watch = FileWatch::new().ok().filter(|watch| reactor.watch(watch, Token::Files).is_ok());
        }
        self.look_at(reactor.now + LOOK, reactor);
    }

    /// Puts back what was removed. What cannot be is reported once. Returns whether nothing was amiss.
    pub(super) fn restore(&mut self, reports: &Reports) -> bool {
        self.files.retain(|file| file.strong_count() > 0);
        let mut are_all_there = true;
        for file in self.files.iter().filter_map(Weak::upgrade) {
            if !answers(file.path()) {
                are_all_there = false;
                continue;
            }
            let found = file.restore();
            are_all_there &= found == Found::Ours;
            report(&file, found, reports);
        }
        are_all_there
    }

    /// A worker asks for this path. Whatever is there that nobody uses is replaced.
    pub(super) fn claim(&self, path: &Path, reports: &Reports) -> Option<Found> {
        let mut files = self.files.iter().filter_map(Weak::upgrade);
        let file = files.find(|file| file.is_named(path))?;
        let found = file.claim();
        report(&file, found, reports);
        Some(found)
    }

    /// A file may be gone. It is put back at once, but not more often than the clock would have it: others may write in its directory.
    pub(super) fn noticed(&mut self, reactor: &mut Reactor) {
        self.watch.iter().for_each(FileWatch::clear);
        let earliest = self.looked.map_or(reactor.now, |looked| looked + LOOK);
        self.look_at(earliest.max(reactor.now), reactor);
    }

    /// A timer is due.
    pub(super) fn look(&mut self, reactor: &mut Reactor, reports: &Reports) {
        if self.due.is_none_or(|due| due > reactor.now) {
            return;
        }
        (self.due, self.looked) = (None, Some(reactor.now));
        // Before the look, which finds what has happened until now.
        let are_watched = self.are_watched();
        let are_all_there = self.restore(reports);
        if !self.files.is_empty() {
            let next = if are_watched && are_all_there { LOOK_ALL_THE_SAME } else { LOOK };
            self.look_at(reactor.now + next, reactor);
        }
    }

    /// Sets the timer, unless it is set for an earlier moment.
    fn look_at(&mut self, at: Instant, reactor: &mut Reactor) {
        if self.due.is_none_or(|due| at < due) {
            self.due = Some(at);
            reactor.set_timer(at, Timer::Names);
        }
    }

    /// Watches what has the names now; whether that is possible.
    fn are_watched(&self) -> bool {
        let Some(watch) = &self.watch else { return false };
        let mut files = self.files.iter().filter_map(Weak::upgrade);
        files.all(|file| answers(file.path()) && watch.watch(file.path()).is_ok())
    }
}

fn report(file: &SocketFile, found: Found, reports: &Reports) {
    let is_lost = matches!(found, Found::Foreign | Found::Lost);
    let was_told = file.set_told(is_lost);
    match found {
        Found::Restored => reports.fact(Fact::FileRestored(file.path().to_owned())),
        Found::Foreign | Found::Lost if !was_told => {
            reports.fact(Fact::FileLost(file.path().to_owned(), found == Found::Foreign));
        }
        Found::Ours | Found::Foreign | Found::Lost => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::{UnixListener, UnixStream};

    use recluster_wire::node::{FromWorker, QueryServer, SocketKind};

    use super::super::fixtures::{FarEnd, Harness, query};
    use super::*;
    use crate::config::balance::Balance;

    /// A worker that listens at this path.
    fn serving(path: &Path) -> (Harness, FarEnd) {
        let mut harness = Harness::new(Balance::RoundRobin);
        let mut far = harness.serving(1, 0);
        harness.ask(1, &mut far, at(path));
        (harness, far)
    }

    fn at(path: &Path) -> QueryServer {
        let address = Some(path.to_string_lossy().into_owned());
        QueryServer { address, port: None, kind: Some(SocketKind::Unix), ..query(1) }
    }

    #[test]
    fn a_worker_that_removes_the_file_first_has_the_same_socket() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let (mut harness, _far) = serving(&path);
        let mut other = harness.serving(2, 1);
        fs::remove_file(&path).unwrap();
        assert_eq!(harness.ask(2, &mut other, at(&path)), 0);
        UnixStream::connect(&path).unwrap();
        assert_eq!(harness.state.listeners.len(), 1);
        assert_eq!(harness.fact_names(), [format!("restored {}", path.display())]);
    }

    #[test]
    fn a_file_that_somebody_removes_is_there_again_soon() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let (mut harness, _far) = serving(&path);
        for _ in 0..2 {
            fs::remove_file(&path).unwrap();
            harness.pass(LOOK);
            UnixStream::connect(&path).unwrap();
        }
        drop(harness);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn files_that_nobody_touches_wake_nobody() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let (mut harness, _far) = serving(&path);
        harness.pass(LOOK);
        let next = |harness: &Harness| harness.state.names.due.unwrap() - harness.state.reactor.now;
        assert_eq!(next(&harness), LOOK_ALL_THE_SAME);
        fs::remove_file(&path).unwrap();
        harness.state.names.noticed(&mut harness.state.reactor);
        assert_eq!(next(&harness), LOOK, "not more often than by the clock");
        harness.pass(LOOK);
        UnixStream::connect(&path).unwrap();
        harness.pass(LOOK);
        assert_eq!(next(&harness), LOOK_ALL_THE_SAME);
    }

    #[test]
    fn what_others_put_there_is_left_alone_and_told_once() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let (mut harness, _far) = serving(&path);
        let mut other = harness.serving(2, 1);
        fs::remove_file(&path).unwrap();
        let _owner = UnixListener::bind(&path).unwrap();
        harness.pass(LOOK);
        harness.hear(2, FromWorker::QueryServer(at(&path)));
        assert_eq!(other.replies(), [(1, Err(libc::EADDRINUSE))]);
        harness.pass(LOOK);
        assert_eq!(harness.fact_names(), [format!("lost {}", path.display())]);
        drop(harness);
        assert!(path.exists());
    }

    #[test]
    fn a_socket_without_a_second_name_makes_room_for_a_new_one() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("run");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("it.sock");
        let (mut harness, _far) = serving(&path);
        let mut other = harness.serving(2, 1);
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        assert_eq!(harness.ask(2, &mut other, at(&path)), 1);
        UnixStream::connect(&path).unwrap();
        harness.pass(LOOK);
        assert_eq!(harness.fact_names(), [format!("lost {}", path.display())]);
    }
}
