//! A directory that is held open while names in it are looked at, made and removed.
//!
//! Whoever may write somewhere above a path can make it lead elsewhere at any moment. A master that has root's rights must not
//! look at one file and then remove, link or open up another one. So it opens the directory once, and follows no link in it:
//! whatever becomes of the path meanwhile, all of it happens in one directory.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, linkat, open, openat, statat, unlinkat};
use rustix::process::geteuid;

use super::runtime_dir::parent_of;
use super::short_path::{ShortPath, descriptor};
use crate::config::address::is_of_directory;

/// Device and inode.
pub(crate) type Identity = (u64, u64);

/// A directory that is held open.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    open: OwnedFd,
}

/// What a name in a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) identity: Identity,
    pub(crate) is_socket: bool,
    /// The permission bits.
    pub(crate) mode: u32,
}

impl Directory {
    /// The directory that a path is in, and the path's name there.
    pub(crate) fn of(path: &Path) -> io::Result<(Self, OsString)> {
        if is_of_directory(path) {
            // As the kernel says it of a socket.
            return Err(rustix::io::Errno::NOENT.into());
        }
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.to_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = parent_of(path).to_owned();
        Ok((Self { open: open(&path, flags, Mode::empty())?, path }, name))
    }

    /// What has this name; a link is what it is, and not followed. None where there is nothing.
    pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Option<Entry>> {
        match statat(&self.open, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => Ok(Some(Entry {
                identity: (about.st_dev, about.st_ino),
                is_socket: FileType::from_raw_mode(about.st_mode) == FileType::Socket,
                mode: about.st_mode & 0o7777,
            })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this very file has the name.
    pub(crate) fn has(&self, name: &OsStr, identity: Identity) -> bool {
        matches!(self.entry(name), Ok(Some(entry)) if entry.identity == identity)
    }

    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.open, name, AtFlags::empty())?)
    }

    /// Gives a file a second name here.
    pub(crate) fn link(&self, name: &OsStr, second: &OsStr) -> io::Result<()> {
        Ok(linkat(&self.open, name, &self.open, second, AtFlags::empty())?)
    }

    /// Sets the permissions of a socket of this user, whatever takes its name meanwhile.
    pub(crate) fn set_mode_of_socket(&self, name: &OsStr, identity: Identity, mode: u32) -> io::Result<()> {
        let file =
            openat(&self.open, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let about = fstat(&file)?;
        let is_it = (about.st_dev, about.st_ino) == identity
            && FileType::from_raw_mode(about.st_mode) == FileType::Socket
            && about.st_uid == geteuid().as_raw()
            && about.st_nlink == 1;
        if !is_it {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // fchmod(2) takes no descriptor that was opened for its path alone.
        fs::set_permissions(descriptor(&file), fs::Permissions::from_mode(mode))
    }

    /// A path to a name here, as connect(2) takes it.
    pub(crate) fn path_of(&self, name: &OsStr) -> io::Result<ShortPath> {
        // There is no other way where the name leaves no room for that of a descriptor.
        ShortPath::through(&self.open, name).map_or_else(|| ShortPath::of(&self.path.join(name)), Ok)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.open.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn named(base: &Path, name: &str) -> (Directory, OsString) {
        Directory::of(&base.join(name)).unwrap()
    }

    #[test]
    fn what_happens_in_it_happens_in_one_directory_whatever_becomes_of_its_path() {
        let base = tempfile::tempdir().unwrap();
        let at = |path: &str| base.path().join(path);
        fs::create_dir(at("ours")).unwrap();
        fs::create_dir(at("others")).unwrap();
        fs::write(at("ours/it"), "").unwrap();
        fs::write(at("others/it"), "precious").unwrap();
        let (directory, name) = named(base.path(), "ours/it");
        let identity = directory.entry(&name).unwrap().unwrap().identity;
        fs::rename(at("ours"), at("moved")).unwrap();
        symlink("others", at("ours")).unwrap();
        assert!(directory.has(&name, identity));
        directory.link(&name, OsStr::new("second")).unwrap();
        directory.remove(&name).unwrap();
        assert!(at("moved/second").exists() && !at("moved/it").exists());
        assert_eq!(fs::read_dir(at("others")).unwrap().count(), 1);
        assert_eq!(directory.entry(&name).unwrap(), None);
    }

    #[test]
    fn permissions_are_those_of_the_socket_that_was_meant() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let (directory, name) = named(base.path(), "it.sock");
        let identity = directory.entry(&name).unwrap().unwrap().identity;
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        directory.set_mode_of_socket(&name, identity, 0o640).unwrap();
        assert_eq!(mode(&path), 0o640);
        let precious = base.path().join("precious");
        fs::write(&precious, "").unwrap();
        fs::set_permissions(&precious, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&path, base.path().join("moved")).unwrap();
        symlink("precious", &path).unwrap();
        directory.set_mode_of_socket(&name, identity, 0o666).unwrap_err();
        fs::remove_file(&path).unwrap();
        fs::rename(&precious, &path).unwrap();
        directory.set_mode_of_socket(&name, identity, 0o666).unwrap_err();
        let now = directory.entry(&name).unwrap().unwrap();
        directory.set_mode_of_socket(&name, now.identity, 0o666).unwrap_err();
        assert_eq!(mode(&path), 0o600);
    }
}
