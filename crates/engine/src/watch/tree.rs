//! The files of one path: how they are, what has changed since the last look, and which directories say when to look again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};
use rustix::fs::statfs;

use crate::config::watched::{Kind, Watched};
use crate::watch::seen::{LastLook, Sighting};

/// How many files of one path are looked at.
pub(super) const MOST: usize = 50_000;
/// Changes with what is looked at: numbers of another manner are not compared.
const MANNER: u32 = 1;
/// How many symlinks a path may lead over, as for the kernel.
const MOST_LINKS: usize = 40;
/// File systems on which other machines write, of which this kernel hears nothing: NFS, SMB, CIFS, 9P, FUSE, AFS, Ceph, `VirtualBox`.
const REMOTE: [u32; 9] = [
    0x6969,
    0x517B,
    0xFF53_4D42,
    0xFE53_4D42,
    0x0102_1997,
    0x6573_5546,
    0x5346_414F,
    0x00C3_6400,
    0x786F_4256,
];
/// Directories that hold no source of the user's.
const LEFT_OUT: [&str; 6] = ["node_modules", "__pycache__", ".git", ".hg", ".svn", ".jj"];

/// What tells two states of a file apart. A file that is written anew in place has another time, one that is renamed to its name
/// another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    number: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self {
            device: about.dev(),
            number: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
        }
    }
}

/// Files and, apart from what they lead to, the symlinks on the way.
type Files = BTreeMap<(PathBuf, bool), Stamp>;

/// What one look has seen.
#[derive(Debug, Default)]
struct Look {
    files: Files,
    directories: BTreeSet<PathBuf>,
    is_full: bool,
    /// The path leads somewhere.
    is_there: bool,
}

/// What the program around the cluster writes: a reload for that would lead to the next one.
#[derive(Clone, Debug, Default)]
struct Own {
    paths: Vec<PathBuf>,
    /// Where its output goes, by device and number.
    outputs: Vec<Identity>,
}

impl Own {
    fn new(paths: Vec<PathBuf>) -> Self {
        let outputs =
            ["/proc/self/fd/1", "/proc/self/fd/2"].into_iter().filter_map(|fd| fs::metadata(fd).ok());
        let outputs = outputs.filter(Metadata::is_file).map(|about| identity(&about)).collect();
        Self { paths, outputs }
    }

    fn has(&self, path: &Path) -> bool {
        self.paths.iter().any(|own| own == path)
    }

    /// These files and directories as they are now, by device and number: a symlink may lead to them by another path.
    fn now(&self) -> BTreeSet<Identity> {
        let there =
            self.paths.iter().filter_map(|path| fs::metadata(path).ok()).map(|about| identity(&about));
        there.chain(self.outputs.iter().copied()).collect()
    }
}

/// A file or directory by device and number.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(about: &Metadata) -> Identity {
    (about.dev(), about.ino())
}

/// The files of one path.
#[derive(Debug)]
pub(super) struct Tree {
    watched: Watched,
    own: Own,
    last: Look,
    /// The files when the path last led somewhere.
    known: Files,
    /// What a program before has seen last, where that is something else.
    before: Option<u64>,
}

impl Tree {
    /// As it is now, or as a program before has seen it last.
    pub(super) fn new(watched: Watched, own: Vec<PathBuf>, before: &[LastLook]) -> Self {
        let own = Own::new(own);
        let last = look_at(&watched, &own);
        let mut tree = Self { known: last.files.clone(), last, watched, own, before: None };
        let now = tree.last_look();
        let is_it = |look: &&LastLook| LastLook { digest: now.digest, ..(*look).clone() } == now;
        let before = before.iter().find(is_it).map(|look| look.digest);
        tree.before = before.filter(|digest| *digest != now.digest);
        tree
    }

    /// What another program compares with what it finds.
    pub(super) fn last_look(&self) -> LastLook {
        let digest = self.before.unwrap_or_else(|| digest(&self.known));
        LastLook { kind: self.watched.kind, path: self.watched.path.clone(), manner: MANNER, digest }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.watched.kind
    }

    pub(super) fn path(&self) -> &Path {
        &self.watched.path
    }

    pub(super) const fn is_full(&self) -> bool {
        self.last.is_full
    }

    /// The directories in which something must happen before anything has changed.
    pub(super) const fn directories(&self) -> &BTreeSet<PathBuf> {
        &self.last.directories
    }

    /// Why the kernel would not say that these files change, if it would not.
    pub(super) fn on_network(&self) -> Option<String> {
        let there = self.watched.path.ancestors().find(|path| path.exists())?;
        let kind = u32::try_from(statfs(there).ok()?.f_type & 0xFFFF_FFFF).ok()?;
        REMOTE.contains(&kind).then(|| {
            format!("{} is on a file system on which other machines may write", self.watched.path.display())
        })
    }

    /// What has changed since the last look, with the names of some. What is deployed and has gone is waited for: without it nothing
    /// could start.
    pub(super) fn look(&mut self, named: usize) -> Option<Sighting> {
        self.last = look_at(&self.watched, &self.own);
        if !self.last.is_there && self.watched.kind == Kind::Deployed {
            return None;
        }
        let (now, before) = (&self.last.files, &self.known);
        if let Some(before) = self.before.take() {
            self.known.clone_from(now);
            let (look, files) = (self.last_look(), vec![self.watched.path.clone()]);
            // Which of them have changed is not known.
            return (look.digest != before).then_some(Sighting::Changed {
                kind: look.kind,
                files,
                more: 0,
                look,
            });
        }
        if now == before {
            return None;
        }
        let differs = |file: &&(PathBuf, bool)| now.get(*file) != before.get(*file);
        let changed = now.keys().chain(before.keys()).filter(differs);
        let changed: BTreeSet<&PathBuf> = changed.map(|(path, _)| path).collect();
        let files: Vec<PathBuf> = changed.iter().take(named).copied().cloned().collect();
        let more = changed.len() - files.len();
        self.known.clone_from(now);
        Some(Sighting::Changed { kind: self.watched.kind, files, more, look: self.last_look() })
    }
}

