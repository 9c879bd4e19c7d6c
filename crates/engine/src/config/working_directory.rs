//! The working directory, by the name that it was entered by.
//!
//! A symlink in this name is still a symlink, so that it may lead to another directory later. The name is found once, when
//! it is first asked for: later its symlinks may lead elsewhere already, and then nothing tells any more which name it was.

use std::env;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What the kernel puts behind the path of a directory that was removed.
const DELETED: &[u8] = b" (deleted)";

/// What the working directory is called, as long as it is the same one.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

#[derive(Clone, Debug)]
struct Known {
    /// Device and inode. A directory that was removed has them still.
    identity: Option<(u64, u64)>,
    name: PathBuf,
    /// There is a symlink in its name.
    is_linked: bool,
}

/// The working directory by the name that the user's shell has for it (`PWD`), or else by the path that the kernel has. It
/// is there no more, perhaps; that path names it all the same.
pub fn logical_directory() -> PathBuf {
    known(None)
}

/// The same for a program whose server file was given so. Where the shell says nothing of a symlink, as under a service
/// manager, the path of the server file does, if it leads to the working directory or to one above it.
pub(crate) fn directory_for(server: &Path) -> PathBuf {
    known(Some(server).filter(|server| server.is_absolute()))
}

fn known(server: Option<&Path>) -> PathBuf {
    let identity = identity(Path::new("."));
    // A poisoned lock has a value as good as any: it is replaced in one step.
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let same = known.take().filter(|known| known.identity == identity);
    let now = same.unwrap_or_else(|| Known::by_shell(identity));
    let now = server.map_or(now.clone(), |server| now.by_server(server));
    known.insert(now).name.clone()
}

impl Known {
    fn by_shell(identity: Option<(u64, u64)>) -> Self {
        let physical = physical();
        let named = env::var_os("PWD").map(PathBuf::from).filter(|named| is_name_of(named, &physical));
        let is_linked = named.as_ref().is_some_and(|named| *named != physical);
        Self { identity, name: named.unwrap_or(physical), is_linked }
    }

    fn by_server(self, server: &Path) -> Self {
        if self.is_linked {
            return self;
        }
        match named_by(server, &self.name) {
            Some(name) => Self { name, is_linked: true, ..self },
            None => self,
        }
    }
}

/// The name that a directory has by way of a symlink in the path of a file in it, or in one above it.
fn named_by(server: &Path, physical: &Path) -> Option<PathBuf> {
    server
        .ancestors()
        .skip(1)
        .find_map(|named| {
            let real = fs::canonicalize(named).ok()?;
            let rest = physical.strip_prefix(&real).ok()?;
            Some(if rest.as_os_str().is_empty() { named.to_owned() } else { named.join(rest) })
        })
        .filter(|named| named != physical)
}

/// The path that the kernel has.
fn physical() -> PathBuf {
    env::current_dir().unwrap_or_else(|_| {
        let removed = fs::read_link("/proc/self/cwd").unwrap_or_default().into_os_string().into_vec();
        let path = removed.strip_suffix(DELETED).unwrap_or(&removed);
        PathBuf::from(std::ffi::OsStr::from_bytes(path))
    })
}

fn is_name_of(named: &Path, physical: &Path) -> bool {
    named.is_absolute() && identity(named).is_some_and(|named| Some(named) == identity(physical))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).map(|about| (about.dev(), about.ino())).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_to_the_working_directory_is_a_name_of_it() {
        let base = tempfile::tempdir().unwrap();
        let [release, other, link] = ["release", "other", "link"].map(|name| base.path().join(name));
        fs::create_dir(&release).unwrap();
        fs::create_dir(&other).unwrap();
        symlink(&release, &link).unwrap();
        assert!(is_name_of(&release, &release));
        assert!(is_name_of(&link, &release));
        assert!(!is_name_of(&link, &other), "left over from an earlier directory");
        assert!(!is_name_of(&base.path().join("gone"), &release));
        assert!(!is_name_of(&base.path().join("gone"), &base.path().join("gone")));
        assert!(!is_name_of(Path::new("."), Path::new(".")), "no relative path");
    }

    #[test]
    fn it_is_the_working_directory() {
        let (logical, physical) = (logical_directory(), env::current_dir().unwrap());
        assert_eq!(fs::canonicalize(logical).unwrap(), fs::canonicalize(physical).unwrap());
    }

    #[test]
    fn the_path_of_a_server_file_names_the_directory_that_it_leads_to() {
        let base = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(base.path()).unwrap();
        fs::create_dir_all(base.join("releases/1/bin")).unwrap();
        fs::create_dir_all(base.join("other")).unwrap();
        symlink("releases/1", base.join("current")).unwrap();
        let named = |server: &str, directory: &str| named_by(&base.join(server), &base.join(directory));
        assert_eq!(named("current/server.js", "releases/1"), Some(base.join("current")));
        assert_eq!(named("current/bin/www", "releases/1"), Some(base.join("current")));
        assert_eq!(named("current/server.js", "releases/1/bin"), Some(base.join("current/bin")));
        assert_eq!(named("current/bin/www", "releases/1/bin"), Some(base.join("current/bin")));
        assert_eq!(named("current/server.js", "other"), None, "it has nothing to do with it");
        assert_eq!(named("releases/1/server.js", "releases/1"), None, "it has no other name");
    }

    #[test]
    fn a_name_by_the_shell_comes_before_that_by_the_server_file() {
        let known = Known { identity: None, name: "/srv/current".into(), is_linked: true };
        assert_eq!(known.by_server(Path::new("/srv/other/server.js")).name, Path::new("/srv/current"));
    }
}
