//! Whether a file could be made, without making it: another one is made and removed at once.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process;

use rustix::fs::{Access, access};

/// How many symlinks the kernel follows before it gives up (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Whether a file could be made at a path where there is none. A symlink that leads nowhere is followed, as the kernel does.
pub(crate) fn may_create(path: &Path) -> io::Result<()> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            Err(_) => return may_create_here(&path),
        }
    }
    Err(io::Error::from_raw_os_error(rustix::io::Errno::LOOP.raw_os_error()))
}

fn may_create_here(path: &Path) -> io::Result<()> {
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        looked => return looked.map(drop),
    }
    let directory = directory_of(path);
    if !fs::metadata(directory)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
    // Permissions do not say it all: in some file systems nothing can be made by hand.
    let trial = directory.join(format!(".recluster-trial-{}", process::id()));
    OpenOptions::new().write(true).create_new(true).open(&trial)?;
    fs::remove_file(&trial)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn it_answers_as_the_kernel_does() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        fs::write(at("file"), "").unwrap();
        symlink("circle", at("circle")).unwrap();
        symlink("gone/away", at("astray")).unwrap();
        symlink("new", at("link")).unwrap();
        let make = |path: &Path| OpenOptions::new().write(true).create(true).truncate(false).open(path);
        for name in ["file/new", "gone/new", "new/", "circle", "astray", &"x".repeat(256)] {
            let refused = make(&at(name)).unwrap_err();
            assert_eq!(may_create(&at(name)).unwrap_err().kind(), refused.kind(), "{name}");
        }
        for name in ["new", "link"] {
            may_create(&at(name)).unwrap();
            assert!(!at("new").exists());
        }
        make(&at("link")).unwrap();
        let kernels = Path::new("/proc/recluster.pid");
        assert_eq!(may_create(kernels).unwrap_err().kind(), make(kernels).unwrap_err().kind());
    }
}
