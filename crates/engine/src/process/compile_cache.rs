//! Keeps the compile cache of Node workers small: what was used least lately goes.
//!
//! Workers write it, as their own user, and the master may be root: so nothing here follows a symlink, and only what has the
//! names that Node gives is touched.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::upgrade::plain;

/// How long an entry is kept that no worker reads.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a file is left alone that may still be being written.
const UNFINISHED: Duration = Duration::from_secs(3600);
/// How many entries there may be; the file system gives those that remain. A list of them takes a few megabytes.
const MOST_ENTRIES: usize = 100_000;
/// How many versions of Node may have entries.
const MOST_VERSIONS: usize = 64;

/// A compile cache: where it is, and how large it may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Resolved but for its own name. The cache of each user's workers is in it.
    #[serde(with = "plain")]
    pub(crate) directory: PathBuf,
    /// In bytes.
    pub(crate) most: u64,
    /// The user of the workers.
    pub(crate) uid: u32,
}

/// Cleans up, on a thread of its own.
#[derive(Debug, Default)]
pub(crate) struct Sweeper {
    is_busy: Arc<AtomicBool>,
}

impl Sweeper {
    /// Begins, unless it is at it already. What cannot be done now is done at the next time.
    pub(crate) fn begin(&self, cache: Kept) {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let busy = Busy(Arc::clone(&self.is_busy));
        let sweep = move || {
            let _busy = busy;
            let _ = cache.sweep(SystemTime::now());
        };
        // Where no thread can be had, it is done after the next reload.
        let _ = thread::Builder::new().name("compile-cache".to_owned()).spawn(sweep);
    }
}

/// Says that a sweep goes on, for as long as it lives.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(is_busy) = self;
        is_busy.store(false, Ordering::Release);
    }
}

/// A file of the cache.
struct Entry {
    /// Which of the directories it is in.
    directory: usize,
    name: CString,
    /// On the disk, in bytes.
    size: u64,
    used: SystemTime,
}

impl Kept {
    fn sweep(&self, now: SystemTime) -> io::Result<()> {
        let own = self.open(CWD, &self.directory.join(format!("compile-{}", self.uid)))?;
        let mut versions = Vec::new();
        for name in names(&own)?.filter(|name| is_version(name)).take(MOST_VERSIONS) {
            // What is no directory of this user is nothing of Node's.
            versions.extend(
                self.open(own.as_fd(), Path::new(&*name.to_string_lossy())).ok().map(|opened| (name, opened)),
            );
        }
        let mut entries = Vec::new();
        for (directory, (_, version)) in versions.iter().enumerate() {
            for name in names(version)? {
                entries.extend(stale_or_entry(directory, version.as_fd(), name, now, entries.len()));
            }
        }
        entries.sort_by_key(|entry| entry.used);
        let mut total: u64 = entries.iter().map(|entry| entry.size).sum();
        for entry in entries {
            if total <= self.most {
                break;
            }
            total -= entry.size;
            if let Some((_, version)) = versions.get(entry.directory) {
                remove(version.as_fd(), &entry.name, AtFlags::empty());
            }
        }
        for (name, version) in versions {
            // A worker may have made it a moment ago.
            if fstat(&version).is_ok_and(|about| age(now, about.st_mtime) > UNFINISHED) {
                remove(own.as_fd(), &name, AtFlags::REMOVEDIR);
            }
        }
        Ok(())
    }

