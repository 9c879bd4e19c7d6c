//! Where control sockets are: which directories, which of them can be trusted, and which sockets in them are alive.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;

/// How the name of a control socket ends.
const ENDING: &str = "sock";

/// The bits of a directory's mode that let others put something in it.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// Why a directory is no place for a control socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It belongs to somebody else, who could put a socket of their own in its place.
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

/// Why no cluster was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// None is running, or none of that name.
    #[error("no cluster is running; looked at {}", list(tried))]
    None {
        /// Where one was looked for.
        tried: Vec<PathBuf>,
    },
    /// There are several, and none was named.
    #[error("several clusters are running: {}", list(found))]
    Several {
        /// Their sockets.
        found: Vec<PathBuf>,
    },
    /// A directory cannot be trusted.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
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

/// Where the control socket of a cluster of this name is, unless the user says otherwise.
pub fn socket_path(name: &str) -> PathBuf {
    let directory = directories().into_iter().next().unwrap_or_default();
    directory.join(file_name(name))
}

/// Finds the control socket of the running cluster of this name, or of the only one.
pub fn find(name: Option<&str>) -> Result<PathBuf, FindError> {
    find_in(&directories(), name)
}

fn find_in(directories: &[PathBuf], name: Option<&str>) -> Result<PathBuf, FindError> {
    let mut tried = Vec::new();
    let mut found = Vec::new();
    for directory in directories {
        tried.push(name.map_or_else(|| directory.clone(), |name| directory.join(file_name(name))));
        match check(directory) {
            Ok(()) => found.extend(sockets(directory)?.into_iter().filter(|path| is_named(path, name))),
            Err(DirectoryError::Unusable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.retain(|path| matches!(probe(path), Ok(Probe::Alive)));
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(FindError::None { tried }),
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            Err(FindError::Several { found })
        }
    }
}

fn file_name(name: &str) -> String {
    format!("{name}.{ENDING}")
}

fn is_named(path: &Path, name: Option<&str>) -> bool {
    name.is_none_or(|name| path.file_name().is_some_and(|file| file == file_name(name).as_str()))
}

/// The files in a directory that are named as control sockets are, sorted by name.
fn sockets(directory: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let unusable = |source| DirectoryError::Unusable { path: directory.to_owned(), source };
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        })
        .map_err(unusable)?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == ENDING));
    paths.sort_by_cached_key(|path| path.with_extension(""));
    Ok(paths)
}

/// Makes the directory if it is not there, and checks that nobody else can put a socket into it.
pub(super) fn prepare(directory: &Path) -> Result<(), DirectoryError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(DirectoryError::Unusable { path: directory.to_owned(), source })
        }
        Ok(()) | Err(_) => check(directory),
    }
}

fn check(directory: &Path) -> Result<(), DirectoryError> {
    let path = directory.to_owned();
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

/// Whether this user may decide about our cluster: the one that we run as, or root.
pub(super) fn is_trusted(uid: u32) -> bool {
    uid == geteuid().as_raw() || uid == 0
}

/// What is at the path of a socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Nothing.
    Nothing,
    /// A socket on which nobody listens any more.
    Stale,
    /// A socket on which somebody listens.
    Alive,
}

/// Looks whether somebody listens on a socket, without waiting.
pub(super) fn probe(path: &Path) -> io::Result<Probe> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        // With a full queue nobody was refused: somebody listens, if slowly.
        Ok(()) | Err(Errno::AGAIN) => Ok(Probe::Alive),
        Err(Errno::CONNREFUSED) => Ok(Probe::Stale),
        Err(Errno::NOENT) => Ok(Probe::Nothing),
        Err(error) => Err(error.into()),
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

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
    fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(prepare(file.path()), Err(DirectoryError::Unusable { .. })));
    }

    #[test]
    fn the_only_living_socket_is_found() {
        let base = tempfile::tempdir().unwrap();
        let directories = [base.path().join("absent"), base.path().to_owned()];
        assert!(
            matches!(find_in(&directories, None), Err(FindError::None { tried }) if tried == directories)
        );

        drop(UnixListener::bind(base.path().join("stale.sock")).unwrap());
        let _one = UnixListener::bind(base.path().join("one.sock")).unwrap();
        assert_eq!(find_in(&directories, None).unwrap(), base.path().join("one.sock"));
        assert!(matches!(find_in(&directories, Some("stale")), Err(FindError::None { .. })));

        let _two = UnixListener::bind(base.path().join("one-2.sock")).unwrap();
        assert_eq!(find_in(&directories, Some("one")).unwrap(), base.path().join("one.sock"));
        let Err(FindError::Several { found }) = find_in(&directories, None) else { panic!() };
        assert_eq!(found, [base.path().join("one.sock"), base.path().join("one-2.sock")]);
    }

    #[test]
    fn a_socket_is_alive_while_somebody_listens() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        assert_eq!(probe(&path).unwrap(), Probe::Nothing);
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(probe(&path).unwrap(), Probe::Alive);
        drop(listener);
        assert_eq!(probe(&path).unwrap(), Probe::Stale);
    }
}
