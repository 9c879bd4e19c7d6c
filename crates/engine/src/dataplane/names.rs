//! The files of unix sockets, which lead to our sockets whatever workers and others do to them: many a server removes the file
//! before it listens, or when it ends, though other workers still use the socket.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::messages::Fact;
use super::reactor::{Reactor, Timer};
use super::reports::Reports;
use crate::socket::file::{Found, SocketFile};

/// How often the files are looked at where nothing else is a reason to.
const LOOK: Duration = Duration::from_secs(1);

/// The files of the sockets that are open.
#[derive(Debug, Default)]
pub(super) struct Names {
    files: Vec<Weak<SocketFile>>,
    is_watching: bool,
}

impl Names {
    pub(super) fn add(&mut self, file: &Arc<SocketFile>, reactor: &mut Reactor) {
        if self.files.iter().any(|known| known.as_ptr() == Arc::as_ptr(file)) {
            return;
        }
        self.files.push(Arc::downgrade(file));
        if !std::mem::replace(&mut self.is_watching, true) {
            reactor.set_timer_in(LOOK, Timer::Names);
        }
    }

    /// Puts back what was removed. What cannot be is reported once.
    pub(super) fn restore(&mut self, reports: &Reports) {
        self.files.retain(|file| file.strong_count() > 0);
        for file in self.files.iter().filter_map(Weak::upgrade) {
            report(&file, file.restore(), reports);
        }
    }

    /// A worker asks for this path. Whatever is there that nobody uses is replaced.
    pub(super) fn claim(&self, path: &Path, reports: &Reports) -> Option<Found> {
        let mut files = self.files.iter().filter_map(Weak::upgrade);
        let file = files.find(|file| file.is_named(path))?;
        let found = file.claim();
        report(&file, found, reports);
        Some(found)
    }

    /// Its timer is due.
    pub(super) fn look(&mut self, reactor: &mut Reactor, reports: &Reports) {
        self.restore(reports);
        self.is_watching = !self.files.is_empty();
        if self.is_watching {
            reactor.set_timer_in(LOOK, Timer::Names);
        }
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
