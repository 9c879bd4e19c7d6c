//! The preload: a small file that Node workers load before the application, so that their drain loses no request. What it
//! does is in the file itself, `preload/drain.cjs` and its other parts; this module puts it where node can read it.
//!
//! It has to be a file, because `--require` takes nothing else. It is in a directory of its own, its name is a hash of its
//! contents, and all masters of the same build share it. Each new thread of a worker reads it again, perhaps after the
//! worker has dropped its privileges: so every user may read it, and only its owner may write it. It is kept there for as
//! long as the cluster lives, even if temporary directories are cleaned.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use recluster_wire::env::{NodeDrain, NodeMetrics};
use recluster_wire::node::IdleGrace;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::socket::watch::FileWatch;
use crate::socket::{places, runtime_dir};
use crate::sys;

/// One script, since node loads one file. The first part does the work, the others hold functions.
const SOURCE: &str = concat!(
    include_str!("../../preload/drain.cjs"),
    include_str!("../../preload/stderr.cjs"),
    include_str!("../../preload/responses.cjs"),
    include_str!("../../preload/pipelines.cjs"),
    include_str!("../../preload/http2.cjs"),
    include_str!("../../preload/goodbye.cjs"),
    include_str!("../../preload/queues.cjs"),
    include_str!("../../preload/cache.cjs"),
    include_str!("../../preload/measures.cjs"),
);

/// Every user may read it, and its owner may write it.
const READABLE: u32 = 0o644;
/// How often it is put back if it is gone, where the kernel does not say that it is.
const KEEP: Duration = Duration::from_secs(60);
/// How often it is touched otherwise.
const TOUCH: Duration = Duration::from_secs(3600);
/// How long after it was placed it may be placed again.
const PAUSE: Duration = Duration::from_secs(1);
/// How much earlier than a drain's end idle connections are closed, so that the worker is gone in time.
const TO_EXIT: Duration = Duration::from_secs(1);

/// What the file does in Node workers, where it is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preload {
    /// How long an idle connection is spared, if the drain lasts that long.
    pub(crate) idle_grace: Duration,
    /// The drain timeout after a reload.
    pub(crate) timeout: Duration,
    /// Whether the worker reports how many connections it has got: the master cannot see what it accepts by itself.
    pub(crate) counts: bool,
    /// What the worker says of itself when it is asked.
    pub(crate) metrics: NodeMetrics,
}

impl Preload {
    /// The settings for a worker whose master has died, and whose stdout and stderr are the master's own or not.
    pub(crate) fn settings(self, inherits: [bool; 2]) -> NodeDrain {
        let grace = self.grace(self.timeout, false);
        let Self { timeout, counts, metrics, .. } = self;
        NodeDrain { grace, timeout, counts, writes: false, metrics, inherits }
    }

    /// How long a drain with this timeout spares idle connections: longer than the idle grace where their server has
    /// promised it, unless everything stops. They are closed before the end of the drain, so that a request that arrives
    /// at the last moment is still answered.
    pub(crate) fn grace(self, patience: Duration, stops: bool) -> IdleGrace {
        let most = patience.saturating_sub(TO_EXIT.min(patience / 5));
        let least = self.idle_grace.min(most);
        IdleGrace { least, most: if stops { least } else { most } }
    }
}

/// Writes the file, unless it is there already, and returns its path with symlinks resolved.
pub(crate) fn place() -> io::Result<PathBuf> {
    let mut contents = DefaultHasher::new();
    SOURCE.hash(&mut contents);
    let name = format!("drain-{:016x}.cjs", contents.finish());
    places::for_workers(|directory| place_in(directory, &name))
}

/// Keeps the file in its place, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Keeper(JoinHandle<()>);