    /// Opens a directory of the workers' user.
    fn open(&self, beneath: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(beneath, path, flags, Mode::empty())?;
        if fstat(&directory)?.st_uid == self.uid {
            Ok(directory)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

/// An entry that may stay if there is room; one that may not is removed.
fn stale_or_entry(
    directory: usize,
    version: BorrowedFd<'_>,
    name: CString,
    now: SystemTime,
    before: usize,
) -> Option<Entry> {
    let kind = Kind::of(&name)?;
    let about = statat(version, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return None;
    }
    // Reading does not change the time of writing, and the time of reading may not be kept, or only day by day.
    let used = about.st_mtime.max(about.st_atime);
    let is_stale = match kind {
        Kind::Whole => age(now, used) > UNUSED || before >= MOST_ENTRIES,
        Kind::Unfinished => age(now, about.st_mtime) > UNFINISHED,
    };
    if is_stale {
        remove(version, &name, AtFlags::empty());
        return None;
    }
    let size = u64::try_from(about.st_blocks).unwrap_or_default().saturating_mul(512);
    Some(Entry { directory, name, size, used: UNIX_EPOCH + since_epoch(used) })
}

/// What a file is, by its name.
enum Kind {
    /// A hash.
    Whole,
    /// A hash, a point and six letters: it is renamed when it is complete.
    Unfinished,
}

impl Kind {
    fn of(name: &CStr) -> Option<Self> {
        let name = name.to_bytes();
        let (hash, rest) = name.split_at_checked(8)?;
        let is_hash = hash.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
        match rest {
            _ if !is_hash => None,
            [] => Some(Self::Whole),
            [b'.', letters @ ..] if letters.len() == 6 && letters.iter().all(u8::is_ascii_alphanumeric) => {
                Some(Self::Unfinished)
            }
            _ => None,
        }
    }
}

/// `v24.12.0-x64-964aae3f-0`, for one.
fn is_version(name: &CStr) -> bool {
    matches!(name.to_bytes(), [b'v', digit, ..] if digit.is_ascii_digit())
}

fn names(directory: &OwnedFd) -> io::Result<impl Iterator<Item = CString>> {
    Ok(Dir::read_from(directory)?.flatten().map(|entry| entry.file_name().to_owned()))
}

/// Others sweep as well, and workers write.
fn remove(directory: BorrowedFd<'_>, name: &CStr, flags: AtFlags) {
    let _ = unlinkat(directory, name, flags);
}

fn age(now: SystemTime, then: i64) -> Duration {
    now.duration_since(UNIX_EPOCH + since_epoch(then)).unwrap_or_default()
}

fn since_epoch(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::process::geteuid;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    struct Bench {
        base: tempfile::TempDir,
        own: PathBuf,
        now: SystemTime,
    }

    impl Bench {
        fn new() -> Self {
            let base = tempfile::tempdir().unwrap();
            let own = base.path().join(format!("compile-{}", geteuid().as_raw()));
            fs::create_dir(&own).unwrap();
            Self { base, own, now: SystemTime::now() }
        }

        /// A file of 4 KiB that was used so long ago.
        fn file(&self, path: &str, ago: Duration) {
            let path = self.own.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, [b'x'; 4096]).unwrap();
            let times = fs::FileTimes::new().set_accessed(self.now - ago).set_modified(self.now - ago);
            File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        }

        fn sweep(&self, most: u64) {
            let kept = Kept { directory: self.base.path().to_owned(), most, uid: geteuid().as_raw() };
            kept.sweep(self.now).unwrap();
        }

        fn has(&self, path: &str) -> bool {
            fs::symlink_metadata(self.own.join(path)).is_ok()
        }
    }

    #[test]
    fn what_was_used_least_lately_goes_whatever_version_of_node_has_written_it() {
        let bench = Bench::new();
        bench.file("v22.1.0-x64-0a/00000001", 3 * HOUR);
        bench.file("v24.1.0-x64-0b/00000001", 2 * HOUR);
        bench.file("v24.1.0-x64-0b/00000002", 4 * HOUR);
        bench.sweep(3 * 4096);
        assert!(bench.has("v24.1.0-x64-0b/00000002"), "there is room");
        bench.sweep(2 * 4096);
        assert!(!bench.has("v24.1.0-x64-0b/00000002"));
        bench.sweep(4096);
        assert!(bench.has("v24.1.0-x64-0b/00000001") && !bench.has("v22.1.0-x64-0a/00000001"));
    }

    #[test]
    fn what_nobody_has_used_for_a_month_goes_and_what_was_left_half_written() {
        let bench = Bench::new();
        bench.file("v24.1.0-x64-0b/00000001", 31 * 24 * HOUR);
        bench.file("v24.1.0-x64-0b/00000002", 29 * 24 * HOUR);
        bench.file("v24.1.0-x64-0b/00000003.a1B2c3", 2 * HOUR);
        bench.file("v24.1.0-x64-0b/00000004.a1B2c3", HOUR / 2);
        bench.sweep(u64::MAX);
        let left = ["00000001", "00000002", "00000003.a1B2c3", "00000004.a1B2c3"];
        assert_eq!(left.map(|name| bench.has(&format!("v24.1.0-x64-0b/{name}"))), [false, true, false, true]);
    }

    #[test]
    fn a_directory_in_which_nothing_is_left_goes() {
        let bench = Bench::new();
        bench.file("v22.1.0-x64-0a/00000001", 31 * 24 * HOUR);
        bench.sweep(0);
        assert!(bench.has("v22.1.0-x64-0a"), "it may be new");
        let later = Bench { now: SystemTime::now() + 2 * HOUR, ..bench };
        later.sweep(0);
        assert!(!later.has("v22.1.0-x64-0a"));
    }

    #[test]
    fn what_is_not_nodes_is_left_alone() {
        let bench = Bench::new();
        let month = 31 * 24 * HOUR;
        for path in
            ["precious/00000001", "v24.1.0-x64-0b/package.json", "v24.1.0-x64-0b/0000000G", "00000001"]
        {
            bench.file(path, month);
        }
        fs::create_dir(bench.own.join("v24.1.0-x64-0b/0000000a")).unwrap();
        bench.sweep(0);
        for path in
            ["precious/00000001", "v24.1.0-x64-0b/package.json", "v24.1.0-x64-0b/0000000G", "00000001"]
        {
            assert!(bench.has(path), "{path}");
        }
        assert!(bench.has("v24.1.0-x64-0b/0000000a"));
    }

    #[test]
    fn no_symlink_leads_out_of_it() {
        let bench = Bench::new();
        let outside = bench.base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("00000001"), "precious").unwrap();
        bench.file("v24.1.0-x64-0b/00000002", HOUR);
        symlink(&outside, bench.own.join("v22.1.0-x64-0a")).unwrap();
        symlink(outside.join("00000001"), bench.own.join("v24.1.0-x64-0b/00000003")).unwrap();
        bench.sweep(0);
        assert!(outside.join("00000001").exists());
        assert!(bench.has("v24.1.0-x64-0b/00000003") && !bench.has("v24.1.0-x64-0b/00000002"));
        let own = bench.base.path().join("elsewhere");
        fs::rename(&bench.own, &own).unwrap();
        symlink(&own, &bench.own).unwrap();
        let uid = geteuid().as_raw();
        assert!(Kept { directory: bench.base.path().to_owned(), most: 0, uid }.sweep(bench.now).is_err());
    }

    #[test]
    fn a_directory_of_another_user_is_left_alone() {
        let bench = Bench::new();
        bench.file("v24.1.0-x64-0b/00000001", HOUR);
        fs::set_permissions(&bench.own, fs::Permissions::from_mode(0o755)).unwrap();
        let (uid, other) = (geteuid().as_raw(), 12_345);
        fs::rename(&bench.own, bench.base.path().join(format!("compile-{other}"))).unwrap();
        let kept = Kept { directory: bench.base.path().to_owned(), most: 0, uid: other };
        assert_eq!(kept.sweep(bench.now).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(bench.base.path().join(format!("compile-{other}/v24.1.0-x64-0b/00000001")).exists());
        assert!(kept.sweep(bench.now).is_err() && Kept { uid, ..kept }.sweep(bench.now).is_err());
    }
}