/// One number for all of them (FNV-1a), the same in each version that looks at files in this manner.
fn digest(files: &Files) -> u64 {
    let mut digest = 0xCBF2_9CE4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    };
    for ((path, is_link), Stamp { device, number, size, modified: (seconds, nanoseconds) }) in files {
        add(path.as_os_str().as_bytes());
        add(&[0, u8::from(*is_link)]);
        for number in [*device, *number, *size, seconds.cast_unsigned(), nanoseconds.cast_unsigned()] {
            add(&number.to_le_bytes());
        }
    }
    digest
}

fn look_at(watched: &Watched, own: &Own) -> Look {
    let mut look = Look::default();
    let Some(end) = look.follow(&watched.path) else { return look };
    match fs::metadata(&end) {
        Ok(about) if about.is_dir() => {
            look.is_there = true;
            look.descend(&watched.path, watched.kind, own);
        }
        Ok(about) => {
            look.is_there = true;
            look.directories.extend(end.parent().map(Path::to_owned));
            look.add(&watched.path, &about, false);
        }
        // It has gone since.
        Err(_) => {}
    }
    look
}

impl Look {
    fn add(&mut self, path: &Path, about: &Metadata, is_link: bool) {
        self.is_full |= self.files.len() >= MOST;
        if !self.is_full {
            self.files.insert((path.to_owned(), is_link), Stamp::of(about));
        }
    }

    /// Where a path leads, name by name: every symlink on the way is a file that may change, and the directory that has it says so.
    /// None where it leads nowhere: the last directory on the way says when there is more.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let mut rest: VecDeque<OsString> =
            path.components().map(|name| name.as_os_str().to_owned()).collect();
        let (mut at, mut links) = (PathBuf::new(), 0);
        while let Some(name) = rest.pop_front() {
            let next = match Path::new(&name).components().next() {
                Some(Component::ParentDir) => {
                    at.pop();
                    continue;
                }
                Some(Component::CurDir) | None => continue,
                Some(_) => at.join(&name),
            };
            let Ok(about) = fs::symlink_metadata(&next) else {
                self.directories.insert(at);
                return None;
            };
            if !about.is_symlink() {
                at = next;
                continue;
            }
            links += 1;
            self.add(&next, &about, true);
            self.directories.insert(at.clone());
            let target = fs::read_link(&next).ok().filter(|_| links <= MOST_LINKS)?;
            for name in target.components().rev() {
                rest.push_front(name.as_os_str().to_owned());
            }
        }
        Some(at)
    }

    /// All files in a directory.
    fn descend(&mut self, directory: &Path, kind: Kind, own: &Own) {
        let is_source = kind == Kind::Source;
        let (own, now) = (own.clone(), own.now());
        let directories = now.clone();
        let is_own = move |entry: &DirEntry| {
            let is_directory = entry.file_type().is_some_and(|kind| kind.is_dir());
            let is_by_another_path =
                || entry.metadata().is_ok_and(|about| directories.contains(&identity(&about)));
            own.has(entry.path()) || (is_directory && is_by_another_path())
        };
        let walk = WalkBuilder::new(directory)
            .standard_filters(false)
            .parents(is_source)
            .git_ignore(is_source)
            .git_exclude(is_source)
            .require_git(directory.ancestors().any(|above| above.join(".git").exists()))
            .follow_links(true)
            .filter_entry(move |entry| !is_own(entry) && (!is_source || is_of_user(entry)))
            .build();
        // What cannot be read cannot be watched either, and a symlink that leads back is no file.
        for entry in walk.flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                self.directories.insert(entry.into_path());
            } else if about.is_file() && !now.contains(&identity(&about)) {
                self.add(entry.path(), &about, false);
                if entry.path_is_symlink() {
                    // Where it leads may be elsewhere.
                    let end = self.follow(entry.path());
                    self.directories.extend(end.as_deref().and_then(Path::parent).map(Path::to_owned));
                }
            }
            if self.is_full {
                return;
            }
        }
    }
}

/// Whether it is no directory of tools, and no file that an editor makes for itself.
fn is_of_user(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    // The path itself was asked for.
    entry.depth() == 0
        || !(LEFT_OUT.iter().any(|left_out| name == *left_out) || is_of_editor(name) || is_of_program(name))
}

/// What servers write as they run: logs, pidfiles, databases of `SQLite` and what lies beside these.
fn is_of_program(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let ends = [".log", ".pid", ".db", ".sqlite", ".sqlite3", "-journal", "-wal", "-shm"];
    ends.iter().any(|end| name.ends_with(end))
}

/// Backups, locks, swap files and what is renamed to its right name in a moment: of vim, Emacs, `JetBrains`, gedit and KDE, Chrome,
/// macOS.
fn is_of_editor(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let is_swap = || {
        let end = name.rsplit_once('.').map_or("", |(_, end)| end);
        name.starts_with('.') && end.len() == 3 && end.starts_with("sw")
    };
    name.ends_with('~')
        || name.starts_with(".#")
        || (name.starts_with('#') && name.ends_with('#'))
        || name == "4913"
        || name == ".DS_Store"
        || name.starts_with(".goutputstream-")
        || name.ends_with("___jb_tmp___")
        || name.ends_with("___jb_old___")
        || name.ends_with(".crswap")
        || is_swap()
}
