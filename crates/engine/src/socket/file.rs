//! The file of a unix socket: putting it back while the socket is open, and its removal by the process that made it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::SocketType;
use serde::{Deserialize, Serialize};

use crate::upgrade::plain;

use super::answers::answers;
use super::directory::{Directory, Identity};
use super::named::Named;
use super::probe::{Probe, probe_in};

/// The file of a unix socket that this process made. Dropping it removes the file, unless another one has taken its place or the
/// socket stays open without this process.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    /// A second name of the file, a hard link beside it, by which the first one can be made again: connecting reaches a socket by
    /// its inode.
    second: Option<OsString>,
    /// People know that the first name leads elsewhere.
    is_told: AtomicBool,
    /// Somebody else keeps the socket.
    stays: AtomicBool,
    /// The program before this one may have to go on with it.
    is_lent: AtomicBool,
}

/// One as it is left to the program after this one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedFile {
    #[serde(with = "plain")]
    path: PathBuf,
    identity: Identity,
    #[serde(with = "plain")]
    second: Option<PathBuf>,
    is_told: bool,
    stays: bool,
}

/// What was found at the path of a socket that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It leads to the socket.
    Ours,
    /// It did not, and does again.
    Restored,
    /// Something of others is there.
    Foreign,
    /// There is nothing, and the socket has no other name.
    Lost,
}

impl SocketFile {
    /// The file of a socket that was bound to this path.
    pub(crate) fn of(path: impl Into<PathBuf>, named: &Named) -> Self {
        Self {
            path: path.into(),
            identity: named.identity,
            second: None,
            is_told: AtomicBool::default(),
            stays: AtomicBool::default(),
            is_lent: AtomicBool::default(),
        }
    }

    /// What is left of it. It stays as it is.
    pub(crate) fn save(&self) -> SavedFile {
        SavedFile {
            path: self.path.clone(),
            identity: self.identity,
            second: self.second.as_ref().map(PathBuf::from),
            is_told: self.is_told.load(Ordering::Relaxed),
            stays: self.stays.load(Ordering::Relaxed),
        }
    }

    /// What was left. Until [`keep`](Self::keep) it is removed by nobody: the program before may have to go on with it.
    pub(crate) fn inherit(saved: SavedFile) -> Self {
        let SavedFile { path, identity, second, is_told, stays } = saved;
        Self {
            path,
            identity,
            second: second.map(PathBuf::into_os_string),
            is_told: is_told.into(),
            stays: stays.into(),
            is_lent: true.into(),
        }
    }

    /// From now on it belongs to this program.
    pub(crate) fn keep(&self) {
        self.is_lent.store(false, Ordering::Relaxed);
    }

    /// The same, with a second name where the file system and the directory allow it.
    pub(crate) fn kept(path: &Path, named: &Named) -> io::Result<Self> {
        let mut file = Self::of(std::path::absolute(path)?, named);
        let Named { directory, name, identity, .. } = named;
        file.second = second_names(name).find(|second| link(directory, name, second, *identity));
        Ok(file)
    }

