//! Paths of unix sockets in a form that the kernel takes: an address has room for 107 bytes, whatever a path may have.
//!
//! A path may be short for the program that says it and long for us, because programs say it from their own directory and
//! Node makes it absolute.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use super::runtime_dir::parent_of;

/// The longest path that fits into the address of a unix socket, in bytes.
pub(crate) const PATH_LIMIT: usize = 107;
/// The longest name of a file that fits behind the name of its directory's descriptor.
const NAME_LIMIT: usize = PATH_LIMIT - "/proc/self/fd/2147483647/".len();

/// A path as bind(2) and connect(2) take it, valid as long as this lives.
#[derive(Debug)]
pub(crate) struct ShortPath {
    path: PathBuf,
    /// What the path leads through.
    _directory: Option<OwnedFd>,
}

impl ShortPath {
    /// The path as it is, or from the working directory, as Node does it, or else through a descriptor of its directory.
    ///
    /// # Errors
    ///
    /// When the directory cannot be opened, or no form of the path is short enough.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        if let Some(path) = as_it_is(path).or_else(|| from_here(path)) {
            return Ok(Self { path, _directory: None });
        }
        let name = path.file_name().filter(|name| name.len() <= NAME_LIMIT).ok_or_else(too_long)?;
        let directory =
            open(parent_of(path), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = descriptor(&directory).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }

    /// The path of a name in a directory, valid as long as the directory is open. None where the name is too long for it.
    pub(crate) fn through(directory: &OwnedFd, name: &OsStr) -> Option<Self> {
        let path = descriptor(directory).join(name);
        is_short(&path).then_some(Self { path, _directory: None })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A path that leads to what a descriptor of this process is.
pub(crate) fn descriptor(open: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(open.as_raw_fd().to_string())
}

/// Whether [`ShortPath::of`] finds a form, if the directory can be opened.
pub(crate) fn has_short_form(path: &Path) -> bool {
    let has_short_name = path.file_name().is_some_and(|name| name.len() <= NAME_LIMIT);
    has_short_name || as_it_is(path).or_else(|| from_here(path)).is_some()
}

/// Whether a program in this directory can say the path in the room that there is.
pub(crate) fn is_short_from(directory: &Path, path: &Path) -> bool {
    is_short(path) || relative(directory, path).is_some_and(|path| is_short(&path))
}

pub(crate) fn too_long() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "the path of a unix socket may have {PATH_LIMIT} bytes, and this one has more: choose a shorter one"
        ),
    )
}

fn as_it_is(path: &Path) -> Option<PathBuf> {
    // The name of an abstract socket is no path, and has no other form.
    let is_abstract = path.as_os_str().as_bytes().starts_with(b"\0");
    (is_abstract || is_short(path)).then(|| path.to_owned())
}

fn from_here(path: &Path) -> Option<PathBuf> {
    // This is the physical path: the way up from it is the one that the kernel goes.
    relative(&env::current_dir().ok()?, path).filter(|path| is_short(path))
}

fn is_short(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() <= PATH_LIMIT
}

/// The way from a directory to an absolute path.
fn relative(directory: &Path, path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() || !directory.is_absolute() {
        return None;
    }
    let common =
        directory.components().zip(path.components()).take_while(|(one, other)| one == other).count();
    let up = directory.components().skip(common).map(|_| Component::ParentDir);
    Some(up.chain(path.components().skip(common)).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    /// A directory whose path alone is too long.
    fn deep(base: &Path) -> PathBuf {
        let deep = base.join("d".repeat(100)).join("e".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        deep
    }

    #[test]
    fn a_short_path_is_left_as_it_is() {
        for path in ["/run/it.sock", "it.sock", "./it.sock", "\0name"] {
            assert_eq!(ShortPath::of(Path::new(path)).unwrap().path(), Path::new(path));
        }
        let longest = format!("/{}", "x".repeat(PATH_LIMIT - 1));
        assert_eq!(ShortPath::of(Path::new(&longest)).unwrap().path(), Path::new(&longest));
    }

    #[test]
    fn a_long_path_from_the_working_directory_is_relative() {
        let name = "x".repeat(PATH_LIMIT);
        let path = env::current_dir().unwrap().join(&name);
        assert_eq!(ShortPath::of(&path).unwrap().path(), Path::new(&name));
    }

    #[test]
    fn any_other_leads_through_its_directory() {
        let base = tempfile::tempdir().unwrap();
        let path = deep(base.path()).join("it.sock");
        assert!(has_short_form(&path));
        let _listener = UnixListener::bind(ShortPath::of(&path).unwrap().path()).unwrap();
        assert!(fs::symlink_metadata(&path).is_ok());
        UnixStream::connect(ShortPath::of(&path).unwrap().path()).unwrap();
        symlink(deep(base.path()), base.path().join("link")).unwrap();
        UnixStream::connect(base.path().join("link/it.sock")).unwrap();
    }

    #[test]
    fn a_long_name_or_no_directory_is_an_error() {
        let base = tempfile::tempdir().unwrap();
        let name = deep(base.path()).join("x".repeat(PATH_LIMIT));
        assert_eq!(ShortPath::of(&name).unwrap_err().to_string(), too_long().to_string());
        assert!(!has_short_form(&name));
        let nowhere = deep(base.path()).join("nowhere/it.sock");
        assert_eq!(ShortPath::of(&nowhere).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_way_from_one_directory_to_another() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(way("/a/b", "/a/b/it.sock"), Some("it.sock".into()));
        assert_eq!(way("/a/b", "/a/c/it.sock"), Some("../c/it.sock".into()));
        assert_eq!(way("/", "/it.sock"), Some("it.sock".into()));
        assert_eq!(way("/a/b", "it.sock"), None);
        let path = format!("/{}/{}/it.sock", "d".repeat(100), "e".repeat(100));
        assert!(is_short_from(Path::new(&path).parent().unwrap(), Path::new(&path)));
        assert!(!is_short_from(Path::new("/"), Path::new(&path)));
    }
}
