//! The directories of control sockets, `sd_notify` sockets and the preload, which no other user may write to.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, FileType, Mode, OFlags, access, fchmod, fstat, mknodat, open};
use rustix::process::geteuid;

/// The bits of a directory's mode that let others put something in it.
pub(super) const OTHERS_MAY_WRITE: u32 = 0o022;

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
        Ok(()) | Err(_) => {
            add_permissions(directory, mode);
            check(directory)
        }
    }
}

/// Gives a directory of ours the permissions that it lacks: the umask may have taken them when it was made.
fn add_permissions(directory: &Path, mode: u32) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // What is not ours, or no directory, is judged afterwards.
    let Ok(own) = open(directory, flags, Mode::empty()) else { return };
    if let Ok(about) = fstat(&own)
        && about.st_uid == geteuid().as_raw()
        && about.st_mode & mode != mode
    {
        let _ = fchmod(&own, Mode::from_raw_mode((about.st_mode | mode) & 0o777));
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
    judge(path, about.uid(), about.mode())
}

/// Checks a directory that is open: the path may lead elsewhere by now.
pub(crate) fn check_open(open: impl AsFd, path: &Path) -> Result<(), DirectoryError> {
    let path = path.to_owned();
    match fstat(open) {
        Ok(about) => judge(path, about.st_uid, about.st_mode),
        Err(error) => Err(DirectoryError::Unusable { path, source: error.into() }),
    }
}

fn judge(path: PathBuf, owner: u32, mode: u32) -> Result<(), DirectoryError> {
    if !is_trusted(owner) {
        return Err(DirectoryError::Foreign { path, owner });
    }
    let mode = mode & 0o777;
    if mode & OTHERS_MAY_WRITE != 0 {
        return Err(DirectoryError::Open { path, mode });
    }
    Ok(())
}

/// Whether what a process of this user says can be believed: it is this process's own user, or root. Root itself has nothing to fear
/// that it could not see.
pub(crate) fn may_talk_to(uid: u32) -> bool {
    believes(geteuid().as_raw(), uid)
}

fn believes(ours: u32, uid: u32) -> bool {
    ours == 0 || uid == ours || uid == 0
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
    fn a_user_believes_its_own_processes_and_root_s_and_root_everybody_s() {
        assert!(believes(1000, 1000) && believes(1000, 0) && believes(0, 1000) && believes(0, 0));
        assert!(!believes(1000, 1001));
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
    fn permissions_that_a_directory_of_ours_lacks_are_added() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        prepare_with(directory.path(), 0o755).unwrap();
        assert_eq!(fs::metadata(directory.path()).unwrap().mode() & 0o777, 0o755);
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