    /// The file of a socket that was bound before this process began, to which the path leads or led. Where nothing has the name, it
    /// is there again. It stays, until somebody says otherwise.
    pub(crate) fn returned(path: &Path, identity: Identity) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let (directory, name) = Directory::of(&path)?;
        let known = second_names(&name).find(|second| directory.has(second, identity));
        let linked = || second_names(&name).find(|second| link(&directory, &name, second, identity));
        let second = known.or_else(linked);
        let file =
            Self { path, identity, second, is_told: false.into(), stays: true.into(), is_lent: false.into() };
        file.restore();
        Ok(file)
    }

    /// Whether it is the file at this path.
    pub(crate) fn is_named(&self, path: &Path) -> bool {
        std::path::absolute(path).is_ok_and(|path| path == self.path)
    }

    /// Puts the file back if it was removed.
    pub(crate) fn restore(&self) -> Found {
        self.put_back(|_, _| false)
    }

    /// The same, in the place of a socket on which no process listens.
    pub(crate) fn claim(&self) -> Found {
        self.put_back(|directory, name| {
            matches!(probe_in(directory, name, SocketType::STREAM), Ok(Probe::Stale))
                && directory.remove(name).is_ok()
        })
    }

    /// `make_room` removes what has the name now, if it may.
    fn put_back(&self, make_room: impl Fn(&Directory, &OsStr) -> bool) -> Found {
        let (directory, name) = match Directory::of(&self.path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Lost,
            Err(_) => return Found::Foreign,
        };
        match directory.entry(&name) {
            Ok(Some(entry)) if entry.identity == self.identity => Found::Ours,
            Ok(None) => self.link_again(&directory, &name),
            Ok(Some(_)) if make_room(&directory, &name) => self.link_again(&directory, &name),
            Ok(Some(_)) | Err(_) => Found::Foreign,
        }
    }

    fn link_again(&self, directory: &Directory, name: &OsStr) -> Found {
        let Some(second) = self.second.as_deref().filter(|second| directory.has(second, self.identity))
        else {
            return Found::Lost;
        };
        match directory.link(second, name) {
            Ok(()) => Found::Restored,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Found::Foreign,
            Err(_) => Found::Lost,
        }
    }

    /// Notes whether people know that the name leads elsewhere; returns whether they did before.
    pub(crate) fn set_told(&self, now: bool) -> bool {
        self.is_told.swap(now, Ordering::Relaxed)
    }

    /// Says whether somebody else keeps the socket, so that clients are to find it when this process has gone.
    pub(crate) fn set_stays(&self, stays: bool) {
        self.stays.store(stays, Ordering::Relaxed);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if *self.stays.get_mut() || *self.is_lent.get_mut() || !answers(&self.path) {
            return;
        }
        let Ok((directory, name)) = Directory::of(&self.path) else { return };
        for name in self.second.iter().chain([&name]) {
            if directory.has(name, self.identity) {
                // A file that cannot be removed is stale, and the next process to bind this path replaces it.
                let _ = directory.remove(name);
            }
        }
    }
}

/// The sockets that are meant by a path: the one that it leads to or, where nothing has the name, those that have a second name of it.
/// A server may have removed its file to make room for itself, or at its end.
pub(crate) fn sockets_at(path: &Path) -> io::Result<Vec<Identity>> {
    let (directory, name) = Directory::of(path)?;
    if let Some(entry) = directory.entry(&name)? {
        return Ok(if entry.is_socket { vec![entry.identity] } else { Vec::new() });
    }
    let seconds = second_names(&name).filter_map(|second| directory.entry(&second).ok().flatten());
    Ok(seconds.filter(|entry| entry.is_socket).map(|entry| entry.identity).collect())
}

/// The names that a socket's file may have beside its own. One may be taken by a socket that another master has at the same
/// path, or had.
fn second_names(name: &OsStr) -> impl Iterator<Item = OsString> {
    (0..4).map(move |number| {
        let mut second = OsString::from(".");
        second.push(name);
        second.push(if number == 0 { ".kept".to_owned() } else { format!(".kept-{number}") });
        second
    })
}

/// Makes a second name for a file, in the place of one that leads to a dead socket.
fn link(directory: &Directory, name: &OsStr, second: &OsStr, identity: Identity) -> bool {
    let linked = match directory.link(name, second) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            matches!(probe_in(directory, second, SocketType::STREAM), Ok(Probe::Stale))
                && directory.remove(second).is_ok()
                && directory.link(name, second).is_ok()
        }
        linked => linked.is_ok(),
    };
    linked
        && (directory.has(second, identity) || {
            // Something else has taken the first name just now.
            let _ = directory.remove(second);
            false
        })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    use socket2::Type;

    use super::super::named::{self, Permissions};
    use super::*;

    fn bound(path: &Path) -> Named {
        named::bind(path, Type::STREAM, Permissions::Usual, false).unwrap()
    }

    #[test]
    fn a_file_is_removed_by_its_owner_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let file = SocketFile::of(&path, &bound(&path));
        assert_eq!(file.path(), path);
        drop(file);
        assert!(!path.exists());
        let file = SocketFile::of(&path, &bound(&path));
        fs::rename(&path, base.path().join("away")).unwrap();
        let _other = bound(&path);
        drop(file);
        assert!(path.exists(), "another socket has taken its place");
    }

    #[test]
    fn one_whose_path_is_no_text_is_left_as_any_other() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join(OsStr::from_bytes(b"\xff.sock"));
        let file = SocketFile::kept(&path, &bound(&path)).unwrap();
        let saved: SavedFile = serde_json::from_str(&serde_json::to_string(&file.save()).unwrap()).unwrap();
        let again = SocketFile::inherit(saved);
        assert_eq!((again.path(), &again.second), (path.as_path(), &file.second));
    }

    #[test]
    fn a_second_name_is_one_of_the_socket_and_of_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let named = bound(&path);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        let file = SocketFile::kept(&path, &named).unwrap();
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
        assert_eq!(file.claim(), Found::Foreign);
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
