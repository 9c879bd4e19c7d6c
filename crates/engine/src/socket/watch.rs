//! Has the kernel say when a file may be gone, so that nobody has to look at it again and again (inotify).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use super::runtime_dir::parent_of;

/// Files that are watched. Its descriptor is readable when one of them may be gone.
#[derive(Debug)]
pub(crate) struct FileWatch(OwnedFd);

impl FileWatch {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?))
    }

    /// Begins to watch what a path leads to now, or goes on: whether it loses a name or is moved, or is written. What happens
    /// further up than in its own directory is not seen.
    pub(crate) fn watch(&self, path: &Path) -> io::Result<()> {
        // A file that has a second name is not deleted with the first one: it has changed.
        let file =
            WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::CLOSE_WRITE;
        add_watch(&self.0, path, file | WatchFlags::DONT_FOLLOW)?;
        add_watch(&self.0, parent_of(path), WatchFlags::MOVE_SELF)?;
        Ok(())
    }

    /// Forgets what has happened. If that is a lot the descriptor stays readable: whoever causes it without end keeps nobody here.
    pub(crate) fn clear(&self) {
        let mut events = [0_u8; 4096];
        let _ = rustix::io::read(&self.0, &mut events);
    }

    /// Its descriptor alone.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn has_news(watch: &FileWatch) -> bool {
        let at_once = Timespec::try_from(Duration::ZERO).unwrap();
        poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&at_once)).unwrap() > 0
    }

    #[test]
    fn whatever_takes_a_file_away_is_seen_and_reading_it_is_not() {
        for (what, act) in [
            ("removed", (|path| fs::remove_file(path).unwrap()) as fn(&Path)),
            ("moved", |path| fs::rename(path, path.with_extension("old")).unwrap()),
            ("replaced", |path| {
                fs::write(path.with_extension("new"), "").unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            }),
            ("written", |path| fs::write(path, "other").unwrap()),
            ("gone with its directory", |path| {
                fs::rename(path.parent().unwrap(), path.parent().unwrap().with_extension("old")).unwrap();
            }),
        ] {
            let base = tempfile::tempdir().unwrap();
            let path = base.path().join("run/file");
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::hard_link(&path, base.path().join("second name")).unwrap();
            let watch = FileWatch::new().unwrap();
            watch.watch(&path).unwrap();
            fs::read(&path).unwrap();
            fs::write(path.with_file_name("neighbour"), "").unwrap();
            assert!(!has_news(&watch), "nothing was {what} yet");
            act(&path);
            assert!(has_news(&watch), "{what}");
            watch.clear();
            assert!(!has_news(&watch));
        }
    }

    #[test]
    fn what_is_not_there_cannot_be_watched() {
        let base = tempfile::tempdir().unwrap();
        assert!(FileWatch::new().unwrap().watch(&base.path().join("nothing")).is_err());
    }
}
