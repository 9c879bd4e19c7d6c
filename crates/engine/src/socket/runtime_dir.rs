//! The directories of control sockets, `sd_notify` sockets and the preload, which no other user may write to.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, FileType, Mode, access, mknodat};
use rustix::process::geteuid;

/// The bits of a directory's mode that let others put something in it.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// Why a directory is no place for a control socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It belongs to another user, who could replace the socket.
    #[error("the directory of the control socket belongs to another user (uid {owner}): {}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others may write in it.
    #[error("the directory of the control socket is writable by others (mode {mode:03o}): {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is something else, cannot be looked at or cannot be made.
    #[error("the directory of the control socket is not usable: {}: {source}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The directories that hold control sockets, in the order in which they are looked at. A new cluster's socket goes
/// into the first. There may be several, because a service often has no `XDG_RUNTIME_DIR` where a login has one.
pub fn directories() -> Vec<PathBuf> {
    directories_of(std::env::var_os("XDG_RUNTIME_DIR"), geteuid().as_raw())
}

fn directories_of(runtime_dir: Option<OsString>, uid: u32) -> Vec<PathBuf> {
    let runtime_dir = runtime_dir.map(PathBuf::from).filter(|path| path.is_absolute());
    let own = if uid == 0 { "/run/recluster".to_owned() } else { format!("/tmp/recluster-{uid}") };
    runtime_dir.map(|path| path.join("recluster")).into_iter().chain([own.into()]).collect()
}

/// The directories for files of ours, best first. On a read-only system perhaps only the last one is writable.
pub(crate) fn candidates() -> Vec<PathBuf> {
    let temporary = PathBuf::from(format!("/tmp/recluster-{}", geteuid().as_raw()));
    let mut candidates = directories();
    if !candidates.contains(&temporary) {
        candidates.push(temporary);
    }
    candidates
}

/// Makes the directory if it is not there, and checks that no other user can put a socket into it.
pub(crate) fn prepare(directory: &Path) -> Result<(), DirectoryError> {
    prepare_with(directory, 0o700)
}

/// The same with other permissions for a directory that is made.
pub(crate) fn prepare_with(directory: &Path, mode: u32) -> Result<(), DirectoryError> {
    match DirBuilder::new().mode(mode).create(directory) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(DirectoryError::Unusable { path: directory.to_owned(), source })
        }
        Ok(()) | Err(_) => check(directory),
    }
}

/// Answers as [`prepare`] would, but leaves nothing behind.
pub(crate) fn preview(directory: &Path) -> Result<(), DirectoryError> {
    match fs::symlink_metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            can_make(parent_of(directory), FileType::Directory)
                .map_err(|source| DirectoryError::Unusable { path: directory.to_owned(), source })
        }
        Ok(_) | Err(_) => check(directory),
    }
}

/// Whether this process may create files in a directory.
pub(crate) fn may_create_in(directory: &Path) -> io::Result<()> {
    if !fs::metadata(directory)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Whether the system lets this process make a directory here, or a socket. Permissions do not say it all: a file system
/// may have no sockets, or nothing that is made by hand. What is made is removed at once.
pub(crate) fn can_make(directory: &Path, what: FileType) -> io::Result<()> {
    may_create_in(directory)?;
    let trial = directory.join(format!(".recluster-trial-{}", std::process::id()));
    if what == FileType::Directory {
        made(DirBuilder::new().mode(0o700).create(&trial))?;
        return fs::remove_dir(&trial);
    }
    made(mknodat(CWD, &trial, what, Mode::RWXU, 0).map_err(io::Error::from))?;
    fs::remove_file(&trial)
}

/// One that was killed may have left its trial, and in a container all have the same pid.
fn made(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
}

/// The directory that a path is in.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

pub(crate) fn check(directory: &Path) -> Result<(), DirectoryError> {
    let path = directory.to_owned();
    // The owner of a link can point it elsewhere after this check.
    match fs::symlink_metadata(directory) {
        Ok(link) if link.is_symlink() && !is_trusted(link.uid()) => {
            return Err(DirectoryError::Foreign { path, owner: link.uid() });
        }
        Ok(_) | Err(_) => {}
    }
    let about = match fs::metadata(directory) {
        Ok(about) if about.is_dir() => about,
        Ok(_) => return Err(DirectoryError::Unusable { path, source: io::ErrorKind::NotADirectory.into() }),
        Err(source) => return Err(DirectoryError::Unusable { path, source }),
    };
    if !is_trusted(about.uid()) {
        return Err(DirectoryError::Foreign { path, owner: about.uid() });
    }
    let mode = about.mode() & 0o777;
    if mode & OTHERS_MAY_WRITE != 0 {
        return Err(DirectoryError::Open { path, mode });
    }
    Ok(())
}

/// Whether this user may control the cluster: root, or the user that this process runs as.
pub(crate) fn is_trusted(uid: u32) -> bool {
    uid == geteuid().as_raw() || uid == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_socket_goes_into_the_runtime_directory_if_there_is_one() {
        let paths = |dir: Option<&str>, uid| directories_of(dir.map(OsString::from), uid);
        assert_eq!(
            paths(Some("/run/user/7"), 7),
            [PathBuf::from("/run/user/7/recluster"), "/tmp/recluster-7".into()]
        );
        assert_eq!(paths(None, 7), [PathBuf::from("/tmp/recluster-7")]);
        assert_eq!(paths(None, 0), [PathBuf::from("/run/recluster")]);
        assert_eq!(paths(Some(""), 0), [PathBuf::from("/run/recluster")]);
        assert_eq!(paths(Some("relative"), 0), [PathBuf::from("/run/recluster")]);
    }

    #[test]
    fn a_made_directory_is_private() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("made");
        prepare(&directory).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        prepare(&directory).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o770, 0o702, 0o1777] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(prepare(directory.path()), Err(DirectoryError::Open { .. })), "{mode:o}");
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        prepare(directory.path()).unwrap();
    }

    #[test]
    fn a_preview_says_what_preparing_would_and_makes_nothing() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("open")).unwrap();
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        for name in ["gone/away", "file", "file/below", "open", "dangling", "."] {
            let previewed = preview(&at(name)).map_err(|error| error.to_string());
            assert_eq!(previewed, prepare(&at(name)).map_err(|error| error.to_string()), "{name}");
        }
        preview(&at("made")).unwrap();
        assert!(!at("made").exists());
        prepare(&at("made")).unwrap();
    }

    #[test]
    fn a_link_of_ours_is_followed() {
        let base = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(base.path(), base.path().join("link")).unwrap();
        prepare(&base.path().join("link")).unwrap();
    }

    #[test]
    fn a_link_of_somebody_else_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        // Only root can give a link away.
        if std::os::unix::fs::lchown(&link, Some(12_345), None).is_ok() {
            assert!(matches!(prepare(&link), Err(DirectoryError::Foreign { owner: 12_345, .. })));
        }
    }

    #[test]
    fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(prepare(file.path()), Err(DirectoryError::Unusable { .. })));
    }
}
