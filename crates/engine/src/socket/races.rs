//! Somebody who makes a path lead elsewhere while it is used: what the tests of such paths have in common.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, mknodat, open, renameat_with, unlinkat};

/// How often the path is used.
const ROUNDS: usize = 1500;
const NAME: &str = "it.sock";

/// What is done to the path.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Race {
    /// A link takes the place of each socket that is bound there.
    OfTheName,
    /// A link takes the place of its directory, where a stale socket has the name, and gives it back.
    OfTheDirectory,
}

/// Uses a path in a directory of a hostile user again and again. Neither a file nor a socket that others have in another directory,
/// by the same name, may suffer from it.
pub(crate) fn race<T>(race: Race, what: impl Fn(&Path) -> T) {
    let base = tempfile::tempdir().unwrap();
    let at = |path: &str| base.path().join(path);
    fs::create_dir(at("hostile")).unwrap();
    fs::create_dir(at("others")).unwrap();
    let precious = at("others").join(NAME);
    fs::write(&precious, "precious").unwrap();
    fs::set_permissions(&precious, fs::Permissions::from_mode(0o640)).unwrap();
    let real = open(at("hostile"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let path = at("hostile").join(NAME);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                match race {
                    Race::OfTheName => swap_name(&path, &precious, &at("link"), &is_over),
                    Race::OfTheDirectory => swap_directory(&at("hostile"), &at("others"), &at("link")),
                }
            }
        });
        for _ in 0..ROUNDS {
            if matches!(race, Race::OfTheDirectory) {
                let _ = mknodat(&real, NAME, FileType::Socket, Mode::RWXU, 0);
            }
            drop(what(&path));
            let _ = unlinkat(&real, NAME, AtFlags::empty());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let about = fs::symlink_metadata(&precious).expect("it was not removed");
    assert_eq!(about.mode() & 0o777, 0o640);
    assert_eq!(about.nlink(), 1);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

fn swap_name(path: &Path, precious: &Path, link: &Path, is_over: &AtomicBool) {
    symlink(precious, link).unwrap();
    let is_socket = || fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket());
    while !is_socket() && !is_over.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    fs::rename(link, path).unwrap();
    thread::yield_now();
    let _ = fs::remove_file(path);
}

fn swap_directory(hostile: &Path, others: &Path, link: &Path) {
    if fs::symlink_metadata(link).is_err() {
        symlink(others, link).unwrap();
    }
    renameat_with(CWD, hostile, CWD, link, RenameFlags::EXCHANGE).unwrap();
}