impl Keeper {
    pub(crate) fn start() -> Self {
        Self(tokio::spawn(keep_by(place)))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep_by(place: impl Fn() -> io::Result<PathBuf>) {
    loop {
        // An error is reported when the next worker starts.
        let Ok(gone) = place().and_then(|path| watch(&path)) else {
            sleep(KEEP).await;
            continue;
        };
        sleep(PAUSE).await;
        // Either way it is placed again.
        let _ = timeout(TOUCH, gone.readable()).await;
    }
}

/// Readable when the file may be gone. It is touched before, since that is seen as well.
fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let watch = FileWatch::new()?;
    watch.watch(path)?;
    sys::readable(watch.into_fd())
}

/// The arguments with which node loads the file. Under node's permission model it must also be allowed to read it.
pub(crate) fn arguments(file: &Path, node_args: &[OsString], node_options: Option<&OsStr>) -> Vec<OsString> {
    let with = |option: &str| {
        let mut argument = OsString::from(option);
        argument.push(file);
        argument
    };
    let restricts = |arg: &str| arg == "--permission" || arg == "--experimental-permission";
    let options = node_options.and_then(OsStr::to_str).unwrap_or_default();
    let restricted = node_args.iter().filter_map(|arg| arg.to_str()).any(restricts)
        || options.split_whitespace().any(restricts);
    let permission = restricted.then(|| with("--allow-fs-read="));
    permission.into_iter().chain([with("--require=")]).collect()
}

fn place_in(directory: &Path, name: &str) -> io::Result<PathBuf> {
    // The preload removes its own option from `process.execArgv`, by its path as node has it: with symlinks resolved.
    let directory = fs::canonicalize(directory)?;
    let path = directory.join(name);
    if is_ours(&path) {
        // So that cleaners of temporary directories do not take it for an old file.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        return Ok(path);
    }
    // Renamed into place, because another master may be reading it.
    let unfinished = directory.join(format!("{name}.{}", std::process::id()));
    // A process of the same pid may have left one.
    let _ = fs::remove_file(&unfinished);
    let written = write_new(&unfinished).and_then(|()| fs::rename(&unfinished, &path));
    if written.is_err() {
        // It may not exist.
        let _ = fs::remove_file(&unfinished);
    }
    written.map(|()| path)
}

/// Whether the file is complete, and no other user can have written it or can write it.
fn is_ours(path: &Path) -> bool {
    let is_safe = fs::symlink_metadata(path).is_ok_and(|about| {
        about.is_file() && runtime_dir::is_trusted(about.uid()) && about.mode() & 0o777 == READABLE
    });
    is_safe && fs::read(path).is_ok_and(|contents| contents == SOURCE.as_bytes())
}

fn write_new(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(READABLE).open(path)?;
    file.write_all(SOURCE.as_bytes())?;
    // The umask may have taken some of these bits.
    file.set_permissions(fs::Permissions::from_mode(READABLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIX: Preload = Preload {
        idle_grace: Duration::from_secs(6),
        timeout: Duration::from_secs(30),
        counts: false,
        metrics: NodeMetrics::Off,
    };

    #[test]
    fn idle_connections_are_closed_before_a_drain_ends() {
        let grace = |patience| {
            let IdleGrace { least, most } = SIX.grace(patience, false);
            (least.as_millis(), most.as_millis())
        };
        assert_eq!(grace(Duration::from_secs(30)), (6000, 29_000));
        assert_eq!(grace(Duration::from_secs(6)), (5000, 5000));
        assert_eq!(grace(Duration::from_secs(3)), (2400, 2400));
        assert_eq!(grace(Duration::ZERO), (0, 0));
    }

    #[test]
    fn a_stop_waits_for_no_promise_of_a_server() {
        let IdleGrace { least, most } = SIX.grace(Duration::from_secs(25), true);
        assert_eq!((least, most), (SIX.idle_grace, SIX.idle_grace));
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
    fn a_file_that_others_could_have_written_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = place_in(directory.path(), "it.cjs").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        place_in(directory.path(), "it.cjs").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, READABLE);
    }

    #[tokio::test]
    async fn a_file_that_is_removed_is_put_back() {
        let directory = tempfile::tempdir().unwrap();
        let (base, path) = (directory.path().to_owned(), directory.path().join("it.cjs"));
        let _keeper = Keeper(tokio::spawn(keep_by(move || place_in(&base, "it.cjs"))));
        for _ in 0..2 {
            let is_there = async {
                while !path.exists() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(30), is_there).await.unwrap();
            fs::remove_file(&path).unwrap();
        }
    }

    /// What it counts, the metrics have under the same names and with the same bounds.
    #[test]
    fn it_counts_as_is_told() {
        use recluster_wire::node::{CODES, COLLECTION_BOUNDS, COLLECTIONS, REQUEST_BOUNDS};
        let millis = |bounds: &[f64]| {
            bounds.iter().map(|bound| (bound * 1000.0).to_string()).collect::<Vec<_>>().join(", ")
        };
        let kinds =
            COLLECTIONS.map(|kind| format!("NODE_PERFORMANCE_GC_{}", kind.to_uppercase())).join("', '");
        for line in [
            format!("const REQUESTS = [{}];", millis(&REQUEST_BOUNDS)),
            format!("const COLLECTIONS = [{}];", millis(&COLLECTION_BOUNDS)),
            format!("const KINDS = ['{kinds}'];"),
            format!("const CODES = {};", CODES.len()),
        ] {
            assert!(SOURCE.contains(&line), "{line}");
        }
    }

    #[test]
    fn its_path_is_the_one_that_node_says() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.path().join("link")).unwrap();
        let path = place_in(&base.path().join("link"), "it.cjs").unwrap();
        assert_eq!(path, fs::canonicalize(&path).unwrap());
    }

    #[test]
    fn under_the_permission_model_the_file_may_be_read() {
        let arguments = |args: &[&str], options: Option<&str>| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            super::arguments(Path::new("/p.cjs"), &args, options.map(OsStr::new))
        };
        assert_eq!(arguments(&["--inspect"], None), ["--require=/p.cjs"]);
        let with = ["--allow-fs-read=/p.cjs", "--require=/p.cjs"];
        assert_eq!(arguments(&["--permission"], None), with);
        assert_eq!(arguments(&[], Some("--experimental-permission --allow-fs-read=/a")), with);
    }
}
