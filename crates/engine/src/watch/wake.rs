//! What wakes the thread that looks at files: the kernel by way of `notify`, or the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::tree::{Identity, identity};

/// Where to read how many watches there may be.
const LIMITS: &str = "/proc/sys/fs/inotify";

/// Wakes the thread. One ring that waits is as good as many.
#[derive(Clone, Debug)]
pub(super) struct Bell {
    rings: SyncSender<()>,
    is_over: Arc<AtomicBool>,
}

/// What the thread hears of it.
#[derive(Debug)]
pub(super) struct Rings {
    rings: Receiver<()>,
    is_over: Arc<AtomicBool>,
}

/// A bell, and who hears it.
pub(super) fn bell() -> (Bell, Rings) {
    let (bell, rings) = sync_channel(1);
    let is_over = Arc::new(AtomicBool::new(false));
    (Bell { rings: bell, is_over: Arc::clone(&is_over) }, Rings { rings, is_over })
}

impl Bell {
    /// Something may have changed.
    pub(super) fn ring(&self) {
        // A ring that waits already leads to a look; and where nobody hears it any more, none is needed.
        let _ = self.rings.try_send(());
    }

    /// The thread is to end.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.ring();
    }
}

impl Rings {
    /// Waits until it is time to look again: something has rung, or so much time has passed. False at the end.
    pub(super) fn wait(&self, patience: Option<Duration>) -> bool {
        // Whoever rings holds the bell, and so does the thread itself: it never comes off.
        let _ = match patience {
            None => self.rings.recv().ok(),
            Some(patience) => self.rings.recv_timeout(patience).ok(),
        };
        !self.is_over.load(Ordering::Acquire)
    }

    /// Forgets what has rung: a look follows.
    pub(super) fn clear(&self) {
        let _ = self.rings.try_recv();
    }
}

/// The directories of which the kernel says that something in them changes.
#[derive(Debug)]
pub(super) struct Kernel {
    watcher: RecommendedWatcher,
    watched: Arc<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    /// By path, and which directory that was: a symlink above it may lead to another one since.
    directories: Mutex<BTreeMap<PathBuf, Option<Identity>>>,
    /// One of them was moved or removed: another one may have its name, and even its number, which the kernel does not watch.
    is_stale: AtomicBool,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Option<Identity>>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: &notify::Event) {
        let takes_away = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
        if event.need_rescan() || takes_away && event.paths.iter().any(|path| self.lock().contains_key(path))
        {
            self.is_stale.store(true, Ordering::Release);
        }
    }
}

impl Kernel {
    /// The error says why the kernel cannot do it, for people.
    pub(super) fn new(bell: Bell) -> Result<Self, String> {
        let watched = Arc::new(Watched::default());
        let known = Arc::clone(&watched);
        let heard = move |event: notify::Result<notify::Event>| {
            // An error, or events that were lost, are a reason to look as well.
            if let Ok(event) = &event {
                known.hear(event);
            }
            if event.map_or(true, |event| matters(event.kind)) {
                bell.ring();
            }
        };
        let told = notify::recommended_watcher(heard).map_err(|error| in_words(&error))?;
        Ok(Self { watcher: told, watched })
    }

    /// Watches these directories and no others. Whether there were new ones; the error says why that is not possible.
    pub(super) fn fit(&mut self, wanted: &BTreeSet<PathBuf>) -> Result<bool, String> {
        let is_stale = self.watched.is_stale.swap(false, Ordering::AcqRel);
        let now: BTreeMap<PathBuf, Option<Identity>> =
            wanted.iter().map(|directory| (directory.clone(), which(directory))).collect();
        let before = std::mem::replace(&mut *self.watched.lock(), now.clone());
        let mut left = BTreeSet::new();
        for (gone, which) in
            before.iter().filter(|(directory, which)| is_stale || now.get(*directory) != Some(which))
        {
            left.insert(*which);
            // The kernel has forgotten a directory that is no more.
            let _ = self.watcher.unwatch(gone);
        }
        // The kernel watches a directory once, by whatever paths it is watched.
        let stays =
            |directory: &PathBuf, which| before.get(directory) == Some(which) && !left.contains(which);
        let mut any = false;
        for (directory, _) in now.iter().filter(|(directory, which)| !stays(directory, which)) {
            any = true;
            match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                // It has gone again: the one above says so.
                Err(error) if matches!(error.kind, ErrorKind::PathNotFound) || is_missing(&error) => {}
                done => done.map_err(|error| in_words(&error))?,
            }
        }
        Ok(any)
    }
}

fn which(directory: &Path) -> Option<Identity> {
    std::fs::metadata(directory).ok().map(|about| identity(&about))
}

/// Reading changes nothing.
fn matters(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn is_missing(error: &notify::Error) -> bool {
    matches!(&error.kind, ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::NotFound)
}

fn in_words(error: &notify::Error) -> String {
    let limit = |name: &str| std::fs::read_to_string(format!("{LIMITS}/{name}")).unwrap_or_default();
    let used_up = |name: &str| {
        let limit = limit(name);
        format!("inotify's are used up: raise fs.inotify.{name}, which is {}", limit.trim())
    };
    match &error.kind {
        ErrorKind::MaxFilesWatch => used_up("max_user_watches"),
        ErrorKind::Io(error) if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            used_up("max_user_instances")
        }
        ErrorKind::Io(error) => format!("inotify cannot be had: {error}"),
        ErrorKind::Generic(_)
        | ErrorKind::PathNotFound
        | ErrorKind::WatchNotFound
        | ErrorKind::InvalidConfig(_) => format!("inotify cannot be had: {error}"),
    }
}
