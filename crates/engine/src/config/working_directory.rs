//! The working directory, as the user knows it.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The working directory by the name that the user's shell has for it (`PWD`). A symlink in this name is still a symlink,
/// so that it may lead to another directory later. Without such a name it is the path that the kernel has.
pub fn logical_directory() -> PathBuf {
    let physical = env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let named = env::var_os("PWD").map(PathBuf::from);
    named.filter(|named| is_name_of(named, &physical)).unwrap_or(physical)
}

fn is_name_of(named: &Path, physical: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
    named.is_absolute() && identity(named).is_some_and(|named| Some(named) == identity(physical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_the_working_directory_is_a_name_of_it() {
        let base = tempfile::tempdir().unwrap();
        let [release, other, link] = ["release", "other", "link"].map(|name| base.path().join(name));
        fs::create_dir(&release).unwrap();
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&release, &link).unwrap();
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
}
