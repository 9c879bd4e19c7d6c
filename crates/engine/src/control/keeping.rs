//! [`PathKeeper`]: a socket for clients, such as the control socket, is bound anew where its path does not lead to it any more. A
//! cleaner of old files or a person may have removed its file, or the directory. A file system may not answer: threads look at it that
//! may wait, one look at a time.

use std::future::pending;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use crate::aside::aside;
use crate::socket::file::{Found, SocketFile};
use crate::socket::watch::FileWatch;
use crate::sys;

/// How often the path is looked at where the kernel says what happens to it. What it does not say is what happens further up.
const WATCHED: Duration = Duration::from_secs(60);
/// How often where the kernel does not, or while the path does not lead to the socket.
const UNWATCHED: Duration = Duration::from_secs(10);
/// The least time between two looks, whatever happens.
const PAUSE: Duration = Duration::from_millis(250);
/// How much may wait to be told. It is for the log; whoever does not read it has the socket all the same.
const TOLD: usize = 16;

/// What has become of the path of a control socket, or of the admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// It did not lead to the socket, and does again.
    Restored,
    /// It does not lead to the socket, and cannot be made to: no client reaches it.
    Lost {
        /// Why not.
        reason: String,
    },
}

/// Binds it anew, or says why that cannot be.
pub(crate) type Bind = Arc<dyn Fn() -> Result<(UnixListener, SocketFile), String> + Send + Sync>;

/// A socket's path that is kept, for those who hear of it.
#[derive(Debug)]
pub(crate) struct Keeping {
    look: Arc<Notify>,
    told: mpsc::Receiver<Kept>,
}

/// The file of a socket that may be bound anew. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Held {
    file: Arc<Mutex<SocketFile>>,
}

impl Held {
    /// The file, for whoever leaves it to another program.
    pub(crate) fn file(&self) -> Weak<Mutex<SocketFile>> {
        Arc::downgrade(&self.file)
    }
}

impl Keeping {
    /// Begins to keep a file; a new socket goes to `listeners`.
    pub(crate) fn of(
        file: SocketFile,
        bind: Bind,
        listeners: mpsc::Sender<UnixListener>,
    ) -> (Self, Held, PathKeeper) {
        let (tell, told) = mpsc::channel(TOLD);
        let path = file.path().to_owned();
        let file = Arc::new(Mutex::new(file));
        let look = Arc::new(Notify::new());
        let keeper = PathKeeper {
            path,
            file: Arc::downgrade(&file),
            look: Arc::clone(&look),
            bind,
            listeners,
            tell,
            known: None,
        };
        (Self { look, told }, Held { file }, keeper)
    }

    /// Has the path looked at now.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// What has become of it next.
    pub(crate) async fn told(&mut self) -> Option<Kept> {
        self.told.recv().await
    }
}

/// Keeps the path, for as long as it runs.
pub(crate) struct PathKeeper {
    path: PathBuf,
    /// None where the server is gone.
    file: Weak<Mutex<SocketFile>>,
    look: Arc<Notify>,
    bind: Bind,
    listeners: mpsc::Sender<UnixListener>,
    tell: mpsc::Sender<Kept>,
    /// Why the path does not lead to the socket, as people know.
    known: Option<String>,
}

impl PathKeeper {
    pub(crate) async fn run(mut self) {
        loop {
            // It is set before the look: what happens in between is seen too. The machine may have no watch to spare.
            let watch = self.watch().await.ok();
            let is_new = self.keep().await;
            sleep(PAUSE).await;
            if is_new {
                continue;
            }
            let is_well = watch.is_some() && self.known.is_none();
            tokio::select! {
                () = sleep(if is_well { WATCHED } else { UNWATCHED }) => {}
                () = self.look.notified() => {}
                () = news(watch.as_ref()) => {}
            }
        }
    }

    /// Readable when something may have happened to the file. What is not there cannot be watched.
    async fn watch(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let path = self.path.clone();
        let watch = move || {
            let watch = FileWatch::new()?;
            watch.watch(&path)?;
            io::Result::Ok(watch.into_fd())
        };
        sys::readable(aside(watch).await??)
    }

    /// Returns whether the path has a new file now.
    async fn keep(&mut self) -> bool {
        let Some(file) = self.file.upgrade() else { return false };
        let look = move || file.lock().unwrap_or_else(PoisonError::into_inner).restore();
        // An error is that there is no thread to look, or a panic in there, which was heard of.
        let Ok(found) = aside(look).await else { return false };
        match found {
            Found::Foreign | Found::Lost => return self.bind().await,
            Found::Restored => {
                self.known = None;
                self.say(Kept::Restored);
            }
            Found::Ours if self.known.take().is_some() => self.say(Kept::Restored),
            Found::Ours => {}
        }
        found == Found::Restored
    }

    async fn bind(&mut self) -> bool {
        let bind = Arc::clone(&self.bind);
        // It may ask whoever listens there, and wait for other masters that bind.
        let bound = aside(move || bind()).await.unwrap_or_else(|error| Err(error.to_string()));
        match bound {
            Ok((listener, file)) => {
                self.replace(listener, file).await;
                true
            }
            Err(reason) => {
                if self.known.replace(reason.clone()).as_ref() != Some(&reason) {
                    self.say(Kept::Lost { reason });
                }
                false
            }
        }
    }

    async fn replace(&mut self, listener: UnixListener, new: SocketFile) {
        let Some(file) = self.file.upgrade() else { return };
        let old = mem::replace(&mut *file.lock().unwrap_or_else(PoisonError::into_inner), new);
        drop(file);
        // What is left of it is removed, if the file system answers.
        let _ = aside(move || drop(old)).await;
        // The old listener is open until this one has come: the inode of its file was given to no other. An error says that the
        // server ends.
        let _ = self.listeners.send(listener).await;
        self.known = None;
        self.say(Kept::Restored);
    }

    fn say(&self, what: Kept) {
        let _ = self.tell.try_send(what);
    }
}

async fn news(watch: Option<&AsyncFd<OwnedFd>>) {
    match watch {
        // An error is one of the runtime, which ends.
        Some(watch) => drop(watch.readable().await),
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use tokio::time::timeout;

    use super::*;
    use crate::control::greeting::tests::{REFUSED, answer_with};
    use crate::control::socket::Socket;
    use crate::socket::probe::tests::leave_stale;

    struct Place {
        keeping: Keeping,
        held: Held,
        listeners: mpsc::Receiver<UnixListener>,
        path: PathBuf,
        _directory: tempfile::TempDir,
        /// What had the path before is open still, as in a server: its inode is not given to another file.
        listener: UnixListener,
    }

    impl Place {
        fn begin() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("run/it.sock");
            let Socket { listener, file, .. } = Socket::bind(&path).unwrap();
            let (new, listeners) = mpsc::channel(1);
            let (keeping, held, keeper) = Keeping::of(file, Socket::again(path.clone()), new);
            tokio::spawn(keeper.run());
            Self { keeping, held, listeners, path, _directory: directory, listener }
        }

        async fn told(&mut self) -> Kept {
            timeout(Duration::from_secs(60), self.keeping.told()).await.expect("nothing was told").unwrap()
        }

        async fn is_bound_anew(&mut self) {
            let listener = self.listeners.recv().await.unwrap();
            assert_eq!(self.told().await, Kept::Restored);
            let _client = UnixStream::connect(&self.path).unwrap();
            listener.accept().await.unwrap();
            self.listener = listener;
        }
    }

    #[tokio::test]
    async fn a_path_that_is_taken_away_leads_to_a_new_socket() {
        for (what, act) in [
            ("the file is removed", (|path| fs::remove_file(path).unwrap()) as fn(&Path)),
            ("it is moved", |path| fs::rename(path, path.with_extension("old")).unwrap()),
            ("its directory is moved", |path| {
                let (directory, away) = (path.parent().unwrap(), path.with_extension("away"));
                let away = directory.with_file_name(away.file_name().unwrap());
                let _ = fs::remove_dir_all(&away);
                fs::rename(directory, away).unwrap();
            }),
            ("a dead process's takes its place", |path| {
                leave_stale(&path.with_extension("new"));
                fs::rename(path.with_extension("new"), path).unwrap();
            }),
        ] {
            let mut kept = Place::begin();
            for time in 0..2 {
                eprintln!("{what}, {time}");
                act(&kept.path);
                kept.keeping.look();
                kept.is_bound_anew().await;
            }
            drop(kept.held);
            assert!(!kept.path.exists(), "{what}: the last one is removed with the server");
        }
    }

    #[tokio::test]
    async fn what_another_cluster_has_is_left_alone_until_it_is_gone() {
        let mut kept = Place::begin();
        fs::rename(&kept.path, kept.path.with_extension("old")).unwrap();
        let theirs = kept.path.with_extension("theirs");
        answer_with(theirs.clone(), REFUSED);
        // Our own may be bound again by now.
        fs::rename(&theirs, &kept.path).unwrap();
        let reason = loop {
            match kept.told().await {
                Kept::Restored => kept.listener = kept.listeners.recv().await.unwrap(),
                Kept::Lost { reason } => break reason,
            }
        };
        assert!(reason.contains("a running cluster has"), "{reason}");
        UnixStream::connect(&kept.path).unwrap();
        fs::remove_file(&kept.path).unwrap();
        kept.keeping.look();
        kept.is_bound_anew().await;
    }

    #[tokio::test]
    async fn a_file_of_others_is_left_alone_and_told_once() {
        let mut kept = Place::begin();
        fs::write(kept.path.with_extension("new"), "precious").unwrap();
        fs::rename(kept.path.with_extension("new"), &kept.path).unwrap();
        let Kept::Lost { reason } = kept.told().await else { panic!("it was bound") };
        assert!(reason.contains("no socket"), "{reason}");
        for _ in 0..3 {
            kept.keeping.look();
            sleep(PAUSE).await;
        }
        assert_eq!(fs::read_to_string(&kept.path).unwrap(), "precious");
        fs::remove_file(&kept.path).unwrap();
        kept.keeping.look();
        kept.is_bound_anew().await;
    }
}
